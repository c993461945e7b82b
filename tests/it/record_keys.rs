//! Collections whose records have keys of their own: deleting a record destroys its keys, and nobody else's.

use serde_json::json;

use crate::support::export::Exported;
use crate::support::samples::{message, note, patient};
use crate::support::{Client, Databases, ServiceOptions, Strongroom, eventually, problem};

const NOTES: &str = "psychotherapy_notes";

async fn therapist(strongroom: &Strongroom) -> (Client, String) {
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let subject = portal.create_patient(patient()).await;
    (strongroom.client("therapist-desk").await.with_purpose("TREAT"), subject)
}

async fn id_of(client: &Client, subject: &str) -> String {
    client.create(NOTES, &note(subject)).await["id"].as_str().unwrap().to_owned()
}

async fn count(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

fn keys_of(owner: &str) -> String {
    format!("SELECT count(*) FROM subject_key WHERE owner = '{owner}'")
}

async fn is_listed(strongroom: &Strongroom) -> bool {
    count(&strongroom.data().await, "SELECT count(*) FROM key_destruction").await > 0
}

#[tokio::test]
async fn a_record_is_sealed_under_keys_of_its_own() {
    let strongroom = Strongroom::start().await;
    let (therapist, subject) = therapist(&strongroom).await;
    let keys = strongroom.keys().await;
    let before = count(&keys, &keys_of(&subject)).await;
    let id = id_of(&therapist, &subject).await;
    let path = format!("/api/v1/{NOTES}/{id}");
    assert_eq!(count(&keys, &keys_of(&id)).await, 2, "one for phi, one for pii");
    let sql = format!("SELECT count(*) FROM subject_key WHERE owner = '{id}' AND scope = 'record'");
    assert_eq!(count(&keys, &sql).await, 2);
    let change = json!({ "fields": { "themes": ["sleep"] } });
    assert_eq!(therapist.patch(&path, "\"1\"", &change).await.status(), 200);
    let (read, etag) = therapist.read(&path).await;
    assert_eq!((etag.as_str(), &read["fields"]["themes"]), ("\"2\"", &json!(["sleep"])));
    let (first, _) = therapist.read(&format!("{path}?version=1")).await;
    assert_eq!(first["fields"]["themes"], json!(["sleep", "family"]));
    assert_eq!(count(&keys, &keys_of(&id)).await, 2, "a new version needs no new key");
    assert_eq!(count(&keys, &keys_of(&subject)).await, before, "the subject's keys have no part in it");
}

#[tokio::test]
async fn deleting_a_record_destroys_its_keys_and_says_so() {
    let strongroom = Strongroom::start().await;
    let (therapist, subject) = therapist(&strongroom).await;
    let (kept, gone) = (id_of(&therapist, &subject).await, id_of(&therapist, &subject).await);
    let path = format!("/api/v1/{NOTES}/{gone}");
    let row = strongroom
        .data()
        .await
        .query_one("SELECT seal_headers, sealed_values FROM record WHERE record_id = $1", &[&gone])
        .await
        .unwrap();
    let (headers, values): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
    // A row that somebody else has put on the list is in nobody's way.
    let foreign = "INSERT INTO key_destruction (tenant_id, record_id, collection, requested_at) \
                   SELECT tenant_id, 'Mr. Smith', 'No Such', now() - interval '1 day' FROM record LIMIT 1";
    assert_eq!(strongroom.data().await.execute(foreign, &[]).await.unwrap(), 1);
    assert_eq!(therapist.delete(&path).await.status(), 204);
    assert_eq!(problem(therapist.get(&path).await).await, (404, "record_not_found".into()));

    let listed = format!("SELECT count(*) FROM key_destruction WHERE record_id = '{gone}'");
    let data = strongroom.data().await;
    eventually("the record is struck off the list", async || count(&data, &listed).await == 0).await;
    let keys = strongroom.keys().await;
    assert_eq!(count(&keys, &keys_of(&gone)).await, 0);
    let buried = format!("SELECT count(*) FROM tombstone WHERE owner = '{gone}' AND scope = 'record'");
    assert_eq!(count(&keys, &buried).await, 1);

    let entries = strongroom.entries().await;
    let of_record: Vec<&str> = entries
        .iter()
        .filter(|entry| entry["obj"][0]["record"] == json!(gone))
        .map(|entry| entry["act"].as_str().unwrap())
        .collect();
    assert_eq!(of_record, ["record.create", "record.delete", "record.read", "key.destroy"]);
    let destroyed = entries.iter().find(|entry| entry["act"] == "key.destroy").unwrap();
    assert_eq!(destroyed["out"], json!({ "status": "success" }));
    assert_eq!(destroyed["who"]["kind"], "service");
    assert_eq!(destroyed["subj"], json!(subject));

    // Whoever brings the row back, from a backup or as the database's superuser, brings back nothing that opens.
    strongroom
        .data()
        .await
        .execute(
            "UPDATE record SET deleted = false, version = 1, seal_headers = $2, sealed_values = $3 WHERE record_id = $1",
            &[&gone, &headers, &values],
        )
        .await
        .unwrap();
    assert_eq!(problem(therapist.get(&path).await).await, (500, "record_unreadable".into()));
    let (other, _) = therapist.read(&format!("/api/v1/{NOTES}/{kept}")).await;
    assert_eq!(other["fields"]["author"], "Ngozi Adeyemi");
}

#[tokio::test]
async fn where_the_subject_has_the_key_a_delete_destroys_none() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let subject = portal.create_patient(patient()).await;
    let letter = portal.create("messages", &message(&subject)).await;
    let before = count(&strongroom.keys().await, &keys_of(&subject)).await;
    let path = format!("/api/v1/messages/{}", letter["id"].as_str().unwrap());
    let import = strongroom.client("records-import").await.with_purpose("HOPERAT");
    assert_eq!(import.delete(&path).await.status(), 204);
    assert!(!is_listed(&strongroom).await);
    assert_eq!(count(&strongroom.keys().await, &keys_of(&subject)).await, before);
}

