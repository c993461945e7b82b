//! Limits on the running service: so many requests, so many records revealed, for whom, until when, and what the log says.

use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::people;
use crate::support::samples::{NOBODY, document, message, small_patient};
use crate::support::tokens::Signer;
use crate::support::{Client, Strongroom, eventually, problem, replace_file, request_id};

/// Limits of people; clients have plenty. Two of the four numbers come back one a second.
fn limits_of_people(requests_at_once: u32, records_at_once: u32) -> String {
    let person = format!(
        "[default.person]\nrequests_per_minute = 60\nrequests_at_once = {requests_at_once}\nrecords_per_hour = 3600\nrecords_at_once = {records_at_once}\n"
    );
    let all = limits("portal", 100_000, 100_000);
    let start = all.find("[default.person]").unwrap();
    let end = all.find("[role.").unwrap();
    all[..start].to_owned() + &person + &all[end..]
}

/// Limits of clients, by role; everybody else has plenty. The two numbers come back at about the same pace as they are
/// written: one a second.
fn limits(role: &str, requests_at_once: u32, records_at_once: u32) -> String {
    let table = |name: &str, requests: u32, records: u32| {
        format!(
            "[{name}]\nrequests_per_minute = 60\nrequests_at_once = {requests}\n\
             records_per_hour = 3600\nrecords_at_once = {records}\n"
        )
    };
    let plenty = ["default.client", "default.person"].map(|name| table(name, 100_000, 100_000));
    plenty.concat() + &table(&format!("role.{role}.client"), requests_at_once, records_at_once)
}

/// Puts other limits into force.
async fn limit(strongroom: &Strongroom, text: &str) {
    let file = strongroom.policy_directory.join("limits.toml");
    strongroom.adopts(|| replace_file(&file, text)).await;
}

/// A 429 with its code; gives the seconds after which to come back.
async fn refused(answer: Response, code: &str) -> u64 {
    let seconds = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(problem(answer).await, (429, code.to_owned()));
    seconds
}

/// The entries of refusals by a limit, of one client.
async fn entries(strongroom: &Strongroom, code: &str, client: &str) -> Vec<Value> {
    let is_it = |entry: &Value| entry["out"]["code"] == code && entry["who"]["uid"] == client;
    strongroom.entries().await.into_iter().filter(is_it).collect()
}

async fn metric(strongroom: &Strongroom, sample: &str) -> u64 {
    let text = strongroom.client("operator").await.get("/metrics").await.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("strongroom_limited_total{sample} ")));
    line.map_or(0, |number| number.parse().unwrap())
}

/// A client that asks too often is told when to come back, and then is let in; the log has one entry for all of it, before
/// the first answer; nobody else notices.
#[tokio::test]
async fn too_many_requests_are_refused_until_it_is_time() {
    let strongroom = Strongroom::start().await;
    let billing = strongroom.client("billing").await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    limit(&strongroom, &limits("billing", 4, 1_000)).await;
    let mut answers = Vec::new();
    let begun = Instant::now();
    for _ in 0..12 {
        answers.push(billing.get("/livez").await);
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    let first = statuses.iter().position(|status| *status == 429).expect("some are refused");
    // One comes back in each second that this took.
    let back = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let refused_ones = statuses.iter().filter(|status| **status == 429).count();
    assert!(first >= 4 && refused_ones + 4 + back >= 12, "{statuses:?}");
    let refused_one = answers.remove(first);
    let request = request_id(&refused_one);
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["n"]), (&json!("access.denied"), &json!(1)));
    assert_eq!(entry["out"], json!({ "status": "refused", "code": "rate_limited" }));
    assert_eq!(entry["basis"], json!({ "policy": ["limits.toml:client:requests"] }));
    assert_eq!((&entry["req"]["route"], &entry["who"]["uid"]), (&json!("/livez"), &json!("billing")));
    assert_eq!(refused(refused_one, "rate_limited").await, 1);
    assert_eq!(entries(&strongroom, "rate_limited", "billing").await.len(), 1, "the others are counted");
    assert!(metric(&strongroom, "{limit=\"requests\",whose=\"client\"}").await >= 5);

    // Nobody else is held up, on whatever route.
    let id = portal.create_patient(small_patient()).await;
    assert_eq!(portal.get(&format!("/api/v1/patients/{id}")).await.status(), 200);

    // Whoever comes back when told is let in. What came back meanwhile is used up first.
    let mut last = billing.get("/livez").await;
    while last.status() != 429 {
        last = billing.get("/livez").await;
    }
    let seconds = refused(last, "rate_limited").await;
    // The very time that the answer names is what is tested.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(billing.get("/livez").await.status(), 200);
    // The rest of the flood is on record when the service ends, if not before.
    assert!(strongroom.stop().await);
    let told: u64 = entries(&strongroom, "rate_limited", "billing")
        .await
        .iter()
        .map(|entry| entry["n"].as_u64().unwrap())
        .sum();
    let happened = statuses.iter().filter(|status| **status == 429).count() as u64 + 1;
    assert_eq!(told, happened);
}

