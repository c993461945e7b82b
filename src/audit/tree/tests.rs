use std::convert::Infallible;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use super::*;

/// Leaves of different lengths, the first of them empty.
fn entries(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_be_bytes().repeat(usize::try_from(number % 3).unwrap())).collect()
}

fn leaves(count: u64) -> Vec<TreeHash> {
    entries(count).iter().map(|entry| TreeHash::of_leaf(entry)).collect()
}

/// Somebody else's tree.
fn oracle(count: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    for entry in entries(count) {
        tree.push(entry);
    }
    tree
}

fn oracle_root(count: u64) -> TreeHash {
    TreeHash::from_bytes(oracle(count).root().as_bytes().as_slice().try_into().unwrap())
}

fn frontier(count: u64) -> Frontier {
    let mut frontier = Frontier::default();
    for leaf in leaves(count) {
        frontier.append(leaf);
    }
    frontier
}

/// A complete subtree, from the leaves.
fn node(leaves: &[TreeHash], id: NodeId) -> TreeHash {
    let from = usize::try_from(id.index << id.level).unwrap();
    root_of(&leaves[from..from + (1 << id.level)]).unwrap()
}

fn resolved(plan: &Plan, leaves: &[TreeHash]) -> Vec<TreeHash> {
    plan.resolve(|id| Ok::<_, Infallible>(node(leaves, id))).unwrap()
}

fn hashes_of(bytes: &[u8]) -> Vec<TreeHash> {
    bytes.chunks(32).map(|chunk| TreeHash::from_bytes(chunk.try_into().unwrap())).collect()
}

/// What the RFCs themselves fix.
#[test]
fn the_empty_tree_and_domain_separation() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(TreeHash::of_nothing().to_string(), empty);
    assert_eq!(Frontier::default().root(), TreeHash::of_nothing());
    let leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    assert_eq!(TreeHash::of_leaf(b"").to_string(), leaf);
    let (left, right) = (TreeHash::of_leaf(b"a"), TreeHash::of_leaf(b"b"));
    let joined = [left.as_bytes().as_slice(), right.as_bytes()].concat();
    assert_ne!(TreeHash::of_node(&left, &right), TreeHash::of_leaf(&joined));
}

#[test]
fn every_small_tree_agrees_with_ct_merkle() {
    for size in 0..=130 {
        let leaves = leaves(size);
        let head = oracle_root(size);
        assert_eq!(frontier(size).root(), head, "{size}");
        assert_eq!(resolved(&Plan::head(size), &leaves).first().copied(), (size > 0).then_some(head));
        assert_eq!(root_of(&leaves), (size > 0).then_some(head));
        let parts: Vec<TreeHash> = frontier(size).nodes().map(|(_, hash)| hash).collect();
        assert!(frontier(size).nodes().all(|(id, hash)| node(&leaves, id) == hash));
        assert_eq!(Frontier::resume(size, parts), Some(frontier(size)));
    }
    assert_eq!(Frontier::resume(3, vec![TreeHash::of_nothing()]), None);
    assert_eq!(Plan::inclusion(5, 5), None);
    assert_eq!(Plan::consistency(6, 5), None);
}

#[test]
fn every_small_inclusion_and_consistency_proof_agrees_with_ct_merkle() {
    for size in 1..=70_u64 {
        let (tree, leaves, head) = (oracle(size), leaves(size), oracle_root(size));
        for index in 0..size {
            let proof = resolved(&Plan::inclusion(index, size).unwrap(), &leaves);
            let place = usize::try_from(index).unwrap();
            assert_eq!(proof, hashes_of(tree.prove_inclusion(place).as_bytes()), "{index} of {size}");
            check_inclusion(leaves[place], index, size, &head, &proof).unwrap();
        }
        for old in 1..=size {
            let proof = resolved(&Plan::consistency(old, size).unwrap(), &leaves);
            let added = usize::try_from(size - old).unwrap();
            assert_eq!(proof, hashes_of(tree.prove_consistency(added).as_bytes()), "{old} to {size}");
            check_consistency(old, &oracle_root(old), size, &head, &proof).unwrap();
        }
    }
}

