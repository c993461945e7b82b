//! The log in its order: which entry has which number, and the head of the tree over them.
//!
//! One session at a time has the lead: PostgreSQL keeps an advisory lock with it, and every transaction asks for the epoch
//! that it began besides. Needs the role `strongroom_sequencer`. Not here: signing, files (`jobs::sequencer`).

use std::collections::HashSet;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::fitness::Weakness;
use super::pool::{Database, Session, StorageError};
use crate::audit::tiles::{Edge, Tile, TileId};
use crate::audit::tree::TreeHash;
use crate::domain::clock::Timestamp;

/// "sequen" in the key space of PostgreSQL's advisory locks.
const LOCK: i64 = 0x7365_7175_656e;

/// Each entry that may be new is looked for in the index by its id: hashing the whole index for a few would be slow. And a
/// leader that stands still, or whose host is gone, loses its session and with it the lead.
const LEADER_SESSION: &str = "/* storage::sequence */ SET enable_hashjoin = off; SET enable_mergejoin = off; \
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

/// What one call of [`Lead::take`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub entries: usize,
    /// Nothing is left that was visible when it began.
    pub is_all: bool,
    /// Entries that got no number, since another has their id.
    pub twice: usize,
}

/// The lead of the sequence: while this lives nobody else has it, and when somebody does all the same nothing of this is
/// committed any more.
pub struct Lead {
    session: Session,
    head: StoredHead,
}

const HEAD: &str = "SELECT epoch, size, edge, checkpoint, published_at, scan_from::text, seen::text, cluster FROM audit_head";

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
        Ok(Some(Lead { session, head }))
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

    /// The entries from number `from` on, at most `most` of them, each with the leaf that it had when it was numbered. One
    /// that is gone from its table is `None`; a number that is gone ends the list.
    pub async fn entries(
        &self,
        from: u64,
        most: u64,
    ) -> Result<Vec<(TreeHash, Option<Vec<u8>>)>, StorageError> {
        let (low, high) = (number(from)?, number(from.saturating_add(most))?);
        let rows = self
            .database
            .run("sequence::entries", async |client| {
                let statement = client.prepare_cached(ENTRIES).await?;
                Ok(client.query(&statement, &[&low, &high]).await?)
            })
            .await?;
        unbroken(&rows, low)?
            .map(|row| Ok((leaf(row.try_get(1)?)?, row.try_get(2)?)))
            .collect::<Result<_, StorageError>>()
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
        unbroken(&rows, low)?.map(|row| leaf(row.try_get(1)?)).collect()
    }
}

impl Lead {
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
        // Owned, since a closure that borrows cannot be shown to be `Send` here.
        let known = self.head.clone();
        let work = async move |transaction: &Transaction<'_>| take(transaction, &known, most).await;
        let (head, taken) = self.session.transaction("sequence::take", work).await?;
        self.head = head;
        Ok(taken)
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

const LEAVES: &str = "/* storage::sequence::leaves */
    SELECT idx, leaf FROM audit_index WHERE idx >= $1 AND idx < $2 ORDER BY idx";

const PUBLISH: &str = "/* storage::sequence::publish */
    UPDATE audit_head SET checkpoint = $1, published_at = $2 WHERE epoch = $3";

/// What this snapshot sees, and the lowest transaction id that it may not see; whether ids were counted anew since `seen`,
/// and in which cluster they are counted. In a database that was loaded from a dump every entry has to be looked at once more.
const SNAPSHOT: &str = "/* storage::sequence::take */
    SELECT s::text, pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s) < pg_snapshot_xmax($1::text::pg_snapshot),
        (SELECT system_identifier::text FROM pg_control_system())
    FROM pg_current_snapshot() AS s";

