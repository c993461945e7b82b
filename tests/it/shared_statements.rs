//! Requests that come together share statements (`src/storage/lanes.rs`). Each still gets its own answer, and none waits for
//! what only another one waits for.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::Row;

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

/// What was read by one index: how often it was gone to, how many places of it were read and rows that are there fetched by
/// them, and how often all of its table was read.
struct Read {
    index: String,
    times: i64,
    places: i64,
    rows: i64,
    whole: i64,
}

async fn reads(data: &tokio_postgres::Client) -> Vec<Read> {
    let sql = "SELECT indexrelname::text, i.idx_scan, i.idx_tup_read, i.idx_tup_fetch, t.seq_scan \
               FROM pg_stat_user_indexes i JOIN pg_stat_user_tables t USING (relid, relname) \
               WHERE relname IN ('record', 'subject', 'index_term') ORDER BY indexrelname";
    let read = |row: &Row| Read {
        index: row.get(0),
        times: row.get(1),
        places: row.get(2),
        rows: row.get(3),
        whole: row.get(4),
    };
    data.query(sql, &[]).await.unwrap().iter().map(read).collect()
}

/// Whoever numbers and reads again what is stored waits from here on, and what they have read until now is counted: a session
/// tells of it when it ends, and no other goes past the head of the log. Until what is given is dropped.
async fn hold_the_log(strongroom: &Strongroom) -> tokio_postgres::Client {
    let (held, data) = (strongroom.data().await, strongroom.data().await);
    held.batch_execute("BEGIN; SELECT FROM audit_head FOR UPDATE").await.unwrap();
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'strongroom_sequencer'";
    let theirs = data.query(sql, &[]).await.unwrap();
    let theirs: Vec<i32> = theirs.iter().map(|row| row.get(0)).collect();
    assert!(!theirs.is_empty());
    data.query("SELECT pg_terminate_backend(unnest($1::int[]))", &[&theirs]).await.unwrap();
    eventually("they have ended", async || {
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY ($1))";
        data.query_one(sql, &[&theirs]).await.unwrap().get(0)
    })
    .await;
    held
}

/// A statement that was planned while there was next to nothing goes to a record by its id all the same, and not through a
/// whole collection.
#[tokio::test]
async fn a_plan_for_an_empty_table_is_good_for_a_full_one() {
    plans_made_after(0).await;
}

/// Nor one for a table that has some and that nobody has analysed, as after a database was restored.
#[tokio::test]
async fn a_plan_for_a_table_that_was_not_analysed_is_good_for_a_full_one() {
    plans_made_after(400).await;
}

async fn plans_made_after(there: usize) {
    let mut strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let data = strongroom.data().await;
    // Each record is read, changed and written about, all at the same time.
    let use_all = async |ids: Vec<String>| {
        let mut requests = JoinSet::new();
        for id in ids {
            let (portal, path) = (portal.clone(), format!("/api/v1/patients/{id}"));
            requests.spawn(async move {
                let read = portal.get(&path).await.status().as_u16();
                let changed =
                    portal.patch(&path, "\"1\"", &json!({ "fields": { "given_name": "Zora" } })).await;
                let written = portal.post("/api/v1/messages", &message(&id)).await;
                assert_eq!((read, changed.status().as_u16(), written.status().as_u16()), (200, 200, 201));
            });
        }
        while let Some(done) = requests.join_next().await {
            done.unwrap();
        }
    };
    let make = async |count: usize| {
        let records: Vec<Value> = (0..count).map(|_| json!({ "fields": small_patient() })).collect();
        let made = portal.post("/api/v1/patients/batch", &json!({ "records": records })).await;
        let made: Value = made.json().await.unwrap();
        let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
        made["records"].as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    if there > 0 {
        make(there).await;
        strongroom.kill_and_restart().await;
    }
    use_all(make(8).await).await;
    let ids = make(300).await;
    let _held = hold_the_log(&strongroom).await;
    let of_records = async || {
        let all = reads(&data).await;
        let of_records = all.iter().filter(|read| read.index.starts_with("record_"));
        of_records.fold((0, 0), |(times, places), read| (times + read.times, places + read.places))
    };
    let (times, places) = of_records().await;
    let mut readers = JoinSet::new();
    for path in ids.iter().map(|id| format!("/api/v1/patients/{id}")) {
        let portal = portal.clone();
        readers.spawn(async move { portal.get(&path).await.status().as_u16() });
    }
    assert!(readers.join_all().await.into_iter().all(|status| status == 200));
    eventually("the reads are counted", async || of_records().await.0 >= times + 300).await;
    let after = of_records().await;
    // Nothing was changed yet but the eight.
    assert!(after.1 - places <= after.0 - times + 100, "{} places", after.1 - places);

    let before = reads(&data).await;
    use_all(ids).await;
    // A session tells what it has read within seconds.
    eventually("the scans are counted", async || {
        let now = reads(&data).await;
        let keys = now.iter().zip(&before).filter(|(after, _)| after.index.ends_with("_pkey"));
        keys.map(|(after, before)| after.times - before.times).all(|times| times >= 300)
    })
    .await;
    for (after, before) in reads(&data).await.into_iter().zip(before) {
        assert_by_key(&before, &after);
    }
}

/// The same where keys are made and found: all keys of a tenant look like two to such a plan, and cheaper to read than to look one
/// up.
#[tokio::test]
async fn a_plan_for_a_table_that_was_not_analysed_is_good_for_keys() {
    let mut strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let keys = strongroom.keys().await;
    let make = async |count: usize| {
        let mut made = JoinSet::new();
        for _ in 0..count {
            let portal = portal.clone();
            made.spawn(async move { portal.create_patient(small_patient()).await });
        }
        made.join_all().await
    };
    let there = make(200).await;
    // Plans are made from here on, and keys are in no memory.
    strongroom.kill_and_restart().await;
    // A session tells what it has read and written within seconds.
    let counted = async |sql: &str| -> i64 { keys.query_one(sql, &[]).await.unwrap().get(0) };
    let places = async || {
        let sql = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes \
                   WHERE relname IN ('subject_key', 'tombstone')";
        counted(sql).await
    };
    let before = places().await;
    make(200).await;
    eventually("what was made is counted", async || {
        counted("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'subject_key'").await >= 400
    })
    .await;
    let made = places().await;
    assert!(made - before <= 2 * 200, "{} places for 200 keys that are new", made - before);
    let mut readers = JoinSet::new();
    for path in there.iter().map(|id| format!("/api/v1/patients/{id}")) {
        let portal = portal.clone();
        readers.spawn(async move { portal.get(&path).await.status().as_u16() });
    }
    assert!(readers.join_all().await.into_iter().all(|status| status == 200));
    eventually("what was found is counted", async || places().await >= made + 200).await;
    let found = places().await;
    assert!(found - made <= 2 * 200, "{} places for 200 keys that are there", found - made);
}

/// What was read since goes to the records by their keys; each of them has been changed once.
fn assert_by_key(before: &Read, after: &Read) {
    let name = &after.index;
    let (times, places) = (after.times - before.times, after.places - before.places);
    let rows = after.rows - before.rows;
    if name.ends_with("_pkey") {
        // A key has one row, and a place for each of its versions that was not tidied away yet.
        assert!(rows <= times, "{name}: {rows} rows for {times} times");
        assert!(places <= 2 * times, "{name}: {places} places for {times} times");
    } else {
        // All of them are passed at the end of another index every few seconds.
        assert!(places <= 3_000, "{name}: {places} places for {times} times");
    }
    assert_eq!(after.whole, before.whole, "the table of {name} was read through");
}