#[test]
fn anything_grows_from_nothing_and_nothing_shrinks() {
    let (nothing, five) = (TreeHash::of_nothing(), oracle_root(5));
    assert_eq!(check_consistency(0, &nothing, 5, &five, &[]), Ok(()));
    assert_eq!(check_consistency(0, &nothing, 0, &nothing, &[]), Ok(()));
    assert_eq!(check_consistency(0, &five, 5, &five, &[]), Err(Unproven));
    assert_eq!(check_consistency(0, &nothing, 5, &five, &[five]), Err(Unproven));
    assert_eq!(check_consistency(5, &five, 5, &nothing, &[]), Err(Unproven));
    assert_eq!(check_consistency(5, &five, 4, &oracle_root(4), &[]), Err(Unproven));
    assert_eq!(check_inclusion(five, 0, 0, &nothing, &[]), Err(Unproven));
}

proptest! {
    // Building the oracle is what takes the time.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn larger_trees_agree_with_ct_merkle(size in 1..1_500_u64, pick in any::<u64>(), other in any::<u64>()) {
        let (tree, leaves, head) = (oracle(size), leaves(size), oracle_root(size));
        prop_assert_eq!(frontier(size).root(), head);
        let index = pick % size;
        let proof = resolved(&Plan::inclusion(index, size).unwrap(), &leaves);
        let place = usize::try_from(index).unwrap();
        prop_assert_eq!(&proof, &hashes_of(tree.prove_inclusion(place).as_bytes()));
        prop_assert!(check_inclusion(leaves[place], index, size, &head, &proof).is_ok());
        let old = 1 + other % size;
        let proof = resolved(&Plan::consistency(old, size).unwrap(), &leaves);
        let added = usize::try_from(size - old).unwrap();
        prop_assert_eq!(&proof, &hashes_of(tree.prove_consistency(added).as_bytes()));
        prop_assert!(check_consistency(old, &oracle_root(old), size, &head, &proof).is_ok());
    }

}

proptest! {
    /// Whatever is turned in a proof, it proves nothing any more; nor does it prove something else.
    #[test]
    fn a_proof_that_was_changed_proves_nothing(
        size in 2..400_u64, pick in any::<u64>(), at in any::<usize>(), bit in 0..256_usize, kind in 0..3_u8,
    ) {
        let (leaves, head) = (leaves(size), oracle_root(size));
        let index = pick % size;
        let old = 1 + pick % (size - 1);
        let change = |proof: &mut Vec<TreeHash>| {
            let at = if proof.is_empty() { 0 } else { at % proof.len() };
            match kind {
                0 if !proof.is_empty() => proof[at].0[bit / 8] ^= 1 << (bit % 8),
                1 if !proof.is_empty() => drop(proof.remove(at)),
                _ => proof.insert(at, head),
            }
        };
        let leaf = leaves[usize::try_from(index).unwrap()];
        let mut proof = resolved(&Plan::inclusion(index, size).unwrap(), &leaves);
        prop_assert_eq!(check_inclusion(TreeHash::of_leaf(b"other"), index, size, &head, &proof), Err(Unproven));
        prop_assert_eq!(check_inclusion(leaf, (index + 1) % size, size, &head, &proof), Err(Unproven));
        change(&mut proof);
        prop_assert_eq!(check_inclusion(leaf, index, size, &head, &proof), Err(Unproven));
        let mut proof = resolved(&Plan::consistency(old, size).unwrap(), &leaves);
        let fork = TreeHash::of_leaf(b"fork");
        prop_assert_eq!(check_consistency(old, &fork, size, &head, &proof), Err(Unproven));
        prop_assert_eq!(check_consistency(old, &oracle_root(old), size, &fork, &proof), Err(Unproven));
        change(&mut proof);
        prop_assert_eq!(check_consistency(old, &oracle_root(old), size, &head, &proof), Err(Unproven));
    }

    /// Whole subtrees at once, as full tiles come, make the same tree.
    #[test]
    fn subtrees_append_like_their_leaves(full in 0..5_u64, rest in 0..16_u64) {
        let size = full * 16 + rest;
        let leaves = leaves(size);
        let mut by_subtrees = Frontier::default();
        for chunk in leaves.chunks(16) {
            if chunk.len() == 16 {
                prop_assert!(by_subtrees.append_subtree(4, root_of(chunk).unwrap()).is_some());
            } else {
                prop_assert_eq!(by_subtrees.root_with(chunk), oracle_root(size));
                for leaf in chunk {
                    by_subtrees.append(*leaf);
                }
            }
        }
        prop_assert_eq!(&by_subtrees, &frontier(size));
        let fits = rest == 0;
        prop_assert_eq!(by_subtrees.append_subtree(4, TreeHash::of_nothing()).is_some(), fits);
    }
}