/// What was visible in `seen` has a number, and so has what has a lower id than `scan_from`; the index has the last word.
/// What has an id ahead of all that were given came with a dump and was looked at then, or is forged (`reconcile`).
/// Each table gives its first ones by its own index and need not be sorted whole, however much waits. Of an entry only its leaf comes
/// (RFC 9162 section 2.1.1): who writes the files computes it from the bytes and compares.
const NEW: &str = "/* storage::sequence::take */
    SELECT e.entry_id, sha256('\\x00'::bytea || e.entry), e.xid::text, e.is_write FROM (
        (SELECT xid, seq, entry_id, entry, false AS is_write FROM audit_entry
         WHERE xid >= $1::text::xid8 AND xid < $4::text::xid8
           AND NOT pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
           AND NOT EXISTS (SELECT FROM audit_index i WHERE i.entry_id = audit_entry.entry_id)
         ORDER BY xid, seq, entry_id LIMIT $3)
        UNION ALL
        (SELECT xid, 0, entry_id, entry, true FROM audit_outbox
         WHERE xid >= $1::text::xid8 AND xid < $4::text::xid8
           AND NOT pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
           AND NOT EXISTS (SELECT FROM audit_index i WHERE i.entry_id = audit_outbox.entry_id)
         ORDER BY xid, entry_id LIMIT $3)
    ) AS e
    ORDER BY e.xid, e.seq, e.entry_id LIMIT $3";

const NUMBER: &str = "/* storage::sequence::take */
    INSERT INTO audit_index (idx, entry_id, leaf)
    SELECT $1 + place - 1, id, leaf FROM unnest($2::uuid[], $3::bytea[]) WITH ORDINALITY AS new (id, leaf, place)";

const TILE: &str =
    "/* storage::sequence::take */ INSERT INTO audit_tile (level, idx, hashes) VALUES ($1, $2, $3)";

const ADVANCE: &str = "/* storage::sequence::take */
    UPDATE audit_head SET size = $1, edge = $2, scan_from = $3::text::xid8, seen = $4::text::pg_snapshot, cluster = $7
    WHERE epoch = $5 AND size = $6";

/// The start of time, for [`NEW`]: nothing is below it, and nothing visible in it.
const NOTHING_SEEN: (&str, &str) = ("0", "3:3:");
/// No transaction has it.
const NO_LIMIT: &str = "18446744073709551615";

async fn take(
    transaction: &Transaction<'_>,
    known: &StoredHead,
    most: usize,
) -> Result<(StoredHead, Taken), StorageError> {
    let sql = format!("/* storage::sequence::take */ {HEAD} FOR UPDATE");
    let row = transaction.query_one(&sql, &[]).await?;
    let head = into_head(&row)?;
    if (head.epoch, &head.edge) != (known.epoch, &known.edge) {
        return Err(StorageError::Stale);
    }
    let (mut scan_from, mut seen): (String, String) = (row.try_get(5)?, row.try_get(6)?);
    let known_cluster: String = row.try_get(7)?;
    // Before the entries are looked for, so that whatever it sees they see.
    let row = transaction.query_one(SNAPSHOT, &[&seen]).await?;
    let (snapshot, lowest): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let cluster: String = row.try_get(3)?;
    if row.try_get(2)? || cluster != known_cluster {
        (scan_from, seen) = (NOTHING_SEEN.0.to_owned(), NOTHING_SEEN.1.to_owned());
    }
    // Until a whole round has ended.
    let is_all_new = seen == NOTHING_SEEN.1;
    let below = if is_all_new { NO_LIMIT } else { highest(&snapshot) };
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = transaction.query(NEW, &[&scan_from, &seen, &limit, &below]).await?;
    let fresh = Fresh::of(&rows)?;
    let taken =
        Taken { entries: fresh.ids.len(), is_all: rows.len() < most, twice: rows.len() - fresh.ids.len() };
    if rows.is_empty() && !is_all_new {
        return Ok((head, taken));
    }
    let mut edge = head.edge.clone();
    let first = number(edge.size())?;
    let filled: Vec<(TileId, Tile)> =
        fresh.leaves.iter().flat_map(|leaf| edge.append(*leaf)).filter(|(id, _)| id.level() > 0).collect();
    let hashes: Vec<&[u8]> = fresh.leaves.iter().map(|leaf| leaf.as_bytes().as_slice()).collect();
    let numbered = transaction.execute(NUMBER, &[&first, &fresh.ids, &hashes]).await?;
    if usize::try_from(numbered) != Ok(fresh.ids.len()) {
        return Err(StorageError::Malformed("the index took another number of entries"));
    }
    for (id, tile) in filled {
        let (level, index, hashes) = (i16::from(id.level()), number(id.index())?, tile.to_bytes());
        one(transaction.execute(TILE, &[&level, &index, &hashes]).await?)?;
    }
    match rows.last().filter(|_| !taken.is_all) {
        Some(last) => scan_from = lower(&lowest, last.try_get(2)?)?,
        None => (scan_from, seen) = (lowest, snapshot),
    }
    let (size, bytes) = (number(edge.size())?, edge.to_bytes());
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&size, &bytes, &scan_from, &seen, &head.epoch, &first, &cluster];
    one(transaction.execute(ADVANCE, &parameters).await?)?;
    Ok((StoredHead { edge, ..head }, taken))
}

