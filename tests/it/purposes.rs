//! Purpose of use: stated on every request that touches health data, one of a closed list, and one that the role may use.

use serde_json::json;

use crate::support::samples::{message, small_patient};
use crate::support::{Strongroom, problem, request_id};

#[tokio::test]
async fn a_purpose_is_required_and_must_be_one_that_the_role_may_use() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await;
    let body = json!({ "fields": small_patient() });
    let id = portal.with_purpose("TREAT").create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let change = json!({ "fields": { "notes": "n" } });
    for (purpose, code) in [
        (None, "purpose_required"),
        (Some("HPAYMT"), "purpose_not_allowed"),
        (Some("HMARKT"), "purpose_not_allowed"),
    ] {
        let client = purpose.map_or_else(|| portal.clone(), |code| portal.with_purpose(code));
        for answer in [
            client.post("/api/v1/patients", &body).await,
            client.get(&path).await,
            client.get(&format!("{path}?fields=mrn")).await,
            client.patch(&path, "\"1\"", &change).await,
        ] {
            let request = request_id(&answer);
            assert_eq!(problem(answer).await, (403, code.into()));
            let entry = strongroom.entry_of(&request).await;
            assert_eq!(entry["out"], json!({ "status": "refused", "code": code }));
            assert_eq!(entry.get("purpose").and_then(|stated| stated.as_str()), purpose);
        }
    }
    // Deleting patients is not the portal's, whatever for; deleting messages is, for the patient's own request.
    let answer = portal.with_purpose("PATRQT").delete(&path).await;
    assert_eq!(problem(answer).await, (403, "action_not_allowed".into()));
    let letter = portal.with_purpose("TREAT").create("messages", &message(&id)).await;
    let letter = format!("/api/v1/messages/{}", letter["id"].as_str().unwrap());
    assert_eq!(problem(portal.delete(&letter).await).await, (403, "purpose_required".into()));
    assert_eq!(
        problem(portal.with_purpose("TREAT").delete(&letter).await).await,
        (403, "purpose_not_allowed".into())
    );
    assert_eq!(portal.with_purpose("PATRQT").delete(&letter).await.status(), 204);
}

#[tokio::test]
async fn a_purpose_is_one_known_code_sent_once() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await;
    let id = portal.with_purpose("TREAT").create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    for value in ["treat", "TREATMENT", "", "TREAT, PATRQT", "MARK-purpose"] {
        let answer = portal.with_purpose(value).get(&path).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (400, "purpose_unknown".into()), "{value}");
        let entry = strongroom.entry_of(&request).await;
        assert_eq!((&entry["act"], entry.get("purpose")), (&json!("access.denied"), None));
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "purpose_unknown" }));
        assert_eq!(entry["req"]["route"], "/api/v1/{collection}/{id}");
        assert_eq!(entry["who"]["uid"], "portal");
    }
    let twice = portal.request(reqwest::Method::GET, &path).header("x-purpose-of-use", "TREAT");
    let answer = twice.header("x-purpose-of-use", "TREAT").send().await.unwrap();
    assert_eq!(problem(answer).await, (400, "purpose_unknown".into()));
    assert!(!strongroom.entries().await.iter().any(|entry| entry.to_string().contains("MARK-purpose")));
}
