//! What searches stand on: terms that are stored, moved and removed with their record, that tell nothing in clear, and that
//! nobody who changes them can make a search lie with.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::search::{between, exact, found, ids, person, prefix, search};
use crate::support::samples::{message, patient, small_patient};
use crate::support::{Strongroom, eventually, replace_file, request_id};

/// A term is no proof: what it leads to is opened, and goes no further if it is something else.
#[tokio::test]
async fn a_term_that_leads_astray_shows_nothing() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let data = strongroom.data().await;
    let novak = portal.create_patient(person(&json!({ "family_name": "Novák" }))).await;
    let other =
        portal.create_patient(person(&json!({ "family_name": "Mensah", "birth_date": "1984-03-01" }))).await;
    let of = |name: &str| [exact("family_name", name)];
    // As if both shared the term by chance.
    let copy = "INSERT INTO index_term SELECT tenant_id, collection, term, $2 \
                FROM index_term WHERE record_id = $1 AND get_byte(term, 3) = 1 ON CONFLICT DO NOTHING";
    assert_eq!(data.execute(copy, &[&novak, &other]).await.unwrap(), 3);
    let answer = search(&portal, "patients", &of("Novák")).await;
    let request = request_id(&answer);
    let page: Value = answer.json().await.unwrap();
    assert_eq!(ids(&page), std::slice::from_ref(&novak));
    assert_eq!(page.as_object().unwrap().len(), 1);
    let entries = strongroom.entries_of_request(&request).await;
    assert_eq!(entries.len(), 2);
    assert!(!entries.iter().any(|entry| entry.to_string().contains(&other)));
    // The whole page full of what is something else.
    assert!(found(&portal, "patients", &[prefix("family_name", "novot")]).await.is_empty());
    // A record that two terms of a range lead to is met once.
    let twice = "INSERT INTO index_term SELECT tenant_id, collection, term, $2 \
                 FROM index_term WHERE record_id = $1 AND get_byte(term, 3) = 4";
    assert_eq!(data.execute(twice, &[&other, &novak]).await.unwrap(), 1);
    let spring = [between("birth_date", "1984-02-01", "1984-03-31")];
    assert_eq!(found(&portal, "patients", &spring).await, [novak.clone(), other.clone()]);
    // Terms that were moved to the other lead to nothing; taken away, there is nothing to be led by.
    let moved = "DELETE FROM index_term WHERE record_id = $1 AND get_byte(term, 3) = 1";
    data.execute(moved, &[&novak]).await.unwrap();
    assert!(found(&portal, "patients", &of("Novák")).await.is_empty());
    // Of a record that ended a term may be left: it leads nowhere, and the next version brings the terms back.
    let change = json!({ "fields": { "notes": "n" } });
    assert_eq!(portal.patch(&format!("/api/v1/patients/{novak}"), "\"1\"", &change).await.status(), 200);
    assert_eq!(found(&portal, "patients", &of("Novák")).await, [novak]);
    let stray = "INSERT INTO index_term SELECT tenant_id, collection, term, 'gone' \
                 FROM index_term WHERE get_byte(term, 3) = 1 ON CONFLICT DO NOTHING";
    data.execute(stray, &[]).await.unwrap();
    assert_eq!(found(&portal, "patients", &of("Mensah")).await, [other]);
}

/// A record that was tampered with is counted and named in the log, and hides no other.
#[tokio::test]
async fn a_changed_record_is_counted_and_hides_no_other() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let (changed, sound) =
        (portal.create_patient(small_patient()).await, portal.create_patient(small_patient()).await);
    let spoil = "UPDATE record SET sealed_values = set_byte(sealed_values, 30, get_byte(sealed_values, 30) # 1) WHERE record_id = $1";
    strongroom.data().await.execute(spoil, &[&changed]).await.unwrap();
    let answer = search(&portal, "patients", &[exact("family_name", "novakova")]).await;
    let request = request_id(&answer);
    let page: Value = answer.json().await.unwrap();
    assert_eq!((ids(&page), &page["unreadable"]), (vec![sound], &json!(1)));
    let entries = strongroom.entries_of_request(&request).await;
    let failed = json!({ "status": "failed", "code": "record_unreadable" });
    let named: Vec<&Value> = entries.iter().filter(|entry| entry["out"] == failed).collect();
    assert_eq!((named.len(), &named[0]["obj"][0]["record"]), (1, &json!(changed)));
    let is_told = |line: &str| line.contains("record.integrity_failed") && line.contains(&changed);
    strongroom.logs("which record it is", is_told).await;
}

