//! `cargo bench --bench log -- --entries 10000000`: a large log. How fast its entries get their numbers, after an absence and
//! beside a transaction that stays open; how long each kind of query takes; how many bytes an entry takes up.
//!
//! PostgreSQL and the Vault API run as children in `.strongroom/bench-log`, which is emptied at the start and the end: 2 GB a million
//! entries.

#[path = "../../tests/it/support/large_log.rs"]
#[expect(clippy::unwrap_used, reason = "the tests' own support, where a fault ends the run")]
mod large_log;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use strongroom::audit::{Act, AuditQuery, Filter, Order, Scope, Status};
use strongroom::config::DatabaseConfig;
use strongroom::devstack::{ADMINISTRATOR, Cluster, ServerAddress, Site, SitePlan, Stack, StackOptions};
use strongroom::domain::clock::{Clock, SystemClock, Timestamp};
use strongroom::domain::id::{CollectionName, RecordId, SubjectId, TenantId};
use strongroom::domain::purpose::Purpose;
use strongroom::storage::{AuditReader, Database, SequenceStore};
use tokio_postgres::{Client, NoTls};

use crate::large_log::{TENANT, make_log, record, subject};

const ENTRIES: i64 = 1_000_000;
/// As the sequencer takes them.
const STEP: usize = 1_024;
const ROUNDS: usize = 21;
/// What issue and design ask of one page.
const TARGET: Duration = Duration::from_millis(50);
const TIMEOUT_MS: u64 = 600_000;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this as well, without the option.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(bench())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("log: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<()> {
    let entries = entries_asked()?;
    let folder = Folder::empty(std::env::current_dir()?.join(".strongroom/bench-log"))?;
    // Another part of the program may have installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stack = Stack::start(StackOptions::new(folder.0.join("stack"))).await?;
    let site = build_site(&stack, &folder).await?;
    let superuser = connect(&stack.data, &site.config.database.data.name).await?;

    // As in a log that has been kept before.
    let store = SequenceStore::new(Database::open(&patient(&site.config.database.audit_sequencer))?);
    ensure!(
        store.lead().await?.context("somebody else has the lead")?.take(1).await?.is_all,
        "the log is not empty"
    );

    let start = Instant::now();
    make_log(&superuser, entries, |made| {
        if made % 1_000_000 == 0 {
            say(&format!("{made} entries made after {:.0} s", start.elapsed().as_secs_f64()));
        }
    })
    .await;
    settle(&superuser, &["VACUUM ANALYZE audit_entry", "ANALYZE audit_outbox", "CHECKPOINT"]).await?;
    number(&store, &superuser, entries).await?;
    settle(&superuser, &["VACUUM ANALYZE audit_index", "ANALYZE audit_kind", "CHECKPOINT"]).await?;
    sizes(&superuser, entries).await?;
    queries(&site).await
}

/// One by one: VACUUM shares no transaction.
async fn settle(superuser: &Client, statements: &[&str]) -> Result<()> {
    for statement in statements {
        superuser.batch_execute(statement).await?;
    }
    Ok(())
}

fn entries_asked() -> Result<i64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--entries").skip(1);
    arguments.next().map_or(Ok(ENTRIES), |count| count.parse().context("--entries"))
}

async fn build_site(stack: &Stack, folder: &Folder) -> Result<Site> {
    let server = |cluster: &Cluster| ServerAddress {
        port: cluster.port(),
        administrator: ADMINISTRATOR.to_owned(),
        password_file: cluster.password_file().to_owned(),
    };
    let plan = SitePlan {
        directory: folder.0.join("site"),
        policy_directory: PathBuf::from("policy"),
        data: server(&stack.data),
        keys: server(&stack.keys),
        databases: ["strongroom_data", "strongroom_keys"].map(str::to_owned),
        vault_address: stack.vault.address().to_owned(),
        vault_token: stack.vault.root_token()?,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    Ok(Site::build(plan, |_| {}).await?)
}

/// All at once, as after a long absence: the first half beside a transaction that was open before and stays so.
async fn number(store: &SequenceStore, superuser: &Client, entries: i64) -> Result<()> {
    superuser.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
    let mut lead = store.lead().await?.context("somebody else has the lead")?;
    let half = u64::try_from(entries / 2)?;
    for (what, until) in [("beside an open transaction", half), ("with none open", u64::MAX)] {
        let (start, before) = (Instant::now(), lead.head().edge.size());
        let mut slowest = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let taken = lead.take(STEP).await?;
            slowest = slowest.max(begun.elapsed());
            if taken.is_all || lead.head().edge.size() >= until {
                break;
            }
        }
        let count = lead.head().edge.size() - before;
        let per_s = f64::from(u32::try_from(count)?) / start.elapsed().as_secs_f64();
        say(&format!(
            "numbered {count} entries {what}: {per_s:.0} entries/s, slowest step {:.0} ms",
            millis(slowest)
        ));
        superuser.batch_execute("COMMIT").await?;
    }
    ensure!(lead.head().edge.size() == u64::try_from(entries)?, "not every entry has a number");
    Ok(())
}