#[tokio::test]
async fn a_destruction_survives_a_refusing_key_database_and_a_killed_service() {
    let mut strongroom = Strongroom::start().await;
    let (therapist, subject) = therapist(&strongroom).await;
    let id = id_of(&therapist, &subject).await;
    let keys = strongroom.keys().await;
    let refuse = "REVOKE EXECUTE ON FUNCTION destroy_record_keys FROM strongroom_keys";
    keys.batch_execute(refuse).await.unwrap();
    assert_eq!(therapist.delete(&format!("/api/v1/{NOTES}/{id}")).await.status(), 204);
    eventually("the service says that it could not", async || {
        strongroom.log().iter().any(|line| line.contains("keys.not_destroyed") && line.contains(&id))
    })
    .await;
    assert_eq!(count(&keys, &keys_of(&id)).await, 2, "not yet destroyed");
    strongroom.kill_and_restart().await;
    assert!(is_listed(&strongroom).await);
    assert!(strongroom.entries_of("key.destroy").await.is_empty());
    keys.batch_execute("GRANT EXECUTE ON FUNCTION destroy_record_keys TO strongroom_keys").await.unwrap();
    eventually("the record is struck off the list", async || !is_listed(&strongroom).await).await;
    assert_eq!(count(&keys, &keys_of(&id)).await, 0);
    assert_eq!(strongroom.entries_of("key.destroy").await.len(), 1);
}

