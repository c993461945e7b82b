//! The log by months: made ahead by a role that can do just that, guarded each like the whole, and missed by no entry.

use std::path::Path;

use strongroom::audit::{Act, AuditQuery, Batch, ChainedEntry, EntrySink, Filter, Scope, Settled};
use strongroom::domain::id::EntryId;
use strongroom::storage::audit::{AuditReader, AuditStore};
use strongroom::storage::{Database, SequenceStore};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Databases, Strongroom, administrator, eventually, fresh_databases, site};

const LIFTED: &str = "SET LOCAL strongroom.audit_migration = 'yes'";
const PARTITIONS: &str = "SELECT c.relname::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
    WHERE c.relnamespace = 'strongroom_log'::regnamespace AND c.relkind = 'r' ORDER BY 1";

async fn partitions(client: &Client) -> Vec<String> {
    client.query(PARTITIONS, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A client of the database as one of its roles.
async fn as_role(databases: &Databases, role: &str) -> Client {
    let config = databases.data_as(role);
    let mut postgres = tokio_postgres::Config::new();
    let password = std::fs::read(&config.password_file).unwrap();
    postgres.host(&config.host).port(config.port).dbname(&config.name).user(&config.user);
    let (client, connection) =
        postgres.password(password.trim_ascii()).connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn is_refused(client: &Client, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{sql}");
}

fn entry(src: u128, seq: i64, id: Uuid, filler: u8) -> Batch {
    let bytes = format!("{{\"act\":\"record.read\",\"n\":{filler}}}").into_bytes();
    let one = ChainedEntry { id: EntryId::from_uuid(id), tenant: None, seq, bytes, sha256: [filler; 32] };
    Batch { src: Uuid::from_u128(src), entries: vec![one] }
}

/// The smallest id of a time that PostgreSQL understands.
async fn id_at(client: &Client, at: &str) -> Uuid {
    client.query_one(&format!("SELECT audit_first_id({at})"), &[]).await.unwrap().get(0)
}

async fn place_of(client: &Client, id: Uuid) -> String {
    let sql =
        "SELECT c.relname::text FROM audit_entry e JOIN pg_class c ON c.oid = e.tableoid WHERE entry_id = $1";
    client.query_one(sql, &[&id]).await.unwrap().get(0)
}

async fn drop_months(client: &Client, condition: &str) {
    let names: Vec<String> = partitions(client).await;
    let matching = format!("SELECT name FROM unnest($1::text[]) AS name WHERE {condition}");
    for row in client.query(&matching, &[&names]).await.unwrap() {
        let sql = format!("BEGIN; {LIFTED}; DROP TABLE strongroom_log.{}; COMMIT", row.get::<_, &str>(0));
        client.batch_execute(&sql).await.unwrap();
    }
}

#[tokio::test]
async fn the_sequencer_makes_the_months_ahead_and_can_do_no_more() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    let all = partitions(&client).await;
    assert_eq!(all.len(), 3 * 5, "this month, three more and the rest, of three tables: {all:?}");
    drop_months(&client, "name NOT LIKE '%rest'").await;
    assert_eq!(partitions(&client).await.len(), 3);
    let store = SequenceStore::new(Database::open(&databases.data_as("strongroom_sequencer")).unwrap());
    assert_eq!(store.make_months().await.unwrap(), 0);
    assert_eq!(partitions(&client).await, all, "all of them are there again");
    assert_eq!(store.make_months().await.unwrap(), 0, "and once more is nothing");
    assert!(
        store
            .weaknesses(strongroom::domain::clock::Timestamp::from_micros(0))
            .await
            .unwrap()
            .iter()
            .all(|weakness| !weakness.found.contains("month"))
    );

    let month = &all[0];
    for role in ["strongroom_sequencer", "strongroom_app", "strongroom_audit_reader"] {
        let role = as_role(&databases, role).await;
        for sql in [
            "SELECT audit_make_month(now())",
            "SELECT audit_make_partition('audit_entry', 'mine', 'DEFAULT')",
            &format!("SELECT * FROM strongroom_log.{month}"),
            &format!("DELETE FROM strongroom_log.{month}"),
            &format!("DROP TABLE strongroom_log.{month}"),
            "CREATE TABLE strongroom_log.mine (id int)",
        ] {
            is_refused(&role, sql).await;
        }
    }
    for role in ["strongroom_app", "strongroom_audit_reader"] {
        is_refused(&as_role(&databases, role).await, "SELECT audit_make_months()").await;
    }
}

/// A role that reaches a month by its own name meets the same guards as at the table.
#[tokio::test]
async fn every_month_is_guarded_as_the_whole_is() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    // One that the service has made.
    drop_months(&client, "name NOT LIKE '%rest'").await;
    let store = SequenceStore::new(Database::open(&databases.data_as("strongroom_sequencer")).unwrap());
    store.make_months().await.unwrap();
    for role in
        ["RESET ROLE", "SET ROLE strongroom_owner", "RESET ROLE; SET session_replication_role = replica"]
    {
        client.batch_execute(role).await.unwrap();
        for month in partitions(&client).await {
            for sql in [
                format!("UPDATE strongroom_log.{month} SET entry_id = entry_id"),
                format!("DELETE FROM strongroom_log.{month}"),
                format!("TRUNCATE strongroom_log.{month}"),
                format!("DROP TABLE strongroom_log.{month}"),
                format!("ALTER TABLE strongroom_log.{month} DISABLE TRIGGER ALL"),
                format!("DROP TRIGGER audit_refuse_statement ON strongroom_log.{month}"),
                format!("ALTER TABLE strongroom_log.{month} SET SCHEMA public"),
                format!("CREATE RULE swallow AS ON INSERT TO strongroom_log.{month} DO INSTEAD NOTHING"),
            ] {
                is_refused(&client, &sql).await;
            }
            let parent = ["audit_entry", "audit_outbox", "audit_index"]
                .into_iter()
                .find(|name| month.starts_with(name));
            is_refused(
                &client,
                &format!("ALTER TABLE {} DETACH PARTITION strongroom_log.{month}", parent.unwrap()),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn an_entry_of_no_month_is_kept_numbered_and_found() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    let store = AuditStore::new(Database::open(&databases.data_as("strongroom_app")).unwrap());
    let far = id_at(&client, "now() + interval '20 years'").await;
    let now = id_at(&client, "now()").await;
    store.append(&entry(1, 1, far, 1)).await.unwrap();
    store.append(&entry(1, 2, now, 2)).await.unwrap();
    assert_eq!(place_of(&client, far).await, "audit_entry_rest");
    assert!(place_of(&client, now).await.starts_with("audit_entry_20"));
    let sequence = SequenceStore::new(Database::open(&databases.data_as("strongroom_sequencer")).unwrap());
    assert_eq!(sequence.lead().await.unwrap().unwrap().take(10).await.unwrap().entries.len(), 2);
    let reader = Database::open_for_searches(&databases.data_as("strongroom_audit_reader")).unwrap();
    let filter = Filter { act: Some(Act::RecordRead), ..Filter::default() };
    let query = AuditQuery { filter, ..AuditQuery::new(Scope::Everything) };
    assert_eq!(AuditReader::new(reader).page(&query).await.unwrap().entries.len(), 2);
}

/// A place in a chain is one's own in its month by an index, and in all others by what is read after a retry.
#[tokio::test]
async fn a_place_that_another_month_holds_is_a_fork_as_well() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    let store = AuditStore::new(Database::open(&databases.data_as("strongroom_app")).unwrap());
    let (now, soon) = (id_at(&client, "now()").await, id_at(&client, "now() + interval '1 month'").await);
    let ours = entry(1, 1, now, 1);
    store.append(&ours).await.unwrap();
    assert_eq!(store.settle(&ours).await, Ok(Settled::Stored), "a repeat is what is there");
    // The same month: refused at once.
    let other = entry(1, 1, Uuid::from_u128(now.as_u128() + 1), 2);
    assert!(store.append(&other).await.is_err());
    assert_eq!(store.settle(&other).await, Ok(Settled::Forked));
    // Another month: no index has both.
    let other = entry(1, 1, soon, 3);
    assert_eq!(store.settle(&other).await, Ok(Settled::Forked));
    store.append(&entry(1, 1, soon, 4)).await.unwrap();
    assert_eq!(store.settle(&ours).await, Ok(Settled::Forked), "and it is noticed whoever came first");
    // Another's id under a place that is free: neither stored nor a fork.
    assert!(store.settle(&entry(1, 7, now, 5)).await.is_err());
    let count: i64 = client.query_one("SELECT count(*) FROM audit_entry", &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
}

/// Entries of the next month came before it was made: they are kept, and it is told.
#[tokio::test]
async fn a_month_that_cannot_be_made_is_an_alarm_and_refuses_nothing() {
    let mut strongroom = Strongroom::start().await;
    let operator = strongroom.client("operator").await;
    let superuser = strongroom.data().await;
    let next = "to_char((now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')";
    drop_months(&superuser, &format!("name = 'audit_outbox_' || {next}")).await;
    let id = id_at(&superuser, "date_trunc('month', now()) + interval '40 days'").await;
    let sql = "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $1, '{}')";
    superuser.execute(sql, &[&id]).await.unwrap();
    strongroom.kill_and_restart().await;
    eventually("the alarm is on", async || {
        let Some(answer) = operator.try_get("/readyz").await else { return false };
        answer.text().await.unwrap().contains("log_month_missing")
    })
    .await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    portal.create_patient(crate::support::samples::small_patient()).await;
}

/// A database as it was before the months, with entries that have numbers, some that have none, and one that cannot be read.
#[tokio::test]
async fn a_log_that_is_there_moves_into_its_months() {
    site().await;
    let name = "test_months_before";
    let postgres = administrator("postgres").await;
    postgres.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let client = administrator(name).await;
    let history = "CREATE TABLE refinery_schema_history (version int PRIMARY KEY, name text, applied_on text, checksum text)";
    client.batch_execute(history).await.unwrap();
    migrate(&client, 0..=21).await;
    client
        .batch_execute(
            "CREATE INDEX audit_entry_tenant ON audit_entry (tenant_id, entry_id);
             CREATE INDEX audit_entry_xid ON audit_entry (xid);
             INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
             SELECT md5('')::uuid, n, ('019b76da-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, md5('t')::uuid, bytes, sha256(bytes)
             FROM generate_series(1, 9) AS n, LATERAL (SELECT convert_to(CASE WHEN n = 5 THEN 'broken' ELSE
                '{\"act\":\"record.read\",\"out\":{\"status\":\"success\"},\"subj\":\"0000000' || n % 2
                || '-0000-0000-0000-000000000000\",\"who\":{\"uid\":\"portal\"}}' END, 'UTF8') AS bytes) AS made;
             INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT tenant_id, gen_random_uuid(), entry FROM audit_entry WHERE seq = 2;
             INSERT INTO audit_index (idx, entry_id, leaf) SELECT row_number() OVER (ORDER BY seq) - 1, entry_id, sha256('\\x00' || entry)
                FROM audit_entry WHERE seq <= 7",
        )
        .await
        .unwrap();
    let dump = "SELECT (SELECT array_agg(e::text ORDER BY seq) FROM audit_entry e), (SELECT array_agg(o::text) FROM audit_outbox o),
        (SELECT array_agg((idx, entry_id, leaf)::text ORDER BY idx) FROM audit_index)";
    let texts = async |client: &Client| -> [Vec<String>; 3] {
        let row = client.query_one(dump, &[]).await.unwrap();
        [row.get(0), row.get(1), row.get(2)]
    };
    let before = texts(&client).await;
    migrate(&client, 22..=22).await;
    assert_eq!(texts(&client).await, before);
    // As they are made now: of the month in their ids, guarded, and found by what they are marked with.
    let place = place_of(&client, Uuid::parse_str("019b76da-0000-7000-8000-000000000003").unwrap()).await;
    assert_eq!(place, "audit_entry_2025_12");
    is_refused(&client, "DELETE FROM strongroom_log.audit_entry_2025_12").await;
    let owners = "SELECT count(*) FROM pg_class WHERE relnamespace = 'strongroom_log'::regnamespace
        AND relowner <> 'strongroom_owner'::regrole";
    assert_eq!(client.query_one(owners, &[]).await.unwrap().get::<_, i64>(0), 0);
    let mut config = site().await.config.database.audit_export.clone();
    name.clone_into(&mut config.name);
    let reader = AuditReader::new(Database::open_for_searches(&config).unwrap());
    let subject = strongroom::domain::id::SubjectId::parse("00000001-0000-0000-0000-000000000000");
    let filter = Filter { actor: Some("portal".into()), subject, ..Filter::default() };
    let sought = strongroom::audit::Sought::by(&filter);
    let marked = "SELECT count(*) FROM audit_index JOIN audit_kind USING (kind) WHERE subject = $1 AND actor = 'portal'";
    let marked: i64 = client.query_one(marked, &[&sought.subject]).await.unwrap().get(0);
    assert_eq!(marked, 3, "numbers 1, 3 and 7");
    let query = AuditQuery { filter, ..AuditQuery::new(Scope::Everything) };
    assert_eq!(reader.page(&query).await.unwrap().entries.len(), 4, "and 9, which has no number yet");
    drop((client, reader));
}

async fn migrate(client: &Client, versions: std::ops::RangeInclusive<u32>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/data");
    let mut files: Vec<(u32, String)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let version = name[1..name.find("__").unwrap()].parse().unwrap();
            (version, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    for (version, sql) in files.into_iter().filter(|(version, _)| versions.contains(version)) {
        client
            .batch_execute(&format!("BEGIN; {sql}; COMMIT"))
            .await
            .unwrap_or_else(|error| panic!("V{version}: {error:?}"));
    }
}