/// Whoever shares a statement has the terms of their own record, and what is not stored leaves none.
#[tokio::test]
async fn shared_statements_keep_each_records_terms() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let data = strongroom.data().await;
    let subject = portal.create_patient(small_patient()).await;
    let erasing = portal.create_patient(small_patient()).await;
    for subject in [&subject, &erasing] {
        portal.create("messages", &message(subject)).await;
    }
    let state = "UPDATE subject SET state = 'erasing' WHERE subject_id::text = $1";
    data.execute(state, &[&erasing]).await.unwrap();
    let mut writers = JoinSet::new();
    for number in 0..40 {
        let (portal, subject, erasing) = (portal.clone(), subject.clone(), erasing.clone());
        writers.spawn(async move {
            match number % 4 {
                0 => assert_eq!(portal.post("/api/v1/messages", &message(&erasing)).await.status(), 422),
                1 => drop(portal.create("messages", &message(&subject)).await),
                _ => {
                    let mrn = format!("MRN-{number}");
                    let id = portal.create_patient(person(&json!({ "mrn": mrn }))).await;
                    let change =
                        json!({ "fields": { "family_name": "Adebayo", "mrn": format!("NEW-{number}") } });
                    let path = format!("/api/v1/patients/{id}");
                    assert_eq!(portal.patch(&path, "\"1\"", &change).await.status(), 200);
                    let late = json!({ "fields": { "mrn": format!("STALE-{number}") } });
                    assert_eq!(portal.patch(&path, "\"1\"", &late).await.status(), 412);
                }
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    for number in (0..40).filter(|number| number % 4 > 1) {
        let of = |word: &str| [exact("mrn", &format!("{word}-{number}"))];
        assert_eq!(found(&portal, "patients", &of("NEW")).await.len(), 1, "{number}");
        assert!(found(&portal, "patients", &of("MRN")).await.is_empty(), "{number}");
        assert!(found(&portal, "patients", &of("STALE")).await.is_empty(), "{number}");
    }
    // No record without terms, no term without its record, and all by one declaration.
    let counts = "SELECT (SELECT count(*) FROM record r WHERE NOT EXISTS (SELECT FROM index_term i \
                      WHERE (i.tenant_id, i.collection, i.record_id) = (r.tenant_id, r.collection, r.record_id))), \
                  (SELECT count(*) FROM index_term i WHERE NOT EXISTS (SELECT FROM record r \
                      WHERE (i.tenant_id, i.collection, i.record_id) = (r.tenant_id, r.collection, r.record_id))), \
                  (SELECT count(DISTINCT indexed_as) FROM record), \
                  (SELECT count(DISTINCT record_id) FROM index_term WHERE collection = 'messages')";
    let row = data.query_one(counts, &[]).await.unwrap();
    let counts: [i64; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    assert_eq!(counts, [0, 0, 2, 12]);
}

/// A lone statement, which waits for a lock, stores and moves terms as the shared one does.
#[tokio::test]
async fn a_write_that_waits_alone_keeps_its_terms() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let superuser = strongroom.data().await;
    superuser.batch_execute("BEGIN").await.unwrap();
    let lock = "SELECT 1 FROM subject s JOIN record r USING (tenant_id, subject_id) WHERE r.record_id = $1 FOR UPDATE";
    superuser.query(lock, &[&id]).await.unwrap();
    let (writer, path) = (portal.clone(), format!("/api/v1/patients/{id}"));
    let letter = message(&id);
    let waits = tokio::spawn(async move {
        let change = json!({ "fields": { "family_name": "Adebayo" } });
        let (changed, made) =
            tokio::join!(writer.patch(&path, "\"1\"", &change), writer.post("/api/v1/messages", &letter));
        (changed.status().as_u16(), made.status().as_u16())
    });
    eventually("both wait for the lock", async || {
        let sql =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')";
        superuser.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 1
    })
    .await;
    superuser.batch_execute("COMMIT").await.unwrap();
    assert_eq!(waits.await.unwrap(), (200, 201));
    assert_eq!(found(&portal, "patients", &[exact("family_name", "ADEBAYO")]).await, [id]);
    assert!(found(&portal, "patients", &[exact("family_name", "novakova")]).await.is_empty());
    let letters = "SELECT count(*) FROM index_term WHERE collection = 'messages'";
    assert_eq!(superuser.query_one(letters, &[]).await.unwrap().get::<_, i64>(0), 2);
}

/// Of the beginning of sixteen characters, which the policy declares for nothing.
const TERM: &str = "'\\x000000010210000000010102'";

/// Of a record that waits to be written, or to end, while its terms are made anew, none of these is left behind.
#[tokio::test]
async fn what_is_indexed_while_a_write_waits_is_not_left_behind() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let letters = strongroom.client("portal").await.with_purpose("PATRQT");
    let changed = portal.create_patient(small_patient()).await;
    let ended = letters.create("messages", &message(&changed)).await["id"].as_str().unwrap().to_owned();
    let superuser = strongroom.data().await;
    // As the service does it when another index is declared: the terms of both, in one transaction that is not over yet.
    let anew = format!(
        "WITH these AS (UPDATE record SET indexed_as = 1, terms = terms || {TERM}::bytea WHERE record_id = ANY ($1) RETURNING *) \
         INSERT INTO index_term SELECT tenant_id, collection, {TERM}::bytea, record_id FROM these"
    );
    superuser.batch_execute("BEGIN").await.unwrap();
    let both = vec![changed.as_str(), ended.as_str()];
    assert_eq!(superuser.execute(&anew, &[&both]).await.unwrap(), 2);
    let (path, letter) = (format!("/api/v1/patients/{changed}"), format!("/api/v1/messages/{ended}"));
    let change = json!({ "fields": { "family_name": "Adebayo" } });
    let watcher = strongroom.data().await;
    let (written, gone, ()) =
        tokio::join!(portal.patch(&path, "\"1\"", &change), letters.delete(&letter), async {
            eventually("both wait", async || {
                let sql = "SELECT count(*) FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
                watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 1
            })
            .await;
            superuser.batch_execute("COMMIT").await.unwrap();
        });
    assert_eq!((written.status().as_u16(), gone.status().as_u16()), (200, 204));
    let left = format!("SELECT count(*) FROM index_term WHERE term = {TERM}::bytea OR record_id = $1");
    assert_eq!(superuser.query_one(&left, &[&ended]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(found(&portal, "patients", &[exact("family_name", "adebayo")]).await, [changed]);
}

/// Terms are short where many share them and long where nobody does, and nothing of a value stands in them.
#[tokio::test]
async fn terms_are_as_long_as_the_policy_says_and_tell_no_value() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    portal.create_patient(patient()).await;
    let data = strongroom.data().await;
    let rows = data.query("SELECT term FROM index_term ORDER BY term", &[]).await.unwrap();
    let terms: BTreeSet<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect();
    // Field, transform, root, digest.
    let parts = |term: &Vec<u8>| {
        assert_eq!((&term[..3], &term[6..10]), (&[0; 3][..], &[0, 0, 0, 1][..]));
        (term[3], u16::from_be_bytes([term[4], term[5]]), term.len() - 10)
    };
    let lengths: Vec<(u8, u16, usize)> = terms.iter().map(parts).collect();
    // 200,000 rows: 16 bits, that three others share a term.
    let expected = [
        (1, 0x100, 2),
        (1, 0x203, 2),
        (1, 0x205, 2),
        (2, 0x100, 2),
        (4, 0x300, 2),
        (7, 0x100, 2),
        (8, 0x100, 2),
        (10, 0x100, 16),
        (11, 0x100, 16),
    ];
    assert_eq!(lengths, expected);
    let digests: BTreeSet<&[u8]> = terms.iter().map(|term| &term[10..]).collect();
    assert!(digests.len() >= 8, "each of another key");
    // The record has them as well, for the statement that replaces or ends it, and they go with it.
    let of_records = "SELECT count(*) FROM record r, unnest(r.terms) t (term) JOIN index_term i USING (term)";
    assert_eq!(data.query_one(of_records, &[]).await.unwrap().get::<_, i64>(0), 9);
    // The root is in the key database, wrapped, and made once.
    let keys = strongroom.keys().await;
    let root = "SELECT count(*), min(wrapped) FROM tenant_key WHERE class = 'index' AND purpose = 'terms'";
    let row = keys.query_one(root, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    assert!(row.get::<_, &str>(1).starts_with("vault:v"));
}

/// Where the policy declares other indexes than a record was stored under, a search says that it does not find all until that
/// is put right.
#[tokio::test]
async fn a_search_says_when_it_does_not_find_all() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let page = async || {
        let answer = search(&portal, "patients", &[exact("family_name", "novakova")]).await;
        answer.json::<Value>().await.unwrap()
    };
    assert!(page().await.get("incomplete").is_none());
    // Whoever would put it right must wait.
    let superuser = strongroom.data().await;
    superuser.batch_execute("BEGIN; SELECT 1 FROM record FOR UPDATE").await.unwrap();
    let file = strongroom.policy_directory.join("collections/patients.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    strongroom.adopts(|| replace_file(&file, &text.replacen("rows = 200_000", "rows = 2_000_000", 1))).await;
    let incomplete = page().await;
    assert_eq!((&incomplete["incomplete"], &incomplete["records"]), (&json!(true), &json!([])));
    superuser.batch_execute("COMMIT").await.unwrap();
    eventually("it finds all", async || page().await.get("incomplete").is_none()).await;
    assert_eq!(ids(&page().await), [id]);
}

/// A search reads a stretch of the index and the rows it leads to, however many there are besides.
#[tokio::test]
async fn a_search_reads_its_stretch_of_the_index() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let data = strongroom.data().await;
    let id = portal.create_patient(person(&json!({ "family_name": "Okafor" }))).await;
    let many = "INSERT INTO index_term SELECT i.tenant_id, i.collection, \
                    substr(i.term, 1, 10) || decode(lpad(to_hex(n), 8, '0'), 'hex'), 'r' || n \
                FROM index_term i CROSS JOIN generate_series(1, 5000) n WHERE i.record_id = $1";
    assert_eq!(data.execute(many, &[&id]).await.unwrap(), 6 * 5_000);
    // What this connection read itself is not what is measured.
    data.batch_execute("ANALYZE index_term; SELECT pg_stat_force_next_flush()").await.unwrap();
    let read = async || {
        let sql = "SELECT (SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables WHERE relname IN ('index_term', 'record')), \
                   (SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'index_term_pkey'), \
                   (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'index_term_pkey')";
        let row = data.query_one(sql, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2))
    };
    let before = read().await;
    for _ in 0..20 {
        let conditions = [prefix("family_name", "oka"), exact("family_name", "okafor")];
        assert_eq!(found(&portal, "patients", &conditions).await, std::slice::from_ref(&id));
    }
    // A session tells what it has read within seconds.
    eventually("the scans are counted", async || read().await.2 >= before.2 + 20).await;
    let after = read().await;
    assert_eq!(after.0, before.0, "nothing is read through");
    assert!(after.1 - before.1 <= 20 * 10, "{} rows of the index", after.1 - before.1);
}
