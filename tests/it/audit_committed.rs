//! What a process commits gets its number without being read, as it was committed; what others commit is read.

use std::sync::Arc;

use strongroom::audit::tree::TreeHash;
use strongroom::audit::{Committer, Drain, Scribe};
use strongroom::config::AuditConfig;
use strongroom::domain::clock::SystemClock;
use strongroom::domain::random::SystemRandom;
use strongroom::storage::audit::{AuditStore, OUTBOX_INSERT};
use strongroom::storage::{Database, Lead, SequenceStore, StoredEntry};
use tokio_postgres::Client;

use crate::audit_attacks::around_the_guards;
use crate::support::log::{draft, written};
use crate::support::{Databases, administrator, eventually, fresh_databases};

/// The lower half of the lead's advisory lock, as `pg_locks` has it.
const LOCK: u32 = 0x7175_656e;

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
    lead: Option<Lead>,
    own: Process,
    other: Process,
}

impl Stand {
    async fn new() -> Self {
        let databases = fresh_databases().await;
        let store = SequenceStore::new(Database::open(&databases.data_as("strongroom_sequencer")).unwrap());
        let own = Process::new(&databases, "room-1");
        own.committer.committed().want(true);
        let lead = store.lead().await.unwrap();
        let client = administrator(&databases.data.name).await;
        let mut stand = Self { client, store, lead, own, other: Process::new(&databases, "room-2") };
        stand.feed();
        stand
    }

    async fn next_lead(&mut self) -> Lead {
        self.lead = None;
        let mut lead = None;
        eventually("the lead is free", async || {
            lead = self.store.lead().await.unwrap();
            lead.is_some()
        })
        .await;
        lead.unwrap()
    }

    fn feed(&mut self) {
        let committed = self.own.committer.committed();
        self.lead.as_mut().unwrap().feed(committed);
    }

    /// All that there is, by steps of `most`: the bytes that got numbers.
    async fn number(&mut self, most: usize) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        loop {
            let taken = self.lead.as_mut().unwrap().take(most).await.unwrap();
            for entry in taken.entries {
                assert_eq!(entry.leaf, TreeHash::of_leaf(&entry.bytes));
                entries.push(entry.bytes);
            }
            if taken.is_all {
                return entries;
            }
        }
    }

    /// What is stored under the numbers from `first` on.
    async fn stored(&self, first: u64) -> Vec<StoredEntry> {
        self.store.entries(first, 1 << 20).await.unwrap()
    }

    /// Of what got the numbers from `first` on each was committed so, and is stored otherwise.
    async fn assert_edited(&self, first: u64, numbered: &[Vec<u8>]) {
        let stored = self.stored(first).await;
        assert_eq!(stored.len(), numbered.len());
        for (own, stored) in numbered.iter().zip(&stored) {
            assert_eq!(stored.leaf, TreeHash::of_leaf(own));
            assert_eq!(stored.entry.as_deref(), Some([own, b"x".as_slice()].concat().as_slice()));
        }
    }

    /// As whoever owns the database.
    async fn edit(&self, sql: &str) {
        let edit = around_the_guards(&["audit_entry", "audit_outbox"], &format!("{sql};"));
        self.client.batch_execute(&edit).await.unwrap();
    }
}

const EDIT: &str = "UPDATE audit_entry SET entry = entry || 'x' WHERE xid >= $from;
    UPDATE audit_outbox SET entry = entry || 'x' WHERE xid >= $from";

/// Of everything that is not numbered yet.
async fn edit(stand: &Stand) -> String {
    let from = "SELECT pg_snapshot_xmax(seen)::text FROM audit_head";
    let from: String = stand.client.query_one(from, &[]).await.unwrap().get(0);
    EDIT.replace("$from", &format!("'{from}'::xid8"))
}

#[tokio::test]
async fn an_entry_that_is_edited_before_it_has_a_number_gets_it_as_it_was_committed() {
    let mut stand = Stand::new().await;
    // The first step reads what it finds, those after it only what is not at hand.
    for first in [0, 4] {
        stand.own.read(3).await;
        stand.own.write().await;
        stand.edit(&edit(&stand).await).await;
        let numbered = stand.number(100).await;
        assert_eq!(numbered.len(), 4);
        stand.assert_edited(first, &numbered).await;
    }
}

