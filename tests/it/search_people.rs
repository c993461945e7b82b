//! Searches on behalf of people: they find whom they have to do with, and nothing tells that there are others.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::search::{exact, ids};
use crate::support::clinic::{Clinic, send, whole};
use crate::support::samples::{message, small_patient, visit};
use crate::support::{Client, problem, request_id};

async fn search(client: &Client, collection: &str, token: &str, body: &Value) -> Response {
    send(client, Method::POST, &format!("/api/v1/{collection}/search"), token, Some(body)).await
}

#[tokio::test]
async fn a_clinician_finds_the_patients_of_their_care_teams_alone() {
    let clinic = Clinic::open().await;
    let body = json!({ "where": [exact("family_name", "novakova")] });
    let token = clinic.doctor(&["ward-3"]);
    // Alice and Bob are alike, and nobody's yet.
    let before = whole(search(&clinic.desk, "patients", &token, &body).await).await;
    assert_eq!((before.0, &*before.2), (200, &b"{\"records\":[]}"[..]));
    assert_eq!(clinic.set_team(&clinic.alice, "\"1\"", &["ward-3", "ward-4"]).await.status(), 200);
    let answer = search(&clinic.desk, "patients", &token, &body).await;
    let request = request_id(&answer);
    let page: Value = answer.json().await.unwrap();
    assert_eq!(ids(&page), std::slice::from_ref(&clinic.alice));
    assert_eq!(page.as_object().unwrap().len(), 1, "no next, nothing else: {page}");
    let entries = clinic.strongroom.entries_of_request(&request).await;
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[1]["act"], &entries[1]["n"]), (&json!("record.search"), &json!(1)));
    assert_eq!(entries[1]["basis"]["policy"], json!(["clinician-finds"]));
    assert_eq!(entries[0]["who"]["on_behalf_of"]["uid"], "p-4711");
    assert!(!entries.iter().any(|entry| entry.to_string().contains(&clinic.bob)));

    // With and without Bob, another ward's doctor hears the same.
    let other = clinic.doctor(&["ward-9"]);
    let with_bob = whole(search(&clinic.desk, "patients", &other, &body).await).await;
    let import = clinic.strongroom.client("records-import").await.with_purpose("HOPERAT");
    assert_eq!(import.delete(&format!("/api/v1/patients/{}", clinic.bob)).await.status(), 204);
    assert_eq!(with_bob, whole(search(&clinic.desk, "patients", &other, &body).await).await);

    // Of no team there is nobody to find; the application by itself looks for nobody; nor is anybody found under broken glass.
    let nobody = search(&clinic.desk, "patients", &clinic.doctor(&[]), &body).await;
    assert_eq!(problem(nobody).await, (403, "relationship_required".into()));
    let alone = clinic.desk.post("/api/v1/patients/search", &body).await;
    assert_eq!(problem(alone).await, (403, "action_not_allowed".into()));
    let glass = search(&clinic.desk.with_purpose("BTG"), "patients", &token, &body).await;
    assert_eq!(problem(glass).await, (403, "purpose_not_allowed".into()));
    // What a clinician may not read in plain is not to be found out by asking.
    let body = json!({ "where": [exact("ssn", "987-65-4320")] });
    let hidden = search(&clinic.desk, "patients", &token, &body).await;
    assert_eq!(problem(hidden).await, (403, "field_not_allowed".into()));
}

/// Pages of a search are full of one's own, however many others are in between.
#[tokio::test]
async fn pages_are_of_ones_own_whoever_else_there_is() {
    let clinic = Clinic::open().await;
    let people: Vec<Value> = (0..120).map(|_| json!({ "fields": small_patient() })).collect();
    let made = clinic.portal.post("/api/v1/patients/batch", &json!({ "records": people })).await;
    let mut made = ids(&made.json().await.unwrap());
    made.sort();
    let own: Vec<&String> = made.iter().step_by(24).collect();
    let uuids: Vec<uuid::Uuid> = own.iter().map(|id| id.parse().unwrap()).collect();
    let set = "UPDATE subject SET care_teams = ARRAY['ward-3'] WHERE subject_id = ANY ($1)";
    assert_eq!(clinic.strongroom.data().await.execute(set, &[&uuids]).await.unwrap(), 5);
    let token = clinic.doctor(&["ward-3"]);
    let mut body = json!({ "where": [exact("family_name", "novakova")], "limit": 2 });
    let mut met = Vec::new();
    for size in [2, 2, 1] {
        let page: Value = search(&clinic.desk, "patients", &token, &body).await.json().await.unwrap();
        let found = ids(&page);
        assert_eq!(found.len(), size);
        assert_eq!(page["next"].as_str(), (size == 2).then(|| found[1].as_str()));
        body["cursor"] = page["next"].clone();
        met.extend(found);
    }
    assert_eq!(met.iter().collect::<Vec<_>>(), own);
}

#[tokio::test]
async fn a_patient_finds_their_own_letters_and_visits() {
    let clinic = Clinic::open().await;
    for subject in [&clinic.alice, &clinic.bob] {
        clinic.portal.create("messages", &message(subject)).await;
        clinic.desk.create("encounters", &visit(subject)).await;
    }
    let token = clinic.member(&clinic.alice);
    let letters = json!({ "where": [exact("thread", "THREAD-1")] });
    let visits = json!({ "where": [{ "field": "started_at", "match": "on", "value": "2026-01-02" }] });
    for (collection, body) in [("messages", &letters), ("encounters", &visits)] {
        let page: Value = search(&clinic.portal, collection, &token, body).await.json().await.unwrap();
        let records = page["records"].as_array().unwrap();
        assert_eq!(records.len(), 1, "{collection}");
        assert_eq!(records[0]["subject"], json!(clinic.alice));
    }
    // Whoever is not signed in as a patient looks for nothing at their request.
    let portal = clinic.portal.post("/api/v1/messages/search", &letters).await;
    assert_eq!(problem(portal).await, (403, "action_not_allowed".into()));
    let people = json!({ "where": [exact("family_name", "novakova")] });
    let refused = search(&clinic.portal, "patients", &token, &people).await;
    assert_eq!(problem(refused).await, (403, "purpose_not_allowed".into()), "reception's own, for treatment");
}
