//! The right edge of a tree as a list of complete subtrees, the largest first: all that appending and the head need.

use super::{NodeId, Plan, TreeHash};

/// A tree of `size` leaves, reduced to the roots of the complete subtrees that its size is the sum of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<TreeHash>,
}

impl Frontier {
    /// Continues at `size` with the hashes of `Plan::head(size)`, in its order. `None` when their number is another.
    pub fn resume(size: u64, roots: Vec<TreeHash>) -> Option<Self> {
        (u64::from(size.count_ones()) == u64::try_from(roots.len()).ok()?).then_some(Self { size, roots })
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    pub fn append(&mut self, leaf: TreeHash) {
        // A leaf fits at every size; only the last of 2^64 would have no place.
        let _ = self.append_subtree(0, leaf);
    }

    /// Appends a complete subtree of `2^level` leaves at once. `None`, and nothing changes, where the size is no multiple
    /// of that: such a subtree would not be one of the tree's.
    pub fn append_subtree(&mut self, level: u8, root: TreeHash) -> Option<()> {
        let leaves = 1_u64.checked_shl(u32::from(level))?;
        let new_size = self.size.checked_add(leaves).filter(|_| self.size.is_multiple_of(leaves))?;
        let mut node = root;
        let mut siblings = self.size >> level;
        while siblings & 1 == 1 {
            let Some(left) = self.roots.pop() else { break };
            node = TreeHash::of_node(&left, &node);
            siblings >>= 1;
        }
        self.roots.push(node);
        self.size = new_size;
        Some(())
    }

    /// The tree's head.
    pub fn root(&self) -> TreeHash {
        let mut rest = self.roots.iter().rev();
        let Some(last) = rest.next() else { return TreeHash::of_nothing() };
        rest.fold(*last, |right, left| TreeHash::of_node(left, &right))
    }

    /// The head that the tree would have with these leaves after it.
    pub fn root_with(&self, leaves: &[TreeHash]) -> TreeHash {
        let mut longer = self.clone();
        for leaf in leaves {
            longer.append(*leaf);
        }
        longer.root()
    }

    /// The subtrees and their hashes, the largest first.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, TreeHash)> {
        Plan::head(self.size).into_nodes().into_iter().zip(self.roots.iter().copied())
    }
}