/// Requests are counted before anything else is done for them: those that are refused for what they ask count too.
#[tokio::test]
async fn refused_requests_count_and_the_flood_ends_in_the_log_too() {
    let strongroom = Strongroom::start().await;
    let billing = strongroom.client("billing").await;
    limit(&strongroom, &limits("billing", 5, 1_000)).await;
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(problem(billing.get("/api/v1/nothing").await).await.1);
    }
    let unknown = codes.iter().filter(|code| *code == "collection_unknown").count();
    assert!((5..15).contains(&unknown) && codes.iter().any(|code| code == "rate_limited"), "{codes:?}");
    let denied = strongroom.entries_of("access.denied").await;
    assert_eq!(denied.len(), unknown + 1, "one entry for all that the limit refused");
}

struct Scene {
    strongroom: Strongroom,
    portal: Client,
    patient: String,
    letters: Vec<String>,
}

impl Scene {
    async fn set(letters: usize) -> Self {
        let strongroom = Strongroom::start().await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let patient = portal.create_patient(small_patient()).await;
        let records = vec![message(&patient); letters];
        let answer = portal.post("/api/v1/messages/batch", &json!({ "records": records })).await;
        let made: Value = answer.json().await.unwrap();
        let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
        let letters = made["records"].as_array().unwrap().iter().map(id).collect();
        Self { strongroom, portal, patient, letters }
    }

    async fn read(&self, number: usize) -> Response {
        self.portal.get(&format!("/api/v1/messages/{}", self.letters[number])).await
    }

    async fn read_many(&self, ids: &[String]) -> Response {
        self.portal.post("/api/v1/messages/batch/read", &json!({ "ids": ids })).await
    }
}

/// Records are counted by record, whichever way they are read: one by one, in a batch, as a document; also those that there
/// are not. Writing and paging go on.
#[tokio::test]
async fn records_are_counted_whichever_way_they_are_read() {
    let scene = Scene::set(30).await;
    let (strongroom, portal) = (&scene.strongroom, &scene.portal);
    let file = portal.create("documents", &document(&scene.patient)).await;
    let file = format!("/api/v1/documents/{}/files/content", file["id"].as_str().unwrap());
    portal.upload(&file, b"not a scan").await;
    limit(strongroom, &limits("portal", 100_000, 20)).await;
    let before = strongroom.entries_of("record.read").await.len();
    let batch = scene.read_many(&scene.letters[..15]).await;
    assert_eq!(batch.status(), 200);
    // Five more at once, and one with each second that this takes.
    let mut passed = 0;
    let (answer, asked) = loop {
        let asked = Instant::now();
        let answer = match passed % 3 {
            0 => portal.get(&file).await,
            1 => scene.read(passed).await,
            _ => portal.get(&format!("/api/v1/messages/{NOBODY}")).await,
        };
        if answer.status() == 429 {
            break (answer, asked);
        }
        passed += 1;
        assert!(passed < 20, "the limit is never reached");
    };
    assert!(passed >= 5, "only {passed} passed");
    let request = request_id(&answer);
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["out"]["code"], &entry["n"]), (&json!("volume_limited"), &json!(1)));
    assert_eq!(entry["basis"], json!({ "policy": ["limits.toml:client:records"] }));
    assert_eq!((&entry["act"], &entry["purpose"]), (&json!("record.read"), &json!("TREAT")));
    assert!(entry["obj"][0]["record"].is_string(), "{entry}");
    assert_eq!(refused(answer, "volume_limited").await, 1);

    // All at once is counted at once, and nothing of it is revealed or on record as revealed.
    let many = scene.read_many(&scene.letters[..18]).await;
    let seconds = refused(many, "volume_limited").await;
    // Less than one was left, and one came back in each second since.
    assert!(seconds <= 18 && seconds + asked.elapsed().as_secs() + 2 >= 18, "{seconds}");
    assert_eq!(entries(strongroom, "volume_limited", "portal").await.len(), 1);
    let reads = strongroom.entries_of("record.read").await.len() - before;
    let documents = strongroom.entries_of("document.read").await.len();
    assert_eq!(reads + documents, 15 + passed + 1, "what was revealed or looked for, and one refusal");
    assert!(metric(strongroom, "{limit=\"records\",whose=\"client\"}").await >= 2);

    // What reveals no value is not held up.
    assert_eq!(portal.get(&format!("/api/v1/patients/{}/history", scene.patient)).await.status(), 200);
    portal.create("messages", &message(&scene.patient)).await;
    // Another tenant's portal has an allowance of its own.
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let theirs = south.create_patient(small_patient()).await;
    assert_eq!(south.get(&format!("/api/v1/patients/{theirs}")).await.status(), 200);
}

