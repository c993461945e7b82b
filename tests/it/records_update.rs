//! Update: a new version with some fields set or removed; the old one is kept, and nobody overwrites what they have not
//! seen.

use serde_json::{Value, json};
use strongroom::storage::sealed_columns::decode_seals;

use crate::support::samples::{patient, small_patient};
use crate::support::{Client, Strongroom, problem};

#[tokio::test]
async fn a_patch_makes_a_new_version_and_keeps_the_old_one() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let data = strongroom.data().await;
    let stored = data.query_one("SELECT to_jsonb(r)::text FROM record r", &[]).await.unwrap();

    let change = json!({ "fields": { "email": null, "notes": "Moved.", "phone": "+15550100000", "name_prefix": null } });
    let answer = portal.patch(&path, "\"1\"", &change).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["etag"]), (200, &"\"2\"".parse().unwrap()));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        body,
        json!({ "id": id, "collection": "patients", "version": 2, "updated_at": body["updated_at"], "subject": id })
    );

    let (record, etag) = portal.read(&path).await;
    assert_eq!((etag.as_str(), &record["version"]), ("\"2\"", &json!(2)));
    let mut expected = patient();
    for name in ["email", "name_prefix"] {
        expected.as_object_mut().unwrap().remove(name);
    }
    expected["notes"] = json!("Moved.");
    expected["phone"] = json!("+15550100000");
    expected["ssn"] = json!("•••4320");
    expected["drivers_licence"] = json!("•••2345");
    assert_eq!(record["fields"], expected);
    assert!(record["created_at"].as_str() < record["updated_at"].as_str());

    // The first version is in the history as it was, seals and all; the second shares no seal with it.
    let kept = data.query_one("SELECT to_jsonb(h)::text FROM record_history h", &[]).await.unwrap();
    let (kept, mut stored) = (as_json(&kept), as_json(&stored));
    // What records are found by is of their newest version.
    assert!(stored.as_object_mut().unwrap().remove("indexed_as").unwrap().is_i64());
    assert_eq!(stored.as_object_mut().unwrap().remove("terms").unwrap().as_array().unwrap().len(), 9);
    assert_eq!(kept, stored);
    let sql = "SELECT h.seal_headers, r.seal_headers, to_jsonb(r)::text FROM record_history h, record r";
    let row = data.query_one(sql, &[]).await.unwrap();
    let [before, after] = [0, 1].map(|column| decode_seals(row.get(column)).unwrap());
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(after.iter().all(|seal| !before.contains(seal)));
    let now: Value = serde_json::from_str(row.get(2)).unwrap();
    assert_ne!(now["audit_entry_id"], kept["audit_entry_id"]);
}

#[tokio::test]
async fn a_patch_names_the_version_it_changes() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let change = json!({ "fields": { "notes": "n" } });
    let bare = portal.request(reqwest::Method::PATCH, &path).json(&change).send().await.unwrap();
    assert_eq!(problem(bare).await, (428, "if_match_required".into()));
    for etag in ["1", "W/\"1\"", "*", "\"1\", \"2\"", "\"01\"", "\"0\"", "\"\"", "\"x\"", "\"4294967296\""] {
        let answer = portal.patch(&path, etag, &change).await;
        assert_eq!(problem(answer).await, (400, "if_match_invalid".into()), "{etag}");
    }
    let twice =
        portal.request(reqwest::Method::PATCH, &path).header("if-match", "\"1\"").header("if-match", "\"1\"");
    let answer = twice.json(&change).send().await.unwrap();
    assert_eq!(problem(answer).await, (400, "if_match_invalid".into()));
    let ahead = portal.patch(&path, "\"2\"", &change).await;
    assert_eq!(problem(ahead).await, (412, "version_stale".into()));
    assert_eq!(portal.patch(&path, "\"1\"", &change).await.status(), 200);
    let behind = portal.patch(&path, "\"1\"", &change).await;
    assert_eq!(problem(behind).await, (412, "version_stale".into()));
    assert_eq!(portal.read(&path).await.1, "\"2\"");
}

