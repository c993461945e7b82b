//! What a superuser of the data database can do to the log, and which layer notices: the service itself, with an alarm, or
//! whoever verifies the files. None of it is hidden by the guards being switched off and on again.
//!
//! Not here: what the guards refuse (`audit_tables`), damage of files (`src/audit/verify/tests.rs`), and attacks that a
//! witness notices (`audit_witness`).

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::Client as Superuser;
use uuid::Uuid;

use crate::support::export::Exported;
use crate::support::samples::small_patient;
use crate::support::{Client, ServiceOptions, Strongroom, administrator, eventually};

/// How soon the service notices, in a log that one step of its review reads (audit/README.md).
const PROMISED: Duration = Duration::from_secs(20);

/// With the guards of these tables off, and as they were afterwards.
pub fn around_the_guards(tables: &[&str], sql: &str) -> String {
    let each = |what: &str| {
        let changes: Vec<String> =
            tables.iter().map(|table| format!("ALTER TABLE {table} {what};")).collect();
        changes.concat()
    };
    format!(
        "BEGIN; SET LOCAL strongroom.audit_migration = 'yes'; {} {sql}; {} {} COMMIT;",
        each("DISABLE TRIGGER USER"),
        each("ENABLE ALWAYS TRIGGER audit_refuse_statement"),
        each("ENABLE ALWAYS TRIGGER audit_refuse_row")
    )
}

struct Stand {
    strongroom: Strongroom,
    attacked: Cell<Instant>,
    portal: Client,
    operator: Client,
    superuser: Superuser,
    exported: Exported,
    patient: String,
}

impl Stand {
    /// A log with some entries, all of them in the files.
    async fn start() -> Self {
        Self::start_with(ServiceOptions::default()).await
    }

    async fn start_with(options: ServiceOptions) -> Self {
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let operator = strongroom.client("operator").await;
        let superuser = strongroom.data().await;
        let patient = portal.create_patient(small_patient()).await;
        let exported = Exported::of(&strongroom).await;
        let attacked = Cell::new(Instant::now());
        let stand = Self { strongroom, attacked, portal, operator, superuser, exported, patient };
        for _ in 0..5 {
            stand.read().await;
        }
        stand.exported.has_everything(&stand.strongroom).await;
        stand
    }

    async fn read(&self) {
        self.portal.read(&format!("/api/v1/patients/{}", self.patient)).await;
    }

    /// What somebody does who knows the guards: switches them off, changes something, and leaves them as they were.
    async fn around_the_guards(&self, sql: &str) {
        self.around_the_guards_of(&["audit_entry", "audit_outbox", "audit_index", "audit_head"], sql).await;
    }

    async fn around_the_guards_of(&self, tables: &[&str], sql: &str) {
        self.attack(&around_the_guards(tables, sql)).await;
    }

    /// The clock begins.
    async fn attack(&self, sql: &str) {
        self.superuser.batch_execute(sql).await.unwrap();
        self.attacked.set(Instant::now());
    }

    /// States who noticed, and how long it took.
    fn noticed(&self, layer: &str, what: &str) {
        let test = std::thread::current();
        let attack = test.name().and_then(|name| name.rsplit("::").next()).unwrap_or("?");
        let took = self.attacked.get().elapsed();
        println!("{attack}: {layer} says {what} after {:.1} s", took.as_secs_f64());
        assert!(took <= PROMISED, "{layer} took {took:?}");
    }

    /// What whoever verifies the files finds, as soon as everything is in them.
    async fn found_in_the_files(&self) -> Vec<String> {
        self.exported.has_everything(&self.strongroom).await;
        let findings = self.exported.findings();
        let mut kinds: Vec<String> =
            findings.iter().map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        self.noticed("the files", &kinds.join(", "));
        kinds
    }

    async fn alarms(&self) -> Vec<String> {
        let Some(answer) = self.operator.try_get("/readyz").await else { return Vec::new() };
        let ready: Value = answer.json().await.unwrap();
        let alarms = ready["alarms"].as_array().unwrap();
        alarms.iter().map(|on| on["alarm"].as_str().unwrap().to_owned()).collect()
    }