/// What gets a number. Where an id stands in both tables, the one of a chain does; the other never gets one, and
/// `reconcile` finds it for as long as it is there.
struct Fresh {
    ids: Vec<Uuid>,
    leaves: Vec<TreeHash>,
}

impl Fresh {
    fn of(rows: &[Row]) -> Result<Self, StorageError> {
        let mut chained = HashSet::new();
        for row in rows {
            if !row.try_get::<_, bool>(3)? {
                chained.insert(row.try_get::<_, Uuid>(0)?);
            }
        }
        let (mut ids, mut leaves, mut met) = (Vec::new(), Vec::new(), HashSet::new());
        for row in rows {
            let id: Uuid = row.try_get(0)?;
            let is_other = row.try_get(3)? && chained.contains(&id);
            if !is_other && met.insert(id) {
                ids.push(id);
                leaves.push(leaf(row.try_get(1)?)?);
            }
        }
        Ok(Self { ids, leaves })
    }
}

/// The first transaction id that was not given when a snapshot (`xmin:xmax:…`) was taken.
fn highest(snapshot: &str) -> &str {
    snapshot.split(':').nth(1).unwrap_or(NO_LIMIT)
}

/// The lower of two transaction ids. Below both everything has ended and was taken.
fn lower(one: &str, other: &str) -> Result<String, StorageError> {
    let parse = |id: &str| id.parse::<u64>().map_err(|_| StorageError::Malformed("a transaction id"));
    Ok(parse(one)?.min(parse(other)?).to_string())
}

fn into_head(row: &Row) -> Result<StoredHead, StorageError> {
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

/// Rows from the first number on, as far as numbers follow one another.
fn unbroken(rows: &[Row], first: i64) -> Result<impl Iterator<Item = &Row>, StorageError> {
    let mut count = 0;
    for (row, expected) in rows.iter().zip(first..) {
        if row.try_get::<_, i64>(0)? != expected {
            break;
        }
        count += 1;
    }
    Ok(rows.iter().take(count))
}

pub(super) fn instant(at: Timestamp) -> Result<jiff::Timestamp, StorageError> {
    jiff::Timestamp::from_microsecond(at.as_micros()).map_err(|_| StorageError::Malformed("the clock"))
}

fn leaf(bytes: &[u8]) -> Result<TreeHash, StorageError> {
    bytes.try_into().map(TreeHash::from_bytes).map_err(|_| StorageError::Malformed("a leaf of the log"))
}

fn number(count: u64) -> Result<i64, StorageError> {
    i64::try_from(count).map_err(|_| StorageError::Malformed("a number of the log"))
}

fn one(rows: u64) -> Result<(), StorageError> {
    if rows == 1 { Ok(()) } else { Err(StorageError::Stale) }
}
