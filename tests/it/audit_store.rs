//! Batches in, pages out, on a real PostgreSQL: nothing twice, nothing lost, nothing of another tenant.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use strongroom::audit::{
    Act, AuditQuery, Batch, ChainedEntry, CommitError, Committer, Drain, EntryDraft, EntrySink, Filter,
    Order, Outcome, PageSize, RecordObject, Scope, Scribe, Settled, Status,
};
use strongroom::config::AuditConfig;
use strongroom::domain::actor::{Actor, CertificateFacts, ClientKind, Identity, KeyKeeping};
use strongroom::domain::clock::{SystemClock, Timestamp};
use strongroom::domain::context::{OperationContext, RequestFacts};
use strongroom::domain::id::{CollectionName, EntryId, RecordId, RequestId, SubjectId, TenantId};
use strongroom::domain::purpose::Purpose;
use strongroom::domain::random::SystemRandom;
use strongroom::storage::Database;
use strongroom::storage::audit::{AuditReader, AuditStore, OUTBOX_INSERT};
use uuid::Uuid;

use crate::support::{ADMINISTRATOR, Databases, fresh_databases};

fn store_of(databases: &Databases, timeout_ms: u64) -> AuditStore {
    let mut config = databases.data_as("strongroom_app");
    config.timeout_ms = timeout_ms;
    AuditStore::new(Database::open(&config).unwrap())
}

fn reader_of(databases: &Databases) -> AuditReader {
    AuditReader::new(Database::open_for_searches(&databases.data_as("strongroom_audit_reader")).unwrap())
}

fn administrator_of(databases: &Databases) -> Database {
    Database::open(&databases.data_as(ADMINISTRATOR)).unwrap()
}

fn committer_on(store: AuditStore, commit_timeout_ms: u64) -> (Committer, Drain) {
    let scribe = Scribe::new(Arc::new(SystemClock), Arc::new(SystemRandom::default()), "room-1");
    let limits = AuditConfig {
        queue_entries: 4_096,
        batch_entries: 64,
        commit_timeout_ms,
        chains: 2,
        ..AuditConfig::default()
    };
    Committer::start(store, scribe, &limits).unwrap()
}

fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(number))
}

fn context(tenant: TenantId, client: &str) -> OperationContext {
    OperationContext {
        actor: Actor::new(
            Arc::new(Identity {
                client: client.into(),
                kind: ClientKind::App,
                tenant,
                roles: Arc::from([Arc::from("portal")]),
                acts_for: Arc::from([]),
                key: KeyKeeping::File,
            }),
            Arc::new(CertificateFacts {
                san: "urn:strongroom:client".into(),
                issuer_sha256: "00".repeat(32),
                serial: "01".into(),
                not_after: Timestamp::from_micros(0),
                sha256: "ab".repeat(32),
            }),
            "127.0.0.1:40000".parse().unwrap(),
        ),
        request: RequestFacts { id: RequestId::from_uuid(Uuid::nil()), trace: None, route: "/test" },
        purpose: Some(Purpose::Treat),
        at: Timestamp::from_micros(0),
        break_glass: OnceLock::new(),
    }
}

fn patient(number: u128) -> RecordObject {
    let id = RecordId::from_uuid(Uuid::from_u128(number));
    RecordObject::new(CollectionName::parse("patients").unwrap()).id(id)
}

fn read_of(tenant: TenantId, number: u128) -> EntryDraft {
    EntryDraft::of_request(&context(tenant, "portal"), Act::RecordRead, Outcome::SUCCESS)
        .subject(SubjectId::from_uuid(Uuid::from_u128(number)))
        .record(patient(number))
}

async fn insert_outbox(database: &Database, committer: &Committer, draft: &EntryDraft) {
    let entry = committer.outbox_entry(draft).unwrap();
    entry
        .commit_with(async |outbox| {
            let sql = format!("{OUTBOX_INSERT} VALUES ($1, $2, $3)");
            database
                .run("test", async |client| {
                    let (tenant, id) = (outbox.tenant_id(), outbox.entry_id());
                    Ok(client.execute(&sql, &[tenant.as_uuid(), id.as_uuid(), &outbox.bytes()]).await?)
                })
                .await
        })
        .await
        .unwrap();
}