    /// The service notices by itself, says so everywhere, and goes on serving.
    async fn notices(&self, alarm: &str) {
        let what = format!("the service notices: {alarm}");
        eventually(&what, async || self.alarms().await.iter().any(|on| on == alarm)).await;
        self.noticed("the service", alarm);
        self.strongroom.logs(&what, |line| line.contains("alarm.begin") && line.contains(alarm)).await;
        let metrics = self.operator.get("/metrics").await.text().await.unwrap();
        assert!(metrics.contains(&format!("strongroom_alarm{{alarm=\"{alarm}\"}} 1")), "{metrics}");
        self.read().await;
    }

    async fn checkpoint(&self) -> String {
        self.superuser.query_one("SELECT checkpoint FROM audit_head", &[]).await.unwrap().get(0)
    }

    /// Nothing is signed, although there is something to sign and time for it.
    async fn signs_nothing(&self) {
        let before = self.checkpoint().await;
        self.read().await;
        let failed = || self.strongroom.log().iter().filter(|line| line.contains("log.round_failed")).count();
        let rounds = failed();
        eventually("two more rounds", async || failed() >= rounds + 2).await;
        assert_eq!(self.checkpoint().await, before);
    }
}

#[tokio::test]
async fn an_entry_that_was_edited_is_noticed_and_the_files_have_the_true_one() {
    let stand = Stand::start().await;
    let edit = "UPDATE audit_entry
        SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'TREAT', 'HPAYMT'), 'UTF8')
        WHERE entry_id = (SELECT entry_id FROM audit_entry
            WHERE convert_from(entry, 'UTF8') LIKE '%TREAT%' LIMIT 1)";
    stand.around_the_guards(edit).await;
    stand.notices("entries_changed").await;
    stand.exported.verify();
}

/// The review of the whole log would take a minute to come to it. The files are written from what was numbered.
#[tokio::test]
async fn an_entry_that_is_edited_as_soon_as_it_has_its_number_is_noticed_in_a_long_log() {
    let slowly = ("STRONGROOM__AUDIT__REVIEW__ENTRIES_PER_SECOND".to_owned(), "1".to_owned());
    let options = ServiceOptions { settings: vec![slowly], ..ServiceOptions::default() };
    let stand = Stand::start_with(options).await;
    for _ in 0..60 {
        stand.read().await;
    }
    stand.exported.has_everything(&stand.strongroom).await;
    let edit = "SET LOCAL strongroom.audit_migration = 'yes';
        ALTER TABLE audit_entry DISABLE TRIGGER USER;
        CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            UPDATE public.audit_entry
                SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'TREAT', 'HPAYMT'), 'UTF8')
                WHERE entry_id = NEW.entry_id;
            RETURN NULL;
        END $$;
        CREATE TRIGGER edit AFTER INSERT ON audit_index FOR EACH ROW EXECUTE FUNCTION edit()";
    stand.attack(&format!("BEGIN; {edit}; COMMIT")).await;
    stand.read().await;
    stand.notices("entries_changed").await;
    let edited = "SELECT count(*) FROM audit_entry WHERE convert_from(entry, 'UTF8') LIKE '%HPAYMT%'";
    assert!(stand.superuser.query_one(edited, &[]).await.unwrap().get::<_, i64>(0) > 0);
    stand.exported.has_everything(&stand.strongroom).await;
    stand.exported.verify();
}

/// What is numbered, and stands in the files, is what the service committed.
#[tokio::test]
async fn an_entry_that_is_edited_as_it_is_stored_is_noticed_and_the_files_have_the_true_one() {
    let stand = Stand::start().await;
    let edit = "SET LOCAL strongroom.audit_migration = 'yes';
        CREATE SEQUENCE edits;
        CREATE FUNCTION edit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            IF convert_from(NEW.entry, 'UTF8') LIKE '%TREAT%' THEN
                IF nextval('public.edits') = 1 THEN
                    NEW.entry := convert_to(replace(convert_from(NEW.entry, 'UTF8'), 'TREAT', 'HPAYMT'), 'UTF8');
                END IF;
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER edit BEFORE INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION edit()";
    // What it edits is answered, and so at hand, before it can be numbered.
    let lock = stand.strongroom.data().await;
    lock.batch_execute("BEGIN; SELECT FROM audit_head FOR UPDATE").await.unwrap();
    stand.attack(&format!("BEGIN; {edit}; COMMIT")).await;
    stand.read().await;
    lock.batch_execute("COMMIT").await.unwrap();
    stand.notices("entries_changed").await;
    stand.notices("database_changed").await;
    stand.exported.has_everything(&stand.strongroom).await;
    stand.exported.verify();
}

