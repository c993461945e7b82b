//! Checking proofs that somebody else made.

use super::TreeHash;

/// A proof does not show what it should: it is too long, too short, or leads to another head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead to the tree's head")]
pub struct Unproven;

/// That `leaf` is entry `index` of the tree of `size` entries with the head `root` (RFC 9162 section 2.1.3.2).
pub fn check_inclusion(
    leaf: TreeHash,
    index: u64,
    size: u64,
    root: &TreeHash,
    proof: &[TreeHash],
) -> Result<(), Unproven> {
    if index >= size {
        return Err(Unproven);
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for step in proof {
        if last == 0 {
            return Err(Unproven);
        }
        if place & 1 == 1 || place == last {
            hash = TreeHash::of_node(step, &hash);
            // Levels at which the last one has no sibling are passed over.
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = TreeHash::of_node(&hash, step);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(Unproven) }
}

/// That the tree of `new_size` entries with the head `new_root` begins with all of the tree of `old_size` entries with
/// the head `old_root` (RFC 9162 section 2.1.4.2).
pub fn check_consistency(
    old_size: u64,
    old_root: &TreeHash,
    new_size: u64,
    new_root: &TreeHash,
    proof: &[TreeHash],
) -> Result<(), Unproven> {
    if old_size == 0 || old_size == new_size {
        let is_same = if old_size == new_size { old_root == new_root } else { true };
        let is_empty = old_size != 0 || *old_root == TreeHash::of_nothing();
        return if proof.is_empty() && is_same && is_empty { Ok(()) } else { Err(Unproven) };
    }
    if old_size > new_size {
        return Err(Unproven);
    }
    let (mut place, mut last) = (old_size - 1, new_size - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    // A power of two: the old head is itself the first subtree, and is left out of the proof.
    let (first, rest) = if place == 0 { (old_root, proof) } else { proof.split_first().ok_or(Unproven)? };
    let (mut old, mut new) = (*first, *first);
    for step in rest {
        if last == 0 {
            return Err(Unproven);
        }
        if place & 1 == 1 || place == last {
            old = TreeHash::of_node(step, &old);
            new = TreeHash::of_node(step, &new);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            new = TreeHash::of_node(&new, step);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 && old == *old_root && new == *new_root { Ok(()) } else { Err(Unproven) }
}
