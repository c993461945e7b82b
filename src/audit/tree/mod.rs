//! The Merkle tree of the log: hashes, heads, proofs (RFC 6962 section 2.1, RFC 9162 section 2.1), over SHA-256.
//!
//! Nothing here reads or writes. What a head or a proof needs is a [`Plan`]: a list of [`NodeId`]s that the caller
//! finds wherever it keeps them (tiles, a table, memory) and hands back.
//!
//! Not here: how nodes are kept in files (`audit::tiles`), who signs a head (`audit::checkpoint`).

mod check;
mod frontier;
mod plan;
#[cfg(test)]
mod tests;

use std::fmt;

use ring::digest::{Context, Digest, SHA256, digest};

pub use check::{Unproven, check_consistency, check_inclusion};
pub use frontier::Frontier;
pub use plan::Plan;

/// SHA-256 of a leaf, a node or a tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash([u8; 32]);

impl TreeHash {
    pub const BYTES: usize = 32;

    /// RFC 6962 section 2.1: the hash of an empty list is the hash of an empty string.
    pub fn of_nothing() -> Self {
        Self::from_digest(&digest(&SHA256, b""))
    }

    /// RFC 6962 section 2.1: `SHA-256(0x00 || entry)`.
    pub fn of_leaf(entry: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        context.update(entry);
        Self::from_digest(&context.finish())
    }

    /// RFC 6962 section 2.1: `SHA-256(0x01 || left || right)`.
    pub fn of_node(left: &Self, right: &Self) -> Self {
        let mut input = [1_u8; 65];
        for (to, from) in input.iter_mut().skip(1).zip(left.0.iter().chain(&right.0)) {
            *to = *from;
        }
        Self::from_digest(&digest(&SHA256, &input))
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn from_digest(digest: &Digest) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        Self(out)
    }
}

impl AsRef<Self> for TreeHash {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A complete subtree: the `2^level` leaves from `index * 2^level` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    pub level: u8,
    pub index: u64,
}

/// The hash of a list of leaves or of complete subtrees of one size: `MTH` of RFC 6962 section 2.1, from the leaves up.
/// `None` when there are none.
pub fn root_of(hashes: &[TreeHash]) -> Option<TreeHash> {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        // A last one without a sibling moves up as it is: it is the whole right part at that height.
        let next = row.chunks(2).map(|pair| match pair {
            [left, right] => TreeHash::of_node(left, right),
            rest => rest.first().copied().unwrap_or(TreeHash([0; 32])),
        });
        row = next.collect();
    }
    row.first().copied()
}