#[tokio::test]
async fn an_entry_that_was_deleted_is_noticed() {
    let stand = Stand::start().await;
    stand.around_the_guards("DELETE FROM audit_outbox").await;
    stand.notices("entries_changed").await;
    stand.notices("records_changed").await;
    stand.exported.verify();
}

#[tokio::test]
async fn a_table_that_was_truncated_is_noticed() {
    let stand = Stand::start().await;
    // Each month has a guard of its own against it.
    let sql = "SELECT 'strongroom_log.' || relname FROM pg_class
        WHERE relnamespace = 'strongroom_log'::regnamespace AND relkind = 'r' AND relname LIKE 'audit\\_entry\\_%'";
    let months = stand.superuser.query(sql, &[]).await.unwrap();
    let months = months.iter().map(|row| row.get::<_, String>(0));
    let tables: Vec<String> = months.chain(["audit_entry".to_owned()]).collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    stand.around_the_guards_of(&tables, "TRUNCATE audit_entry").await;
    stand.notices("entries_changed").await;
    stand.exported.verify();
}

#[tokio::test]
async fn entries_that_changed_places_are_noticed() {
    let stand = Stand::start().await;
    let swap = |columns: &str, other: &str| {
        format!(
            "CREATE TEMP TABLE moved ON COMMIT DROP AS SELECT * FROM audit_index WHERE idx IN (2, 3);
             DELETE FROM audit_index WHERE idx IN (2, 3);
             INSERT INTO audit_index (idx, entry_id, leaf) SELECT {columns} FROM moved a JOIN moved b ON b.idx = {other}"
        )
    };
    stand.around_the_guards(&swap("a.idx, b.entry_id, a.leaf", "5 - a.idx")).await;
    stand.notices("entries_changed").await;
    // With their leaves: each entry fits its own, and the tree is another.
    stand.around_the_guards(&swap("a.idx, a.entry_id, b.leaf", "5 - a.idx")).await;
    stand.notices("log_changed").await;
    stand.signs_nothing().await;
    stand.exported.verify();
}

#[tokio::test]
async fn an_entry_that_was_put_into_the_past_is_noticed() {
    let stand = Stand::start().await;
    let insert = "INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256, xid)
        SELECT gen_random_uuid(), 1, '019b76da-0000-7000-8000-000000000001', tenant_id, entry, sha256, '3'
        FROM audit_entry LIMIT 1";
    stand.attack(insert).await;
    stand.notices("entries_changed").await;
    stand.exported.verify();
}

/// With today's transaction id it gets a number, as an entry of today; what no service writes is found in the files.
#[tokio::test]
async fn an_entry_that_no_service_wrote_is_found_in_the_files() {
    let stand = Stand::start().await;
    let insert = "INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
        SELECT src, seq + 1000, '019b76da-0000-7000-8000-000000000001', tenant_id, entry, sha256
        FROM audit_entry ORDER BY seq DESC LIMIT 1";
    stand.attack(insert).await;
    let kinds = stand.found_in_the_files().await;
    assert!(kinds.contains(&"duplicate".into()), "{kinds:?}");
    stand.notices("chains_broken").await;
}

/// A read that nobody made, sound in every way, in a chain of its own: no process whose key is attested signed it.
#[tokio::test]
async fn a_read_that_nobody_made_is_noticed() {
    let stand = Stand::start().await;
    let insert = r#"INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
        SELECT src, 1, id, tenant_id, bytes, sha256(bytes) FROM (
            SELECT '0198c0de-0000-4000-8000-000000000001'::uuid AS src, tenant_id,
                overlay(entry_id::text PLACING 'ffffffffffff' FROM 25)::uuid AS id,
                convert_to(regexp_replace(replace(convert_from(entry, 'UTF8'), entry_id::text,
                    overlay(entry_id::text PLACING 'ffffffffffff' FROM 25)),
                    '"chain":{[^}]*}', '"chain":{"seq":1,"src":"0198c0de-0000-4000-8000-000000000001"}'), 'UTF8') AS bytes
            FROM audit_entry WHERE convert_from(entry, 'UTF8') LIKE '%"act":"record.read"%"success"%' LIMIT 1) AS made"#;
    stand.attack(insert).await;
    assert_eq!(stand.found_in_the_files().await, ["chain_unattested"]);
    stand.notices("chains_broken").await;
}