#[tokio::test]
async fn of_concurrent_patches_exactly_one_wins_each_version() {
    const ROUNDS: u32 = 4;
    const WRITERS: u32 = 8;
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    for version in 1..=ROUNDS {
        let writers = (0..WRITERS).map(|writer| {
            let (portal, path) = (portal.clone(), path.clone());
            tokio::spawn(async move {
                let change = json!({ "fields": { "notes": format!("{version}/{writer}") } });
                (writer, portal.patch(&path, &format!("\"{version}\""), &change).await)
            })
        });
        let mut winners = Vec::new();
        for write in writers.collect::<Vec<_>>() {
            let (writer, answer) = write.await.unwrap();
            if answer.status() == 200 {
                assert_eq!(answer.headers()["etag"], format!("\"{}\"", version + 1));
                winners.push(writer);
            } else {
                assert_eq!(problem(answer).await, (412, "version_stale".into()));
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        let (record, _) = portal.read(&format!("{path}?fields=notes")).await;
        assert_eq!(record["fields"]["notes"], format!("{version}/{}", winners[0]));
    }
    let versions: Vec<i64> = history(&strongroom, &id).await;
    assert_eq!(versions, (1..=i64::from(ROUNDS)).collect::<Vec<_>>());
    let updates = strongroom.entries_of("record.update").await;
    let won = updates.iter().filter(|entry| entry["out"]["status"] == "success").count();
    assert_eq!((won, updates.len()), (ROUNDS as usize, (ROUNDS * WRITERS) as usize));
}

#[tokio::test]
async fn required_fields_stay_and_a_patch_changes_something() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let faults = async |fields: Value| {
        let answer = portal.patch(&path, "\"1\"", &json!({ "fields": fields })).await;
        assert_eq!(answer.status(), 422);
        let document: Value = answer.json().await.unwrap();
        assert_eq!(document["code"], "fields_invalid");
        document["errors"].clone()
    };
    assert_eq!(
        faults(json!({ "birth_date": null, "mrn": null, "email": null })).await,
        json!([{ "field": "birth_date", "code": "required" }, { "field": "mrn", "code": "required" }])
    );
    assert_eq!(faults(json!({})).await, json!([{ "code": "nothing_to_change" }]));
    assert_eq!(faults(json!({ "mrn": "" })).await, json!([{ "field": "mrn", "code": "empty" }]));
    assert_eq!(portal.read(&path).await.1, "\"1\"");
    // Removing what is not there is no fault: it is not there afterwards.
    let answer = portal.patch(&path, "\"1\"", &json!({ "fields": { "email": null } })).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(portal.read(&path).await.0["fields"], small_patient());
}

#[tokio::test]
async fn fields_that_a_role_may_not_write_are_named_and_nothing_is_written() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let refused = async |client: &Client, fields: Value| {
        let answer = client.patch(&path, "\"1\"", &json!({ "fields": fields })).await;
        assert_eq!(answer.status(), 403);
        let document: Value = answer.json().await.unwrap();
        assert_eq!(document["code"], "field_not_allowed");
        document["errors"].clone()
    };
    let not_allowed = |name: &str| json!({ "field": name, "code": "not_allowed" });
    assert_eq!(
        refused(&clinician, json!({ "family_name": "X", "notes": "n", "email": null })).await,
        json!([not_allowed("family_name"), not_allowed("email")])
    );
    // Taking a field away is writing it.
    assert_eq!(refused(&clinician, json!({ "insurance": null })).await, json!([not_allowed("insurance")]));
    assert_eq!(portal.read(&path).await.1, "\"1\"");
    let entries = strongroom.entries_of("record.update").await;
    assert_eq!(entries[0]["asked"], json!(["family_name", "email"]));
    assert_eq!(entries[0]["out"], json!({ "status": "refused", "code": "field_not_allowed" }));
}

async fn history(strongroom: &Strongroom, id: &str) -> Vec<i64> {
    let sql = "SELECT version FROM record_history WHERE record_id = $1 ORDER BY version";
    let rows = strongroom.data().await.query(sql, &[&id]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn as_json(row: &tokio_postgres::Row) -> Value {
    serde_json::from_str(row.get(0)).unwrap()
}
