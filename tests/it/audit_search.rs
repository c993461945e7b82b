//! What an auditor searches for is found, all of it and nothing else, with a number or without one; and a large log is not
//! read through for it.

use std::sync::Arc;

use strongroom::audit::{Act, AuditQuery, ChainEnd, Cursor, Filter, Order, PageSize, Scope, Status};
use strongroom::config::DatabaseConfig;
use strongroom::domain::clock::{Clock, SystemClock, Timestamp};
use strongroom::domain::id::{CollectionName, EntryId, RecordId, SubjectId, TenantId};
use strongroom::domain::purpose::Purpose;
use strongroom::storage::{AuditReader, Database, Lead, SequenceStore};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::large_log::{TENANT, make_log, make_months, record, subject};
use crate::support::{Databases, Rig, administrator, eventually, fresh_databases};

fn reader_of(databases: &Databases) -> AuditReader {
    let mut config = databases.data_as("strongroom_audit_reader");
    config.timeout_ms = 30_000;
    AuditReader::new(Database::open_for_searches(&config).unwrap())
}

async fn number_all(databases: &Databases) {
    let mut config = databases.data_as("strongroom_sequencer");
    config.timeout_ms = 30_000;
    number_all_of(&SequenceStore::new(Database::open(&config).unwrap())).await;
}

/// Under a lead of its own: one that is idle for long ends. The one before may be ending still.
async fn number_all_of(store: &SequenceStore) -> Lead {
    let mut taken = None;
    eventually("the lead is free", async || {
        taken = store.lead().await.unwrap();
        taken.is_some()
    })
    .await;
    let mut lead = taken.unwrap();
    while !lead.take(1_024).await.unwrap().is_all {}
    lead
}

const ACTORS: [&str; 3] = ["portal", "billing", "desk"];
const PURPOSES: [&str; 2] = ["TREAT", "HPAYMT"];
const ACTS: [&str; 3] = ["record.read", "record.update", "record.delete"];

/// Entries in all combinations, of two tenants and of the service, every third of a write; numbers `from` to `to`.
async fn insert(client: &Client, numbers: std::ops::Range<u128>) {
    for number in numbers {
        let of = |many: usize, salt: u128| usize::try_from(number / salt).unwrap() % many;
        let (act, actor, purpose) = (ACTS[of(3, 1)], ACTORS[of(3, 3)], PURPOSES[of(2, 2)]);
        let status = if number % 7 == 0 { "refused" } else { "success" };
        let collection = if number % 5 == 0 { "cards" } else { "patients" };
        let (patient, person) = (Uuid::from_u128(number % 4), number % 6);
        // A patient is its own subject, and has cards.
        let record = if collection == "cards" { Uuid::from_u128(4 + number % 4) } else { patient };
        let entry = format!(
            "{{\"act\":\"{act}\",\"n\":{number},\"obj\":[{{\"collection\":\"{collection}\",\"record\":\"{record}\"}}],\
             \"out\":{{\"status\":\"{status}\"}},\"purpose\":\"{purpose}\",\"subj\":\"{patient}\",\
             \"who\":{{\"on_behalf_of\":{{\"uid\":\"p-{person}\"}},\"uid\":\"{actor}\"}}}}"
        );
        let tenant = Uuid::from_u128(number % 3);
        // Ids neither rise nor fall with the order in which entries come.
        let id = Uuid::from_u128(0x019b_76da_0000_7000_8000_0000_0000_0000 | (number * 7919 % 1_000));
        if number % 3 == 2 {
            let sql = "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $2, $3)";
            client.execute(sql, &[&tenant, &id, &entry.as_bytes()]).await.unwrap();
        } else {
            let sql = "INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
                VALUES ($1, 1, $2, $3, $4, sha256($4))";
            client.execute(sql, &[&Uuid::from_u128(number), &id, &tenant, &entry.as_bytes()]).await.unwrap();
        }
    }
}

/// Every filter there is, alone and together with others.
fn filters() -> Vec<Filter> {
    let patient = Uuid::from_u128(2);
    let parts: [Filter; 9] = [
        Filter { act: Some(Act::RecordUpdate), ..Filter::default() },
        Filter { status: Some(Status::Refused), ..Filter::default() },
        Filter { actor: Some("billing".into()), ..Filter::default() },
        Filter { collection: CollectionName::parse("patients"), ..Filter::default() },
        Filter { purpose: Some(Purpose::Treat), ..Filter::default() },
        Filter { person: Some("p-2".into()), ..Filter::default() },
        Filter { subject: Some(SubjectId::from_uuid(patient)), ..Filter::default() },
        Filter { record: Some(RecordId::from_uuid(patient)), ..Filter::default() },
        Filter { record: Some(RecordId::from_uuid(Uuid::from_u128(6))), ..Filter::default() },
    ];
    let with = |a: &Filter, b: &Filter| Filter {
        act: a.act.or(b.act),
        status: a.status.or(b.status),
        actor: a.actor.clone().or(b.actor.clone()),
        collection: a.collection.clone().or(b.collection.clone()),
        purpose: a.purpose.or(b.purpose),
        person: a.person.clone().or(b.person.clone()),
        subject: a.subject.or(b.subject),
        record: a.record.clone().or(b.record.clone()),
    };
    let mut all: Vec<Filter> = parts.iter().flat_map(|a| parts.iter().map(|b| with(a, b))).collect();
    all.push(parts.iter().fold(Filter::default(), |all, part| with(&all, part)));
    all.push(Filter { actor: Some("nobody".into()), ..Filter::default() });
    all
}

