//! Where batches go.

use std::future::Future;

use uuid::Uuid;

use crate::domain::id::{EntryId, TenantId};

/// Consecutive entries of one chain, to be stored together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Random id of the instance run that makes the chain.
    pub src: Uuid,
    pub entries: Vec<ChainedEntry>,
}

/// One entry with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedEntry {
    pub id: EntryId,
    /// `None` for the service's own.
    pub tenant: Option<TenantId>,
    /// From 1, without gaps.
    pub seq: i64,
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, and the `prev` of the next entry.
    pub sha256: [u8; 32],
}

/// A batch is not known to be durable: the database was away, refused it, or did not answer the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch was not confirmed")]
pub struct SinkFailure;

/// What became of a batch that was tried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// All of it is durable, from this attempt or an earlier one.
    Stored,
    /// Some place of the chain holds other bytes; nothing of the batch was stored.
    Forked,
}

/// Durable storage for batches. Every call ends by itself within a few seconds; a call that was given up leaves
/// nothing running that could store part of a batch.
pub trait EntrySink: Send + Sync + 'static {
    /// Stores a batch for the first time. `Ok` means that it is durable, all of it.
    fn append(&self, batch: &Batch) -> impl Future<Output = Result<(), SinkFailure>> + Send;

    /// Finds out about a batch whose `append` or `settle` failed, and stores it if it is not there.
    fn settle(&self, batch: &Batch) -> impl Future<Output = Result<Settled, SinkFailure>> + Send;
}
