//! Batches: many records in one request, all or none when they are made, each on record when they are read.

use std::collections::BTreeSet;

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::samples::{NOBODY, message, small_patient};
use crate::support::{Client, Strongroom, problem, request_id};

fn letter(patient: &str, number: usize) -> Value {
    let mut letter = message(patient);
    letter["fields"]["subject_line"] = json!(format!("Letter {number}"));
    letter
}

async fn create_many(client: &Client, records: Vec<Value>) -> Response {
    client.post("/api/v1/messages/batch", &json!({ "records": records })).await
}

async fn read_many(client: &Client, body: Value) -> Response {
    client.post("/api/v1/messages/batch/read", &body).await
}

/// The entry of the batch itself.
fn batch_of(entries: &[Value]) -> &Value {
    entries.iter().find(|entry| entry["act"] == "record.batch").unwrap()
}

struct Scene {
    strongroom: Strongroom,
    portal: Client,
    patient: String,
}

impl Scene {
    async fn set() -> Self {
        let strongroom = Strongroom::start().await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let patient = portal.create_patient(small_patient()).await;
        Self { strongroom, portal, patient }
    }

    /// Ids of as many letters, made in one request.
    async fn letters(&self, number: usize) -> Vec<String> {
        let letters = (0..number).map(|number| letter(&self.patient, number)).collect();
        let answer = create_many(&self.portal, letters).await;
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        let body: Value = answer.json().await.unwrap();
        let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
        body["records"].as_array().unwrap().iter().map(id).collect()
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table} WHERE collection = 'messages'");
        self.strongroom.data().await.query_one(&sql, &[]).await.unwrap().get(0)
    }
}

/// The most that one request takes, there and back, with an entry for each record.
#[tokio::test]
async fn five_hundred_records_there_and_back() {
    let scene = Scene::set().await;
    let ids = scene.letters(500).await;
    assert_eq!(scene.count("record").await, 500);
    let creates = scene.strongroom.entries_of("record.create").await;
    assert_eq!(creates.len(), 501, "500 letters and the patient");
    let batch = scene.strongroom.entries_of("record.batch").await;
    assert_eq!((batch.len(), &batch[0]["n"]), (1, &json!(500)));

    // Nothing in memory: every key comes from the key database in one look.
    let mut scene = scene;
    scene.strongroom.kill_and_restart().await;
    let portal = scene.strongroom.client("portal").await.with_purpose("TREAT");
    let answer = read_many(&portal, json!({ "ids": ids })).await;
    let request = request_id(&answer);
    let body: Value = answer.json().await.unwrap();
    let records = body["records"].as_array().unwrap();
    assert_eq!(records.len(), 500);
    for (number, (record, id)) in records.iter().zip(&ids).enumerate() {
        assert_eq!((&record["id"], &record["version"]), (&json!(id), &json!(1)));
        assert_eq!(record["fields"], letter(&scene.patient, number)["fields"]);
    }
    assert!(body.get("missing").is_none() && body.get("unreadable").is_none());

    let entries = scene.strongroom.entries_of_request(&request).await;
    let reads: Vec<&Value> = entries.iter().filter(|entry| entry["act"] == "record.read").collect();
    assert_eq!((entries.len(), reads.len()), (501, 500));
    let named: BTreeSet<&str> =
        reads.iter().map(|entry| entry["obj"][0]["record"].as_str().unwrap()).collect();
    assert_eq!(named, ids.iter().map(String::as_str).collect());
    for entry in reads {
        assert_eq!(entry["obj"][0]["fields"].as_array().unwrap().len(), 12);
        assert_eq!((&entry["subj"], &entry["out"]["status"]), (&json!(scene.patient), &json!("success")));
    }
    let last = batch_of(&entries);
    assert_eq!((&last["act"], &last["n"]), (&json!("record.batch"), &json!(500)));
}

#[tokio::test]
async fn new_people_come_in_batches_too() {
    let scene = Scene::set().await;
    let people: Vec<Value> = (0..20).map(|_| json!({ "fields": small_patient() })).collect();
    let answer = scene.portal.post("/api/v1/patients/batch", &json!({ "records": people })).await;
    assert_eq!(answer.status(), 201);
    let body: Value = answer.json().await.unwrap();
    for record in body["records"].as_array().unwrap() {
        assert_eq!(record["id"], record["subject"]);
        let path = format!("/api/v1/patients/{}", record["id"].as_str().unwrap());
        assert_eq!(scene.portal.read(&path).await.0["fields"], small_patient());
    }
}

