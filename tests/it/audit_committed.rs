//! What a process commits gets its number without being read, as it was committed; what others commit is read.

use std::sync::Arc;

use strongroom::audit::tree::TreeHash;
use strongroom::audit::{Committer, Drain, Scribe};
use strongroom::config::AuditConfig;
use strongroom::domain::clock::SystemClock;
use strongroom::domain::random::SystemRandom;
use strongroom::storage::audit::{AuditStore, OUTBOX_INSERT};
use strongroom::storage::{Database, Lead, SequenceStore};
use tokio_postgres::Client;

use crate::audit_attacks::around_the_guards;
use crate::support::log::{draft, written};
use crate::support::{Databases, administrator, fresh_databases};

/// A process that writes to the log.
struct Process {
    committer: Committer,
    _drain: Drain,
    database: Database,
}

impl Process {
    fn new(databases: &Databases, instance: &str) -> Self {
        let database = || Database::open(&databases.data_as("strongroom_app")).unwrap();
        let scribe = Scribe::new(Arc::new(SystemClock), Arc::new(SystemRandom::default()), instance);
        let limits = AuditConfig { chains: 1, ..AuditConfig::default() };
        let (committer, drain) = Committer::start(AuditStore::new(database()), scribe, &limits).unwrap();
        Self { committer, _drain: drain, database: database() }
    }

    async fn read(&self, entries: usize) {
        self.committer.submit((1..=entries).map(draft).collect()).await.unwrap();
    }

    async fn write(&self) {
        let sql = format!("{OUTBOX_INSERT} VALUES ($1, $2, $3)");
        let entry = self.committer.outbox_entry(&written(1)).unwrap();
        let inserted = entry.commit_with(async |outbox| {
            let (tenant, id) = (outbox.tenant_id(), outbox.entry_id());
            self.database
                .run("test", async |client| {
                    Ok(client.execute(&sql, &[tenant.as_uuid(), id.as_uuid(), &outbox.bytes()]).await?)
                })
                .await
        });
        inserted.await.unwrap();
    }
}

struct Stand {
    client: Client,
    store: SequenceStore,
    lead: Lead,
    own: Process,
    other: Process,
}

impl Stand {
    async fn new() -> Self {
        let databases = fresh_databases().await;
        let store = SequenceStore::new(Database::open(&databases.data_as("strongroom_sequencer")).unwrap());
        let own = Process::new(&databases, "room-1");
        let mut lead = store.lead().await.unwrap().unwrap();
        lead.feed(own.committer.committed());
        let client = administrator(&databases.data.name).await;
        Self { client, store, lead, own, other: Process::new(&databases, "room-2") }
    }

    /// All that there is, by steps of `most`: the bytes that got numbers.
    async fn number(&mut self, most: usize) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        loop {
            let taken = self.lead.take(most).await.unwrap();
            for entry in taken.entries {
                assert_eq!(entry.leaf, TreeHash::of_leaf(&entry.bytes));
                entries.push(entry.bytes);
            }
            if taken.is_all {
                return entries;
            }
        }
    }

    /// What is stored under the numbers from `first` on, and whether each is what got the number.
    async fn stored(&self, first: u64) -> Vec<(Vec<u8>, bool)> {
        let stored = self.store.entries(first, 1 << 20).await.unwrap();
        stored.into_iter().map(|stored| (stored.entry.clone().unwrap(), stored.is_as_numbered())).collect()
    }

    /// As whoever owns the database.
    async fn edit(&self, sql: &str) {
        let edit = around_the_guards(&["audit_entry", "audit_outbox"], &format!("{sql};"));
        self.client.batch_execute(&edit).await.unwrap();
    }
}

#[tokio::test]
async fn an_entry_that_is_edited_before_it_has_a_number_gets_it_as_it_was_committed() {
    let mut stand = Stand::new().await;
    // The first step reads what it finds, those after it only what is not at hand.
    for first in [0, 4] {
        stand.own.read(3).await;
        stand.own.write().await;
        let sql = "UPDATE audit_entry SET entry = entry || 'x'; UPDATE audit_outbox SET entry = entry || 'x'";
        stand.edit(sql).await;
        let numbered = stand.number(100).await;
        let stored = stand.stored(first).await;
        assert_eq!((numbered.len(), stored.len()), (4, 4));
        for (own, (stored, is_as_numbered)) in numbered.iter().zip(&stored) {
            assert!(stored.starts_with(own) && stored.len() > own.len() && !is_as_numbered);
        }
    }
}

#[tokio::test]
async fn what_others_commit_is_read_and_all_of_it_gets_a_number_once() {
    let mut stand = Stand::new().await;
    let mut numbered = Vec::new();
    // Mostly its own, mostly the other's, and turns of both.
    for (own, other) in [(9, 2), (9, 2), (1, 8), (1, 8), (5, 5), (6, 1), (0, 3), (4, 0)] {
        if own > 0 {
            stand.own.read(own).await;
            stand.own.write().await;
        }
        if other > 0 {
            stand.other.write().await;
            stand.other.read(other).await;
        }
        numbered.extend(stand.number(5).await);
    }
    let stored = stand.stored(0).await;
    assert!(stored.iter().all(|(_, is_as_numbered)| *is_as_numbered));
    let stored: Vec<Vec<u8>> = stored.into_iter().map(|(bytes, _)| bytes).collect();
    assert_eq!(stored, numbered);
    let all = "SELECT (SELECT count(*) FROM audit_entry) + (SELECT count(*) FROM audit_outbox)";
    let all: i64 = stand.client.query_one(all, &[]).await.unwrap().get(0);
    assert_eq!(i64::try_from(numbered.len()).unwrap(), all);
}

/// What was taken away before it had a number never gets one, at hand or not.
#[tokio::test]
async fn what_is_gone_gets_no_number() {
    let mut stand = Stand::new().await;
    stand.own.read(2).await;
    assert_eq!(stand.number(100).await.len(), 2);
    stand.own.read(2).await;
    stand.edit("DELETE FROM audit_entry WHERE seq = 3").await;
    assert_eq!(stand.number(100).await.len(), 1);
    assert_eq!(stand.stored(0).await.len(), 3);
}
