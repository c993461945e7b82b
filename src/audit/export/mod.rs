//! The log as files that outlive the database: what an auditor takes away and verifies elsewhere.
//!
//! ```text
//! checkpoint                      the newest checkpoint, replaced as the log grows        (C2SP tlog-tiles, Checkpoints)
//! tile/<L>/<N>[.p/<W>]            hashes                                                  (Merkle Tree)
//! tile/entries/<N>[.p/<W>]        entries, as they are stored                             (Log entries)
//! checkpoints/<N>-<digest>        every checkpoint ever published: its size as a path, half its SHA-256
//! keys/<id>                       a public key each, as a line of a policy file           (C2SP tlog-policy)
//! ```
//!
//! Every file but `checkpoint` is written once and never again. [`Tail`] says which files a growing log consists of, and
//! touches none; [`LogWriter`] keeps them in a [`Target`]: a [`Directory`], or whatever else keeps files.
//!
//! Not here: where entries come from, who signs, and what needs a network (`jobs::bucket`).

mod directory;
mod signed_tree;
mod tail;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

use ring::digest::{SHA256, digest};

use super::checkpoint::{SignedCheckpoint, VerifierKey};
use super::tiles::index_path;

pub use directory::{Directory, ReadOnlyDirectory};
pub use signed_tree::SignedTree;
pub use tail::{Tail, TailFault};
pub use target::{ExportError, Source, Target};
pub use writer::LogWriter;

/// Where the newest checkpoint is.
pub const CHECKPOINT: &str = "checkpoint";
/// The folder of all checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// The folder of keys.
pub const KEYS: &str = "keys";

/// A file of the log, by its path within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: String,
    pub bytes: Vec<u8>,
}

impl LogFile {
    /// What is stored under its path must be the same.
    pub fn same_as(&self, stored: &[u8]) -> Result<(), ExportError> {
        if self.bytes == stored { Ok(()) } else { Err(ExportError::Different { path: self.path.clone() }) }
    }

    /// A checkpoint for keeps. Its content is in its name, so that two of one size, by a heartbeat, another witness or a
    /// fork, are both kept.
    pub fn of_checkpoint(signed: &SignedCheckpoint) -> Self {
        let bytes = signed.to_string().into_bytes();
        let digest = digest(&SHA256, &bytes);
        let short = digest.as_ref().first_chunk::<8>().copied().map_or(0, u64::from_be_bytes);
        let path = format!("{CHECKPOINTS}/{}-{short:016x}", index_path(signed.checkpoint().size()));
        Self { path, bytes }
    }

    /// A key of the log.
    pub fn of_log_key(key: &VerifierKey) -> Self {
        Self { path: format!("{KEYS}/{:08x}", key.id()), bytes: format!("log {key}\n").into_bytes() }
    }

    /// A key of a witness, with its name in the policy.
    pub fn of_witness_key(name: &str, key: &VerifierKey) -> Self {
        Self {
            path: format!("{KEYS}/{:08x}", key.id()),
            bytes: format!("witness {name} {key}\n").into_bytes(),
        }
    }
}
