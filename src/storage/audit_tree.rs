//! The log's tree for auditors: which number an entry has, and the hashes that prove it.
//!
//! Needs the role `strongroom_audit_reader`. Hashes of the lowest level are the leaves of `audit_index`; of the levels above, full
//! tiles are in `audit_tile`, and partial ones in the head. None is believed before the proof that they make holds.

use std::collections::HashMap;

use uuid::Uuid;

use super::audit::{AuditReader, tenant_of};
use super::pool::StorageError;
use super::sequence::{number, unsigned};
use crate::audit::Scope;
use crate::audit::tiles::{Edge, FULL, Tile, TileId};
use crate::audit::tree::TreeHash;
use crate::domain::id::EntryId;

const FOUND: &str = "/* storage::audit_tree::find */
    SELECT i.idx, p.entry FROM audit_index i, (
        SELECT entry FROM audit_entry WHERE entry_id = $1 AND ($2::uuid IS NULL OR tenant_id IN ($2, '00000000-0000-0000-0000-000000000000'))
        UNION ALL
        SELECT entry FROM audit_outbox WHERE entry_id = $1 AND ($2::uuid IS NULL OR tenant_id IN ($2, '00000000-0000-0000-0000-000000000000'))
    ) AS p WHERE i.entry_id = $1 LIMIT 1";

const NUMBERS: &str = "/* storage::audit_tree::numbers */
    SELECT entry_id, idx FROM audit_index WHERE entry_id = ANY($1)";

const HEAD: &str = "/* storage::audit_tree::head */ SELECT size, edge, checkpoint FROM audit_head";

const LEAVES: &str = "/* storage::audit_tree::tile */
    SELECT leaf FROM audit_index WHERE idx >= $1 AND idx < $2 ORDER BY idx";

const TILE: &str =
    "/* storage::audit_tree::tile */ SELECT hashes FROM audit_tile WHERE level = $1 AND idx = $2";

/// The end of the log.
#[derive(Clone, Debug)]
pub struct LogHead {
    pub edge: Edge,
    /// The newest checkpoint, as a note; empty before the first.
    pub checkpoint: String,
}

impl AuditReader {
    /// An entry in scope that has a number: its number, and its bytes as they are stored.
    pub async fn find(&self, scope: Scope, id: EntryId) -> Result<Option<(u64, Vec<u8>)>, StorageError> {
        let tenant = tenant_of(scope);
        let row = self
            .database()
            .run("audit_tree::find", async |client| {
                let statement = client.prepare_cached(FOUND).await?;
                Ok(client.query_opt(&statement, &[id.as_uuid(), &tenant]).await?)
            })
            .await?;
        row.map(|row| Ok((unsigned(row.try_get(0)?)?, row.try_get(1)?))).transpose()
    }

    /// The numbers of entries, of those that have one.
    pub async fn numbers(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, u64>, StorageError> {
        let rows = self
            .database()
            .run("audit_tree::numbers", async |client| {
                let statement = client.prepare_cached(NUMBERS).await?;
                Ok(client.query(&statement, &[&ids]).await?)
            })
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, unsigned(row.try_get(1)?)?))).collect()
    }

    /// The log's end as it is now.
    pub async fn log_head(&self) -> Result<LogHead, StorageError> {
        let row = self
            .database()
            .run("audit_tree::head", async |client| Ok(client.query_one(HEAD, &[]).await?))
            .await?;
        let size = unsigned(row.try_get(0)?)?;
        let edge =
            Edge::from_bytes(size, row.try_get(1)?).ok_or(StorageError::Malformed("the log's head"))?;
        Ok(LogHead { edge, checkpoint: row.try_get(2)? })
    }

    /// A tile of a tree that is the head's or smaller. `None` where it is not stored.
    pub async fn tile(&self, head: &Edge, id: TileId) -> Result<Option<Tile>, StorageError> {
        let is_it = |own: &&(TileId, Tile)| (own.0.level(), own.0.index()) == (id.level(), id.index());
        let bytes: Vec<u8> = if id.level() == 0 {
            let first = id.index() * u64::from(FULL);
            let (low, high) = (number(first)?, number(first + u64::from(id.width()))?);
            let rows = self
                .database()
                .run("audit_tree::tile", async |client| {
                    let statement = client.prepare_cached(LEAVES).await?;
                    Ok(client.query(&statement, &[&low, &high]).await?)
                })
                .await?;
            let is_whole = rows.len() == usize::from(id.width());
            let leaves: Vec<&[u8]> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            let own = leaves.concat();
            // Beside what was pruned.
            if is_whole { own } else { self.pruned_tile(id).await?.unwrap_or(own) }
        } else if let Some((_, tile)) = head.partial_tiles().iter().find(is_it) {
            tile.to_bytes()
        } else {
            let (level, index) = (i16::from(id.level()), number(id.index())?);
            let row = self
                .database()
                .run("audit_tree::tile", async |client| {
                    let statement = client.prepare_cached(TILE).await?;
                    Ok(client.query_opt(&statement, &[&level, &index]).await?)
                })
                .await?;
            match row {
                Some(row) => row.try_get(0)?,
                None => return Ok(None),
            }
        };
        // Of a tile that has grown since, its beginning.
        let wanted = bytes.get(..usize::from(id.width()) * TreeHash::BYTES);
        Ok(wanted.and_then(|bytes| Tile::from_bytes(id, bytes).ok()))
    }
}