/// What must be found: every entry read, the filter applied here.
async fn expected(client: &Client, scope: Scope, filter: &Filter) -> Vec<Vec<u8>> {
    let sql = "SELECT tenant_id, entry FROM (SELECT entry_id, tenant_id, entry FROM audit_entry
        UNION ALL SELECT entry_id, tenant_id, entry FROM audit_outbox) AS every ORDER BY entry_id DESC";
    let wanted = filter.to_containment().unwrap_or_default();
    let rows = client.query(sql, &[]).await.unwrap();
    let in_scope = |tenant: Uuid| match scope {
        Scope::Tenant(one) => *one.as_uuid() == tenant,
        Scope::TenantAndService(one) => *one.as_uuid() == tenant || tenant.is_nil(),
        Scope::Everything => true,
    };
    let in_scope = rows.iter().filter(|row| in_scope(row.get(0)));
    let entries = in_scope.map(|row| row.get::<_, Vec<u8>>(1));
    entries.filter(|entry| contains(&serde_json::from_slice(entry).unwrap(), &wanted)).collect()
}

fn contains(entry: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (entry, wanted) {
        (Object(entry), Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| entry.get(name).is_some_and(|entry| contains(entry, wanted)))
        }
        (Array(entry), Array(wanted)) => {
            wanted.iter().all(|wanted| entry.iter().any(|entry| contains(entry, wanted)))
        }
        (entry, wanted) => entry == wanted,
    }
}

async fn found(reader: &AuditReader, mut query: AuditQuery) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    loop {
        let page = reader.page(&query).await.unwrap();
        assert!(page.entries.len() <= usize::from(query.size.get()));
        entries.extend(page.entries);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return entries,
        }
    }
}

/// With all numbers given, with some, and with none; of one tenant, with the service's own, and of everybody; in both orders
/// and by pages of any size.
#[tokio::test]
async fn every_filter_finds_all_that_it_names_and_nothing_else() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    let reader = reader_of(&databases);
    insert(&client, 0..60).await;
    let one = TenantId::from_uuid(Uuid::from_u128(1));
    for step in ["none numbered", "some numbered", "all numbered"] {
        let scopes = [Scope::Tenant(one), Scope::TenantAndService(one), Scope::Everything];
        for (filter, scope) in
            filters().into_iter().flat_map(|filter| scopes.map(|scope| (filter.clone(), scope)))
        {
            let mut all = expected(&client, scope, &filter).await;
            for order in [Order::NewestFirst, Order::OldestFirst] {
                for size in [3, 100] {
                    let size = PageSize::new(size).unwrap();
                    let query = AuditQuery { filter: filter.clone(), order, size, ..AuditQuery::new(scope) };
                    assert_eq!(found(&reader, query).await, all, "{step}: {filter:?} {scope:?} {order:?}");
                }
                all.reverse();
            }
        }
        if step == "none numbered" {
            number_all(&databases).await;
            insert(&client, 60..120).await;
        } else {
            number_all(&databases).await;
        }
    }
}

/// A page's `next` leads on from where it ended, whatever was written and numbered meanwhile.
#[tokio::test]
async fn a_cursor_is_good_while_the_log_grows_and_gets_its_numbers() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    let reader = reader_of(&databases);
    insert(&client, 0..60).await;
    let filter = Filter { person: Some("p-2".into()), ..Filter::default() };
    let before = expected(&client, Scope::Everything, &filter).await;
    let size = PageSize::new(2).unwrap();
    let mut query = AuditQuery { filter, size, ..AuditQuery::new(Scope::Everything) };
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for round in 0_u128.. {
        let page = reader.page(&query).await.unwrap();
        seen.extend(page.entries);
        let Some(next) = page.next else { break };
        assert_eq!(Cursor::parse(&next.to_text()), Some(next));
        query.after = Some(next);
        insert(&client, 60 + round * 5..65 + round * 5).await;
        if round % 2 == 0 {
            number_all(&databases).await;
        }
    }
    assert!(before.iter().all(|entry| seen.iter().filter(|other| *other == entry).count() == 1));
}

