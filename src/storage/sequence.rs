//! The log in its order: which entry has which number, and the head of the tree over them.
//!
//! One session at a time has the lead: PostgreSQL keeps an advisory lock with it, and every transaction asks for the epoch
//! that it began besides. Needs the role `strongroom_sequencer`. Not here: what a step of it
//! is (`numbering`), signing, files (`jobs::sequencer`).

use std::sync::Arc;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::fitness::Weakness;
use super::numbering::{Numbering, Step};
use super::pool::{Database, Session, StorageError};
use crate::audit::tiles::Edge;
use crate::audit::tree::TreeHash;
use crate::audit::{Committed, CommittedId};
use crate::domain::clock::Timestamp;

/// "sequen" in the key space of PostgreSQL's advisory locks.
const LOCK: i64 = 0x7365_7175_656e;

/// Each entry that may be new is looked for in the index by its id: hashing the whole index for a few would be slow, on
/// several cores as well. And a leader that stands still, or whose host is gone, loses its session and with it the lead.
const LEADER_SESSION: &str = "/* storage::sequence */ SET enable_hashjoin = off; SET enable_mergejoin = off; \
     SET max_parallel_workers_per_gather = 0; \
     SET default_transaction_isolation = 'read committed'; \
     SET idle_session_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'; \
     SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3";

/// Numbers entries, and finds them by their numbers.
#[derive(Clone)]
pub struct SequenceStore {
    database: Database,
}

/// What the database says of the log's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    pub epoch: i64,
    /// The tree over everything that has a number.
    pub edge: Edge,
    /// The newest checkpoint that was signed, as a note; empty before the first.
    pub checkpoint: String,
    pub published_at: Timestamp,
}

/// An entry that has a number, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The leaf that it had when it was numbered.
    pub leaf: TreeHash,
    /// `None` where it is gone from its table.
    pub entry: Option<Vec<u8>>,
    /// It was dropped with its month, and its leaf was kept for those beside it.
    pub is_pruned: bool,
}

impl StoredEntry {
    /// Whether it is the one that was numbered, or where only its leaf was kept may be.
    pub fn is_as_numbered(&self) -> bool {
        self.is_pruned || self.entry.as_ref().is_some_and(|entry| TreeHash::of_leaf(entry) == self.leaf)
    }
}

impl AsRef<TreeHash> for StoredEntry {
    fn as_ref(&self) -> &TreeHash {
        &self.leaf
    }
}

/// An entry that has just got its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedEntry {
    pub leaf: TreeHash,
    pub bytes: Vec<u8>,
}

impl NumberedEntry {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { leaf: TreeHash::of_leaf(&bytes), bytes }
    }
}

/// What one call of [`Lead::take`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The number of the first.
    pub first: u64,
    pub entries: Vec<NumberedEntry>,
    /// Nothing is left that was visible when it began.
    pub is_all: bool,
    /// Entries that got no number: another has their id, they are larger than an entry can be, or they went while they were read.
    pub refused: usize,
    /// Entries that this process committed and that were taken away before they had numbers, or got them as something else.
    pub lost: usize,
}

/// The lead of the sequence: while this lives nobody else has it, and when somebody does all the same nothing of this is
/// committed any more.
pub struct Lead {
    session: Session,
    head: StoredHead,
    numbering: Numbering,
}

pub(super) const HEAD: &str = "SELECT epoch, size, edge, checkpoint, published_at, scan_from::text, seen::text, cluster FROM audit_head";

impl SequenceStore {
    pub const fn new(database: Database) -> Self {
        Self { database }
    }

    /// What is wrong with the sequencer's role or its database; see [`Database::weaknesses`].
    pub async fn weaknesses(&self, now: Timestamp) -> Result<Vec<Weakness>, StorageError> {
        self.database.weaknesses("audit_sequencer", now).await
    }