/// A batch that is larger than what may come at once is not impossible: it goes when nothing is owed, and is owed then.
#[tokio::test]
async fn a_batch_larger_than_the_limit_goes_when_nothing_is_owed() {
    let scene = Scene::set(12).await;
    limit(&scene.strongroom, &limits("portal", 100_000, 3)).await;
    let asked = Instant::now();
    assert_eq!(scene.read_many(&scene.letters).await.status(), 200);
    let seconds = refused(scene.read(0).await, "volume_limited").await;
    assert!(seconds <= 10 && seconds + asked.elapsed().as_secs() + 1 >= 10, "{seconds}");
    // More is in force as soon as it is reviewed, and takes nothing back.
    limit(&scene.strongroom, &limits("portal", 100_000, 100)).await;
    assert_eq!(scene.read(0).await.status(), 200);
}

/// Where a part is down nothing is revealed and nothing is counted, so that whoever asks again in vain is not refused
/// afterwards.
#[tokio::test]
async fn what_could_not_be_read_for_a_part_that_is_down_is_not_counted() {
    let scene = Scene::set(1).await;
    limit(&scene.strongroom, &limits("portal", 100_000, 6)).await;
    let data = scene.strongroom.data().await;
    data.batch_execute("REVOKE SELECT ON record FROM strongroom_app").await.unwrap();
    for _ in 0..12 {
        assert_eq!(scene.read(0).await.status(), 503);
    }
    data.batch_execute("GRANT SELECT ON record TO strongroom_app").await.unwrap();
    assert_eq!(scene.read(0).await.status(), 200);
}

/// Without the log a refusal is none: the answer is 503, as for everything else, and the next refusal that can be recorded
/// tells of both.
#[tokio::test]
async fn a_refusal_that_cannot_be_recorded_is_not_told() {
    let scene = Scene::set(1).await;
    limit(&scene.strongroom, &limits("portal", 100_000, 1)).await;
    assert_eq!(scene.read(0).await.status(), 200);
    let data = scene.strongroom.data().await;
    let columns = "src, seq, entry_id, tenant_id, entry, sha256";
    let grants = format!("INSERT ({columns}) ON audit_entry");
    data.batch_execute(&format!("REVOKE {grants} FROM strongroom_app")).await.unwrap();
    let batch = scene.read_many(&[scene.letters[0].clone(), NOBODY.to_owned()]).await;
    assert_eq!(problem(batch).await, (503, "audit_unavailable".into()));
    data.batch_execute(&format!("GRANT {grants} TO strongroom_app")).await.unwrap();
    eventually("a refusal is told again", async || {
        let answer = scene.read_many(&[scene.letters[0].clone(), NOBODY.to_owned()]).await;
        answer.status() == 429
    })
    .await;
    assert!(!entries(&scene.strongroom, "volume_limited", "portal").await.is_empty());
}

/// Limits are strict, and part of the policy: a file that is not valid changes nothing.
#[tokio::test]
async fn limits_that_are_not_valid_keep_the_old_ones() {
    let strongroom = Strongroom::start().await;
    let operator = strongroom.client("operator").await;
    for text in [
        String::new(),
        limits("nobody", 1, 1),
        limits("portal", 0, 1),
        limits("portal", 1, 1).replace("[default.person]", "[default.people]"),
    ] {
        let failed = async || {
            let loads = strongroom.entries_of("policy.load").await;
            loads.iter().filter(|entry| entry["out"]["status"] == "failed").count()
        };
        let before = failed().await;
        replace_file(&strongroom.policy_directory.join("limits.toml"), &text);
        eventually("the refusal is on record", async || failed().await > before).await;
    }
    for _ in 0..20 {
        assert_eq!(operator.request(Method::GET, "/livez").send().await.unwrap().status(), 200);
    }
}

