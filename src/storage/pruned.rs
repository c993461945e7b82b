//! What of the log has left the database by `strongroom audit prune`, as whoever reads the rest must know it.
//!
//! Months are dropped in their order. From a boundary on every leaf is at hand: in `audit_index`, or, where it stood in one
//! tile with entries that stay, in `audit_pruned_tile`. Of what lies before there is the tree, and what is on record: nothing is
//! passed over only because it is not there. Not here: dropping (`retention`).

use serde_json::Value;
use tokio_postgres::Row;

use super::audit::AuditReader;
use super::pool::StorageError;
use super::sequence::{SequenceStore, leaf, number, unsigned};
use crate::audit::Act;
use crate::audit::tiles::{Edge, FULL, TileId};
use crate::audit::tree::TreeHash;
use crate::domain::clock::Timestamp;
use crate::domain::id::EntryId;

const BOUNDARY: &str = "/* storage::pruned::boundary */
    SELECT size, edge FROM audit_pruned ORDER BY month DESC LIMIT 1";

const LEAVES: &str = "/* storage::pruned::leaves */
    SELECT idx, hashes FROM audit_pruned_tile WHERE idx >= $1 AND idx <= $2 ORDER BY idx";

/// Every month that is on record, with the entry that says so.
const RECORDED: &str = "/* storage::pruned::differs */
    SELECT to_char(month, 'YYYY-MM'), first_idx, end_idx, entries, size, edge, (
            SELECT entry FROM audit_outbox o WHERE o.entry_id = p.entry_id),
        EXISTS (SELECT FROM audit_pruned q WHERE p.entry_id >= q.from_id AND p.entry_id < q.until_id)
    FROM audit_pruned p ORDER BY month";

/// Whether other numbers are missing than those months had, or leaves are kept of what no month had. One statement, so that it
/// sees a month and its record alike.
const MISSING: &str = "/* storage::pruned::differs */
    SELECT (SELECT coalesce(max(end_idx), 0) FROM audit_pruned) - (
            SELECT count(*) FROM audit_index WHERE idx < (SELECT coalesce(max(end_idx), 0) FROM audit_pruned))
        <> (SELECT coalesce(sum(entries), 0) FROM audit_pruned)
        OR EXISTS (SELECT FROM audit_pruned_tile WHERE idx * 256 >= (SELECT coalesce(max(end_idx), 0) FROM audit_pruned))";

/// Months that were made and are not where they should be, or that are although they should have gone.
const GONE: &str = "/* storage::pruned::lacks_month */
    SELECT EXISTS (
        SELECT FROM audit_month m LEFT JOIN pg_class c
            ON c.relname = m.name AND c.relnamespace = 'strongroom_log'::regnamespace AND c.relispartition
        WHERE (c.oid IS NULL) <> EXISTS (SELECT FROM audit_pruned p WHERE p.month = m.month))";

const IS_PRUNED: &str = "/* storage::pruned::is_pruned */
    SELECT EXISTS (SELECT FROM audit_pruned WHERE $1 >= from_id AND $1 < until_id)";

const UNTIL: &str = "/* storage::pruned::until */
    SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM audit_pruned";

impl SequenceStore {
    /// The tree over what may have left the database; empty where nothing has.
    pub async fn boundary(&self) -> Result<Edge, StorageError> {
        let row = self
            .database()
            .run("pruned::boundary", async |client| {
                let statement = client.prepare_cached(BOUNDARY).await?;
                Ok(client.query_opt(&statement, &[]).await?)
            })
            .await?;
        row.map_or(Ok(Edge::default()), |row| edge(&row, 0, 1))
    }

    /// The leaves that are kept of what was dropped beside others, from number `from` on and before `end`.
    pub(super) async fn kept_leaves(
        &self,
        from: u64,
        end: u64,
    ) -> Result<Vec<(u64, TreeHash)>, StorageError> {
        let full = u64::from(FULL);
        let (low, high) = (number(from / full)?, number(end / full)?);
        let rows = self
            .database()
            .run("pruned::leaves", async |client| {
                let statement = client.prepare_cached(LEAVES).await?;
                Ok(client.query(&statement, &[&low, &high]).await?)
            })
            .await?;
        let mut leaves = Vec::new();
        for row in &rows {
            let first = unsigned(row.try_get(0)?)? * full;
            for (number, hash) in (first..).zip(row.try_get::<_, &[u8]>(1)?.chunks(TreeHash::BYTES)) {
                if (from..end).contains(&number) {
                    leaves.push((number, leaf(hash)?));
                }
            }
        }
        Ok(leaves)
    }