fn json(entry: &[u8]) -> serde_json::Value {
    serde_json::from_slice(entry).unwrap()
}

fn ids(entries: &[Vec<u8>]) -> Vec<String> {
    entries.iter().map(|entry| json(entry)["id"].as_str().unwrap().to_owned()).collect()
}

/// Every page, joined.
async fn all_pages(reader: &AuditReader, mut query: AuditQuery) -> Vec<Vec<u8>> {
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

fn batch_of(src: Uuid, seqs: impl IntoIterator<Item = i64>, filler: u8) -> Batch {
    let entries = seqs
        .into_iter()
        .map(|seq| ChainedEntry {
            id: EntryId::from_uuid(Uuid::from_u128(
                u128::from(filler) << 64 | u128::from(seq.unsigned_abs()),
            )),
            tenant: None,
            seq,
            bytes: format!("{{\"n\":{seq}}}").into_bytes(),
            sha256: [filler; 32],
        })
        .collect();
    Batch { src, entries }
}

#[tokio::test]
async fn a_batch_is_stored_once_however_often_it_is_settled() {
    let databases = fresh_databases().await;
    let store = store_of(&databases, 3_000);
    let batch = batch_of(Uuid::from_u128(1), 1..=5, 7);
    store.append(&batch).await.unwrap();
    assert!(store.append(&batch).await.is_err(), "a first attempt must not pass over what is there");
    assert_eq!(store.settle(&batch).await, Ok(Settled::Stored));
    let never_tried = batch_of(Uuid::from_u128(1), 6..=9, 7);
    assert_eq!(store.settle(&never_tried).await, Ok(Settled::Stored));
    assert_eq!(store.settle(&never_tried).await, Ok(Settled::Stored));
    assert_eq!(all_pages(&reader_of(&databases), AuditQuery::new(Scope::Everything)).await.len(), 9);
}

#[tokio::test]
async fn a_place_held_by_other_bytes_is_a_fork_and_nothing_of_the_batch_stays() {
    let databases = fresh_databases().await;
    let store = store_of(&databases, 3_000);
    store.append(&batch_of(Uuid::from_u128(1), [2], 7)).await.unwrap();
    assert_eq!(store.settle(&batch_of(Uuid::from_u128(1), 1..=3, 8)).await, Ok(Settled::Forked));
    assert_eq!(all_pages(&reader_of(&databases), AuditQuery::new(Scope::Everything)).await.len(), 1);
}

#[tokio::test]
async fn many_at_once_are_all_there_in_unbroken_chains() {
    let databases = fresh_databases().await;
    let (committer, drain) = committer_on(store_of(&databases, 3_000), 10_000);
    let jobs: Vec<_> = (0..300_u128)
        .map(|number| {
            let committer = committer.clone();
            tokio::spawn(async move { committer.submit(vec![read_of(tenant(1), number)]).await })
        })
        .collect();
    for job in jobs {
        assert!(job.await.unwrap().is_ok());
    }
    drain.finish(Duration::from_secs(10)).await.unwrap();
    assert!(committer.status().committed_batches < 300, "batches form by themselves");
    let query = AuditQuery { size: PageSize::LARGEST, ..AuditQuery::new(Scope::Tenant(tenant(1))) };
    let mut chains: BTreeMap<String, Vec<(i64, Option<String>, String)>> = BTreeMap::new();
    for entry in all_pages(&reader_of(&databases), query).await {
        let digest = ring::digest::digest(&ring::digest::SHA256, &entry);
        let hex = digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let place = &json(&entry)["chain"];
        let link = (place["seq"].as_i64().unwrap(), place["prev"].as_str().map(str::to_owned), hex);
        chains.entry(place["src"].as_str().unwrap().to_owned()).or_default().push(link);
    }
    assert_eq!(chains.len(), 2, "both chains are used");
    assert_eq!(chains.values().map(Vec::len).sum::<usize>(), 300);
    for chain in chains.values_mut() {
        chain.sort();
        let mut end = (0, None);
        for (seq, prev, hex) in chain.drain(..) {
            assert_eq!((seq, &prev), (end.0 + 1, &end.1));
            end = (seq, Some(hex));
        }
    }
}

#[tokio::test]
async fn a_database_that_hangs_or_cuts_the_line_loses_nothing() {
    let databases = fresh_databases().await;
    let (committer, drain) = committer_on(store_of(&databases, 500), 10_000);
    assert!(committer.submit(vec![read_of(tenant(1), 1)]).await.is_ok());
    let administrator = administrator_of(&databases);
    let hung = administrator
        .transaction("test", async |transaction| {
            transaction.batch_execute("LOCK TABLE audit_entry IN ACCESS EXCLUSIVE MODE").await?;
            Ok(committer.submit(vec![read_of(tenant(1), 2)]).await)
        })
        .await
        .unwrap();
    assert_eq!(hung.err(), Some(CommitError::Unavailable));
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'strongroom_app'
               AND datname = current_database()";
    administrator.run("test", async |client| Ok(client.execute(cut, &[]).await?)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while committer.submit(vec![read_of(tenant(1), 3)]).await.is_err() {
        assert!(Instant::now() < deadline, "it does not recover");
    }
    drain.finish(Duration::from_secs(10)).await.unwrap();
    let entries = all_pages(&reader_of(&databases), AuditQuery::new(Scope::Everything)).await;
    let expected = usize::try_from(committer.status().committed_entries).unwrap();
    assert_eq!(entries.len(), expected);
    assert_eq!(ids(&entries).into_iter().collect::<HashSet<_>>().len(), expected, "none twice");
    assert!(entries.iter().any(|entry| json(entry)["subj"] == Uuid::from_u128(2).to_string()));
}

#[tokio::test]
async fn pages_run_over_reads_and_writes_in_either_order_without_gap_or_repeat() {
    let databases = fresh_databases().await;
    let (committer, _drain) = committer_on(store_of(&databases, 3_000), 10_000);
    let writer = Database::open(&databases.data_as("strongroom_app")).unwrap();
    for number in 0..12 {
        committer.submit(vec![read_of(tenant(1), number), read_of(tenant(2), number)]).await.unwrap();
        let mut write =
            EntryDraft::of_request(&context(tenant(1), "portal"), Act::RecordCreate, Outcome::SUCCESS);
        write = write.record(patient(number)).seals([1; 32]);
        insert_outbox(&writer, &committer, &write).await;
    }
    committer.submit(vec![EntryDraft::of_service(Act::ServiceStart, Outcome::SUCCESS)]).await.unwrap();
    let reader = reader_of(&databases);
    let expected =
        [(Scope::Tenant(tenant(1)), 24), (Scope::TenantAndService(tenant(1)), 25), (Scope::Everything, 37)];
    for (scope, count) in expected {
        for size in [1, 5, 24, 25, 100].map(|entries| PageSize::new(entries).unwrap()) {
            let oldest_first = AuditQuery { order: Order::OldestFirst, size, ..AuditQuery::new(scope) };
            let mut forward = ids(&all_pages(&reader, oldest_first).await);
            assert_eq!(forward.len(), count, "{scope:?} by {size:?}");
            assert!(forward.is_sorted());
            let newest_first = AuditQuery { size, ..AuditQuery::new(scope) };
            forward.reverse();
            assert_eq!(ids(&all_pages(&reader, newest_first).await), forward);
        }
    }
    let exact = AuditQuery { size: PageSize::new(24).unwrap(), ..AuditQuery::new(Scope::Tenant(tenant(1))) };
    assert!(reader.page(&exact).await.unwrap().next.is_none(), "a full last page has no next");
}

#[tokio::test]
async fn filters_find_what_they_name_within_the_scope() {
    let databases = fresh_databases().await;
    let (committer, _drain) = committer_on(store_of(&databases, 3_000), 10_000);
    let reader = reader_of(&databases);
    let before = Timestamp::from_micros(jiff::Timestamp::UNIX_EPOCH.as_microsecond());
    let refused = EntryDraft::of_request(
        &context(tenant(1), "billing"),
        Act::RecordRead,
        Outcome::refused("purpose_not_allowed"),
    )
    .record(patient(9));
    let many = (0..20).map(|number| read_of(tenant(1), number)).collect();
    committer.submit(many).await.unwrap();
    committer.submit(vec![refused, read_of(tenant(2), 9)]).await.unwrap();
    let found = async |filter: Filter| {
        let query = AuditQuery {
            filter,
            size: PageSize::new(2).unwrap(),
            ..AuditQuery::new(Scope::Tenant(tenant(1)))
        };
        all_pages(&reader, query).await.len()
    };
    let any = Filter::default;
    assert_eq!(found(any()).await, 21);
    assert_eq!(found(Filter { act: Some(Act::RecordRead), ..any() }).await, 21);
    assert_eq!(found(Filter { act: Some(Act::RecordDelete), ..any() }).await, 0);
    assert_eq!(found(Filter { status: Some(Status::Refused), ..any() }).await, 1);
    assert_eq!(found(Filter { actor: Some("billing".into()), ..any() }).await, 1);
    assert_eq!(found(Filter { subject: Some(SubjectId::from_uuid(Uuid::from_u128(9))), ..any() }).await, 1);
    assert_eq!(found(Filter { record: Some(RecordId::from_uuid(Uuid::from_u128(9))), ..any() }).await, 2);
    assert_eq!(found(Filter { collection: CollectionName::parse("patients"), ..any() }).await, 21);
    assert_eq!(found(Filter { purpose: Some(Purpose::Hpaymt), ..any() }).await, 0);
    let earlier = AuditQuery { until: Some(before), ..AuditQuery::new(Scope::Everything) };
    assert!(all_pages(&reader, earlier).await.is_empty());
    let since = AuditQuery { from: Some(before), ..AuditQuery::new(Scope::Everything) };
    assert_eq!(all_pages(&reader, since).await.len(), 22);
}

#[tokio::test]
async fn a_follower_sees_every_entry_once_also_one_that_is_committed_late() {
    let databases = fresh_databases().await;
    let (committer, _drain) = committer_on(store_of(&databases, 3_000), 10_000);
    let reader = reader_of(&databases);
    let administrator = administrator_of(&databases);
    let start = reader.position().await.unwrap();
    let sql = format!("{OUTBOX_INSERT} VALUES ($1, $2, $3)");
    let early_id = Uuid::from_u128(1);
    let (seen, position) = administrator
        .transaction("test", async |transaction| {
            // Begun first, with the lowest id, and committed last.
            let bytes: &[u8] = b"{\"id\":\"early\"}";
            transaction.execute(&sql, &[tenant(1).as_uuid(), &early_id, &bytes]).await?;
            committer.submit(vec![read_of(tenant(1), 1), read_of(tenant(2), 1)]).await.unwrap();
            reader.since(Scope::Tenant(tenant(1)), &start).await
        })
        .await
        .unwrap();
    assert_eq!(seen.len(), 1);
    let (late, position) = reader.since(Scope::Tenant(tenant(1)), &position).await.unwrap();
    assert_eq!(ids(&late), ["early"]);
    let (none, position) = reader.since(Scope::Tenant(tenant(1)), &position).await.unwrap();
    assert!(none.is_empty());
    committer.submit(vec![EntryDraft::of_service(Act::ServiceStop, Outcome::SUCCESS)]).await.unwrap();
    let (service, _) = reader.since(Scope::TenantAndService(tenant(1)), &position).await.unwrap();
    assert_eq!(service.len(), 1);
}
