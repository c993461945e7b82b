//! What the watch over the log keeps and asks: whether this process's chains are stored as far as they were confirmed, and how
//! far what is stored was read again.
//!
//! Needs the role `strongroom_sequencer`. Not here: reading again (`jobs::sequencer`), and what is compared (`reconcile`).

use uuid::Uuid;

use super::pool::StorageError;
use super::sequence::{SequenceStore, instant};
use crate::audit::ChainEnd;
use crate::audit::tiles::Edge;
use crate::domain::clock::Timestamp;

/// What is reviewed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewPart {
    /// What came since it was last done.
    Recent,
    /// The whole log, a stretch at a time.
    Old,
}

/// How far a part is, and when it was last done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The tree over what lies before; the review goes on with what comes after.
    pub edge: Edge,
    pub done_at: Timestamp,
}

impl ReviewPart {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Recent => "recent",
            Self::Old => "old",
        }
    }
}

/// Each by itself, by the index of its chain, whatever the session's settings: `NOT EXISTS` can become a join with all that the
/// months hold, planned while that was nothing. One place of a chain can stand in two months (`V22__audit_months.sql`).
const LACKING: &str = "/* storage::watch::lacks */
    SELECT count(*) FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::uuid[]) AS c (src, seq, sha256, id)
    WHERE (SELECT e.seq FROM audit_entry e WHERE e.src = c.src AND e.seq = c.seq AND e.sha256 = c.sha256 LIMIT 1) IS NULL
    AND NOT EXISTS (SELECT FROM audit_pruned p WHERE c.id >= p.from_id AND c.id < p.until_id)";

const REVIEWED: &str =
    "/* storage::watch::reviewed */ SELECT size, edge, done_at FROM audit_review WHERE part = $1";

const KEEP: &str = "/* storage::watch::keep_review */
    UPDATE audit_review SET size = $2, edge = $3, done_at = $4 WHERE part = $1";

impl SequenceStore {
    /// Whether one of these entries, which were confirmed, is not stored any more, or is another. Of a chain that has been silent
    /// for a year it may have been pruned.
    pub async fn lacks(&self, ends: &[ChainEnd]) -> Result<bool, StorageError> {
        let sources: Vec<Uuid> = ends.iter().map(|end| end.src).collect();
        let numbers: Vec<i64> = ends.iter().map(|end| end.seq).collect();
        let digests: Vec<&[u8]> = ends.iter().map(|end| end.sha256.as_slice()).collect();
        let ids: Vec<Uuid> = ends.iter().map(|end| *end.id.as_uuid()).collect();
        let missing: i64 = self
            .database()
            .run("watch::lacks", async |client| {
                let statement = client.prepare_cached(LACKING).await?;
                Ok(client.query_one(&statement, &[&sources, &numbers, &digests, &ids]).await?.try_get(0)?)
            })
            .await?;
        Ok(missing > 0)
    }

    /// How far a review has come.
    pub async fn reviewed(&self, part: ReviewPart) -> Result<Reviewed, StorageError> {
        let row = self
            .database()
            .run("watch::reviewed", async |client| Ok(client.query_one(REVIEWED, &[&part.as_str()]).await?))
            .await?;
        let size = u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
        let done_at: jiff::Timestamp = row.try_get(2)?;
        Ok(Reviewed {
            // What cannot be read is read again from the first entry on.
            edge: Edge::from_bytes(size, row.try_get(1)?).unwrap_or_default(),
            done_at: Timestamp::from_micros(done_at.as_microsecond()),
        })
    }

    /// Keeps how far a review has come.
    pub async fn keep_review(&self, part: ReviewPart, reviewed: &Reviewed) -> Result<(), StorageError> {
        let size = i64::try_from(reviewed.edge.size())
            .map_err(|_| StorageError::Malformed("a number of the log"))?;
        let (edge, done_at) = (reviewed.edge.to_bytes(), instant(reviewed.done_at)?);
        let rows = self
            .database()
            .run("watch::keep_review", async |client| {
                Ok(client.execute(KEEP, &[&part.as_str(), &size, &edge, &done_at]).await?)
            })
            .await?;
        if rows == 1 { Ok(()) } else { Err(StorageError::Stale) }
    }
}
