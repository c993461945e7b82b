//! Old months of the log leave the database, when the exported files have them; whoever reads the rest passes over what has gone
//! by what is on record of it, and nobody else takes a month away unnoticed.
//!
//! Not here: what is refused (`audit_prune_refusals`), and holds (`audit_hold`).

use std::time::Instant;

use serde_json::Value;
use strongroom::audit::tiles::Edge;
use strongroom::audit::tree::TreeHash;
use tokio_postgres::Client as Superuser;

use crate::audit_attacks::around_the_guards;
use crate::support::export::Exported;
use crate::support::old_log::{OldMonth, fill_month};
use crate::support::samples::small_patient;
use crate::support::{
    Bucket, Client, Databases, ServiceOptions, Store, Strongroom, copy_folder, eventually, fresh_databases,
    hex, parts, problem,
};

/// A log of two months that are old enough, one that is not, and what the service has written since.
pub struct Stand {
    pub strongroom: Strongroom,
    pub old: [OldMonth; 3],
    pub superuser: Superuser,
    pub operator: Client,
    pub auditor: Client,
    portal: Client,
    patient: String,
}

impl Stand {
    pub async fn start() -> Self {
        Self::start_in(None).await
    }

    async fn start_in(bucket: Option<Bucket>) -> Self {
        let databases = fresh_databases().await;
        let old = [
            fill_month(&databases, 14, 590, 10).await,
            fill_month(&databases, 13, 495, 5).await,
            fill_month(&databases, 12, 95, 5).await,
        ];
        let on = Databases { data: databases.data.clone(), keys: databases.keys.clone() };
        let settings = vec![("STRONGROOM__AUDIT__REVIEW__ENTRIES_PER_SECOND".to_owned(), "5000".to_owned())];
        let options = ServiceOptions { databases: Some(on), bucket, settings, ..ServiceOptions::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let operator = strongroom.client("operator").await;
        let auditor = strongroom.client("audit").await;
        let superuser = strongroom.data().await;
        let patient = portal.create_patient(small_patient()).await;
        Self { strongroom, old, superuser, operator, auditor, portal, patient }
    }

    pub async fn read(&self, times: usize) {
        let path = format!("/api/v1/patients/{}", self.patient);
        for answer in futures_util::future::join_all((0..times).map(|_| self.portal.get(&path))).await {
            assert_eq!(answer.status(), 200);
        }
    }

    /// Waits until the files have so many entries; with enough of them, every bundle with one of the old months is whole.
    pub async fn exports(&self, entries: usize) {
        eventually("the files have them", async || {
            let Some(answer) = self.operator.try_get("/metrics").await else { return false };
            let metrics = answer.text().await.unwrap();
            let line =
                metrics.lines().find_map(|line| line.strip_prefix("strongroom_audit_exported_entries "));
            line.is_some_and(|count| count.parse::<usize>().unwrap() >= entries)
        })
        .await;
    }

    pub async fn fill(&self) {
        self.read(200).await;
        self.exports(1_400).await;
    }

    /// Exit code, the report, and what was said of a failure.
    pub async fn prune(&self, more: &[&str]) -> (Option<i32>, Value, String) {
        self.prune_as(crate::support::ADMINISTRATOR, parts().text("/data/password_file"), more).await
    }

    pub async fn prune_as(&self, role: &str, file: &str, more: &[&str]) -> (Option<i32>, Value, String) {
        let arguments = [&prune_arguments(role, file)[..], more].concat();
        let (code, out, error) = self.strongroom.command(&arguments).await;
        (code, serde_json::from_str(&out).unwrap_or_default(), error)
    }

    pub async fn alarms(&self) -> Vec<String> {
        let Some(answer) = self.operator.try_get("/readyz").await else { return Vec::new() };
        let ready: Value = answer.json().await.unwrap();
        let alarms = ready["alarms"].as_array().unwrap();
        alarms.iter().map(|on| on["alarm"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn alarm(&self, alarm: &str) {
        eventually(alarm, async || self.alarms().await.iter().any(|on| on == alarm)).await;
    }

    /// Everything that looks at the log by itself has looked at it since, more than once, and nothing is on record of an alarm.
    pub async fn stays_quiet(&self) {
        let metric = "strongroom_storage_duration_seconds_count";
        // Of each, so many more that one of them began after this.
        let looks = [
            ("pruned::differs", 3),
            ("pruned::lacks_month", 2),
            ("reconcile::records_without_entry", 3),
            ("reconcile::unnumbered", 2),
            ("sequence::entries", 2),
        ];
        let counts = async || -> Vec<u64> {
            let metrics = self.operator.get("/metrics").await.text().await.unwrap();
            let count = |look: &str| {
                let line = metrics.lines().find(|line| line.starts_with(metric) && line.contains(look));
                line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            };
            looks.iter().map(|(look, _)| count(look)).collect()
        };
        let before = counts().await;
        // One look after the other: some come only every few seconds.
        for once in 1..=3 {
            eventually("everything was looked at", async || {
                let now = counts().await;
                now.iter()
                    .zip(&before)
                    .zip(&looks)
                    .all(|((now, before), (_, more))| *now >= before + once.min(*more))
            })
            .await;
        }
        assert_eq!(self.alarms().await, [] as [String; 0]);
        assert_eq!(self.strongroom.entries_of("alarm.begin").await, [] as [Value; 0]);
    }

    /// The partitions of the three old months that are there.
    pub async fn tables(&self) -> Vec<String> {
        let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'strongroom_log'::regnamespace AND relkind = 'r' ORDER BY 1";
        let all = self.superuser.query(sql, &[]).await.unwrap();
        let names = ["audit_entry", "audit_index", "audit_outbox"];
        let old: Vec<String> =
            names.iter().flat_map(|name| self.old.iter().map(|month| month.table(name))).collect();
        all.iter().map(|row| row.get(0)).filter(|name| old.contains(name)).collect()
    }

    /// The id of an entry of a month that every auditor may read.
    async fn entry_of(&self, month: &OldMonth) -> String {
        let sql = format!(
            "SELECT i.entry_id::text FROM strongroom_log.{} i JOIN audit_kind USING (kind) WHERE act = 'policy.load' ORDER BY idx LIMIT 1",
            month.table("audit_index")
        );
        self.superuser.query_one(&sql, &[]).await.unwrap().get(0)
    }

    async fn proof(&self, entry: &str) -> reqwest::Response {
        self.auditor.get(&format!("/api/v1/audit/proof/{entry}")).await
    }
}

pub fn prune_arguments<'a>(role: &'a str, file: &'a str) -> Vec<&'a str> {
    vec!["audit", "prune", "--administrator", role, "--data-password-file", file, "--json"]
}

fn states(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let months = report["months"].as_array().unwrap();
    months.iter().map(|month| (text(&month["month"]), text(&month["state"]))).collect()
}

#[tokio::test]
async fn old_months_go_and_nothing_that_reads_the_log_takes_it_for_a_loss() {
    let mut stand = Stand::start().await;
    stand.fill().await;
    let exported = Exported::of(&stand.strongroom).await;
    let [first, second, young] = stand.old.clone();
    let (gone, stays) = (stand.entry_of(&first).await, stand.entry_of(&young).await);
    assert_eq!(stand.proof(&gone).await.status(), 200, "as long as it is there");
    stand.strongroom.kill_and_restart().await;

    let would =
        |state: &str| vec![(first.name.clone(), state.to_owned()), (second.name.clone(), state.to_owned())];
    let (code, report, error) = stand.prune(&["--dry-run"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(states(&report), would("may_go"));
    assert_eq!(stand.tables().await.len(), 9, "looking changes nothing");

    let ((code, report, error), ()) = tokio::join!(stand.prune(&[]), stand.read(300));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(states(&report), would("pruned"));
    let counts = report["months"].as_array().unwrap().iter().map(|month| month["entries"].as_u64().unwrap());
    assert_eq!(counts.collect::<Vec<_>>(), [first.entries as u64, second.entries as u64]);
    assert_eq!(report["next"]["month"], young.name);
    let left: Vec<String> =
        ["audit_entry", "audit_index", "audit_outbox"].map(|name| young.table(name)).to_vec();
    assert_eq!(stand.tables().await, left);
    let entries = stand.strongroom.entries_of("audit.prune").await;
    let months: Vec<&Value> = entries.iter().map(|entry| &entry["obj"][0]["month"]).collect();
    assert_eq!(months, [&Value::from(first.name.clone()), &Value::from(second.name.clone())]);
    assert_eq!(entries[1]["obj"][0]["by"], crate::support::ADMINISTRATOR);
    let kept: Vec<&Value> = entries.iter().map(|entry| &entry["obj"][0]["kept_from"]).collect();
    assert_eq!(kept, [512, 1_024], "whole tiles of 600 and of 1,100 entries");

    stand.stays_quiet().await;
    is_passed_over(&stand, &exported, &gone, &stays).await;
    // Whoever leads next begins where the database does.
    stand.strongroom.kill_and_restart().await;
    stand.read(40).await;
    stand.stays_quiet().await;
    let size = exported.size();
    stand.read(20).await;
    eventually("the log goes on", async || exported.size() >= size + 20).await;
    exported.verify();

    let (code, report, error) = stand.prune(&[]).await;
    assert_eq!((code, error.as_str(), states(&report)), (Some(0), "", vec![]), "there is no more to do");
}

/// What an auditor sees of it: over the interface that it is gone, in the files that it is there.
async fn is_passed_over(stand: &Stand, exported: &Exported, gone: &str, stays: &str) {
    assert_eq!(problem(stand.proof(gone).await).await, (410, "entry_pruned".into()));
    let never = format!("{}-7000-8000-000000000001", &gone[..13]);
    assert_eq!(
        problem(stand.proof(&never).await).await,
        (410, "entry_pruned".into()),
        "nor whether it was there"
    );
    // One that stands in a bundle with others that are gone.
    assert_eq!(stand.proof(stays).await.status(), 200);
    exported.proves(gone);
    let report = exported.verify();
    assert!(report["entries"].as_u64().unwrap() >= 1_400);

    let from = stand.old[0].middle.to_rfc3339();
    let path = format!("/api/v1/audit/events?act=policy.load&order=oldest&from={from}");
    let page: Value = stand.auditor.get(&path).await.json().await.unwrap();
    assert_eq!(page["entries"][0]["id"], stays, "the first that is left");
    assert_eq!(page["pruned_until"], format!("{}-01T00:00:00.000000Z", stand.old[2].name));
    let table =
        stand.auditor.request(reqwest::Method::GET, &path).header("accept", "text/csv").send().await.unwrap();
    assert_eq!(table.headers()["pruned-until"], page["pruned_until"].as_str().unwrap());
    let later: Value = stand
        .auditor
        .get(&format!("/api/v1/audit/events?from={}", stand.old[2].middle.to_rfc3339()))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(later["pruned_until"], Value::Null, "nothing of what was asked for");
    let found = exported.prints(&["--act", "policy.load", "--until", page["pruned_until"].as_str().unwrap()]);
    assert!(found.len() >= 50, "{}", found.len());
}

/// Another instance, whose directory is empty, cannot write there what the database no longer has; with a copy of the files it can.
#[tokio::test]
async fn files_that_lack_what_was_pruned_are_not_begun_anew() {
    let stand = Stand::start().await;
    stand.fill().await;
    assert_eq!(stand.prune(&[]).await.0, Some(0));
    stand.strongroom.kill();
    let databases = Databases {
        data: stand.strongroom.databases.data.clone(),
        keys: stand.strongroom.databases.keys.clone(),
    };
    let options = ServiceOptions { databases: Some(databases), ..ServiceOptions::default() };
    let other = Strongroom::start_with(options).await;
    let operator = other.client("operator").await;
    let alarms = async || {
        let ready: Value = operator.get("/readyz").await.json().await.unwrap();
        ready["alarms"].as_array().unwrap().iter().map(|on| on["alarm"].clone()).collect::<Vec<_>>()
    };
    eventually("it says so", async || alarms().await == ["log_not_exported"]).await;
    other.logs("what to do", |line| line.contains("copy the log's files here first")).await;
    assert!(!other.log_directory().join("tile").exists());
    copy_folder(&stand.strongroom.log_directory(), &other.log_directory());
    eventually("it goes on there", async || alarms().await.is_empty()).await;
    let exported = Exported::of(&other).await;
    exported.verify();
}

/// The files are in a bucket, and read from there.
#[tokio::test]
async fn a_log_in_a_bucket_is_pruned_by_what_the_bucket_has() {
    let store = Store::start("prune").await;
    let stand = Stand::start_in(Some(store.bucket("locked", "log"))).await;
    stand.fill().await;
    let (code, report, error) = stand.prune(&["--through", &stand.old[0].name]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(states(&report), [(stand.old[0].name.clone(), "pruned".to_owned())]);
    stand.stays_quiet().await;
    // Somebody put another version of a bundle over the one that was written.
    store.put("locked", "log/tile/entries/003", "something else");
    let (code, report, _) = stand.prune(&[]).await;
    assert_eq!((code, &report["months"][0]["code"]), (Some(3), &Value::from("export_differs")));
    assert_eq!(stand.tables().await.len(), 6);
}

/// Begun twice, the second is told; killed while it waits for somebody who reads the month, nothing has happened.
#[tokio::test]
async fn one_at_a_time_and_killed_it_has_done_nothing() {
    let stand = Stand::start().await;
    stand.fill().await;
    let reader = stand.strongroom.data().await;
    let held = format!("BEGIN; SELECT count(*) FROM strongroom_log.{}", stand.old[0].table("audit_entry"));
    reader.batch_execute(&held).await.unwrap();
    let arguments = prune_arguments(crate::support::ADMINISTRATOR, parts().text("/data/password_file"));
    let mut first = stand.strongroom.program(&arguments).spawn().unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("it waits for the reader", async || {
        stand.superuser.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    // Who writes to the log meanwhile is not held up for long.
    stand.read(50).await;
    let (code, _, error) = stand.prune(&[]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("another `audit prune`, `audit expire` or `migrate` is under way"), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(stand.tables().await.len(), 9);
    let count = "SELECT (SELECT count(*) FROM audit_pruned) + (SELECT count(*) FROM audit_pruned_tile)";
    assert_eq!(stand.superuser.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(stand.strongroom.entries_of("audit.prune").await.len(), 0);
    // The lock ends with the session of the one that was killed.
    let mut ended = (None, Value::Null, String::new());
    eventually("it is done by the next one", async || {
        ended = stand.prune(&[]).await;
        ended.0 != Some(1)
    })
    .await;
    assert_eq!(ended.0, Some(0), "{}", ended.2);
    assert_eq!(stand.tables().await.len(), 3);
    stand.stays_quiet().await;
}

/// Not even the owner drops a month, unless this transaction puts exactly that month on record.
#[tokio::test]
async fn a_month_is_dropped_with_its_record_or_not_at_all() {
    let stand = Stand::start().await;
    let [first, second, _] = &stand.old;
    let record = format!(
        "INSERT INTO audit_pruned (month, from_id, until_id, first_idx, end_idx, entries, size, edge, checkpoint_size, \
         checkpoint_root, entry_id) SELECT '{}-01', audit_first_id('epoch'), audit_first_id(now()), 0, 0, 0, 0, '', 0, sha256(''), \
         gen_random_uuid()",
        first.name
    );
    let drop = |month: &OldMonth| format!("DROP TABLE strongroom_log.{}", month.table("audit_index"));
    let truncate = format!("TRUNCATE strongroom_log.{}", first.table("audit_index"));
    for role in ["RESET ROLE", "SET ROLE strongroom_owner"] {
        stand.superuser.batch_execute(role).await.unwrap();
        let tries = [drop(first), format!("{record}; {}", drop(second)), format!("{record}; {truncate}")];
        for sql in tries {
            let sql = format!("BEGIN; {sql}; COMMIT");
            let error = stand.superuser.batch_execute(&sql).await.expect_err(&sql);
            assert_eq!(
                error.code().map(tokio_postgres::error::SqlState::code),
                Some("42501"),
                "{sql}: {error:?}"
            );
            stand.superuser.batch_execute("ROLLBACK").await.unwrap();
        }
        // With it, the guard lets go of that month.
        stand.superuser.batch_execute(&format!("BEGIN; {record}; {}; ROLLBACK", drop(first))).await.unwrap();
        let change = "DELETE FROM audit_month";
        assert!(stand.superuser.batch_execute(change).await.is_err());
    }
    assert_eq!(stand.tables().await.len(), 9);
}

#[tokio::test]
async fn a_month_that_a_superuser_drops_by_hand_is_noticed() {
    let stand = Stand::start().await;
    stand.fill().await;
    let table = stand.old[1].table("audit_entry");
    let sql = format!(
        "BEGIN; SET LOCAL strongroom.audit_migration = 'yes'; DROP TABLE strongroom_log.{table}; COMMIT"
    );
    stand.superuser.batch_execute(&sql).await.unwrap();
    let dropped = Instant::now();
    // Of the catalogue at once, and of the entries by whoever reads them.
    for alarm in ["database_changed", "entries_changed"] {
        stand.alarm(alarm).await;
        println!("a month dropped by hand: {alarm} after {:.1} s", dropped.elapsed().as_secs_f64());
    }
    stand.read(1).await;
    let (code, report, _) = stand.prune(&[]).await;
    let told: Vec<&Value> = report["months"].as_array().unwrap().iter().map(|month| &month["code"]).collect();
    assert_eq!((code, told), (Some(3), vec![&Value::Null, &Value::from("month_incomplete")]));
}

/// A month that was dropped by hand as if it had been pruned, with all that is kept of it, but without an entry that says so; and
/// one with a tree that is not the log's.
#[tokio::test]
async fn a_record_that_is_not_the_logs_is_noticed() {
    for (is_the_tree, alarm) in [(true, "entries_changed"), (false, "log_changed")] {
        let stand = Stand::start().await;
        stand.fill().await;
        let rows = "SELECT leaf FROM audit_index WHERE idx < 768 ORDER BY idx";
        let rows = stand.superuser.query(rows, &[]).await.unwrap();
        let leaves = rows.iter().map(|row| row.get::<_, &[u8]>(0));
        let mut edge = Edge::default();
        for leaf in leaves.clone().take(512) {
            edge.append(TreeHash::from_bytes(leaf.try_into().unwrap()));
        }
        let mut tree = edge.to_bytes();
        tree[0] ^= u8::from(!is_the_tree);
        let hashes: Vec<u8> = leaves.skip(512).flatten().copied().collect();
        let keep = "INSERT INTO audit_pruned_tile VALUES (2, $1)";
        stand.superuser.execute(keep, &[&hashes]).await.unwrap();
        let [month, ..] = &stand.old;
        let names = ["audit_entry", "audit_index", "audit_outbox"].map(|name| month.table(name));
        let drop = format!(
            "BEGIN; INSERT INTO audit_pruned (month, from_id, until_id, first_idx, end_idx, entries, size, edge, checkpoint_size, \
             checkpoint_root, entry_id) SELECT '{name}-01', audit_first_id('{name}-01 00:00Z'), \
             audit_first_id('{name}-01 00:00Z'::timestamptz + interval '1 month'), 0, {entries}, {entries}, 512, \
             '\\x{tree}', 1, sha256(''), gen_random_uuid(); \
             DROP TABLE strongroom_log.{}, strongroom_log.{}, strongroom_log.{}; COMMIT",
            names[0],
            names[1],
            names[2],
            name = month.name,
            entries = month.entries,
            tree = hex(&tree),
        );
        stand.superuser.batch_execute(&drop).await.unwrap();
        let dropped = Instant::now();
        stand.alarm(alarm).await;
        println!("a month dropped as if pruned: {alarm} after {:.1} s", dropped.elapsed().as_secs_f64());
        stand.read(1).await;
    }
}

/// An entry that was deleted, with a leaf in its place as if it had gone with its month.
#[tokio::test]
async fn a_leaf_that_stands_in_for_an_entry_that_was_not_pruned_is_noticed() {
    let stand = Stand::start().await;
    stand.fill().await;
    stand.stays_quiet().await;
    let rows = "SELECT leaf FROM audit_index WHERE idx < 256 ORDER BY idx";
    let rows = stand.superuser.query(rows, &[]).await.unwrap();
    let hashes: Vec<u8> = rows.iter().flat_map(|row| row.get::<_, &[u8]>(0)).copied().collect();
    let sql = format!(
        "DELETE FROM audit_index WHERE idx = (SELECT min(idx) FROM audit_index JOIN audit_entry USING (entry_id)); \
         DELETE FROM audit_entry e WHERE NOT EXISTS (SELECT FROM audit_index i WHERE i.entry_id = e.entry_id) \
             AND entry_id < audit_first_id('{}-01 00:00Z'); \
         INSERT INTO audit_pruned_tile VALUES (0, '\\x{}');",
        stand.old[2].name,
        hex(&hashes)
    );
    let delete = around_the_guards(&["audit_entry", "audit_index"], &sql);
    stand.superuser.batch_execute(&delete).await.unwrap();
    let deleted = Instant::now();
    stand.alarm("entries_changed").await;
    println!("a leaf in an entry's place: entries_changed after {:.1} s", deleted.elapsed().as_secs_f64());
}