/// Every fault of every record is named by its place, none is echoed, and nothing is stored.
#[tokio::test]
async fn one_bad_record_refuses_them_all() {
    let scene = Scene::set().await;
    let mut bad = letter(&scene.patient, 1);
    bad["fields"]["sent_at"] = json!("penicillin");
    bad["fields"]["shoe_size"] = json!(44);
    let mut worse = letter(&scene.patient, 2);
    worse["fields"].as_object_mut().unwrap().remove("body");
    let answer = create_many(&scene.portal, vec![letter(&scene.patient, 0), bad, worse]).await;
    assert_eq!(answer.status(), 422);
    let text = answer.text().await.unwrap();
    assert!(!text.contains("penicillin") && !text.contains("shoe_size"), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["code"], "fields_invalid");
    let errors = body["errors"].as_array().unwrap();
    let of = |place: u64| errors.iter().filter(|error| error["record"] == place).count();
    assert_eq!((of(0), of(1), of(2), errors.len()), (0, 2, 1, 3), "{text}");

    let unknown = create_many(&scene.portal, vec![letter(&scene.patient, 0), letter(NOBODY, 1)]).await;
    assert_eq!(problem(unknown).await, (422, "subject_unknown".into()));
    let ruled = json!({ "records": [{ "subject": scene.patient, "fields": small_patient() }] });
    let ruled = scene.portal.post("/api/v1/patients/batch", &ruled).await;
    assert_eq!(problem(ruled).await, (422, "subject_rule".into()));
    assert_eq!(scene.count("record").await, 0);
}

#[tokio::test]
async fn a_batch_has_one_to_five_hundred_records() {
    let scene = Scene::set().await;
    let many = vec![letter(&scene.patient, 0); 501];
    for answer in [
        create_many(&scene.portal, vec![]).await,
        create_many(&scene.portal, many).await,
        read_many(&scene.portal, json!({ "ids": [] })).await,
        read_many(&scene.portal, json!({ "ids": (0..501).map(|n| n.to_string()).collect::<Vec<_>>() })).await,
        read_many(&scene.portal, json!({ "ids": [NOBODY, NOBODY] })).await,
    ] {
        assert_eq!(problem(answer).await, (422, "batch_size".into()));
    }
    for body in [
        json!({}),
        json!({ "ids": NOBODY }),
        json!({ "ids": [NOBODY], "limit": 1 }),
        json!({ "ids": [NOBODY], "view": "all" }),
        json!({ "ids": [NOBODY], "fields": ["shoe_size"] }),
        json!({ "ids": [NOBODY], "fields": ["body", "body"] }),
    ] {
        let refused = read_many(&scene.portal, body.clone()).await;
        assert_eq!(problem(refused).await, (400, "body_shape".into()), "{body}");
    }
    for body in [json!({ "records": [[null, {}]] }), json!({ "records": [1] }), json!({ "record": [] })] {
        let refused = scene.portal.post("/api/v1/messages/batch", &body).await;
        assert_eq!(problem(refused).await, (400, "body_shape".into()), "{body}");
    }
    assert_eq!(scene.count("record").await, 0);
}

/// What is asked for together is in memory together, so there is a bound; nothing is opened beyond it, and fewer are read.
#[tokio::test]
async fn records_that_are_too_large_together_are_asked_for_in_parts() {
    let scene = Scene::set().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut large = letter(&scene.patient, 1);
        large["fields"]["body"] = json!("x".repeat(32_000));
        let made: Value = create_many(&scene.portal, vec![large; 110]).await.json().await.unwrap();
        let made = made["records"].as_array().unwrap();
        ids.extend(made.iter().map(|record| record["id"].as_str().unwrap().to_owned()));
    }
    let answer = read_many(&scene.portal, json!({ "ids": ids })).await;
    let request = request_id(&answer);
    assert_eq!(problem(answer).await, (422, "answer_too_large".into()));
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["out"]["code"]), (&json!("record.read"), &json!("answer_too_large")));
    for part in ids.chunks(110) {
        let answer = read_many(&scene.portal, json!({ "ids": part })).await;
        let answer: Value = answer.json().await.unwrap();
        let records = answer["records"].as_array().unwrap();
        let read: Vec<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
        assert_eq!((read, answer.get("missing")), (part.iter().map(String::as_str).collect(), None));
    }
}