/// Nor does a step that fails make the next one read what was edited.
#[tokio::test]
async fn what_is_at_hand_outlives_a_step_that_fails_and_a_lead_that_is_lost() {
    let mut stand = Stand::new().await;
    stand.own.read(1).await;
    assert_eq!(stand.number(100).await.len(), 1);
    // An entry whose id has a number already: the step finds out when it is to get another.
    stand.own.read(2).await;
    let again = "INSERT INTO audit_outbox (tenant_id, entry_id, entry)
        SELECT gen_random_uuid(), entry_id, 'again' FROM audit_index WHERE idx = 0";
    stand.edit(&format!("{}; {again}", edit(&stand).await)).await;
    let numbered = stand.number(100).await;
    assert_eq!(numbered.len(), 2);
    stand.assert_edited(1, &numbered).await;

    stand.own.read(2).await;
    let session =
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    stand.client.execute(session, &[&LOCK]).await.unwrap();
    assert!(stand.lead.as_mut().unwrap().take(100).await.is_err());
    stand.edit(&edit(&stand).await).await;
    stand.lead = Some(stand.next_lead().await);
    stand.feed();
    let numbered = stand.number(100).await;
    assert_eq!(numbered.len(), 2);
    stand.assert_edited(3, &numbered).await;

    stand.own.read(2).await;
    let refuse =
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON audit_index DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()";
    stand.edit(refuse).await;
    assert!(stand.lead.as_mut().unwrap().take(100).await.is_err(), "at its commit");
    stand.edit(&format!("DROP TRIGGER refuse ON audit_index; {}", edit(&stand).await)).await;
    stand.lead = Some(stand.next_lead().await);
    stand.feed();
    let numbered = stand.number(100).await;
    assert_eq!(numbered.len(), 2);
    stand.assert_edited(5, &numbered).await;
}

/// While most is at hand, a step asks for no bytes at all: whoever may not read them gives numbers all the same.
#[tokio::test]
async fn what_is_at_hand_is_not_read() {
    let mut stand = Stand::new().await;
    stand.own.read(3).await;
    stand.own.write().await;
    assert_eq!(stand.number(100).await.len(), 4);
    let blind = "BEGIN; SET LOCAL strongroom.audit_migration = 'yes';
        REVOKE SELECT ON audit_entry, audit_outbox FROM strongroom_sequencer;
        GRANT SELECT (xid, seq, entry_id, tenant_id) ON audit_entry TO strongroom_sequencer;
        GRANT SELECT (xid, entry_id, tenant_id) ON audit_outbox TO strongroom_sequencer; COMMIT";
    stand.client.batch_execute(blind).await.unwrap();
    stand.own.read(3).await;
    stand.own.write().await;
    assert_eq!(stand.number(100).await.len(), 4);
    stand.other.read(1).await;
    assert!(stand.lead.as_mut().unwrap().take(100).await.is_err(), "another's is");
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
    assert!(stored.iter().all(StoredEntry::is_as_numbered));
    let stored: Vec<Vec<u8>> = stored.into_iter().filter_map(|stored| stored.entry).collect();
    assert_eq!(stored, numbered);
    let all = "SELECT (SELECT count(*) FROM audit_entry) + (SELECT count(*) FROM audit_outbox)";
    let all: i64 = stand.client.query_one(all, &[]).await.unwrap().get(0);
    assert_eq!(i64::try_from(numbered.len()).unwrap(), all);
}

/// What was taken away before it had a number never gets one, at hand or not, and is missed; what was only numbered before it was at
/// hand is not.
#[tokio::test]
async fn what_is_gone_gets_no_number_and_is_missed() {
    let mut stand = Stand::new().await;
    stand.own.read(2).await;
    assert_eq!(stand.number(100).await.len(), 2);
    stand.own.read(2).await;
    stand.own.write().await;
    stand.edit("DELETE FROM audit_entry WHERE seq = 3; DELETE FROM audit_outbox").await;
    let taken = stand.lead.as_mut().unwrap().take(100).await.unwrap();
    assert_eq!((taken.entries.len(), taken.lost), (1, 2));
    assert_eq!(stand.stored(0).await.len(), 3);
    // As another lead would have numbered them: as they are, and as they are not.
    for (is_edited, lost) in [(false, 0), (true, 3)] {
        stand.own.read(2).await;
        stand.own.write().await;
        if is_edited {
            stand.edit(&edit(&stand).await).await;
        }
        let mut other = stand.next_lead().await;
        assert_eq!(other.take(100).await.unwrap().entries.len(), 3);
        drop(other);
        stand.lead = Some(stand.next_lead().await);
        stand.feed();
        for lost in [lost, 0] {
            let taken = stand.lead.as_mut().unwrap().take(100).await.unwrap();
            assert_eq!((taken.entries.len(), taken.lost), (0, lost));
        }
    }
}