    /// A digest of what guards the data database; see [`Database::fingerprint`].
    pub async fn fingerprint(&self) -> Result<String, StorageError> {
        self.database.fingerprint().await
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// Tells the metrics how full the pool is.
    pub fn report(&self) {
        self.database.report("audit_sequencer");
    }

    /// Takes the lead, under a new epoch, unless somebody has it.
    pub async fn lead(&self) -> Result<Option<Lead>, StorageError> {
        // Whoever only waits for it makes no connection each time.
        let is_taken = self
            .database
            .run("sequence::is_led", async |client| {
                Ok(client.query_one(IS_LED, &[&LOCK]).await?.try_get(0)?)
            })
            .await?;
        if is_taken {
            return Ok(None);
        }
        let mut session = self.database.session("sequence::lead", LEADER_SESSION).await?;
        let is_free = session
            .run("sequence::lead", async |client| {
                let sql = "/* storage::sequence::lead */ SELECT pg_try_advisory_lock($1)";
                Ok(client.query_one(sql, &[&LOCK]).await?.try_get::<_, bool>(0)?)
            })
            .await?;
        if !is_free {
            return Ok(None);
        }
        let head = session
            .transaction("sequence::lead", async |transaction| {
                let sql = "/* storage::sequence::lead */ UPDATE audit_head SET epoch = epoch + 1";
                one(transaction.execute(sql, &[]).await?)?;
                let sql = format!("/* storage::sequence::lead */ {HEAD}");
                into_head(&transaction.query_one(&sql, &[]).await?)
            })
            .await?;
        let numbering = Numbering::of(&session).await?;
        Ok(Some(Lead { session, head, numbering }))
    }

    /// The head as it is now, whoever has the lead.
    pub async fn head(&self) -> Result<StoredHead, StorageError> {
        let sql = format!("/* storage::sequence::head */ {HEAD}");
        let row = self
            .database
            .run("sequence::head", async |client| Ok(client.query_one(&sql, &[]).await?))
            .await?;
        into_head(&row)
    }

    /// The entries from number `from` on, at most `most` of them. A number that is gone ends the list.
    pub async fn entries(&self, from: u64, most: u64) -> Result<Vec<StoredEntry>, StorageError> {
        let (low, high) = (number(from)?, number(from.saturating_add(most))?);
        let rows = self
            .database
            .run("sequence::entries", async |client| {
                let statement = client.prepare_cached(ENTRIES).await?;
                Ok(client.query(&statement, &[&low, &high]).await?)
            })
            .await?;
        let rows = rows.iter().map(|row| {
            let kept = StoredEntry { leaf: leaf(row.try_get(1)?)?, entry: row.try_get(2)?, is_pruned: false };
            Ok((unsigned(row.try_get(0)?)?, kept))
        });
        let rows = rows.collect::<Result<Vec<_>, StorageError>>()?;
        self.unbroken(from, most, rows, |leaf| StoredEntry { leaf, entry: None, is_pruned: true }).await
    }

    /// The leaves from number `from` on, at most `most` of them; a number that is gone ends the list.
    pub async fn leaves(&self, from: u64, most: u64) -> Result<Vec<TreeHash>, StorageError> {
        let (low, high) = (number(from)?, number(from.saturating_add(most))?);
        let rows = self
            .database
            .run("sequence::leaves", async |client| {
                let statement = client.prepare_cached(LEAVES).await?;
                Ok(client.query(&statement, &[&low, &high]).await?)
            })
            .await?;
        let rows = rows.iter().map(|row| Ok((unsigned(row.try_get(0)?)?, leaf(row.try_get(1)?)?)));
        let rows = rows.collect::<Result<Vec<_>, StorageError>>()?;
        self.unbroken(from, most, rows, |leaf| leaf).await
    }

    /// What was found, from the first number on as far as numbers follow one another, with the leaves of what was dropped beside
    /// it. A leaf that was kept of an entry that is there is that entry's.
    async fn unbroken<T: AsRef<TreeHash>>(
        &self,
        from: u64,
        most: u64,
        found: Vec<(u64, T)>,
        pruned: impl Fn(TreeHash) -> T,
    ) -> Result<Vec<T>, StorageError> {
        let is_whole = u64::try_from(found.len()) == Ok(most);
        let kept =
            if is_whole { Vec::new() } else { self.kept_leaves(from, from.saturating_add(most)).await? };
        Ok(merge(from, found, kept, pruned))
    }
}

impl Lead {
    /// From now on the bytes of what this process commits are not read where they are kept at hand.
    pub fn feed(&mut self, committed: &Arc<Committed>) {
        self.numbering.feed(Arc::clone(committed));
    }

