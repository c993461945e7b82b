//! Which complete subtrees a head or a proof is made of.

use super::{NodeId, TreeHash};

/// A list of hashes to be computed, each from complete subtrees of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    parts: Vec<Vec<NodeId>>,
}

impl Plan {
    /// The head of a tree of this size, from the largest subtree to the smallest. No node at all for an empty tree.
    pub fn head(size: u64) -> Self {
        Self { parts: if size == 0 { Vec::new() } else { vec![subtrees(0, size)] } }
    }

    /// The path from a leaf to the head (RFC 6962 section 2.1.1), the leaf's sibling first. `None` where the tree has
    /// no such leaf.
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut low, mut high, mut parts) = (0, size, Vec::new());
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                parts.push(subtrees(middle, high));
                high = middle;
            } else {
                parts.push(subtrees(low, middle));
                low = middle;
            }
        }
        parts.reverse();
        Some(Self { parts })
    }

    /// That a tree only grew (RFC 6962 section 2.1.2). Nothing needs to be shown from an empty tree or to the same size;
    /// `None` when it would have shrunk.
    pub fn consistency(old: u64, new: u64) -> Option<Self> {
        if old > new {
            return None;
        }
        if old == 0 || old == new {
            return Some(Self { parts: Vec::new() });
        }
        let (mut low, mut high, mut parts) = (0, new, Vec::new());
        while old != high {
            let middle = low + split(high - low);
            if old <= middle {
                parts.push(subtrees(middle, high));
                high = middle;
            } else {
                parts.push(subtrees(low, middle));
                low = middle;
            }
        }
        // SUBPROOF(m, D[m], true) is empty: who asks knows the old head itself.
        if low != 0 {
            parts.push(subtrees(low, high));
        }
        parts.reverse();
        Some(Self { parts })
    }

    /// Every subtree that is needed, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.parts.iter().flatten().copied()
    }

    pub fn into_nodes(self) -> Vec<NodeId> {
        self.parts.into_iter().flatten().collect()
    }

    /// The hashes: the head alone, or the lines of the proof.
    pub fn resolve<E>(
        &self,
        mut read: impl FnMut(NodeId) -> Result<TreeHash, E>,
    ) -> Result<Vec<TreeHash>, E> {
        let mut hashes = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut right: Option<TreeHash> = None;
            for node in part.iter().rev() {
                let left = read(*node)?;
                right = Some(right.map_or(left, |right| TreeHash::of_node(&left, &right)));
            }
            hashes.extend(right);
        }
        Ok(hashes)
    }
}

/// RFC 6962 section 2.1: the largest power of two smaller than `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The complete subtrees of the leaves `[low, high)`, the largest first. `low` is a multiple of the largest.
fn subtrees(mut low: u64, high: u64) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    while low < high {
        let height = (high - low).ilog2();
        // At most 63.
        nodes.push(NodeId { level: u8::try_from(height).unwrap_or(0), index: low >> height });
        low += 1 << height;
    }
    nodes
}
