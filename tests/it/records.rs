//! A record's life: created, read, changed, deleted, each with its entry.

use serde_json::{Value, json};

use crate::support::{Strongroom, problem};

#[tokio::test]
async fn a_patient_is_stored_read_changed_and_deleted() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let created = portal
        .create("patients", &json!({ "fields": { "family_name": "Nováková", "given_name": "Žofie", "birth_date": "1984-02-29", "mrn": "MRN-0012345678" } }))
        .await;
    let id = created["id"].as_str().unwrap();
    assert_eq!(created["version"], 1);
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let answer = clinician.get(&format!("/api/v1/patients/{id}")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["etag"], "\"1\"");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["fields"]["family_name"], "Nováková");
    let missing = clinician.get("/api/v1/patients/0192f0c1-0000-7000-8000-000000000001").await;
    assert_eq!(problem(missing).await, (404, "record_not_found".into()));
    let acts: Vec<_> = strongroom.entries().await.iter().map(|entry| entry["act"].clone()).collect();
    assert_eq!(acts, ["service.start", "record.create", "record.read", "record.read"]);
}
