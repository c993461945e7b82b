//! Indexes that are declared when there are records already: the service makes their terms anew, while it goes on.

use serde_json::{Value, json};

use crate::search::{exact, found, ids, person, search};
use crate::support::export::Exported;
use crate::support::samples::small_patient;
use crate::support::{Client, ServiceOptions, Strongroom, eventually, replace_file};

const WITHOUT: &str = "";
const CONTACT: &str = "\n\n[field.index]\nmatch = [\"exact\"]\nrows = 200_000";

/// Whether the emergency contact has an index.
fn declare(text: &str, index: &str) -> String {
    let about = "about = \"Whom to call in an emergency\"";
    let bare = text.replace(&format!("{about}{CONTACT}"), about);
    bare.replace(about, &format!("{about}{index}"))
}

const TERMS: &str = "SELECT count(*) FROM index_term";
const OWN: &str = "SELECT count(*) FROM record WHERE indexed_as IS NOT NULL OR terms <> '{}'";

fn without_indexes(text: &str) -> String {
    let is_of_one = |line: &&str| {
        ["[field.index]", "match = ", "rows = ", "unique = ", "lengths = "]
            .iter()
            .any(|of| line.starts_with(of))
    };
    text.lines().filter(|line| !is_of_one(line)).collect::<Vec<_>>().join("\n")
}

/// All pages, each of which says that there are others.
async fn all_incomplete(portal: &Client) -> Vec<String> {
    let (mut met, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut body = json!({ "where": [exact("emergency_contact", "KWAME")], "limit": 100 });
        if !cursor.is_null() {
            body["cursor"] = cursor;
        }
        let page: Value = portal.post("/api/v1/patients/search", &body).await.json().await.unwrap();
        assert_eq!(page["incomplete"], json!(true), "one is not indexed, and cannot be");
        met.extend(ids(&page));
        cursor = page["next"].clone();
        if cursor.is_null() {
            return met;
        }
    }
}

