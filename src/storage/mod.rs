//! The only SQL. Writes accept sealed values only; every statement opens with a comment naming its function.
//!
//! Not here: keys, plaintext, decisions.

pub mod audit;
pub mod migrate;
pub mod pool;
pub mod records;

pub use audit::{AuditReader, AuditWriter};
pub use pool::{Database, StorageError};
pub use records::{FoundRecord, RecordStore, SubjectRow};
