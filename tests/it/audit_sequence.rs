//! Every entry gets one number, whenever it becomes visible, and one sequencer at a time gives them.

use std::collections::{BTreeMap, HashSet};

use strongroom::audit::tiles::Edge;
use strongroom::audit::tree::TreeHash;
use strongroom::storage::{Database, Lead, SequenceStore, StorageError};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::large_log::make_log;
use crate::support::{Databases, administrator, eventually, fresh_databases};

fn store_of(databases: &Databases) -> SequenceStore {
    SequenceStore::new(Database::open(&databases.data_as("strongroom_sequencer")).unwrap())
}

async fn superuser(databases: &Databases) -> Client {
    administrator(&databases.data.name).await
}

/// An entry of a chain, and one of a write.
async fn insert(client: &Client, src: u128, seq: i64, id: u128) {
    let sql = "INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256) \
               VALUES ($1, $2, $3, $1, convert_to(($3::uuid)::text, 'UTF8'), sha256(''))";
    client.execute(sql, &[&Uuid::from_u128(src), &seq, &Uuid::from_u128(id)]).await.unwrap();
}

async fn insert_write(client: &Client, id: u128) {
    let sql = "INSERT INTO audit_outbox (tenant_id, entry_id, entry) VALUES ($1, $1, convert_to(($1::uuid)::text, 'UTF8'))";
    client.execute(sql, &[&Uuid::from_u128(id)]).await.unwrap();
}

/// The ids in the order of their numbers; numbers without a gap, leaves those of the entries, and the head the tree over them.
async fn order(client: &Client, store: &SequenceStore) -> Vec<u128> {
    let rows = client.query("SELECT idx, entry_id, leaf FROM audit_index ORDER BY idx", &[]).await.unwrap();
    let mut edge = Edge::default();
    for (row, place) in rows.iter().zip(0_i64..) {
        assert_eq!(row.get::<_, i64>(0), place);
        let leaf = TreeHash::of_leaf(row.get::<_, Uuid>(1).to_string().as_bytes());
        assert_eq!(row.get::<_, &[u8]>(2), leaf.as_bytes());
        edge.append(leaf);
    }
    assert_eq!(store.head().await.unwrap().edge, edge);
    let stored = store.entries(0, 1 << 20).await.unwrap();
    assert_eq!(stored.len(), rows.len());
    assert!(stored.iter().all(|stored| stored.entry.is_some() && stored.is_as_numbered()));
    rows.iter().map(|row| row.get::<_, Uuid>(1).as_u128()).collect()
}

async fn take_all(lead: &mut Lead, most: usize) -> usize {
    let mut count = 0;
    loop {
        let taken = lead.take(most).await.unwrap();
        count += taken.entries.len();
        if taken.is_all {
            return count;
        }
    }
}

#[tokio::test]
async fn an_entry_that_is_committed_late_is_taken_then_and_nobody_waits_for_it() {
    let databases = fresh_databases().await;
    let (store, early, late) =
        (store_of(&databases), superuser(&databases).await, superuser(&databases).await);
    let mut lead = store.lead().await.unwrap().unwrap();
    // Nothing of this transaction is visible, its ids are the lowest, and it lasts.
    late.batch_execute("BEGIN").await.unwrap();
    insert(&late, 1, 1, 10).await;
    insert_write(&late, 11).await;
    insert_write(&early, 20).await;
    insert(&early, 2, 1, 21).await;
    assert_eq!(take_all(&mut lead, 100).await, 2);
    assert_eq!(take_all(&mut lead, 100).await, 0);
    insert_write(&early, 22).await;
    assert_eq!(take_all(&mut lead, 100).await, 1);
    late.batch_execute("COMMIT").await.unwrap();
    insert_write(&early, 23).await;
    assert_eq!(take_all(&mut lead, 100).await, 3);
    assert_eq!(order(&early, &store).await, [20, 21, 22, 11, 10, 23]);
}