async fn sizes(superuser: &Client, entries: i64) -> Result<()> {
    let sql = "SELECT inhparent::regclass::text, (sum(pg_table_size(inhrelid)) / $1::bigint)::bigint,
        (sum(pg_indexes_size(inhrelid)) / $1::bigint)::bigint FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
        WHERE c.relnamespace = 'strongroom_log'::regnamespace AND c.relkind = 'r' AND inhparent <> 'audit_outbox'::regclass
        GROUP BY 1 ORDER BY 1";
    for row in superuser.query(sql, &[&entries]).await? {
        let (table, rows, indexes): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        say(&format!("{table}: {rows} bytes an entry, its indexes {indexes}"));
    }
    Ok(())
}

async fn queries(site: &Site) -> Result<()> {
    let reader = Database::open_for_searches(&patient(&site.config.database.audit_export))?;
    let reader = AuditReader::new(reader);
    let mut worst = Duration::ZERO;
    for (what, query) in questions() {
        let mut times = Vec::with_capacity(ROUNDS);
        let mut found = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let page = reader.page(&query).await?;
            times.push(start.elapsed());
            found = page.entries.len();
        }
        // The first one finds its pages on the disk, and has no plan.
        let first = times.remove(0);
        times.sort_unstable();
        let (middle, slowest) = (times.get(times.len() / 2), times.last());
        let (middle, slowest) = (middle.copied().unwrap_or_default(), slowest.copied().unwrap_or_default());
        worst = worst.max(middle);
        say(&format!(
            "{what}: {found} entries, {:.1} ms (first {:.1}, slowest {:.1})",
            millis(middle),
            millis(first),
            millis(slowest)
        ));
    }
    say(&format!("the slowest kind takes {:.2} of the target", worst.as_secs_f64() / TARGET.as_secs_f64()));
    Ok(())
}

fn questions() -> Vec<(&'static str, AuditQuery)> {
    let tenant = Scope::TenantAndService(TenantId::from_uuid(TENANT));
    let any = Filter::default;
    let day_us = 86_400_000_000;
    let long_ago = Timestamp::from_micros(SystemClock.now().as_micros() - 200 * day_us);
    let person = || Some("p-17".into());
    let of = |filter: Filter| AuditQuery { filter, ..AuditQuery::new(tenant) };
    let desk = || Filter { actor: Some("desk".into()), ..any() };
    vec![
        ("newest of a tenant", of(any())),
        ("a subject", of(Filter { subject: Some(SubjectId::from_uuid(subject(4_711))), ..any() })),
        ("a record", of(Filter { record: Some(RecordId::from_uuid(record(4_711))), ..any() })),
        ("a person", of(Filter { person: person(), ..any() })),
        ("a person's refusals", of(Filter { person: person(), status: Some(Status::Refused), ..any() })),
        (
            "a person and a record",
            of(Filter { person: person(), record: Some(RecordId::from_uuid(record(4_711))), ..any() }),
        ),
        ("an actor", of(desk())),
        ("an actor, oldest first", AuditQuery { order: Order::OldestFirst, ..of(desk()) }),
        ("an actor, 200 days ago", AuditQuery { until: Some(long_ago), ..of(desk()) }),
        ("a common act", of(Filter { act: Some(Act::RecordRead), ..any() })),
        ("a rare act", of(Filter { act: Some(Act::RecordHistory), ..any() })),
        ("an outcome", of(Filter { status: Some(Status::Refused), ..any() })),
        ("a purpose", of(Filter { purpose: Some(Purpose::Hoperat), ..any() })),
        (
            "a rare combination",
            of(Filter {
                act: Some(Act::RecordCreate),
                status: Some(Status::Refused),
                purpose: Some(Purpose::Treat),
                collection: CollectionName::parse("cards"),
                ..desk()
            }),
        ),
        ("nothing there", of(Filter { act: Some(Act::ServiceStart), ..any() })),
        ("an actor, of all tenants", AuditQuery { filter: desk(), ..AuditQuery::new(Scope::Everything) }),
    ]
}

/// As in the configuration, for statements that take their time.
fn patient(config: &DatabaseConfig) -> DatabaseConfig {
    DatabaseConfig { timeout_ms: TIMEOUT_MS, ..config.clone() }
}

async fn connect(cluster: &Cluster, database: &str) -> Result<Client> {
    let password = std::fs::read_to_string(cluster.password_file())?;
    let mut postgres = tokio_postgres::Config::new();
    postgres
        .host("127.0.0.1")
        .port(cluster.port())
        .user(ADMINISTRATOR)
        .password(password.trim())
        .dbname(database);
    let (client, connection) = postgres.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

struct Folder(PathBuf);

impl Folder {
    fn empty(path: PathBuf) -> Result<Self> {
        if path.exists() {
            std::fs::remove_dir_all(&path).context("emptying the bench's directory")?;
        }
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
