//! Requests that come together share statements (`src/storage/lanes.rs`). Each still gets its own answer, and none waits for
//! what only another one waits for.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::samples::{NOBODY, message, small_patient};
use crate::support::{Client, Strongroom, eventually, problem};

/// Status and body.
async fn get(client: Client, path: String) -> (u16, Value) {
    let answer = client.get(&path).await;
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

#[tokio::test]
async fn each_reader_gets_the_record_it_asked_for() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let import = strongroom.client("records-import").await.with_purpose("HOPERAT");
    let mut ids = Vec::new();
    for number in 0..12 {
        let mut fields = small_patient();
        fields["given_name"] = json!(format!("Žofie {number}"));
        ids.push(portal.create_patient(fields).await);
    }
    let deleted = portal.create_patient(small_patient()).await;
    assert_eq!(import.delete(&format!("/api/v1/patients/{deleted}")).await.status(), 204);
    // One that was changed behind the service's back among those that were not.
    let changed = portal.create_patient(small_patient()).await;
    let spoil = "UPDATE record SET sealed_values = sealed_values || '\\x00' WHERE record_id = $1";
    strongroom.data().await.execute(spoil, &[&changed]).await.unwrap();

    let mut readers = JoinSet::new();
    for _ in 0..8 {
        for (number, id) in ids.iter().enumerate() {
            let (portal, path, id) = (portal.clone(), format!("/api/v1/patients/{id}"), id.clone());
            readers.spawn(async move {
                let (status, body) = get(portal, path).await;
                assert_eq!((status, &body["id"]), (200, &json!(id)));
                assert_eq!(body["fields"]["given_name"], format!("Žofie {number}"));
            });
        }
        for (id, status) in [(deleted.as_str(), 404), (NOBODY, 404), (changed.as_str(), 500)] {
            let (portal, path) = (portal.clone(), format!("/api/v1/patients/{id}"));
            readers.spawn(async move {
                let code = if status == 404 { "record_not_found" } else { "record_unreadable" };
                let (answered, body) = get(portal, path).await;
                assert_eq!((answered, &body["code"]), (status, &json!(code)));
            });
        }
    }
    while let Some(read) = readers.join_next().await {
        read.unwrap();
    }
}

/// Keys that are not in memory come in one statement for all classes of a record, which others share; one that does not open
/// is the fault of its own record.
#[tokio::test]
async fn each_reader_gets_the_keys_it_needs() {
    let mut strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(portal.create_patient(small_patient()).await);
    }
    let (bent, gone) =
        (portal.create_patient(small_patient()).await, portal.create_patient(small_patient()).await);
    let keys = strongroom.keys().await;
    for sql in [
        format!(
            "UPDATE subject_key SET wrapped = set_byte(wrapped, 5, get_byte(wrapped, 5) # 1) WHERE owner = '{bent}'"
        ),
        format!("DELETE FROM subject_key WHERE owner = '{gone}' AND class = 'pii'"),
    ] {
        keys.execute(&sql, &[]).await.unwrap();
    }
    // Nothing is in memory any more.
    strongroom.kill_and_restart().await;
    let readers = ids.iter().map(|id| (id, 200)).chain([(&bent, 500), (&gone, 500)]);
    let mut reading = JoinSet::new();
    for (id, status) in readers.map(|(id, status)| (id.clone(), status)) {
        let portal = portal.clone();
        reading.spawn(async move {
            let (answered, body) = get(portal, format!("/api/v1/patients/{id}")).await;
            assert_eq!(answered, status, "{body}");
        });
    }
    while let Some(read) = reading.join_next().await {
        read.unwrap();
    }
    let metrics = strongroom.client("operator").await.get("/metrics").await.text().await.unwrap();
    let count = |statement: &str| -> usize {
        let line = metrics.lines().find(|line| {
            line.starts_with("strongroom_storage_duration_seconds_count") && line.contains(statement)
        });
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    };
    let statements = count("\"key_store::subject_keys\"");
    assert!((1..=ids.len() + 2).contains(&statements), "two classes each, and {statements} statements");
}

/// Somebody who holds a lock holds up those who need it, and nobody else.
#[tokio::test]
async fn a_locked_row_holds_up_whoever_needs_it_and_nobody_else() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(portal.create_patient(small_patient()).await);
    }
    let (locked, free) = ids.split_first().unwrap();
    let superuser = strongroom.data().await;
    superuser.batch_execute("BEGIN").await.unwrap();
    let locked_rows = [
        format!("SELECT 1 FROM subject WHERE subject_id = '{locked}' FOR UPDATE"),
        format!("SELECT 1 FROM record WHERE record_id = '{locked}' FOR UPDATE"),
    ];
    for sql in &locked_rows {
        superuser.batch_execute(sql).await.unwrap();
    }

    let write = |id: String| {
        let portal = portal.clone();
        async move {
            let created = portal.post("/api/v1/messages", &message(&id)).await;
            let change = json!({ "fields": { "notes": "n" } });
            let updated = portal.patch(&format!("/api/v1/patients/{id}"), "\"1\"", &change).await;
            (created.status().as_u16(), updated.status().as_u16())
        }
    };
    let waits = tokio::spawn(write(locked.clone()));
    eventually("the one who needs the lock waits for it", async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database IS NOT DISTINCT FROM \
                   (SELECT oid FROM pg_database WHERE datname = current_database()) OR \
                   (NOT granted AND locktype = 'transactionid')";
        superuser.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    let mut others = JoinSet::new();
    for id in free {
        others.spawn(write(id.clone()));
    }
    while let Some(written) = others.join_next().await {
        assert_eq!(written.unwrap(), (201, 200));
    }
    assert!(!waits.is_finished());
    superuser.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waits.await.unwrap(), (201, 200));
}

/// What is refused for one of those who share a statement is stored for the others, with its entry and once.
#[tokio::test]
async fn what_cannot_be_stored_takes_nothing_with_it() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let erasing = portal.create_patient(small_patient()).await;
    // Keys are in memory by now, so that only the statement itself can find out.
    for subject in [&id, &erasing] {
        portal.create("messages", &message(subject)).await;
    }
    let superuser = strongroom.data().await;
    let state = "UPDATE subject SET state = 'erasing' WHERE subject_id::text = $1";
    superuser.execute(state, &[&erasing]).await.unwrap();

    let mut writers = JoinSet::new();
    for number in 0..24 {
        let (portal, subject) = (portal.clone(), [&id, &erasing][number % 2].clone());
        writers.spawn(async move {
            let answer = portal.post("/api/v1/messages", &message(&subject)).await;
            match number % 2 {
                0 => {
                    let body: Value = answer.json().await.unwrap();
                    body["id"].as_str().map(str::to_owned)
                }
                _ => {
                    assert_eq!(problem(answer).await, (422, "subject_unknown".to_owned()));
                    None
                }
            }
        });
    }
    let mut created = BTreeSet::new();
    while let Some(written) = writers.join_next().await {
        created.extend(written.unwrap());
    }
    assert_eq!(created.len(), 12);
    let sql = "SELECT r.record_id FROM record r JOIN audit_outbox o \
               ON o.tenant_id = r.tenant_id AND o.entry_id = r.audit_entry_id \
               WHERE r.collection = 'messages'";
    let stored = superuser.query(sql, &[]).await.unwrap();
    let stored: BTreeSet<String> = stored.iter().map(|row| row.get(0)).collect();
    assert!(created.is_subset(&stored));
    assert_eq!(stored.len(), 12 + 2, "and nothing else");
}