/// A write that was acknowledged, taken away with its record before it had a number: its process has signed that it saw it.
#[tokio::test]
async fn a_write_that_was_dropped_before_it_was_numbered_is_found_in_the_files() {
    let stand = Stand::start().await;
    let lock = stand.strongroom.data().await;
    lock.batch_execute("BEGIN; SELECT FROM audit_head FOR UPDATE").await.unwrap();
    stand.portal.create_patient(small_patient()).await;
    let unnumbered = "NOT EXISTS (SELECT FROM audit_index i WHERE i.entry_id = o.entry_id)";
    let drop_write = format!(
        "DELETE FROM record WHERE audit_entry_id IN (SELECT entry_id FROM audit_outbox o WHERE {unnumbered});
         DELETE FROM audit_outbox o WHERE {unnumbered}"
    );
    stand.around_the_guards_of(&["audit_outbox"], &drop_write).await;
    lock.batch_execute("COMMIT").await.unwrap();
    stand.read().await;
    stand.notices("chains_broken").await;
    assert_eq!(stand.found_in_the_files().await, ["write_missing"]);
}

/// Entries that are committed and have no number yet: their process knows how far it had come, before anything follows; and
/// then its chain has a gap. There is one chain, and it is attested: what is dropped is never the beginning of another.
#[tokio::test]
async fn a_tail_that_was_dropped_before_it_was_numbered_is_found_in_the_files() {
    let one_chain = ("STRONGROOM__AUDIT__CHAINS".to_owned(), "1".to_owned());
    let options = ServiceOptions { settings: vec![one_chain], ..ServiceOptions::default() };
    let stand = Stand::start_with(options).await;
    let is_attested = "SELECT EXISTS (SELECT FROM audit_entry
        WHERE convert_from(entry, 'UTF8') LIKE '%\"act\":\"instance.attest\"%')";
    eventually("the chain is attested", async || {
        stand.read().await;
        stand.superuser.query_one(is_attested, &[]).await.unwrap().get(0)
    })
    .await;
    stand.exported.has_everything(&stand.strongroom).await;
    let lock = stand.strongroom.data().await;
    lock.batch_execute("BEGIN; SELECT FROM audit_head FOR UPDATE").await.unwrap();
    stand.read().await;
    // The row of the head is somebody else's meanwhile.
    let unnumbered = "NOT EXISTS (SELECT FROM audit_index i WHERE i.entry_id = e.entry_id)";
    let tail = format!("SELECT src, max(seq) FROM audit_entry e WHERE {unnumbered} GROUP BY src");
    let tail = stand.superuser.query_one(&tail, &[]).await.unwrap();
    let (src, seq): (Uuid, i64) = (tail.get(0), tail.get(1));
    let drop_tail = format!("DELETE FROM audit_entry e WHERE {unnumbered}");
    stand.around_the_guards_of(&["audit_entry"], &drop_tail).await;
    let is_there = "SELECT EXISTS (SELECT FROM audit_entry WHERE src = $1 AND seq = $2)";
    assert!(!stand.superuser.query_one(is_there, &[&src, &seq]).await.unwrap().get::<_, bool>(0));
    stand.notices("chains_broken").await;
    lock.batch_execute("COMMIT").await.unwrap();
    stand.read().await;
    assert_eq!(stand.found_in_the_files().await, ["chain_gap"]);
}

