//! The only SQL. Writes accept sealed values only; every statement opens with a comment naming its function.
//!
//! Not here: keys, plaintext, decisions.

pub mod audit;
pub mod pool;

pub use pool::{Database, StorageError};
