//! The only SQL. Writes accept sealed values only; every statement opens with a comment naming its function.
//!
//! Not here: keys, plaintext, decisions.

pub mod key_store;
pub mod pool;

pub use key_store::KeyDatabase;
pub use pool::{Database, StorageError};
