//! The proof that one entry is in the log, in one file (C2SP tlog-proof).

use std::fmt;

use super::signed::{SignedCheckpoint, SignedCheckpointFault};
use super::{decimal, from_base64, hash_from_base64, to_base64};
use crate::audit::tree::{TreeHash, Unproven, check_inclusion};

/// tlog-proof, Format.
const HEADING: &str = "c2sp.org/tlog-proof@v1\n";
/// A path is no longer than the tree is high.
const MOST_HASHES: usize = 63;

/// Bytes are no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    #[error("the file does not begin as a tlog-proof of version 1")]
    Heading,
    #[error("the proof's extra line is not base64")]
    Extra,
    #[error("the proof names no index, or one that is not a decimal number below 2^63")]
    Index,
    #[error("a line of the proof is not the base64 of 32 bytes, or there are more than {MOST_HASHES}")]
    Hashes,
    #[error("the proof has no checkpoint: {0}")]
    Checkpoint(#[from] SignedCheckpointFault),
}

/// An entry's index, its path to the root, and the checkpoint that holds the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryProof {
    index: u64,
    path: Vec<TreeHash>,
    checkpoint: SignedCheckpoint,
    /// Opaque, and not to be trusted: nothing signs it.
    extra: Option<Vec<u8>>,
}

impl EntryProof {
    /// `path` from [`crate::audit::tree::Plan::inclusion`] for the checkpoint's size.
    pub const fn new(index: u64, path: Vec<TreeHash>, checkpoint: SignedCheckpoint) -> Self {
        Self { index, path, checkpoint, extra: None }
    }

    /// What this reads, [`fmt::Display`] gives back byte for byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFault> {
        let rest = bytes.strip_prefix(HEADING.as_bytes()).ok_or(ProofFault::Heading)?;
        let end = rest.windows(2).position(|pair| pair == b"\n\n").ok_or(ProofFault::Index)?;
        let (head, checkpoint) = rest.split_at_checked(end + 2).ok_or(ProofFault::Index)?;
        let head = std::str::from_utf8(head).map_err(|_| ProofFault::Hashes)?;
        let mut lines = head.trim_end_matches('\n').split('\n').peekable();
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.and_then(|line| line.strip_prefix("extra "));
        let extra = extra.map(|text| from_base64(text).ok_or(ProofFault::Extra)).transpose()?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(ProofFault::Index)?;
        let path: Option<Vec<TreeHash>> = lines.map(hash_from_base64).collect();
        let path = path.filter(|path| path.len() <= MOST_HASHES).ok_or(ProofFault::Hashes)?;
        Ok(Self { index, path, checkpoint: SignedCheckpoint::parse(checkpoint)?, extra })
    }

    /// That the checkpoint's root holds `entry` at the proof's index (tlog-proof, Verifying a tlog proof, step 4). The
    /// signatures are the other half: [`super::Trust::endorse`].
    pub fn check(&self, entry: &[u8]) -> Result<(), Unproven> {
        let checkpoint = self.checkpoint.checkpoint();
        let leaf = TreeHash::of_leaf(entry);
        check_inclusion(leaf, self.index, checkpoint.size(), checkpoint.root(), &self.path)
    }

    pub const fn index(&self) -> u64 {
        self.index
    }

    pub const fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }
}

impl fmt::Display for EntryProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADING)?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", to_base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", to_base64(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}