/// An entry whose bytes are none is numbered like any other, and holds no search up that does not concern it.
#[tokio::test]
async fn bytes_that_are_no_entry_are_numbered_and_do_not_hide_others() {
    let databases = fresh_databases().await;
    let client = administrator(&databases.data.name).await;
    let reader = reader_of(&databases);
    let sql = "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $1, '\\xff')";
    client.execute(sql, &[&Uuid::from_u128(1)]).await.unwrap();
    // Nor does one with words that no index takes.
    let sql = "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $1, $2)";
    let long: String = (0..9_000_u32).map(|at| char::from(b'a' + (at.wrapping_mul(at) % 23) as u8)).collect();
    for (id, act) in [(2_u128, "\\u0000"), (3, long.as_str())] {
        let entry = format!("{{\"act\":\"{act}\"}}").into_bytes();
        client.execute(sql, &[&Uuid::from_u128(id), &entry]).await.unwrap();
    }
    insert(&client, 0..12).await;
    let filter = Filter { act: Some(Act::RecordRead), ..Filter::default() };
    let query = AuditQuery { filter, ..AuditQuery::new(Scope::Everything) };
    assert_eq!(found(&reader, query.clone()).await.len(), 4);
    number_all(&databases).await;
    assert_eq!(found(&reader, query).await.len(), 4);
}

/// What a query on a large log does, as PostgreSQL tells it (`auto_explain`): no table is read through, and with a time
/// only the months that it names are looked at.
#[tokio::test]
async fn a_large_log_is_not_read_through() {
    const ENTRIES: i64 = 300_000;
    let rig = Rig::start("large-log").await;
    let databases = rig.databases();
    let superuser = rig.data().await;
    let mut config = databases.data.clone();
    config.user = "strongroom_sequencer".to_owned();
    config.password_file = rig.secret("sequencer.password");
    config.timeout_ms = 60_000;
    let watch = EarlyWatch::begin(&superuser, &config).await;
    make_log(&superuser, ENTRIES, |_| {}).await;
    watch.reads_what_it_asks_for(&superuser, &rig).await;
    let store = SequenceStore::new(Database::open(&config).unwrap());
    let lead = number_all_of(&store).await;
    assert_eq!(lead.head().edge.size(), ENTRIES.unsigned_abs());
    superuser
        .batch_execute("ANALYZE audit_entry; ANALYZE audit_outbox; ANALYZE audit_index; ANALYZE audit_kind")
        .await
        .unwrap();
    explain(&superuser, "strongroom_audit_reader").await;
    config.user = "strongroom_audit_reader".to_owned();
    config.password_file = rig.secret("audit.password");
    let reader = AuditReader::new(Database::open_for_searches(&config).unwrap());

    let tenant = Scope::TenantAndService(TenantId::from_uuid(TENANT));
    let week = 7 * 86_400_000_000;
    let until = Timestamp::from_micros(SystemClock.now().as_micros() - 8 * week);
    let from = Timestamp::from_micros(until.as_micros() - week);
    for (filter, least) in questions() {
        for times in [None, Some((from, until))] {
            let mut query = AuditQuery { filter: filter.clone(), ..AuditQuery::new(tenant) };
            (query.from, query.until) = times.unzip();
            let before = plans(&rig, "::page").len();
            let page = reader.page(&query).await.unwrap();
            let plans = plans(&rig, "::page");
            let plan = &plans[before..];
            assert_eq!(plan.len(), 1, "{filter:?}: {plan:?}");
            if times.is_none() {
                assert!(page.entries.len() >= least, "{filter:?}: {}", page.entries.len());
            }
            // The head is one row.
            let whole = plan[0].lines().find(|line| {
                line.contains("Seq Scan on audit_") && !line.contains("Seq Scan on audit_head ")
            });
            assert_eq!(whole, None, "{filter:?}: {}", plan[0]);
            let months = months_of(&plan[0]);
            let most = if times.is_some() { 2 } else { usize::MAX };
            assert!((1..=most).contains(&months.len()), "{filter:?}: {months:?} in {}", plan[0]);
        }
    }
}

/// Filters, and how many entries each finds at least.
fn questions() -> Vec<(Filter, usize)> {
    let any = Filter::default;
    let patient = 4_711;
    vec![
        (any(), 100),
        (Filter { subject: Some(SubjectId::from_uuid(subject(patient))), ..any() }, 1),
        (Filter { record: Some(RecordId::from_uuid(record(patient))), ..any() }, 1),
        (Filter { person: Some("p-17".into()), ..any() }, 50),
        (Filter { person: Some("p-17".into()), status: Some(Status::Refused), ..any() }, 0),
        (Filter { actor: Some(Arc::from("desk")), ..any() }, 100),
        (Filter { act: Some(Act::RecordHistory), ..any() }, 5),
        (
            Filter {
                act: Some(Act::RecordList),
                status: Some(Status::Refused),
                purpose: Some(Purpose::Hpaymt),
                ..any()
            },
            1,
        ),
    ]
}

