//! Statements find rows by their keys, whatever their tables were like when they were planned: empty, or not analysed by anybody,
//! as after a database was restored (`src/storage/pool.rs`).

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::Row;

use crate::support::clinic::{Clinic, send, team_path};
use crate::support::samples::{message, small_patient};
use crate::support::{Client, Strongroom, eventually};

/// What was read by one index: how often it was gone to, how many places of it were read and rows that are there fetched by
/// them, and how often all of its table was read.
struct Read {
    index: String,
    times: i64,
    places: i64,
    rows: i64,
    whole: i64,
}

async fn reads(data: &tokio_postgres::Client, tables: &[&str]) -> Vec<Read> {
    let sql = "SELECT indexrelname::text, i.idx_scan, i.idx_tup_read, i.idx_tup_fetch, t.seq_scan \
               FROM pg_stat_user_indexes i JOIN pg_stat_user_tables t USING (relid, relname) \
               WHERE relname = ANY ($1) ORDER BY indexrelname";
    let read = |row: &Row| Read {
        index: row.get(0),
        times: row.get(1),
        places: row.get(2),
        rows: row.get(3),
        whole: row.get(4),
    };
    data.query(sql, &[&tables]).await.unwrap().iter().map(read).collect()
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

/// So many patients in one request, each with a record number of its own.
async fn make_together(portal: &Client, count: usize) -> Vec<String> {
    let record = |number: usize| {
        let mut fields = small_patient();
        fields["mrn"] = json!(format!("MRN-{number}"));
        json!({ "fields": fields })
    };
    let records: Vec<Value> = (0..count).map(record).collect();
    let made = portal.post("/api/v1/patients/batch", &json!({ "records": records })).await;
    let made: Value = made.json().await.unwrap();
    let id = |record: &Value| record["id"].as_str().unwrap().to_owned();
    made["records"].as_array().unwrap().iter().map(id).collect()
}

/// All at the same time.
async fn read_each(portal: &Client, ids: &[String]) {
    let mut readers = JoinSet::new();
    for path in ids.iter().map(|id| format!("/api/v1/patients/{id}")) {
        let portal = portal.clone();
        readers.spawn(async move { portal.get(&path).await.status().as_u16() });
    }
    assert!(readers.join_all().await.into_iter().all(|status| status == 200));
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
    if there > 0 {
        make_together(&portal, there).await;
        strongroom.kill_and_restart().await;
    }
    use_all(make_together(&portal, 8).await).await;
    let ids = make_together(&portal, 300).await;
    let _held = hold_the_log(&strongroom).await;
    let of_records = async || {
        let all = reads(&data, &["record", "subject", "index_term"]).await;
        let of_records = all.iter().filter(|read| read.index.starts_with("record_"));
        of_records.fold((0, 0), |(times, places), read| (times + read.times, places + read.places))
    };
    let (times, places) = of_records().await;
    read_each(&portal, &ids).await;
    eventually("the reads are counted", async || of_records().await.0 >= times + 300).await;
    let after = of_records().await;
    // Nothing was changed yet but the eight.
    assert!(after.1 - places <= after.0 - times + 100, "{} places", after.1 - places);

    let before = reads(&data, &["record", "subject", "index_term"]).await;
    use_all(ids).await;
    // A session tells what it has read within seconds.
    eventually("the scans are counted", async || {
        let now = reads(&data, &["record", "subject", "index_term"]).await;
        let keys = now.iter().zip(&before).filter(|(after, _)| after.index.ends_with("_pkey"));
        keys.map(|(after, before)| after.times - before.times).all(|times| times >= 300)
    })
    .await;
    for (after, before) in reads(&data, &["record", "subject", "index_term"]).await.into_iter().zip(before) {
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
    let then = places().await;
    assert!(then - before <= 2 * 200, "{} places for 200 keys that are new", then - before);
    read_each(&portal, &there).await;
    eventually("what was found is counted", async || places().await >= then + 200).await;
    let found = places().await;
    assert!(found - then <= 2 * 200, "{} places for 200 keys that are there", found - then);
}

/// All records are passed at the end of another index than their key's every few seconds.
const MOST_PASSED: i64 = 3_000;

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
        assert!(places <= MOST_PASSED, "{name}: {places} places for {times} times");
    }
    assert_eq!(after.whole, before.whole, "the table of {name} was read through");
}

const TABLES: [&str; 6] =
    ["record", "record_history", "subject", "subject_hold", "index_term", "idempotency_key"];

