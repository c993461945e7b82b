//! Collections: the names that are routes, and what each role may do where.

use serde_json::{Value, json};

use crate::support::samples::{encounter, message, small_patient};
use crate::support::{Strongroom, problem, request_id};

#[tokio::test]
async fn only_collections_of_the_policy_exist_and_asking_for_others_is_on_record() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let change = json!({ "fields": { "notes": "n" } });
    for name in
        ["cards", "Patients", "patients%20", "patients%2f..", "%00", "%ff", "subjects", "keys", "audit"]
    {
        let record = format!("/api/v1/{name}/{id}");
        for (answer, route) in [
            (portal.post(&format!("/api/v1/{name}"), &json!({ "fields": {} })).await, "/api/v1/{collection}"),
            (portal.get(&record).await, "/api/v1/{collection}/{id}"),
            (portal.patch(&record, "\"1\"", &change).await, "/api/v1/{collection}/{id}"),
            (portal.delete(&record).await, "/api/v1/{collection}/{id}"),
        ] {
            let request = request_id(&answer);
            assert_eq!(problem(answer).await, (404, "collection_unknown".into()), "{name}");
            let entry = strongroom.entry_of(&request).await;
            assert_eq!((&entry["act"], &entry["req"]["route"]), (&json!("access.denied"), &json!(route)));
            assert_eq!(entry["out"], json!({ "status": "refused", "code": "collection_unknown" }));
            // What was asked for is the caller's text and stays out.
            assert_eq!(entry.get("obj"), None);
        }
    }
}

#[tokio::test]
async fn each_role_writes_where_its_work_is() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("PATRQT");
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let mobile = strongroom.client("mobile").await.with_purpose("PATRQT");
    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let subject = portal.create_patient(small_patient()).await;
    let mut visit = encounter(&subject);
    let fields = json!({ "fields": small_patient() });

    for (client, collection, body, expected) in [
        (&portal, "encounters", &visit, (403, "action_not_allowed")),
        (&clinician, "patients", &fields, (403, "action_not_allowed")),
        (&mobile, "patients", &fields, (403, "action_not_allowed")),
        (&mobile, "encounters", &visit, (403, "action_not_allowed")),
        (&billing, "messages", &message(&subject), (403, "action_not_allowed")),
    ] {
        let answer = client.post(&format!("/api/v1/{collection}"), body).await;
        assert_eq!(problem(answer).await, (expected.0, expected.1.to_owned()), "{collection}");
    }
    clinician.create("encounters", &visit).await;
    mobile.create("messages", &message(&subject)).await;
    clinician.create("messages", &message(&subject)).await;
    // A field that is not for the role refuses the whole record.
    visit["fields"]["charge_usd"] = json!("1.00");
    let answer = clinician.post("/api/v1/encounters", &visit).await;
    let document: Value = answer.json().await.unwrap();
    assert_eq!(document["code"], "field_not_allowed");
    assert_eq!(document["errors"], json!([{ "field": "charge_usd", "code": "not_allowed" }]));
    let sql = "SELECT count(*) FROM record WHERE collection = 'encounters'";
    assert_eq!(strongroom.data().await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn the_same_visit_looks_different_to_each_role() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let subject = portal.create_patient(small_patient()).await;
    let visit = clinician.create("encounters", &encounter(&subject)).await;
    let path = format!("/api/v1/encounters/{}", visit["id"].as_str().unwrap());
    let mobile = strongroom.client("mobile").await.with_purpose("PATRQT");
    let (seen, _) = mobile.read(&path).await;
    let mut shown: Vec<&String> = seen["fields"].as_object().unwrap().keys().collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "allergies",
            "clinician_name",
            "ended_at",
            "facility",
            "follow_up_on",
            "kind",
            "medications",
            "reason",
            "started_at"
        ]
    );
    assert_eq!(seen["subject"], subject);
    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let (seen, _) = billing.read(&path).await;
    assert_eq!((&seen["fields"]["clinician_name"], seen["fields"].get("note")), (&json!("D•••"), None));
    for who in ["audit", "custodian-alice", "operator"] {
        let client = strongroom.client(who).await;
        for purpose in ["TREAT", "HOPERAT", "SYSADMIN", "HCOMPL", "BTG"] {
            let answer = client.with_purpose(purpose).get(&path).await;
            assert_eq!(problem(answer).await, (403, "action_not_allowed".into()), "{who} {purpose}");
        }
    }
}