/// In steps that fit nowhere, with late commits between them and new leads: all of it once, chains in their order.
#[tokio::test]
async fn everything_is_taken_once_in_whatever_steps() {
    let databases = fresh_databases().await;
    let (store, client, late) =
        (store_of(&databases), superuser(&databases).await, superuser(&databases).await);
    let mut expected = HashSet::new();
    let mut lead = store.lead().await.unwrap().unwrap();
    let mut taken = 0;
    for round in 0..12_u128 {
        late.batch_execute("BEGIN").await.unwrap();
        for number in 0..20_u128 {
            let id = (round << 32) | number;
            // Ids fall while sequence numbers rise: the order is that of the chain.
            insert(&client, 1, i64::try_from(round * 20 + number).unwrap() + 1, (1 << 64) - id).await;
            insert_write(if number % 3 == 0 { &late } else { &client }, (2 << 64) | id).await;
            expected.extend([(1 << 64) - id, (2 << 64) | id]);
        }
        taken += lead.take(7).await.unwrap().entries.len();
        late.batch_execute("COMMIT").await.unwrap();
        taken += lead.take(7).await.unwrap().entries.len();
        if round % 4 == 3 {
            drop(lead);
            lead = next_lead(&store).await;
        }
    }
    taken += take_all(&mut lead, 7).await;
    assert_eq!(taken, expected.len());
    let order = order(&client, &store).await;
    assert_eq!(order.iter().copied().collect::<HashSet<_>>(), expected);
    let places: BTreeMap<u128, usize> = order.iter().copied().zip(0..).collect();
    let chain = client.query("SELECT entry_id FROM audit_entry ORDER BY seq", &[]).await.unwrap();
    let chain: Vec<usize> = chain.iter().map(|row| places[&row.get::<_, Uuid>(0).as_u128()]).collect();
    assert!(chain.is_sorted());
}

async fn next_lead(store: &SequenceStore) -> Lead {
    let mut lead = None;
    eventually("the lead is free", async || {
        lead = store.lead().await.unwrap();
        lead.is_some()
    })
    .await;
    lead.unwrap()
}

#[tokio::test]
async fn who_lost_the_lead_commits_nothing_more() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    let mut first = store.lead().await.unwrap().unwrap();
    assert!(store.lead().await.unwrap().is_none(), "the lead is taken");
    insert_write(&client, 1).await;
    // Its session ends, and with it its lock.
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    client.execute(sql, &[]).await.unwrap();
    let mut second = next_lead(&store).await;
    assert_eq!(second.head().epoch, first.head().epoch + 1);
    assert!(first.take(10).await.is_err());
    assert_eq!(take_all(&mut second, 10).await, 1);
    insert_write(&client, 2).await;
    // Whatever becomes of the lock, the epoch decides.
    client.execute("UPDATE audit_head SET epoch = epoch + 1", &[]).await.unwrap();
    assert!(matches!(second.take(10).await, Err(StorageError::Stale)));
    let now = second.head().published_at;
    assert!(matches!(second.publish("note".to_owned(), now).await, Err(StorageError::Stale)));
    assert_eq!(order(&client, &store).await, [1]);
}

/// As in a database that was loaded from a dump: transaction ids are counted anew, and the old ones are far ahead.
#[tokio::test]
async fn entries_are_found_when_transaction_ids_are_counted_anew() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    let mut lead = store.lead().await.unwrap().unwrap();
    insert_write(&client, 1).await;
    assert_eq!(take_all(&mut lead, 10).await, 1);
    // As it comes with a dump: without the guard, which keeps it from going ahead.
    let ahead = "SET LOCAL strongroom.audit_migration = 'yes'; \
        ALTER TABLE audit_head DISABLE TRIGGER audit_refuse_row; \
        UPDATE audit_head SET scan_from = '4000000000', seen = '4000000000:4000000000:'; \
        ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_refuse_row";
    client.batch_execute(&format!("BEGIN; {ahead}; COMMIT")).await.unwrap();
    insert_write(&client, 2).await;
    assert_eq!(take_all(&mut lead, 1).await, 1);
    assert_eq!(order(&client, &store).await, [1, 2]);
}

