//! The log for its auditors over the interface: the checkpoint, the proof of an entry that others check, and other forms.

use serde_json::Value;

use crate::parts::Folder;
use crate::support::export::keys;
use crate::support::samples::small_patient;
use crate::support::{Client, PolicyChange, ServiceOptions, Strongroom, eventually, problem, request_id};

const SOUTH_AUDITOR: &str = "spiffe://strongroom.internal/auditor/clinic-south/audit";

/// The north's, again for the other tenant.
async fn with_an_auditor_in_the_south() -> Strongroom {
    let change: PolicyChange = Box::new(|policy| {
        let file = policy.join("identities.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let block = text.split("[[client]]").find(|block| block.contains("name = \"audit\"")).unwrap();
        let twin = block.replace("clinic-north", "clinic-south");
        std::fs::write(&file, format!("{text}\n[[client]]{twin}")).unwrap();
    });
    let options = ServiceOptions { policy: Some(change), ..ServiceOptions::default() };
    Strongroom::start_with(options).await
}

async fn auditor(strongroom: &Strongroom) -> Client {
    strongroom.client("audit").await
}

/// As soon as a checkpoint covers it.
async fn proof_of(auditor: &Client, entry: &str) -> String {
    let path = format!("/api/v1/audit/proof/{entry}");
    let mut proof = String::new();
    eventually("the entry is proven", async || {
        let answer = auditor.get(&path).await;
        let is_there = answer.status() == 200;
        proof = answer.text().await.unwrap();
        is_there
    })
    .await;
    proof
}

fn check(folder: &Folder, proof: &str, entry: &[u8]) -> Option<i32> {
    std::fs::write(folder.path().join("proof"), proof).unwrap();
    std::fs::write(folder.path().join("entry"), entry).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let arguments = ["audit", "check", "proof", "--entry", "entry", "--keys", "keys"];
    command.current_dir(folder.path()).env_clear().args(arguments).output().unwrap().status.code()
}

/// Entries of reads and of writes, early ones and the newest, each as it was read over the interface and beside a proof.
#[tokio::test]
async fn an_entry_is_proven_to_whoever_may_read_it() {
    let strongroom = Strongroom::start().await;
    let (portal, auditor) =
        (strongroom.client("portal").await.with_purpose("TREAT"), auditor(&strongroom).await);
    let folder = Folder::new("proofs");
    std::fs::write(folder.path().join("keys"), keys(&strongroom).await).unwrap();
    let patient = portal.create_patient(small_patient()).await;
    for _ in 0..280 {
        portal.read(&format!("/api/v1/patients/{patient}")).await;
    }
    let entries = strongroom.entries().await;
    for act in ["service.start", "record.create", "record.read"] {
        let mut own: Vec<&Value> = entries.iter().filter(|entry| entry["act"] == act).collect();
        own.drain(1..own.len().max(2) - 1);
        for entry in own {
            let id = entry["id"].as_str().unwrap();
            let proof = proof_of(&auditor, id).await;
            // The members stand in the order in which they are stored.
            let stored = entry.to_string();
            assert_eq!(check(&folder, &proof, stored.as_bytes()), Some(0), "{act}");
            let other = stored.replace("success", "refused");
            assert_eq!(check(&folder, &proof, other.as_bytes()), Some(3), "{act}");
        }
    }
    let checkpoint = auditor.get("/api/v1/audit/checkpoint").await;
    let request = request_id(&checkpoint);
    assert!(checkpoint.text().await.unwrap().starts_with("strongroom.internal/log\n"));
    assert_eq!(strongroom.entry_of(&request).await["act"], "audit.read");
}

/// Another tenant's entry is answered as one that never was, byte for byte.
#[tokio::test]
async fn nobody_is_shown_that_another_tenants_entry_is_there() {
    let strongroom = with_an_auditor_in_the_south().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    portal.create_patient(small_patient()).await;
    let entry = strongroom.entries_of("record.create").await[0]["id"].as_str().unwrap().to_owned();
    proof_of(&auditor(&strongroom).await, &entry).await;
    let other = strongroom.client_with("auditor", SOUTH_AUDITOR).await.0;
    assert_eq!(other.get("/api/v1/audit/checkpoint").await.status(), 200, "an auditor all the same");
    let mut answers = Vec::new();
    for id in [entry.as_str(), "0192f0c1-0000-7000-8000-000000000001", "no-id"] {
        let answer = other.get(&format!("/api/v1/audit/proof/{id}")).await;
        let entry = strongroom.entry_of(&request_id(&answer)).await;
        assert_eq!(entry["out"]["code"], "entry_not_found");
        answers.push(problem(answer).await);
    }
    assert!(answers.iter().all(|answer| *answer == (404, "entry_not_found".into())), "{answers:?}");
}

#[tokio::test]
async fn a_page_comes_in_the_form_that_is_asked_for() {
    let strongroom = Strongroom::start().await;
    let (portal, auditor) =
        (strongroom.client("portal").await.with_purpose("TREAT"), auditor(&strongroom).await);
    for _ in 0..3 {
        portal.create_patient(small_patient()).await;
    }
    let created = strongroom.entries_of("record.create").await;
    proof_of(&auditor, created[2]["id"].as_str().unwrap()).await;
    let path = "/api/v1/audit/events?act=record.create&order=oldest&limit=2";
    let ask = async |path: &str, form: &'static str| {
        auditor.request(reqwest::Method::GET, path).header("accept", form).send().await.unwrap()
    };
    let answer = ask(path, "application/jsonl").await;
    assert_eq!(answer.headers()["content-type"], "application/jsonl");
    let next = answer.headers()["next-cursor"].to_str().unwrap().to_owned();
    let lines = answer.text().await.unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| &line["entry"]).collect::<Vec<_>>(), [&created[0], &created[1]]);
    assert!(lines.iter().all(|line| line["index"].is_u64() && line["log"] == "strongroom.internal/log"));
    let rest = ask(&format!("{path}&cursor={next}"), "text/csv, application/json;q=0.5").await;
    assert_eq!(rest.headers()["content-type"], "text/csv");
    assert!(rest.headers().get("next-cursor").is_none(), "the last page");
    let table = rest.text().await.unwrap();
    assert_eq!(table.split_terminator("\r\n").count(), 2, "{table}");
    let bundle: Value = ask(path, "application/fhir+json").await.json().await.unwrap();
    assert_eq!(bundle["entry"][1]["resource"]["resourceType"], "AuditEvent");
    let events: Value = ask(path, "application/ocsf+json").await.json().await.unwrap();
    assert_eq!(events[0]["metadata"]["uid"], created[0]["id"]);
    let refused = ask(path, "text/html").await;
    let request = request_id(&refused);
    assert_eq!(problem(refused).await, (406, "not_acceptable".into()));
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["out"]["code"]), (&"audit.read".into(), &"not_acceptable".into()));
}