/// Sessions of this role that begin from now on leave their plans in the server's log.
async fn explain(superuser: &Client, role: &str) {
    let settings = ["log_min_duration = 0", "log_analyze = on", "log_nested_statements = on"]
        .map(|each| format!("auto_explain.{each}"));
    let preload = ["session_preload_libraries = 'auto_explain'".to_owned()];
    for setting in preload.into_iter().chain(settings) {
        superuser.batch_execute(&format!("ALTER ROLE {role} SET {setting}")).await.unwrap();
    }
}

/// What watches over chains, with a plan that was made while the log was empty, and is kept.
struct EarlyWatch(SequenceStore);

impl EarlyWatch {
    async fn begin(superuser: &Client, sequencer: &DatabaseConfig) -> Self {
        make_months(superuser).await;
        explain(superuser, "strongroom_sequencer").await;
        let one = DatabaseConfig { pool_connections: 1, ..sequencer.clone() };
        let store = SequenceStore::new(Database::open(&one).unwrap());
        let nothing =
            ChainEnd { src: Uuid::nil(), seq: 1, sha256: [0; 32], id: EntryId::from_uuid(Uuid::nil()) };
        // The sixth time it is planned for whatever may be asked (PostgreSQL, PREPARE).
        for _ in 0..8 {
            assert!(store.lacks(std::slice::from_ref(&nothing)).await.unwrap());
        }
        let others = "ALTER ROLE strongroom_sequencer RESET session_preload_libraries";
        superuser.batch_execute(others).await.unwrap();
        Self(store)
    }

    async fn reads_what_it_asks_for(&self, superuser: &Client, rig: &Rig) {
        let sql = "SELECT src, seq, sha256, entry_id FROM audit_entry ORDER BY entry_id DESC LIMIT 2";
        let rows = superuser.query(sql, &[]).await.unwrap();
        let ends: Vec<ChainEnd> = rows
            .iter()
            .map(|row| {
                let sha256 = row.get::<_, Vec<u8>>(2).try_into().unwrap();
                ChainEnd { src: row.get(0), seq: row.get(1), sha256, id: EntryId::from_uuid(row.get(3)) }
            })
            .collect();
        assert!(!self.0.lacks(&ends).await.unwrap(), "both are stored");
        let plans = plans(rig, "watch::lacks");
        assert_eq!(plans.len(), 9);
        let plan = plans.last().unwrap();
        let read = rows_read(plan);
        assert!(read <= ends.len(), "{read} entries for {}: {plan}", ends.len());
    }
}

/// How many entries the scans of a plan gave or threw away.
fn rows_read(plan: &str) -> usize {
    let mut read = 0;
    let mut is_of_entries = false;
    let number = |text: &str, behind: &str| -> Option<usize> {
        let rest = text.split_once(behind)?.1;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    for line in plan.lines() {
        if let Some((_, actual)) = line.split_once("(actual time=") {
            // A bitmap of places is no entry; what is read at them is on the line of the heap.
            is_of_entries = line.contains(" on audit_entry") && !line.contains("Bitmap Index Scan");
            let loops = number(actual, "loops=").unwrap_or(1);
            read += if is_of_entries { number(actual, "rows=").unwrap() * loops } else { 0 };
        } else if is_of_entries {
            read += number(line, "Rows Removed by Filter: ").unwrap_or(0);
        }
    }
    read
}

/// The plans of these statements, as far as the server's log has come.
fn plans(rig: &Rig, of: &str) -> Vec<String> {
    let log = std::fs::read_to_string(rig.stack.data.log_file()).unwrap();
    let each = log.split("LOG:  duration:").skip(1);
    each.filter(|plan| plan.contains(&format!("{of} */"))).map(str::to_owned).collect()
}

/// The months whose entries or numbers were looked at. What has no number yet is looked for in all.
fn months_of(plan: &str) -> std::collections::BTreeSet<String> {
    let mut months = std::collections::BTreeSet::new();
    for line in plan.lines().filter(|line| !line.contains("never executed") && !line.contains("_xid_idx")) {
        let Some((_, rest)) = line.split_once(" on audit_") else { continue };
        let name = rest.split_whitespace().next().unwrap();
        // A table, or an index of it: 2026_11, 2026_11_person_entry_id_kind_idx.
        let month =
            name.split_once('_').and_then(|(_, rest)| rest.get(..7)).filter(|month| month.starts_with("20"));
        months.extend(month.map(str::to_owned));
    }
    months
}