    /// The head as this lead has left it.
    pub const fn head(&self) -> &StoredHead {
        &self.head
    }

    /// Numbers up to `most` entries that have none, in the order of their commits' transaction ids and within one of their
    /// chain, and commits the tree with them. Entries that become visible later than others with higher ids come
    /// after them.
    ///
    /// [`StorageError::Stale`]: somebody else has the lead, or the head is not what this lead left. After any error the
    /// lead is to be dropped; whatever was committed is found by the next.
    pub async fn take(&mut self, most: usize) -> Result<Taken, StorageError> {
        let mut step = match self.step(most).await {
            // Something that has a number stands there once more, or where it was not: it is passed over.
            Err(StorageError::Conflict) if self.numbering.look_twice() => self.step(most).await?,
            step => step?,
        };
        let settled = self.numbering.learn(&mut step);
        self.head = step.head;
        let mut taken = step.taken;
        if !settled.is_empty() {
            match self.not_as_committed(&settled).await {
                Ok(lost) => taken.lost = lost,
                // What was numbered is committed all the same; what was not found out is asked again.
                Err(_) => self.numbering.take_back(settled),
            }
        }
        Ok(taken)
    }

    /// How many have no number, or have it as something else.
    async fn not_as_committed(&self, entries: &[(CommittedId, Vec<u8>)]) -> Result<usize, StorageError> {
        let (ids, leaves): (Vec<Uuid>, Vec<TreeHash>) =
            entries.iter().map(|(id, bytes)| (*id.entry.as_uuid(), TreeHash::of_leaf(bytes))).unzip();
        let leaves: Vec<&[u8]> = leaves.iter().map(|leaf| leaf.as_bytes().as_slice()).collect();
        let lost = self.session.run("sequence::take", async |client| {
            let statement = client.prepare_cached(NOT_AS_COMMITTED).await?;
            Ok(client.query_one(&statement, &[&ids, &leaves]).await?.try_get::<_, i64>(0)?)
        });
        Ok(usize::try_from(lost.await?).unwrap_or(0))
    }

    async fn step(&mut self, most: usize) -> Result<Step, StorageError> {
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let (known, numbering) = (self.head.clone(), self.numbering.clone());
        let work = async move |transaction: &Transaction<'_>| {
            numbering.clone().step(transaction, &known, most).await
        };
        self.session.transaction("sequence::take", work).await
    }

    /// Keeps the session while nothing is to be stored.
    pub async fn touch(&mut self) -> Result<(), StorageError> {
        let sql = "/* storage::sequence::touch */ SELECT 1";
        self.session.run("sequence::touch", async |client| Ok(client.batch_execute(sql).await?)).await
    }

    /// Keeps a signed checkpoint as the newest.
    pub async fn publish(&mut self, checkpoint: String, now: Timestamp) -> Result<(), StorageError> {
        let (note, at, epoch) = (checkpoint.clone(), instant(now)?, self.head.epoch);
        let work = async move |transaction: &Transaction<'_>| {
            let parameters: [&(dyn ToSql + Sync); 3] = [&note, &at, &epoch];
            one(transaction.execute(PUBLISH, &parameters).await?)
        };
        self.session.transaction("sequence::publish", work).await?;
        self.head.checkpoint = checkpoint;
        self.head.published_at = now;
        Ok(())
    }
}

const IS_LED: &str = "/* storage::sequence::is_led */ SELECT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) + objid::bigint = $1)";

const ENTRIES: &str = "/* storage::sequence::entries */
    SELECT i.idx, i.leaf, coalesce(
        (SELECT e.entry FROM audit_entry e WHERE e.entry_id = i.entry_id),
        (SELECT o.entry FROM audit_outbox o WHERE o.entry_id = i.entry_id))
    FROM audit_index i WHERE i.idx >= $1 AND i.idx < $2 ORDER BY i.idx";

