//! The audit log: what an entry may say, its bytes, and the group committer that makes reads wait for it.
//!
//! An answer that reveals anything is [`Withheld`] until a [`Receipt`] exists, and a receipt exists only after the
//! entry is durable. Reads, refusals and system events go through the [`Committer`]; writes carry an [`OutboxEntry`]
//! into the data transaction.
//!
//! Not here: SQL (`storage::audit` implements [`EntrySink`]), decisions (`policy`), and the words of the catalogue
//! for people (`audit/events.toml`, kept equal to [`Act`] by a test).

mod act;
pub mod checkpoint;
mod committer;
mod encode;
mod event;
pub mod export;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod instance;
mod json;
mod label;
mod marks;
mod query;
mod receipt;
pub mod render;
mod scribe;
pub mod tiles;
pub mod tree;
pub mod verify;
pub mod witness;

pub use act::{Act, Code, Outcome, Status};
pub use committer::{
    Batch, ChainEnd, ChainedEntry, CommitError, Committed, CommittedBefore, CommittedId, Committer,
    CommitterStatus, Drain, EntrySink, Settled, SinkFailure,
};
pub use event::{EntryDraft, ExpiredObject, HoldObject, KeyLevel, KeyObject, PrunedObject, RecordObject};
pub use marks::{Kind, Marks, Sought};
pub use query::{AuditQuery, Cursor, Filter, Order, Page, PageSize, Scope};
pub use receipt::{OutboxBytes, OutboxEntry, Receipt, Withheld};
pub use scribe::Scribe;