/// The log is taken back to an earlier head, with everything that has to do with it, while the service runs.
#[tokio::test]
async fn a_tail_that_was_dropped_after_it_was_numbered_is_noticed() {
    let stand = Stand::start().await;
    stand.superuser.batch_execute("CREATE TEMP TABLE earlier AS SELECT * FROM audit_head").await.unwrap();
    let size = stand.exported.size();
    for _ in 0..5 {
        stand.read().await;
    }
    stand.exported.has_everything(&stand.strongroom).await;
    assert!(stand.exported.size() > size);
    stand
        .around_the_guards(
            "DELETE FROM audit_entry WHERE entry_id IN (SELECT entry_id FROM audit_index, earlier WHERE idx >= size);
             DELETE FROM audit_index WHERE idx >= (SELECT size FROM earlier);
             DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM earlier",
        )
        .await;
    stand.notices("log_shrunk").await;
    stand.signs_nothing().await;
    stand.exported.verify();
}

#[tokio::test]
async fn yesterdays_database_is_noticed() {
    let mut stand = Stand::start().await;
    let name = stand.strongroom.databases.data.name.clone();
    let postgres = administrator("postgres").await;
    stand.strongroom.kill();
    stand.superuser = administrator("postgres").await;
    let copy = async |from: &str, to: &str| {
        let leave =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'");
        eventually("the database is free", async || {
            postgres.batch_execute(&leave).await.unwrap();
            postgres.batch_execute(&format!("CREATE DATABASE {to} TEMPLATE {from}")).await.is_ok()
        })
        .await;
    };
    copy(&name, &format!("{name}_yesterday")).await;
    stand.strongroom.restart().await;
    for _ in 0..5 {
        stand.read().await;
    }
    stand.exported.has_everything(&stand.strongroom).await;
    stand.strongroom.kill();
    postgres.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    copy(&format!("{name}_yesterday"), &name).await;
    stand.strongroom.restart().await;
    stand.attacked.set(Instant::now());
    stand.superuser = stand.strongroom.data().await;
    stand.notices("log_shrunk").await;
    stand.signs_nothing().await;
    stand.exported.verify();
}

#[tokio::test]
async fn files_that_were_changed_are_noticed_by_the_next_lead() {
    let mut stand = Stand::start().await;
    stand.strongroom.kill();
    let width = stand.exported.size();
    let path = stand.exported.log.join(format!("tile/entries/000.p/{width}"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    stand.strongroom.restart().await;
    stand.attacked.set(Instant::now());
    stand.notices("log_changed").await;
    stand.signs_nothing().await;
    assert!(!stand.exported.findings().is_empty());
}

/// A guard that is switched off in the catalogue itself fires no trigger; the catalogue is looked at.
#[tokio::test]
async fn a_trigger_that_was_disabled_in_the_catalogue_is_noticed() {
    let stand = Stand::start().await;
    let set = |state: &str| {
        format!(
            "SET allow_system_table_mods = on;
             UPDATE pg_trigger SET tgenabled = '{state}' WHERE tgrelid = 'audit_entry'::regclass AND NOT tgisinternal"
        )
    };
    stand.attack(&set("D")).await;
    stand.notices("database_changed").await;
    stand.superuser.batch_execute(&set("A")).await.unwrap();
    eventually("the alarm ends", async || stand.alarms().await.is_empty()).await;
}

#[tokio::test]
async fn a_record_that_was_rolled_back_or_hidden_is_noticed() {
    let stand = Stand::start().await;
    let path = format!("/api/v1/patients/{}", stand.patient);
    let (_, etag) = stand.portal.read(&path).await;
    let change = serde_json::json!({ "fields": { "given_name": "Zuzana" } });
    assert_eq!(stand.portal.patch(&path, &etag, &change).await.status(), 200);
    stand.superuser.batch_execute("CREATE TEMP TABLE now AS SELECT * FROM record").await.unwrap();
    let back = "UPDATE record r SET version = h.version, seal_headers = h.seal_headers, sealed_values = h.sealed_values,
        updated_at = h.updated_at, audit_entry_id = h.audit_entry_id FROM record_history h WHERE h.record_id = r.record_id";
    stand.attack(back).await;
    stand.notices("records_changed").await;
    let again = "DELETE FROM record; INSERT INTO record SELECT * FROM now";
    stand.superuser.batch_execute(again).await.unwrap();
    eventually("the alarm ends", async || stand.alarms().await.is_empty()).await;
    stand.superuser.batch_execute("DELETE FROM record").await.unwrap();
    let what = "the service notices the hidden record";
    eventually(what, async || stand.alarms().await.contains(&String::from("records_changed"))).await;
}