const NOT_AS_COMMITTED: &str = "/* storage::sequence::take */
    SELECT count(*) FROM unnest($1::uuid[], $2::bytea[]) AS asked (id, leaf)
    WHERE (SELECT i.leaf FROM audit_index i WHERE i.entry_id = asked.id) IS DISTINCT FROM asked.leaf";

const LEAVES: &str = "/* storage::sequence::leaves */
    SELECT idx, leaf FROM audit_index WHERE idx >= $1 AND idx < $2 ORDER BY idx";

const PUBLISH: &str = "/* storage::sequence::publish */
    UPDATE audit_head SET checkpoint = $1, published_at = $2 WHERE epoch = $3";

pub(super) fn into_head(row: &Row) -> Result<StoredHead, StorageError> {
    let size = u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or(0);
    let edge = Edge::from_bytes(size, row.try_get(2)?).ok_or(StorageError::Malformed("the log's head"))?;
    let published_at: jiff::Timestamp = row.try_get(4)?;
    Ok(StoredHead {
        epoch: row.try_get(0)?,
        edge,
        checkpoint: row.try_get(3)?,
        published_at: Timestamp::from_micros(published_at.as_microsecond()),
    })
}

/// See [`SequenceStore::unbroken`]; both lists ascend.
fn merge<T: AsRef<TreeHash>>(
    from: u64,
    found: Vec<(u64, T)>,
    kept: Vec<(u64, TreeHash)>,
    pruned: impl Fn(TreeHash) -> T,
) -> Vec<T> {
    let (mut found, mut kept) = (found.into_iter().peekable(), kept.into_iter().peekable());
    let mut merged = Vec::new();
    for number in from.. {
        let stored = found.next_if(|(own, _)| *own == number);
        let leaf = kept.next_if(|(own, _)| *own == number);
        match (stored, leaf) {
            (Some((_, stored)), None) => merged.push(stored),
            (Some((_, stored)), Some((_, leaf))) if *stored.as_ref() == leaf => merged.push(stored),
            (None, Some((_, leaf))) => merged.push(pruned(leaf)),
            _ => break,
        }
    }
    merged
}

pub(super) fn instant(at: Timestamp) -> Result<jiff::Timestamp, StorageError> {
    jiff::Timestamp::from_microsecond(at.as_micros()).map_err(|_| StorageError::Malformed("the clock"))
}

pub(super) fn leaf(bytes: &[u8]) -> Result<TreeHash, StorageError> {
    bytes.try_into().map(TreeHash::from_bytes).map_err(|_| StorageError::Malformed("a leaf of the log"))
}

pub(super) fn unsigned(number: i64) -> Result<u64, StorageError> {
    u64::try_from(number).map_err(|_| StorageError::Malformed("a number of the log"))
}

pub(super) fn number(count: u64) -> Result<i64, StorageError> {
    i64::try_from(count).map_err(|_| StorageError::Malformed("a number of the log"))
}

pub(super) fn one(rows: u64) -> Result<(), StorageError> {
    if rows == 1 { Ok(()) } else { Err(StorageError::Stale) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_that_were_kept_stand_in_for_entries_and_never_against_them() {
        let hash = |byte: u8| TreeHash::from_bytes([byte; 32]);
        let entry = |byte| StoredEntry { leaf: hash(byte), entry: Some(vec![byte]), is_pruned: false };
        let pruned = |leaf| StoredEntry { leaf, entry: None, is_pruned: true };
        let found = || vec![(5, entry(5)), (7, entry(7)), (9, entry(9))];
        let leaves = |merged: Vec<StoredEntry>| {
            merged.iter().map(|entry| (entry.leaf.as_bytes()[0], entry.is_pruned)).collect::<Vec<_>>()
        };
        assert_eq!(leaves(merge(5, found(), vec![], pruned)), [(5, false)], "6 is gone");
        let kept = vec![(5, hash(5)), (6, hash(6)), (8, hash(8))];
        let all = [(5, false), (6, true), (7, false), (8, true), (9, false)];
        assert_eq!(leaves(merge(5, found(), kept, pruned)), all);
        assert_eq!(leaves(merge(5, found(), vec![(5, hash(1)), (6, hash(6))], pruned)), []);
        assert_eq!(leaves(merge(4, found(), vec![(5, hash(5))], pruned)), []);
    }
}