/// What other requests read of three hundred people with a letter, a care team and a hold each; their statements are planned for
/// what is there already.
#[tokio::test]
async fn no_request_reads_what_it_is_not_about() {
    let mut clinic = Clinic::open().await;
    let data = clinic.strongroom.data().await;
    let people = People::move_in(&clinic, 300).await;
    clinic.strongroom.kill_and_restart().await;
    let held = hold_the_log(&clinic.strongroom).await;
    let before = reads(&data, &TABLES).await;
    for number in 0..20 {
        people.ask(&clinic, number).await;
    }
    // Sessions tell what they have read when they end.
    clinic.strongroom.kill();
    let mut read = Vec::new();
    eventually("what was read is counted", async || {
        read = reads(&data, &TABLES).await;
        let of_records = |all: &[Read]| -> i64 {
            all.iter().filter(|read| read.index == "record_pkey").map(|read| read.times).sum()
        };
        of_records(&read) >= of_records(&before) + 20 * 45
    })
    .await;
    drop(held);
    for (after, before) in read.iter().zip(&before) {
        let (times, places) = (after.times - before.times, after.places - before.places);
        // A page of ten has eleven places, and each row those of its versions that were not tidied away yet. Other indexes are
        // passed as above.
        let most = if after.index.ends_with("_pkey") { 22 * times } else { MOST_PASSED };
        assert!(places <= most, "{}: {places} places for {times} times", after.index);
        assert_eq!(after.whole, before.whole, "the table of {} was read through", after.index);
    }
}

/// Many of them, and a letter of each.
struct People {
    ids: Vec<String>,
    letters: Vec<String>,
    portal: Client,
    privacy: Client,
    dashboard: Client,
}

impl People {
    async fn move_in(clinic: &Clinic, count: usize) -> Self {
        let (portal, privacy) = (
            clinic.portal.with_purpose("TREAT"),
            clinic.strongroom.client("privacy-desk").await.with_purpose("HCOMPL"),
        );
        let dashboard = clinic.strongroom.client("dashboard").await.with_purpose("HOPERAT");
        let ids = make_together(&portal, count).await;
        let mut settling = JoinSet::new();
        for (place, id) in ids.iter().cloned().enumerate() {
            let (portal, privacy, coordination) =
                (portal.clone(), privacy.clone(), clinic.coordination.clone());
            settling.spawn(async move {
                let letter = portal.create("messages", &message(&id)).await;
                let team = coordination.request(Method::PUT, &team_path(&id)).header("if-match", "\"1\"");
                let team = team.json(&json!({ "teams": ["ward-1", "ward-3"] })).send().await.unwrap();
                let hold = json!({ "reason": "litigation", "reference": "CV-2026/117" });
                let hold = privacy.post(&format!("/api/v1/subjects/{id}/hold"), &hold).await;
                assert_eq!((team.status().as_u16(), hold.status().as_u16()), (200, 201));
                (place, letter["id"].as_str().unwrap().to_owned())
            });
        }
        let mut letters = settling.join_all().await;
        letters.sort_unstable();
        let letters = letters.into_iter().map(|(_, letter)| letter).collect();
        Self { ids, letters, portal, privacy, dashboard }
    }

    /// One request of each sort about one of them, or about ten.
    async fn ask(&self, clinic: &Clinic, number: usize) {
        let (id, letter) = (&self.ids[number], &self.letters[number]);
        let token = clinic.doctor(&["ward-3"]);
        let (path, subject) = (format!("/api/v1/patients/{id}"), format!("/api/v1/subjects/{id}"));
        let many = "/api/v1/patients/batch/read";
        let ten = json!({ "ids": &self.ids[..10] });
        let sought =
            json!({ "where": [{ "field": "mrn", "match": "exact", "value": format!("MRN-{number}") }] });
        let sent = self.portal.request(Method::POST, "/api/v1/messages");
        let sent =
            sent.header("idempotency-key", format!("\"8e03978e-40d5-43dd-bc93-6894a57f93{number:02}\""));
        for (what, answer, status) in [
            ("history", self.portal.get(&format!("{path}/history")).await, 200),
            ("an old version", self.portal.get(&format!("{path}?version=1")).await, 200),
            ("a change", self.portal.patch(&path, "\"1\"", &json!({ "fields": { "sex": "F" } })).await, 200),
            ("a list", self.dashboard.get("/api/v1/patients?limit=10").await, 200),
            ("who looks after them", clinic.coordination.get(&team_path(id)).await, 200),
            ("of a doctor's", send(&clinic.desk, Method::GET, &path, &token, None).await, 200),
            ("ten of a doctor's", send(&clinic.desk, Method::POST, many, &token, Some(&ten)).await, 200),
            ("a search", self.portal.post("/api/v1/patients/search", &sought).await, 200),
            (
                "ten letters",
                self.portal.post("/api/v1/messages/batch/read", &json!({ "ids": &self.letters[..10] })).await,
                200,
            ),
            ("holds", self.privacy.get(&format!("{subject}/hold")).await, 200),
            ("all of them", self.privacy.with_purpose("PATRQT").get(&format!("{subject}/export")).await, 200),
            ("a letter under a key", sent.json(&message(id)).send().await.unwrap(), 201),
            (
                "one that is held",
                self.portal.with_purpose("PATRQT").delete(&format!("/api/v1/messages/{letter}")).await,
                409,
            ),
        ] {
            assert_eq!(answer.status().as_u16(), status, "{what}: {}", answer.text().await.unwrap());
        }
    }
}