    /// Whether what is on record of dropped months is not what the log itself says of them, or more is missing than they had.
    pub async fn differs(&self) -> Result<bool, StorageError> {
        let rows = self
            .database()
            .run("pruned::differs", async |client| {
                let statement = client.prepare_cached(RECORDED).await?;
                Ok(client.query(&statement, &[]).await?)
            })
            .await?;
        for row in &rows {
            // An entry that has left the database itself is in the files, as all others.
            let says_so = match row.try_get::<_, Option<&[u8]>>(6)? {
                Some(entry) => says(entry, row)?,
                None => row.try_get(7)?,
            };
            if !says_so {
                return Ok(true);
            }
        }
        self.database()
            .run("pruned::differs", async |client| {
                let statement = client.prepare_cached(MISSING).await?;
                Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
            })
            .await
    }

    /// Whether a month of the log was dropped by other hands, or is there although it is on record as dropped.
    pub async fn lacks_month(&self) -> Result<bool, StorageError> {
        self.database()
            .run("pruned::lacks_month", async |client| {
                let statement = client.prepare_cached(GONE).await?;
                Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
            })
            .await
    }
}

impl AuditReader {
    /// Whether an entry of this id, if there was one, is in the exported files only.
    pub async fn is_pruned(&self, id: EntryId) -> Result<bool, StorageError> {
        self.database()
            .run("pruned::is_pruned", async |client| {
                let statement = client.prepare_cached(IS_PRUNED).await?;
                Ok(client.query_one(&statement, &[id.as_uuid()]).await?.try_get(0)?)
            })
            .await
    }

    /// Entries before this time are in the exported files only.
    pub async fn pruned_until(&self) -> Result<Option<Timestamp>, StorageError> {
        let until: Option<jiff::Timestamp> = self
            .database()
            .run("pruned::until", async |client| {
                let statement = client.prepare_cached(UNTIL).await?;
                Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
            })
            .await?;
        Ok(until.map(|until| Timestamp::from_micros(until.as_microsecond())))
    }

    /// The leaves of a full tile of which not all entries are there.
    pub(super) async fn pruned_tile(&self, id: TileId) -> Result<Option<Vec<u8>>, StorageError> {
        let index = number(id.index())?;
        let row = self
            .database()
            .run("pruned::leaves", async |client| {
                let statement = client.prepare_cached(LEAVES).await?;
                Ok(client.query_opt(&statement, &[&index, &index]).await?)
            })
            .await?;
        Ok(row.map(|row| row.try_get(1)).transpose()?)
    }
}

/// Whether an entry is the one of this month's going.
fn says(entry: &[u8], row: &Row) -> Result<bool, StorageError> {
    let Ok(entry) = serde_json::from_slice::<Value>(entry) else { return Ok(false) };
    let edge = edge(row, 4, 5)?;
    let numbers = [("first", row.try_get(1)?), ("end", row.try_get(2)?), ("entries", row.try_get(3)?)];
    let is = |name: &str, value: Value| {
        entry.pointer("/obj/0").and_then(|object| object.get(name)) == Some(&value)
    };
    Ok(entry.get("act").and_then(Value::as_str) == Some(Act::AuditPrune.as_str())
        && is("month", Value::from(row.try_get::<_, &str>(0)?))
        && is("kept_from", Value::from(edge.size()))
        && is("kept_root", Value::from(edge.root().to_string()))
        && numbers.into_iter().all(|(name, number): (&str, i64)| is(name, Value::from(number))))
}

fn edge(row: &Row, size: usize, bytes: usize) -> Result<Edge, StorageError> {
    Edge::from_bytes(unsigned(row.try_get(size)?)?, row.try_get(bytes)?)
        .ok_or(StorageError::Malformed("the boundary of what was pruned"))
}