#[tokio::test]
async fn records_are_found_by_indexes_that_were_declared_later() {
    let mut strongroom = Strongroom::start_with(ServiceOptions::default()).await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let with = |contact: &str| person(&json!({ "emergency_contact": contact }));
    let mut people: Vec<Value> = (0..250).map(|_| json!({ "fields": with("Kwame") })).collect();
    people.extend((0..5).map(|_| json!({ "fields": small_patient() })));
    let made = portal.post("/api/v1/patients/batch", &json!({ "records": people })).await;
    let made = ids(&made.json().await.unwrap());
    let theirs = south.create_patient(with("Kwame")).await;
    // One that does not open holds nobody up, and is not found.
    let spoil = "UPDATE record SET sealed_values = set_byte(sealed_values, 30, get_byte(sealed_values, 30) # 1) WHERE record_id = $1";
    let data = strongroom.data().await;
    data.execute(spoil, &[&made[100]]).await.unwrap();

    let file = strongroom.policy_directory.join("collections/patients.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    replace_file(&file, &declare(&text, CONTACT));
    // Killed in the middle of it, or before.
    eventually("it has begun, or the policy is in force", async || {
        !strongroom.entries_of("record.index").await.is_empty()
            || strongroom.entries_of("policy.load").await.len() > 1
    })
    .await;
    strongroom.kill_and_restart().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let new = portal.create_patient(with("Kwame")).await;
    eventually("all are found that can be", async || {
        let left = "SELECT count(*) FROM record r WHERE collection = 'patients' AND indexed_as IS DISTINCT FROM \
                    (SELECT indexed_as FROM record WHERE tenant_id = r.tenant_id ORDER BY record_id DESC LIMIT 1)";
        let of_south = found(&south, "patients", &[exact("emergency_contact", "kwame")]).await;
        data.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 1 && of_south == [theirs.clone()]
    })
    .await;
    let met = all_incomplete(&portal).await;
    let mut expected: Vec<String> = made[..250].to_vec();
    expected.remove(100);
    expected.push(new);
    expected.sort();
    assert_eq!(met, expected);
    let page: Value =
        search(&south, "patients", &[exact("emergency_contact", "kwame")]).await.json().await.unwrap();
    assert!(page.get("incomplete").is_none());
    let entries = strongroom.entries_of("record.index").await;
    let counted: u64 = entries.iter().map(|entry| entry["n"].as_u64().unwrap()).sum();
    assert_eq!(counted, 255, "each once: 254 of one tenant and one of the other");
    for entry in &entries {
        assert_eq!(
            (&entry["who"]["kind"], &entry["obj"]),
            (&json!("service"), &json!([{ "collection": "patients" }]))
        );
    }
    // Taken back, the terms go.
    let text = std::fs::read_to_string(&file).unwrap();
    replace_file(&file, &declare(&text, WITHOUT));
    eventually("the terms of the contact are gone", async || {
        let left = "SELECT count(DISTINCT record_id) FROM index_term WHERE get_byte(term, 3) = 18";
        data.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

/// With a collection's last index all terms go, those of what does not open or even read as well.
#[tokio::test]
async fn without_an_index_nothing_is_found_by_anything() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let people: Vec<Value> = (0..150).map(|_| json!({ "fields": small_patient() })).collect();
    let made = portal.post("/api/v1/patients/batch", &json!({ "records": people })).await;
    let made = ids(&made.json().await.unwrap());
    let data = strongroom.data().await;
    let spoil = "UPDATE record SET seal_headers = '\\x00' WHERE record_id = $1";
    assert_eq!(data.execute(spoil, &[&made[7]]).await.unwrap(), 1);
    let counted = async |sql: &str| data.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert!(counted(TERMS).await >= 150 && counted(OWN).await == 150);
    let file = strongroom.policy_directory.join("collections/patients.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    replace_file(&file, &without_indexes(&text));
    eventually("no term is left", async || counted(TERMS).await == 0 && counted(OWN).await == 0).await;
    let entries = strongroom.entries_of("record.index").await;
    let of: Vec<_> = entries.iter().map(|entry| entry["n"].as_u64().unwrap()).collect();
    assert_eq!(of, [100, 50]);
    assert_eq!(
        counted("SELECT count(*) FROM record WHERE version = 1").await,
        150,
        "and nothing else is changed"
    );
}

/// Terms that wait to be stored while their record is written or its person is erased are of something that is no more.
#[tokio::test]
async fn what_changes_meanwhile_is_not_indexed_as_it_was() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let erased = portal.create_patient(small_patient()).await;
    let written = portal.create_patient(small_patient()).await;
    let other = portal.create_patient(small_patient()).await;
    let watcher = strongroom.data().await;
    let state = async |record: &str| {
        let sql = "SELECT indexed_as, terms, (SELECT count(*) FROM index_term WHERE record_id = $1) \
                   FROM record WHERE record_id = $1";
        let row = watcher.query_one(sql, &[&record]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, Vec<Vec<u8>>>(1), row.get::<_, i64>(2))
    };
    let before = [state(&erased).await, state(&written).await, state(&other).await];
    // As the service does both, and as far as it has come with neither at an end.
    let superuser = strongroom.data().await;
    superuser.batch_execute("BEGIN").await.unwrap();
    let write = "UPDATE record SET version = version + 1 WHERE record_id = $1";
    assert_eq!(superuser.execute(write, &[&written]).await.unwrap(), 1);
    // Locked first, as an approval does it: what is changed without that holds back no lock FOR KEY SHARE.
    let lock = "SELECT FROM subject WHERE subject_id::text = $1 FOR UPDATE";
    assert_eq!(superuser.execute(lock, &[&erased]).await.unwrap(), 1);
    let erase = "UPDATE subject SET state = 'erasing' WHERE subject_id::text = $1";
    assert_eq!(superuser.execute(erase, &[&erased]).await.unwrap(), 1);
    let file = strongroom.policy_directory.join("collections/patients.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    replace_file(&file, &text.replacen("rows = 200_000", "rows = 2_000_000", 1));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                 AND query LIKE '%storage::records::reindex%'";
    eventually("the terms wait to be stored", async || {
        watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    superuser.batch_execute("COMMIT").await.unwrap();
    eventually("the third is indexed anew", async || state(&other).await.0 != before[2].0).await;
    assert_eq!([state(&erased).await, state(&written).await], before[..2]);
}

/// When that is so of all of them, nothing is stored, and the log is told of no entry that is not there.
#[tokio::test]
async fn terms_that_are_not_stored_leave_no_gap_in_the_log() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let written = portal.create_patient(small_patient()).await;
    let exported = Exported::of(&strongroom).await;
    let (watcher, superuser) = (strongroom.data().await, strongroom.data().await);
    // As the service writes a version, as far as it has come before its end.
    superuser.batch_execute("BEGIN; UPDATE record SET version = version + 1").await.unwrap();
    let file = strongroom.policy_directory.join("collections/patients.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    replace_file(&file, &text.replacen("rows = 200_000", "rows = 2_000_000", 1));
    let count = async |sql: &str| watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                   AND query LIKE '%storage::records::reindex%'";
    eventually("the terms wait to be stored", async || count(waiting).await == 1).await;
    superuser.batch_execute("COMMIT").await.unwrap();
    eventually("they wait no more", async || count(waiting).await == 0).await;
    // What was seen committed is listed by the next flush of the chain.
    let entries = "SELECT count(*) FROM audit_entry";
    let before = count(entries).await;
    eventually("more is on record", async || {
        portal.get(&format!("/api/v1/patients/{written}")).await;
        count(entries).await >= before + 5
    })
    .await;
    exported.has_everything(&strongroom).await;
    exported.verify();
}