/// What is not there, was deleted, is another tenant's or is no id at all is missing, and looks the same.
#[tokio::test]
async fn what_is_not_there_is_missing_by_its_place() {
    let scene = Scene::set().await;
    let ids = scene.letters(3).await;
    let person = scene.portal.with_purpose("PATRQT");
    assert_eq!(person.delete(&format!("/api/v1/messages/{}", ids[1])).await.status(), 204);
    let asked = json!({ "ids": [NOBODY, ids[0], ids[1], "4111111111111111", "../x", ids[2]] });
    let answer = read_many(&scene.portal, asked.clone()).await;
    let request = request_id(&answer);
    let text = answer.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["missing"], json!([0, 2, 3, 4]));
    assert_eq!((&body["records"][0]["id"], &body["records"][1]["id"]), (&json!(ids[0]), &json!(ids[2])));
    assert!(!text.contains("4111111111111111"));
    let entries = scene.strongroom.entries_of_request(&request).await;
    let failed = json!({ "status": "failed", "code": "record_not_found" });
    assert_eq!(entries.iter().filter(|entry| entry["out"] == failed).count(), 4);
    assert!(!entries.iter().any(|entry| entry.to_string().contains("4111111111111111")));
    assert_eq!(batch_of(&entries)["n"], 2);

    let south = scene.strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let theirs: Value = read_many(&south, json!({ "ids": ids })).await.json().await.unwrap();
    assert_eq!(theirs, json!({ "records": [], "missing": [0, 1, 2] }));
}

/// A record that was tampered with is told by its place and does not hide the others; the alarm is raised.
#[tokio::test]
async fn a_changed_record_is_unreadable_and_hides_no_other() {
    let scene = Scene::set().await;
    let ids = scene.letters(4).await;
    let data = scene.strongroom.data().await;
    for (id, set) in [
        (&ids[1], "sealed_values = set_byte(sealed_values, 30, get_byte(sealed_values, 30) # 1)"),
        (&ids[2], "seal_headers = substring(seal_headers FROM 1 FOR 60)"),
    ] {
        data.execute(&format!("UPDATE record SET {set} WHERE record_id = '{id}'"), &[]).await.unwrap();
    }
    let answer = read_many(&scene.portal, json!({ "ids": ids })).await;
    let request = request_id(&answer);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["unreadable"], json!([1, 2]));
    assert_eq!(body["records"].as_array().unwrap().len(), 2);
    let entries = scene.strongroom.entries_of_request(&request).await;
    let failed = json!({ "status": "failed", "code": "record_unreadable" });
    let unreadable: Vec<&Value> = entries.iter().filter(|entry| entry["out"] == failed).collect();
    let named: BTreeSet<&str> =
        unreadable.iter().map(|entry| entry["obj"][0]["record"].as_str().unwrap()).collect();
    assert_eq!(named, BTreeSet::from([&*ids[1], &*ids[2]]));
}

/// Fields and views mean what they mean in a single read, and a refused field refuses the whole.
#[tokio::test]
async fn policy_decides_field_by_field_here_too() {
    let scene = Scene::set().await;
    let ids = scene.letters(2).await;
    let asked = json!({ "ids": ids, "fields": ["priority", "body"] });
    let body: Value = read_many(&scene.portal, asked).await.json().await.unwrap();
    assert_eq!(
        body["records"][1]["fields"],
        json!({ "priority": -1, "body": message("")["fields"]["body"] })
    );

    let dashboard = scene.strongroom.client("dashboard").await.with_purpose("HOPERAT");
    let masked: Value = read_many(&dashboard, json!({ "ids": ids })).await.json().await.unwrap();
    assert_eq!(masked["records"][0]["masked"].as_array().unwrap().len(), 12);
    let refused = read_many(&dashboard, json!({ "ids": ids, "view": "plain", "fields": ["body"] })).await;
    assert_eq!(problem(refused).await, (403, "field_not_allowed".into()));
    // A patient is read one by one by the portal, whoever it is.
    let people = scene.portal.post("/api/v1/patients/batch/read", &json!({ "ids": [scene.patient] })).await;
    assert_eq!(problem(people).await, (403, "action_not_allowed".into()));
}

/// A batch under a key is one request: repeated, it is answered whole.
#[tokio::test]
async fn a_repeated_batch_is_answered_and_not_done_again() {
    let scene = Scene::set().await;
    let body = json!({ "records": [letter(&scene.patient, 0), letter(&scene.patient, 1)] });
    let send = async || {
        let request = scene.portal.request(reqwest::Method::POST, "/api/v1/messages/batch");
        request.header("idempotency-key", "monday").json(&body).send().await.unwrap()
    };
    let first: Value = send().await.json().await.unwrap();
    let again = send().await;
    assert_eq!(
        (again.status().as_u16(), &again.headers()["idempotency-replayed"]),
        (201, &"true".parse().unwrap())
    );
    let request = request_id(&again);
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    assert_eq!(scene.count("record").await, 2);
    let entry = scene.strongroom.entry_of(&request).await;
    assert_eq!((&entry["act"], &entry["n"]), (&json!("record.batch"), &json!(2)));
}
