//! The OpenAPI document: valid by the specification's own validator, whole, reviewed, and true of a running service.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::http::{Operation, ProblemKind};

use crate::support::clinic::Clinic;
use crate::support::contract::{self, DOCUMENT, check_answer, check_value, codes, resolved};
use crate::support::custody::{Custody, ROTATIONS, wish};
use crate::support::people::claims;
use crate::support::python::python_with;
use crate::support::samples::{NOBODY, document, encounter, message, note, patient};
use crate::support::{Client, Strongroom, eventually, problem, replace_file};

const URL: &str = "/api/v1/openapi.json";

/// `STRONGROOM_BLESS=1 cargo test --test it openapi` writes the document anew; review the difference: what goes or gets
/// narrower breaks clients that were made from it.
#[test]
fn the_document_is_the_reviewed_one() {
    let found = format!("{}\n", serde_json::to_string_pretty(&*DOCUMENT).unwrap());
    let golden = root().join("tests/it/golden/openapi.json");
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    let reviewed = std::fs::read_to_string(golden).unwrap();
    let differs = found.lines().zip(reviewed.lines()).find(|(found, reviewed)| found != reviewed);
    assert!(found == reviewed, "tests/it/golden/openapi.json differs: {differs:?}");
}

/// Against the meta-schema of OpenAPI 3.1 and the rules beside it (references, names of parameters, ids of operations), by
/// the Python package `openapi-spec-validator`, which is installed by name where it is missing.
#[test]
fn the_document_is_valid_openapi_3_1() {
    let python = validator();
    let file = std::env::temp_dir().join(format!("strongroom-openapi-{}.json", std::process::id()));
    let verdict = |document: &Value| {
        std::fs::write(&file, document.to_string()).unwrap();
        let mut command = Command::new(&python);
        command.args(["-m", "openapi_spec_validator", "--schema", "3.1", "--validation-errors", "all"]);
        let output = command.arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (is_valid, said) = verdict(&DOCUMENT);
    assert!(is_valid, "{said}");
    // It does look.
    let mut spoilt = DOCUMENT.clone();
    spoilt["paths"]["/livez"]["get"]["responses"] = json!({ "fine": {} });
    let mut lost = DOCUMENT.clone();
    lost["components"]["schemas"].as_object_mut().unwrap().remove("Written");
    assert!(!verdict(&spoilt).0 && !verdict(&lost).0);
    let _ = std::fs::remove_file(file);
}

#[test]
fn every_problem_is_some_operations() {
    let mut documented = BTreeSet::new();
    for answer in DOCUMENT["components"]["responses"].as_object().unwrap().values() {
        documented.extend(codes(answer));
    }
    let unseen: Vec<&str> =
        ProblemKind::ALL.iter().map(|kind| kind.code()).filter(|code| !documented.contains(code)).collect();
    assert_eq!(unseen, ["route_unknown", "method_not_allowed"], "what has no operation has no other problem");
}

#[test]
fn the_command_prints_the_document_of_a_folder() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_strongroom")).current_dir(root()).args(arguments).output().unwrap()
    };
    let output = run(&["openapi"]);
    assert!(output.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), *DOCUMENT);
    let output = run(&["openapi", "--directory", "audit"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

/// What is served is the document of the policy in force: the same for everybody who is listed, with a tag by which a
/// client knows that it has it, and another as soon as the policy is another.
#[tokio::test]
async fn every_listed_client_gets_the_document_of_the_policy_in_force() {
    let strongroom = Strongroom::start().await;
    let mut tags = BTreeSet::new();
    for name in ["portal", "billing", "audit", "custodian-alice", "operator"] {
        let answer = strongroom.client(name).await.get(URL).await;
        tags.insert(answer.headers()["etag"].to_str().unwrap().to_owned());
        assert_eq!(answer.headers()["cache-control"], "private, no-cache");
        assert_eq!(check_answer(&Method::GET, answer).await, *DOCUMENT, "{name}");
    }
    assert_eq!(tags.len(), 1);
    let portal = strongroom.client("portal").await;
    let again =
        async |tag: &str| portal.request(Method::GET, URL).header("if-none-match", tag).send().await.unwrap();
    let tag = tags.pop_first().unwrap();
    let known = again(&tag).await;
    assert_eq!((known.status().as_u16(), known.headers()["etag"].to_str().unwrap()), (304, tag.as_str()));
    check_answer(&Method::GET, known).await;
    assert_eq!(again("\"other\"").await.status(), 200);

    let file = strongroom.policy_directory.join("collections/messages.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let field = "\n[[field]]\nid = 60\nname = \"folder\"\ntype = \"name\"\nclass = \"phi\"\nmask = \"full\"\nabout = \"Where it lies\"\n";
    replace_file(&file, &format!("{before}{field}"));
    eventually("the document follows the policy", async || again(&tag).await.status() == 200).await;
    let followed: Value = portal.get(URL).await.json().await.unwrap();
    let created = &followed["components"]["schemas"]["messages.create"]["properties"]["fields"]["properties"];
    assert_eq!(
        (&created["folder"]["description"], created["folder"]["x-class"].as_str()),
        (&json!("Where it lies"), Some("phi"))
    );
}

/// Every collection with a record that has every field, by a role that reads it in plain and by one that does not.
#[tokio::test]
async fn answers_are_what_the_document_says() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let therapist = strongroom.client("therapist-desk").await.with_purpose("TREAT");
    let dashboard = strongroom.client("dashboard").await.with_purpose("HOPERAT");
    let subject = made(&portal, "patients", &json!({ "fields": patient() })).await;
    let samples = [
        (&portal, "messages", message(&subject)),
        (&portal, "documents", document(&subject)),
        (&clinician, "encounters", encounter(&subject)),
        (&therapist, "psychotherapy_notes", note(&subject)),
    ];
    let mut records = vec![(&portal, "patients", subject.clone(), json!({ "fields": patient() }))];
    for (client, collection, sample) in samples {
        let id = made(client, collection, &sample).await;
        records.push((client, collection, id, sample));
    }
    portal.upload(&format!("/api/v1/documents/{}/files/content", records[2].2), b"not a scan").await;
    let collections: BTreeSet<&str> = records.iter().map(|(_, collection, ..)| *collection).collect();
    let tags = DOCUMENT["tags"].as_array().unwrap();
    assert_eq!(collections.len() + 1, tags.len(), "a sample of every collection");
    for (client, collection, id, sample) in &records {
        reads(client, &dashboard, collection, id).await;
        many(client, collection, id, sample).await;
        searches(client, collection, sample).await;
        writes(client, collection, id).await;
    }
    pages(&strongroom, &dashboard, &portal, &subject).await;
    care_teams(&strongroom, &subject).await;
    whole_persons(&strongroom, &subject).await;
    service(&strongroom).await;
    refusals(&portal, &subject).await;
}

/// Files, whose answers have no JSON, by their headers.
#[tokio::test]
async fn answers_about_files_are_what_the_document_says() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let subject = made(&portal, "patients", &json!({ "fields": patient() })).await;
    let id = made(&portal, "documents", &document(&subject)).await;
    let path = format!("/api/v1/documents/{id}/files/content");
    let start = async || {
        let request = portal.request(Method::POST, &path).header("upload-length", "10");
        request.header("upload-metadata", "filetype YXBwbGljYXRpb24vcGRm").send().await.unwrap()
    };
    let begun = start().await;
    let upload = begun.headers()["location"].to_str().unwrap().to_owned();
    check_answer(&Method::POST, begun).await;
    check_answer(&Method::HEAD, portal.request(Method::HEAD, &upload).send().await.unwrap()).await;
    check_answer(&Method::PATCH, portal.append(&upload, 3, b"not a scan".to_vec()).await).await;
    check_answer(&Method::PATCH, portal.append(&upload, 0, b"not a scan".to_vec()).await).await;
    check_answer(&Method::GET, portal.get(&path).await).await;
    let shown = check_answer(&Method::GET, portal.get(&format!("/api/v1/documents/{id}")).await).await;
    assert_eq!(shown["fields"]["content"], json!({ "bytes": 10, "media_type": "application/pdf" }));
    let second = start().await.headers()["location"].to_str().unwrap().to_owned();
    check_answer(&Method::DELETE, portal.delete(&second).await).await;
    check_answer(&Method::DELETE, portal.delete(&second).await).await;
    let other = portal.request(Method::HEAD, &upload).header("tus-resumable", "0.2.2").send().await.unwrap();
    assert_eq!(other.status(), 412);
    check_answer(&Method::HEAD, other).await;
}

async fn made(client: &Client, collection: &str, sample: &Value) -> String {
    let what = format!("{collection}.create");
    check_value(&what, &DOCUMENT["components"]["schemas"][&what], sample);
    let answer = client.post(&format!("/api/v1/{collection}"), sample).await;
    assert_eq!(answer.status(), 201, "{collection}");
    check_answer(&Method::POST, answer).await["id"].as_str().unwrap().to_owned()
}

/// In plain, masked, as it comes, by name, and by somebody who may not read it all.
async fn reads(client: &Client, dashboard: &Client, collection: &str, id: &str) {
    let path = format!("/api/v1/{collection}/{id}");
    let most = check_answer(&Method::GET, client.get(&path).await).await;
    let plain = check_answer(&Method::GET, client.get(&format!("{path}?view=plain")).await).await;
    let masked = check_answer(&Method::GET, client.get(&format!("{path}?view=masked")).await).await;
    let fields = most["fields"].as_object().unwrap();
    assert!(fields.len() >= 4, "{collection}");
    // Each form on its own: what is masked is not taken for plain.
    let schema = &DOCUMENT["components"]["schemas"][format!("{collection}.record")];
    let forms = |name: &str| &schema["properties"]["fields"]["properties"][name]["anyOf"];
    for (answer, form) in [(&plain, 0), (&masked, 1)] {
        for (name, shown) in answer["fields"].as_object().unwrap() {
            check_value(&format!("{collection}.{name}"), &forms(name)[form], shown);
        }
    }
    assert_eq!(masked["fields"].as_object().unwrap().len(), fields.len(), "{collection}");
    let name = fields.keys().next().unwrap();
    check_answer(&Method::GET, client.get(&format!("{path}?fields={name}&version=1")).await).await;
    check_answer(&Method::GET, dashboard.get(&path).await).await;
    check_answer(&Method::GET, client.get(&format!("{path}?view=all")).await).await;
    check_answer(&Method::GET, client.get(&format!("/api/v1/{collection}/{NOBODY}")).await).await;
}

async fn many(client: &Client, collection: &str, id: &str, sample: &Value) {
    let body = json!({ "records": [sample, sample] });
    let schema = |part: &str| &DOCUMENT["components"]["schemas"][format!("{collection}.{part}")];
    check_value(collection, schema("create_many"), &body);
    let answer = client.post(&format!("/api/v1/{collection}/batch"), &body).await;
    check_answer(&Method::POST, answer).await;
    let body = json!({ "ids": [NOBODY, id], "view": "masked" });
    check_value(collection, schema("read_many"), &body);
    let answer = client.post(&format!("/api/v1/{collection}/batch/read"), &body).await;
    let read = check_answer(&Method::POST, answer).await;
    // Policy gives reading many to few; the others have been told so as documented.
    assert!(read["code"] == "action_not_allowed" || read["missing"] == json!([0]), "{collection}");
}

/// By every field that can be looked for, in every way there is.
async fn searches(client: &Client, collection: &str, sample: &Value) {
    let schemas = &DOCUMENT["components"]["schemas"];
    let schema = &schemas[format!("{collection}.search")];
    let path = format!("/api/v1/{collection}/search");
    if schema.is_null() {
        return assert!(DOCUMENT["paths"].get(path).is_none(), "{collection}");
    }
    let conditions = schema["properties"]["where"]["items"]["oneOf"].as_array().unwrap();
    for condition in conditions {
        let word = |name: &str| condition["properties"][name]["const"].as_str().unwrap();
        let value = &sample["fields"][word("field")];
        let day = || json!(value.as_str().unwrap()[..10]);
        let sought = match word("match") {
            "between" => json!({ "field": word("field"), "match": "between", "from": day(), "until": day() }),
            "on" => json!({ "field": word("field"), "match": "on", "value": day() }),
            other => json!({ "field": word("field"), "match": other, "value": value }),
        };
        let body = json!({ "where": [sought], "limit": 2 });
        check_value(collection, schema, &body);
        let found = check_answer(&Method::POST, client.post(&path, &body).await).await;
        // Policy gives searches to few, and by what they may read.
        let is_refused =
            ["action_not_allowed", "field_not_allowed"].iter().any(|code| found["code"] == *code);
        assert!(is_refused || !found["records"].as_array().unwrap().is_empty(), "{body}: {found}");
    }
    let answer = client.post(&path, &json!({ "where": [] })).await;
    check_answer(&Method::POST, answer).await;
}

async fn writes(client: &Client, collection: &str, id: &str) {
    let path = format!("/api/v1/{collection}/{id}");
    let etag = client.get(&path).await.headers()["etag"].to_str().unwrap().to_owned();
    let (name, value) = match collection {
        "patients" => ("notes", json!("n")),
        "messages" => ("thread", Value::Null),
        "documents" => ("author", Value::Null),
        "encounters" => ("reason", Value::Null),
        _ => ("themes", json!(["sleep"])),
    };
    let body = json!({ "fields": { name: value } });
    check_value(collection, &DOCUMENT["components"]["schemas"][format!("{collection}.change")], &body);
    let changed = check_answer(&Method::PATCH, client.patch(&path, &etag, &body).await).await;
    assert!(changed["version"].is_u64() || changed["code"].is_string(), "{changed}");
    check_answer(&Method::PATCH, client.patch(&path, "\"9\"", &body).await).await;
    check_answer(&Method::PATCH, client.patch(&path, &etag, &json!({ "fields": {} })).await).await;
    check_answer(&Method::GET, client.get(&format!("{path}/history?limit=1")).await).await;
    check_answer(&Method::DELETE, client.delete(&path).await).await;
}

async fn pages(strongroom: &Strongroom, dashboard: &Client, portal: &Client, subject: &str) {
    for query in ["", "?limit=1", "?limit=0"] {
        check_answer(&Method::GET, dashboard.get(&format!("/api/v1/patients{query}")).await).await;
        check_answer(&Method::GET, portal.get(&format!("/api/v1/patients/{subject}/history{query}")).await)
            .await;
    }
    let auditor = strongroom.client("audit").await;
    // Of every kind that there is so far, each by the schema of entries.
    let page = check_answer(&Method::GET, auditor.get("/api/v1/audit/events?limit=500").await).await;
    let acts: BTreeSet<&str> =
        page["entries"].as_array().unwrap().iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    assert!(acts.len() >= 8 && acts.contains("record.read") && acts.contains("service.start"), "{acts:?}");
    for query in ["?limit=1", "?act=record.steal"] {
        check_answer(&Method::GET, auditor.get(&format!("/api/v1/audit/events{query}")).await).await;
    }
    for form in ["application/fhir+json", "application/ocsf+json", "application/xml"] {
        let page = auditor.request(Method::GET, "/api/v1/audit/events?limit=2").header("accept", form);
        check_answer(&Method::GET, page.send().await.unwrap()).await;
    }
    for path in ["checkpoint", &format!("proof/{NOBODY}")] {
        check_answer(&Method::GET, auditor.get(&format!("/api/v1/audit/{path}")).await).await;
    }
}

async fn care_teams(strongroom: &Strongroom, subject: &str) {
    let client = strongroom.client("coordination").await.with_purpose("COC");
    let path = format!("/api/v1/subjects/{subject}/care-team");
    let body = json!({ "teams": ["ward-3"] });
    check_value("teams", &DOCUMENT["components"]["schemas"]["CareTeam"], &body);
    let put = async |etag: &str, body: &Value| {
        let answer = client.request(Method::PUT, &path).header("if-match", etag).json(body).send().await;
        check_answer(&Method::PUT, answer.unwrap()).await
    };
    assert_eq!(put("\"1\"", &body).await, body);
    assert_eq!(check_answer(&Method::GET, client.get(&path).await).await, body);
    assert_eq!(put("\"1\"", &body).await["code"], "version_stale");
    assert_eq!(put("\"2\"", &json!({ "teams": 3 })).await["code"], "body_shape");
    let nobody = client.get(&format!("/api/v1/subjects/{NOBODY}/care-team")).await;
    assert_eq!(check_answer(&Method::GET, nobody).await["code"], "record_not_found");
}

async fn whole_persons(strongroom: &Strongroom, subject: &str) {
    let privacy = strongroom.client("privacy-desk").await.with_purpose("HCOMPL");
    let path = format!("/api/v1/subjects/{subject}/hold");
    let body = json!({ "reason": "regulator", "reference": "OCR-7" });
    check_value("hold", &DOCUMENT["components"]["schemas"]["NewHold"], &body);
    let placed = check_answer(&Method::POST, privacy.post(&path, &body).await).await;
    let hold = format!("{path}/{}", placed["id"].as_str().unwrap());
    let refused = privacy.post(&path, &json!({ "reason": "spite", "reference": "OCR-7" })).await;
    assert_eq!(check_answer(&Method::POST, refused).await["code"], "body_shape");
    for _ in 0..2 {
        let listed = check_answer(&Method::GET, privacy.get(&path).await).await;
        assert_eq!(listed["holds"][0]["id"], placed["id"]);
        check_answer(&Method::DELETE, privacy.delete(&hold).await).await;
    }
    let path = format!("/api/v1/subjects/{subject}/export");
    let officer = privacy.with_purpose("PATRQT");
    let page = check_answer(&Method::GET, officer.get(&format!("{path}?limit=1")).await).await;
    assert_eq!((&page["records"][0]["subject"], page["next"].is_string()), (&json!(subject), true));
    let refused = check_answer(&Method::GET, officer.get(&format!("{path}?cursor=1")).await).await;
    assert_eq!(refused["code"], "query_invalid");
    assert_eq!(check_answer(&Method::GET, privacy.get(&path).await).await["code"], "purpose_not_allowed");
    let nobody = privacy.get(&format!("/api/v1/subjects/{NOBODY}/hold")).await;
    assert_eq!(check_answer(&Method::GET, nobody).await["code"], "record_not_found");
}

/// With people.
#[tokio::test]
async fn answers_about_broken_glass_are_what_the_document_says() {
    let clinic = Clinic::open().await;
    let (desk, token) = (clinic.desk.with_purpose("BTG"), clinic.doctor(&[]));
    let privacy = clinic.strongroom.client("privacy-desk").await.with_purpose("HCOMPL");
    let path = "/api/v1/break-glass";
    let body = |minutes: u32| json!({ "reason": "emergency", "reference": "ED-1", "minutes": minutes, "subjects": [clinic.alice] });
    check_value("open", &DOCUMENT["components"]["schemas"]["NewBreakGlass"], &body(5));
    let open = async |minutes| {
        let request = desk.request(Method::POST, path).bearer_auth(&token).json(&body(minutes));
        check_answer(&Method::POST, request.send().await.unwrap()).await
    };
    assert_eq!(open(90).await["code"], "break_glass_bounds");
    let id = open(5).await["id"].as_str().unwrap().to_owned();
    let listed = check_answer(&Method::GET, privacy.get(path).await).await;
    assert_eq!(listed["unreviewed"][0]["id"], json!(id));
    let review = async |id: &str| {
        let answer =
            privacy.post(&format!("{path}/{id}/review"), &json!({ "verdict": "not_justified" })).await;
        check_answer(&Method::POST, answer).await
    };
    assert_eq!(review(&id).await, Value::Null);
    assert_eq!(review(&id).await["code"], "reviewed_already");
    assert_eq!(review(NOBODY).await["code"], "record_not_found");
}

#[tokio::test]
async fn answers_about_erasures_are_what_the_document_says() {
    let clinic = Clinic::open().await;
    let desk = clinic.strongroom.client("privacy-desk").await.with_purpose("PATRQT");
    let officer = |sub: &str| clinic.signer.sign(&claims(&json!({ "roles": ["officer"], "sub": sub })));
    let path = format!("/api/v1/subjects/{}/erase", clinic.alice);
    let body = json!({ "reason": "person_request", "reference": "GDPR-1" });
    check_value("erase", &DOCUMENT["components"]["schemas"]["NewErasure"], &body);
    let post = async |path: &str, sub: &str| {
        let request = desk.request(Method::POST, path).bearer_auth(officer(sub)).json(&body);
        check_answer(&Method::POST, request.send().await.unwrap()).await
    };
    let list = async || check_answer(&Method::GET, desk.get(&path).await).await["erasures"][0].clone();
    let id = post(&path, "o-1").await["id"].as_str().unwrap().to_owned();
    assert_eq!(list().await["state"], "requested");
    let approve = format!("{path}/{id}/approve");
    assert_eq!(post(&approve, "o-1").await["code"], "approve_own");
    assert_eq!(post(&approve, "o-2").await, Value::Null);
    assert_eq!(post(&approve, "o-3").await["code"], "approved_already");
    assert_eq!(post(&path, "o-1").await["code"], "record_not_found");
    eventually("it is erased, with a certificate", async || list().await["certificate"].is_string()).await;
}

#[tokio::test]
async fn answers_about_keys_are_what_the_document_says() {
    let custody = Custody::open().await;
    check_value("rotation", &DOCUMENT["components"]["schemas"]["NewRotation"], &wish("phi"));
    let get = async |path: &str| check_answer(&Method::GET, custody.alice.get(path).await).await;
    let post = async |client: &Client, path: &str| {
        check_answer(&Method::POST, client.post(path, &wish("phi")).await).await
    };
    assert_eq!(post(&custody.alice, ROTATIONS).await["code"], "nothing_to_rotate");
    custody.patients(1).await;
    let id = post(&custody.alice, ROTATIONS).await["id"].as_str().unwrap().to_owned();
    assert_eq!(post(&custody.bob, ROTATIONS).await["code"], "rotation_open");
    custody.is(&id, "rewrapped").await;
    assert_eq!(get("/api/v1/keys/status").await["classes"][0]["rotation"]["id"], json!(id));
    let approvals = format!("{ROTATIONS}/{id}/approvals");
    assert_eq!(post(&custody.alice, &approvals).await["code"], "approve_own");
    assert_eq!(post(&custody.bob, &approvals).await["code"], "key_too_young");
    custody.complete(&id).await;
    assert_eq!(get(ROTATIONS).await["rotations"][0]["state"], "destroyed");
    assert!(get(&format!("{ROTATIONS}/{id}")).await["destroyed_at"].is_string());
    assert_eq!(get(&format!("{ROTATIONS}/{NOBODY}")).await["code"], "record_not_found");
}

async fn service(strongroom: &Strongroom) {
    let operator = strongroom.client("operator").await;
    for path in ["/livez", "/readyz", "/metrics"] {
        check_answer(&Method::GET, operator.get(path).await).await;
    }
    let portal = strongroom.client("portal").await;
    assert_eq!(check_answer(&Method::GET, portal.get("/metrics").await).await["code"], "action_not_allowed");
    // What is answered where something is sent: relay.rs.
    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let body = json!({ "subscriber": { "ssn": format!("{{{{{NOBODY}}}}}") } });
    let answer = billing.post("/api/v1/relay/claims-clearinghouse", &body).await;
    assert_eq!(check_answer(&Method::POST, answer).await["code"], "relay_not_configured");
    let refused = portal.with_purpose("HPAYMT").post("/api/v1/relay/claims-clearinghouse", &body).await;
    assert_eq!(check_answer(&Method::POST, refused).await["code"], "action_not_allowed");
}

async fn refusals(portal: &Client, subject: &str) {
    let faulty = json!({ "fields": { "family_name": 1, "birth_date": "1984-02-30", "nonsense": true } });
    let answer = portal.post("/api/v1/patients", &faulty).await;
    assert!(check_answer(&Method::POST, answer).await["errors"].as_array().unwrap().len() > 2);
    let many = json!({ "records": [{ "fields": patient() }, faulty] });
    let answer = portal.post("/api/v1/patients/batch", &many).await;
    assert_eq!(check_answer(&Method::POST, answer).await["errors"][0]["record"], 1);
    let path = format!("/api/v1/patients/{subject}");
    let answer = portal.with_purpose("HPAYMT").get(&path).await;
    assert_eq!(check_answer(&Method::GET, answer).await["code"], "purpose_not_allowed");
    let answer = portal.with_purpose("FUN").get(&path).await;
    assert_eq!(check_answer(&Method::GET, answer).await["code"], "purpose_unknown");
    assert_eq!(problem(portal.delete(&path).await).await, (403, "action_not_allowed".into()));
}

/// What a document without the operation's own schema would let through.
#[test]
fn the_document_is_as_narrow_as_the_interface() {
    let schema = |name: &str| &DOCUMENT["components"]["schemas"][name];
    let refused = |name: &str, value: Value| {
        assert!(!contract::faults(schema(name), &value).is_empty(), "{name} takes {value}");
    };
    refused("patients.create", json!({ "fields": {} }));
    refused("patients.create", json!({ "fields": patient(), "subject": NOBODY }));
    refused("messages.create", json!({ "fields": message(NOBODY)["fields"] }));
    refused("patients.change", json!({ "fields": {} }));
    refused("patients.change", json!({ "fields": { "family_name": null } }));
    refused("documents.create", json!({ "subject": NOBODY, "fields": { "content": {} } }));
    let mut other = patient();
    other["sex"] = json!("female");
    refused("patients.create", json!({ "fields": other }));
    refused("patients.record", json!({ "id": NOBODY, "fields": {} }));
    let exact = |field: &str, value: &str| json!({ "field": field, "match": "exact", "value": value });
    for conditions in [
        json!([]),
        json!([exact("sex", "F")]),
        json!([exact("birth_date", "1984-02-29")]),
        json!(vec![exact("mrn", "1"); 5]),
    ] {
        refused("patients.search", json!({ "where": conditions }));
    }
    for (name, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let answer = resolved(answer);
                let bare =
                    matches!(status.as_str(), "204" | "304") || method == "head" || name.contains("/files/");
                assert!(bare || answer["content"].is_object(), "{method} {name} {status}");
            }
        }
    }
    assert_eq!(Operation::ALL.len(), 39, "a new operation has its answers in this file");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that has the validator.
fn validator() -> PathBuf {
    python_with("openapi", &["openapi-spec-validator~=0.9.0"])
}
