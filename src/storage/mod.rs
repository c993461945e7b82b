//! The only SQL. Writes accept sealed values only; every statement opens with a comment naming its function.
//!
//! Not here: keys, plaintext, decisions.

pub mod audit;
mod audit_tree;
mod fitness;
mod key_eraser;
mod key_finder;
mod key_maker;
mod key_rotator;
pub mod key_store;
mod key_versions;
mod lanes;
pub mod migrate;
mod months;
mod numbering;
pub mod pool;
mod pruned;
mod reconcile;
pub mod records;
mod retention;
mod schema;
pub mod sealed_columns;
mod search;
pub mod sequence;
mod watch;

pub use audit::{AuditReader, AuditStore};
pub use audit_tree::LogHead;
pub use fitness::Weakness;
pub use key_eraser::KeyEraser;
pub use key_rotator::{KeyRotator, Rewrapped, Succession, Turn};
pub use key_store::KeyDatabase;
pub use key_versions::{KeyPlace, OwnedKey, StretchOfKeys, TenantKeyVersion};
pub use pool::{Database, StorageError};
pub use reconcile::{RecordKey, Stretch};
pub use records::{
    Candidate, Claim, Claimed, Concerned, ErasedBy, ExpiredUpload, FoundBreakGlass, FoundCareTeam,
    FoundErasure, FoundHold, FoundRecord, FoundRotation, FoundUpload, FoundVersion, ListedFor, ListedRecord,
    MOST_BYTES, NewBreakGlass, NewErasure, NewHold, NewRotation, OpenRotation, PendingDestruction,
    PendingErasure, PendingErasures, PendingPlace, RecordStore, Reindexed, SubjectRecord, SubjectRow,
    Successor, TermsOf,
};
pub use retention::{Dropped, Hold, MonthEntry, MonthFacts, MonthRecord, Retention, StoredMonth};
pub use sequence::{Lead, NumberedEntry, SequenceStore, StoredEntry, StoredHead, Taken};
pub use watch::{ReviewPart, Reviewed};