/// A person has an allowance of their own behind whatever client, of requests and of records; nobody else behind that
/// client notices, and neither does the client.
#[tokio::test]
async fn a_person_is_limited_behind_every_client_and_the_client_is_not() {
    let signer = Signer::new("ES256", "k1");
    let scene = people::Scene::with_keys(&[&signer]).await;
    let strongroom = &scene.strongroom;
    let second = another_kiosk(strongroom).await;
    let token = |person: &str| signer.sign(&people::claims(&json!({ "sub": person })));
    let (ana, bo) = (token("ana"), token("bo"));

    limit(strongroom, &limits_of_people(100_000, 3)).await;
    let mut passed = 0;
    let answer = loop {
        let client = if passed % 2 == 0 { &scene.kiosk } else { &second };
        let answer = people::read(client, &scene.path, &ana).await;
        if answer.status() == 429 {
            break answer;
        }
        assert_eq!(answer.status(), 200);
        passed += 1;
        assert!(passed < 20, "the limit is never reached");
    };
    assert!(passed >= 3, "only {passed} passed");
    let request = request_id(&answer);
    let entry = strongroom.entry_of(&request).await;
    assert_eq!((&entry["out"]["code"], &entry["n"]), (&json!("volume_limited"), &json!(1)));
    assert_eq!(entry["basis"], json!({ "policy": ["limits.toml:person:records"] }));
    assert_eq!(entry["who"]["on_behalf_of"]["uid"], "ana");
    refused(answer, "volume_limited").await;
    for client in [&scene.kiosk, &second] {
        assert_eq!(people::read(client, &scene.path, &bo).await.status(), 200, "somebody else");
    }

    limit(strongroom, &limits_of_people(3, 100_000)).await;
    let mut codes = Vec::new();
    for _ in 0..12 {
        codes.push(people::read(&scene.kiosk, "/livez", &ana).await.status().as_u16());
    }
    assert!(codes.iter().filter(|code| **code == 429).count() >= 5, "{codes:?}");
    assert_eq!(entries(strongroom, "rate_limited", "kiosk").await.len(), 1);
    let entry = entries(strongroom, "rate_limited", "kiosk").await.remove(0);
    assert_eq!(entry["basis"], json!({ "policy": ["limits.toml:person:requests"] }));
    assert_eq!(people::read(&scene.kiosk, "/livez", &bo).await.status(), 200);
    assert_eq!(scene.kiosk.get("/livez").await.status(), 200, "the client for itself");
    assert!(metric(strongroom, "{limit=\"requests\",whose=\"person\"}").await >= 5);
}

/// Tokens that do not count are counted: whoever tries them out is held up as the client that sends them.
#[tokio::test]
async fn tokens_that_are_refused_count_for_the_client() {
    let signer = Signer::new("ES256", "k1");
    let scene = people::Scene::with_keys(&[&signer]).await;
    limit(&scene.strongroom, &limits("doorway", 5, 1_000)).await;
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(problem(scene.read("made.up.token").await).await.1);
    }
    let judged = codes.iter().filter(|code| *code == "token_invalid").count();
    assert!((5..15).contains(&judged), "{codes:?}");
    assert!(codes.iter().any(|code| code == "rate_limited"), "{codes:?}");
}

/// A second client that may act for the same people.
async fn another_kiosk(strongroom: &Strongroom) -> Client {
    let san = "spiffe://strongroom.internal/client/clinic-north/kiosk-two";
    let file = strongroom.policy_directory.join("identities.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let client = format!(
        "\n[[client]]\nname = \"kiosk-two\"\ntenant = \"clinic-north\"\nkind = \"app\"\nsan = \"{san}\"\n\
         roles = [\"doorway\"]\nacts_for = [\"visitor\"]\n"
    );
    replace_file(&file, &(text + &client));
    let client = strongroom.client_with("client", san).await.0.with_purpose("TREAT");
    eventually("the second client is listed", async || client.get("/livez").await.status() == 200).await;
    client
}

/// Who has a certificate of ours and is not listed is answered for as long as it asks, and leaves no more entries than a client
/// may make requests: the rest is a number.
#[tokio::test]
async fn a_stranger_that_floods_is_counted() {
    let strongroom = Strongroom::start().await;
    let nobody = "spiffe://strongroom.internal/client/clinic-north/nobody-knows";
    let (stranger, _) = strongroom.client_with("client", nobody).await;
    let few =
        limits("portal", 100_000, 100_000).replacen("requests_at_once = 100000", "requests_at_once = 4", 1);
    limit(&strongroom, &few).await;
    for _ in 0..60 {
        assert_eq!(problem(stranger.get("/livez").await).await, (403, "identity_unlisted".into()));
    }
    let own = async || {
        let is_it = |entry: &Value| entry["out"]["code"] == "identity_unlisted";
        let entries = strongroom.entries_of("authentication.failed").await;
        entries.into_iter().filter(is_it).collect::<Vec<_>>()
    };
    let told = own().await;
    // Four, one that tells of the flood, and one in each second that this took.
    assert!(told.len() < 40, "{}", told.len());
    assert!(told.iter().any(|entry| entry["n"].is_u64()));
    assert!(strongroom.stop().await);
    let sum: u64 = own().await.iter().map(|entry| entry["n"].as_u64().unwrap_or(1)).sum();
    assert_eq!(sum, 60);
}