/// Loaded into a cluster that had counted less, and has counted on since: what was written before anybody led again has an id
/// that the old counting was past.
#[tokio::test]
async fn entries_are_found_in_another_cluster_that_has_counted_on() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    let mut lead = store.lead().await.unwrap().unwrap();
    insert_write(&client, 1).await;
    assert_eq!(take_all(&mut lead, 10).await, 1);
    let early = "INSERT INTO audit_outbox (tenant_id, entry_id, entry, xid)
        SELECT u, u, convert_to(u::text, 'UTF8'), '3' FROM (VALUES ($1::uuid)) AS v (u)";
    client.execute(early, &[&Uuid::from_u128(2)]).await.unwrap();
    assert_eq!(take_all(&mut lead, 10).await, 0, "in this cluster nobody has that id any more");
    client.batch_execute("UPDATE audit_head SET cluster = '7'").await.unwrap();
    assert_eq!(take_all(&mut lead, 1).await, 1);
    assert_eq!(order(&client, &store).await, [1, 2]);
    let cluster = "SELECT cluster = system_identifier::text FROM audit_head, pg_control_system()";
    assert!(client.query_one(cluster, &[]).await.unwrap().get::<_, bool>(0));
    client.execute(early, &[&Uuid::from_u128(3)]).await.unwrap();
    assert_eq!(take_all(&mut lead, 10).await, 0, "it is looked at once");
}

/// However long the log is, a step looks at a stretch of it: all of a long one does not fit a statement's time.
#[tokio::test]
async fn in_another_cluster_a_long_log_is_looked_at_in_stretches() {
    const ENTRIES: i64 = 20_000;
    let databases = fresh_databases().await;
    let (store, client, late) =
        (store_of(&databases), superuser(&databases).await, superuser(&databases).await);
    make_log(&client, ENTRIES, |_| {}).await;
    let mut lead = store.lead().await.unwrap().unwrap();
    assert_eq!(take_all(&mut lead, 1_024).await, 20_000);
    assert_eq!(take_all(&mut lead, 1_024).await, 0);

    // What was never numbered, below all that was; what is committed during the round, below and above of where it is.
    let early = "INSERT INTO audit_outbox (tenant_id, entry_id, entry, xid)
        SELECT u, u, convert_to(u::text, 'UTF8'), '3' FROM (VALUES ($1::uuid)) AS v (u)";
    client.execute(early, &[&Uuid::from_u128(1)]).await.unwrap();
    client.batch_execute("UPDATE audit_head SET cluster = '7'").await.unwrap();
    late.batch_execute("BEGIN").await.unwrap();
    insert_write(&late, 2).await;
    insert_write(&client, 3).await;
    let mut steps = Vec::new();
    loop {
        let taken = lead.take(1_024).await.unwrap();
        steps.push(taken.entries.len());
        if taken.is_all {
            break;
        }
        if steps.len() == 2 {
            insert_write(&client, 4).await;
        }
    }
    assert_eq!(steps, [1, 0, 1, 1], "of 8,192 entries each, and what came meanwhile");
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(take_all(&mut lead, 1_024).await, 1);
    let rows = client.query("SELECT entry_id FROM audit_index WHERE idx >= 20000 ORDER BY idx", &[]).await;
    let ids: Vec<u128> = rows.unwrap().iter().map(|row| row.get::<_, Uuid>(0).as_u128()).collect();
    assert_eq!(ids, [1, 3, 4, 2]);
    // A lead that goes in the middle of a round leaves no more than a new round behind.
    client.batch_execute("UPDATE audit_head SET cluster = '7'").await.unwrap();
    assert!(!lead.take(1_024).await.unwrap().is_all);
    insert_write(&client, 5).await;
    drop(lead);
    let mut lead = next_lead(&store).await;
    assert_eq!(take_all(&mut lead, 1_024).await, 1);
    assert_eq!(lead.head().edge.size(), 20_005);
}

/// Stretches go by the numbers of transactions, and not by how these are written.
#[tokio::test]
async fn a_stretch_goes_on_where_numbers_get_longer() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    // Ahead of all ids that this cluster has given, as with a dump.
    let ahead = "INSERT INTO audit_outbox (tenant_id, entry_id, entry, xid)
        SELECT u, u, convert_to(u::text, 'UTF8'), n::text::xid8
        FROM (SELECT n, gen_random_uuid() FROM generate_series(99990000, 100011999) AS n) AS made (n, u)";
    assert_eq!(client.execute(ahead, &[]).await.unwrap(), 22_000);
    let mut lead = store.lead().await.unwrap().unwrap();
    assert_eq!(take_all(&mut lead, 1_024).await, 22_000);
    client.batch_execute("UPDATE audit_head SET cluster = '7'").await.unwrap();
    let mut stretches = 1;
    while !lead.take(1_024).await.unwrap().is_all {
        stretches += 1;
    }
    assert_eq!(stretches, 4, "three of a round, and what may have come meanwhile");
}