/// A key that was being made while its record was buried comes in behind the tombstone; the second pass finds it.
#[tokio::test]
async fn a_key_that_comes_late_is_destroyed_as_well() {
    let strongroom = Strongroom::start().await;
    let (therapist, subject) = therapist(&strongroom).await;
    let id = id_of(&therapist, &subject).await;
    let keys = strongroom.keys().await;
    assert_eq!(therapist.delete(&format!("/api/v1/{NOTES}/{id}")).await.status(), 204);
    eventually("the first pass is over", async || count(&keys, &keys_of(&id)).await == 0).await;
    let late = format!(
        "INSERT INTO subject_key (tenant_id, owner, scope, class, key_id, tenant_key_id, header, wrapped) \
         SELECT tenant_id, '{id}', 'record', class, 9, tenant_key_id, header, wrapped FROM subject_key LIMIT 1"
    );
    keys.batch_execute(&late).await.unwrap();
    eventually("the record is struck off the list", async || !is_listed(&strongroom).await).await;
    assert_eq!(count(&keys, &keys_of(&id)).await, 0);
}

/// The one thing that the service's role can destroy is a record's key.
#[tokio::test]
async fn the_service_cannot_destroy_a_subjects_keys() {
    let strongroom = Strongroom::start().await;
    let (therapist, subject) = therapist(&strongroom).await;
    let id = id_of(&therapist, &subject).await;
    let keys = strongroom.keys().await;
    let tenant: uuid::Uuid =
        keys.query_one("SELECT tenant_id FROM subject_key LIMIT 1", &[]).await.unwrap().get(0);
    keys.batch_execute("SET ROLE strongroom_keys").await.unwrap();
    let call = format!(
        "SELECT destroy_record_keys(ARRAY['{tenant}', '{tenant}']::uuid[], ARRAY['{id}', '{subject}'])"
    );
    let refused = keys.batch_execute(&call).await.unwrap_err();
    assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("42501"));
    keys.batch_execute("RESET ROLE").await.unwrap();
    assert!(count(&keys, &keys_of(&subject)).await >= 2);
    assert_eq!(count(&keys, &keys_of(&id)).await, 2, "all or nothing");
    assert_eq!(count(&keys, "SELECT count(*) FROM tombstone").await, 0);
}

/// Two instances meet over the same list: each record is struck off once, and neither tells the log of an entry that is not there.
#[tokio::test]
async fn of_two_instances_one_says_that_keys_are_destroyed() {
    let patiently = |databases| {
        let settings = vec![("STRONGROOM__DATABASE__DATA__TIMEOUT_MS".to_owned(), "20000".to_owned())];
        ServiceOptions { settings, databases, ..Default::default() }
    };
    let first = Strongroom::start_with(patiently(None)).await;
    let held = Databases { data: first.databases.data.clone(), keys: first.databases.keys.clone() };
    let second = Strongroom::start_with(patiently(Some(held))).await;
    let (therapist, subject) = therapist(&first).await;
    let other = second.client("therapist-desk").await.with_purpose("TREAT");
    let exported = Exported::of(&first).await;
    let (data, superuser) = (first.data().await, first.data().await);
    // Whoever deletes one looks at the list from then on until nothing is on it.
    for client in [&therapist, &other] {
        let id = id_of(client, &subject).await;
        assert_eq!(client.delete(&format!("/api/v1/{NOTES}/{id}")).await.status(), 204);
    }
    let confirmed = "SELECT count(*) FROM key_destruction WHERE confirmed_at IS NOT NULL";
    eventually("the first pass is done", async || count(&data, confirmed).await == 2).await;
    superuser.batch_execute("BEGIN; SELECT FROM key_destruction FOR UPDATE").await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                   AND query LIKE '%finish_destructions%'";
    eventually("both are at it", async || count(&data, waiting).await == 2).await;
    superuser.batch_execute("COMMIT").await.unwrap();
    eventually("both are struck off", async || !is_listed(&first).await).await;
    let entries = first.entries_of("key.destroy").await;
    assert_eq!(entries.len(), 2);
    // What either saw committed is listed by the next flush of its chain.
    for client in [&therapist, &other] {
        let id = id_of(client, &subject).await;
        client.read(&format!("/api/v1/{NOTES}/{id}")).await;
    }
    exported.has_everything(&first).await;
    exported.verify();
}