/// Where an id stands in both tables one of them has the number, numbering goes on, and the other is found.
#[tokio::test]
async fn an_id_that_stands_twice_holds_nothing_up() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    let mut lead = store.lead().await.unwrap().unwrap();
    assert_eq!(store.unnumbered(Uuid::nil(), 100).await.unwrap().count, 0);
    client.batch_execute("BEGIN").await.unwrap();
    insert_write(&client, 10).await;
    insert(&client, 1, 1, 10).await;
    insert(&client, 1, 2, 11).await;
    client.batch_execute("COMMIT").await.unwrap();
    let taken = lead.take(10).await.unwrap();
    assert_eq!((taken.entries.len(), taken.refused, taken.is_all), (2, 1, true));
    insert_write(&client, 11).await;
    insert_write(&client, 12).await;
    assert_eq!(take_all(&mut lead, 10).await, 1);
    assert_eq!(order(&client, &store).await, [10, 11, 12]);
    assert_eq!(store.unnumbered(Uuid::nil(), 100).await.unwrap().count, 2);
}

/// What no file has room for gets no number, holds nothing up, and is found.
#[tokio::test]
async fn an_entry_that_is_larger_than_any_holds_nothing_up() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    let mut lead = store.lead().await.unwrap().unwrap();
    insert_write(&client, 1).await;
    let large = "INSERT INTO audit_outbox (tenant_id, entry_id, entry)
        SELECT u, u, convert_to(repeat('x', 65536), 'UTF8') FROM unnest($1::uuid[]) AS v (u)";
    assert_eq!(take_all(&mut lead, 2).await, 1);
    // As many of one transaction as a step takes, and more.
    let ids: Vec<Uuid> = (10..15).map(Uuid::from_u128).collect();
    client.execute(large, &[&ids]).await.unwrap();
    insert_write(&client, 3).await;
    let taken = lead.take(2).await.unwrap();
    assert_eq!((taken.entries.len(), taken.refused, taken.is_all), (0, 2, false));
    assert_eq!(take_all(&mut lead, 2).await, 1);
    assert_eq!(order(&client, &store).await, [1, 3]);
    // Once no transaction of the cluster is open that was open then.
    let mut next = 100;
    eventually("they are found", async || {
        next += 1;
        insert_write(&client, next).await;
        take_all(&mut lead, 2).await;
        store.unnumbered(Uuid::nil(), 100).await.unwrap().count == 5
    })
    .await;
}

/// An id that no transaction has had yet is nobody's: it gets no number, and is found.
#[tokio::test]
async fn an_entry_from_the_future_is_found() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    let mut lead = store.lead().await.unwrap().unwrap();
    insert_write(&client, 1).await;
    assert_eq!(take_all(&mut lead, 10).await, 1);
    let ahead = "INSERT INTO audit_outbox (tenant_id, entry_id, entry, xid)
        SELECT u, u, convert_to(u::text, 'UTF8'), '9000000000' FROM (VALUES ($1::uuid)) AS v (u)";
    client.execute(ahead, &[&Uuid::from_u128(2)]).await.unwrap();
    assert_eq!(take_all(&mut lead, 10).await, 0);
    assert_eq!(store.unnumbered(Uuid::nil(), 100).await.unwrap().count, 1);
}

#[tokio::test]
async fn a_head_that_somebody_else_moved_is_not_built_upon() {
    let databases = fresh_databases().await;
    let (store, client) = (store_of(&databases), superuser(&databases).await);
    let mut lead = store.lead().await.unwrap().unwrap();
    insert_write(&client, 1).await;
    assert_eq!(take_all(&mut lead, 10).await, 1);
    client.execute("UPDATE audit_head SET edge = sha256('')", &[]).await.unwrap();
    insert_write(&client, 2).await;
    assert!(matches!(lead.take(10).await, Err(StorageError::Stale)));
}
