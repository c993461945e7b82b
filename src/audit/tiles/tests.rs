use std::collections::BTreeMap;

use proptest::prelude::*;
use tlog_tiles::{HashReader, TileReader};

use super::*;
use crate::audit::tree::{Frontier, NodeId, Plan, TreeHash, check_consistency, check_inclusion};

fn leaf(number: u64) -> TreeHash {
    TreeHash::of_leaf(&number.to_be_bytes())
}

/// A log's tiles as files, at the sizes at which it published.
#[derive(Default)]
struct Files {
    edge: Edge,
    files: BTreeMap<String, Vec<u8>>,
}

impl Files {
    fn grow_to(&mut self, size: u64) {
        while self.edge.size() < size {
            let filled = self.edge.append(leaf(self.edge.size()));
            self.keep(filled);
        }
        self.keep(self.edge.partial_tiles());
    }

    fn keep(&mut self, tiles: Vec<(TileId, Tile)>) {
        for (id, tile) in tiles {
            assert_eq!(usize::from(id.width()), tile.hashes().len());
            let before = self.files.insert(id.to_string(), tile.to_bytes());
            assert!(before.is_none_or(|before| before == tile.to_bytes()), "{id} changed");
        }
    }

    fn tile(&self, id: TileId) -> Result<Tile, String> {
        let bytes = self.files.get(&id.to_string()).ok_or_else(|| format!("no {id}"))?;
        Tile::from_bytes(id, bytes).map_err(|fault| fault.to_string())
    }

    fn node(&self, node: NodeId, size: u64) -> Result<TreeHash, String> {
        let (id, first) = TileId::of_node(node, size).ok_or("no such node")?;
        self.tile(id)?.node(node, first).ok_or_else(|| String::from("not in the tile"))
    }
}

fn head(size: u64) -> TreeHash {
    let mut frontier = Frontier::default();
    for number in 0..size {
        frontier.append(leaf(number));
    }
    frontier.root()
}

#[test]
fn paths_are_those_of_the_specification() {
    let tile = |level, index, width| TileId::new(level, index, width).unwrap().to_string();
    assert_eq!(tile(0, 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(tile(3, 5, 7), "tile/3/005.p/7");
    assert_eq!(tile(63, 999, 255), "tile/63/999.p/255");
    assert_eq!(tile(1, 1_000, 256), "tile/1/x001/000");
    assert_eq!(BundleId::new(1_234_067, 256).unwrap().to_string(), "tile/entries/x001/x234/067");
    assert_eq!(BundleId::new(0, 1).unwrap().to_string(), "tile/entries/000.p/1");
    assert_eq!(index_path(u64::MAX), "x018/x446/x744/x073/x709/x551/615");
    for wrong in [
        "tile/0/1",
        "tile/0/0001",
        "tile/0/x000/001",
        "tile/0/001/x002",
        "tile/00/001",
        "tile/+0/001",
        "tile/64/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001.p/",
        "tile/0/001/",
        "tile/0/-01",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/entries/001",
        "/tile/0/001",
        "tile/0/001\n",
        "tile/0/٠٠١",
    ] {
        assert_eq!(TileId::parse(wrong), None, "{wrong}");
    }
    assert_eq!(BundleId::parse("tile/0/001"), None);
    assert_eq!(TileId::new(0, 0, 0), None);
    assert_eq!(TileId::new(0, 0, 257), None);
}

/// The example of tlog-tiles, Partial Tiles.
#[test]
fn a_tree_of_70_000_has_the_tiles_of_the_specification() {
    let mut files = Files::default();
    files.grow_to(70_000);
    let full = |level: u8| {
        files
            .files
            .keys()
            .filter_map(|path| TileId::parse(path))
            .filter(move |id| id.level() == level && id.is_full())
            .count()
    };
    assert_eq!((full(0), full(1), full(2)), (273, 1, 0));
    let partial: Vec<String> = TileId::partial_of(70_000).iter().map(ToString::to_string).collect();
    assert_eq!(partial, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    assert_eq!(
        TileId::partial_of(256).iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["tile/1/000.p/1"]
    );
    assert_eq!(TileId::at(0, 273, 70_000).map(TileId::width), Some(112));
    assert_eq!(TileId::at(0, 274, 70_000), None);
    assert_eq!(BundleId::at(272, 70_000).map(BundleId::width), Some(256));
    assert_eq!(files.edge.root(), head(70_000));
}

#[test]
fn what_may_be_pruned_ends_at_or_below_the_minimum_index() {
    let tile = |level, index| TileId::full(level, index).unwrap();
    assert!(tile(0, 0).may_be_pruned(256) && !tile(0, 0).may_be_pruned(255));
    assert!(tile(1, 0).may_be_pruned(65_536) && !tile(1, 0).may_be_pruned(65_535));
    assert!(!tile(7, 0).may_be_pruned(u64::MAX), "it ends where no 64-bit index does");
    assert!(BundleId::new(3, 256).unwrap().may_be_pruned(1_024));
    assert!(
        BundleId::new(3, 9).unwrap().may_be_pruned(1_024)
            && !BundleId::new(3, 9).unwrap().may_be_pruned(1_023)
    );
    assert_eq!(BundleId::new(3, 9).unwrap().start_index(), 768);
}

/// With everything gone that pruning may take, every proof about what is left can still be made.
#[test]
fn a_pruned_log_still_proves_what_it_publishes() {
    let (size, minimum) = (70_000, 66_000);
    let mut files = Files::default();
    files.grow_to(size);
    files.files.retain(|path, _| !TileId::parse(path).unwrap().may_be_pruned(minimum));
    assert!(!files.files.contains_key("tile/0/256") && files.files.contains_key("tile/0/257"));
    let root = files.edge.root();
    for index in [minimum, 66_047, 69_999] {
        let plan = Plan::inclusion(index, size).unwrap();
        let proof = plan.resolve(|node| files.node(node, size)).unwrap();
        check_inclusion(leaf(index), index, size, &root, &proof).unwrap();
    }
    let plan = Plan::consistency(minimum, size).unwrap();
    let proof = plan.resolve(|node| files.node(node, size)).unwrap();
    check_consistency(minimum, &head(minimum), size, &root, &proof).unwrap();
    assert!(Plan::inclusion(1_000, size).unwrap().resolve(|node| files.node(node, size)).is_err());
}

#[test]
fn bundles_are_read_strictly() {
    let longest = vec![7; LARGEST_ENTRY_BYTES];
    let entries: [&[u8]; 3] = [b"one", b"", &longest];
    let mut bytes = Vec::new();
    for entry in &entries {
        push_entry(&mut bytes, entry).unwrap();
    }
    let id = |width| BundleId::new(0, width).unwrap();
    assert_eq!(bytes[..5], *b"\0\x03one");
    assert_eq!(read_bundle(id(3), &bytes).unwrap(), entries);
    assert_eq!(read_bundle(id(4), &bytes), Err(BundleFault::Short { entries: 3 }));
    assert_eq!(read_bundle(id(2), &bytes), Err(BundleFault::Long { bytes: 2 + LARGEST_ENTRY_BYTES }));
    assert_eq!(read_bundle(id(3), &bytes[..9]), Err(BundleFault::Short { entries: 2 }));
    assert_eq!(read_bundle(id(3), &bytes[..8]), Err(BundleFault::Short { entries: 2 }));
    let before = bytes.clone();
    assert_eq!(push_entry(&mut bytes, &vec![0; LARGEST_ENTRY_BYTES + 1]), Err(TooLarge));
    assert_eq!(bytes, before);
}

#[test]
fn a_tile_has_exactly_its_bytes() {
    let id = TileId::new(0, 0, 2).unwrap();
    assert!(Tile::from_bytes(id, &[0; 64]).is_ok());
    for wrong in [0, 63, 65, 96] {
        let fault = TileFault::Length { expected: 2, expected_bytes: 64, bytes: wrong };
        assert_eq!(Tile::from_bytes(id, &vec![0; wrong]), Err(fault));
    }
    assert!(Tile::new(Vec::new()).is_none() && Tile::new(vec![leaf(0); 257]).is_none());
}

/// The files under the paths that the oracle uses: it has the height in them, and calls the entries data.
struct Oracle<'a>(&'a Files);

impl TileReader for Oracle<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &tlog_tiles::Tile| self.0.files[&ours(&tile.path())].clone();
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn ours(path: &str) -> String {
    path.replacen("tile/8/data/", "tile/entries/", 1).replacen("tile/8/", "tile/", 1)
}

fn theirs(hash: TreeHash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(*hash.as_bytes())
}

proptest! {
    #[test]
    fn paths_come_back_and_agree_with_tlog_tiles(level in 0..62_u8, index in 0..1_u64 << 55, width in 1..=256_u16) {
        let id = TileId::new(level, index, width).unwrap();
        prop_assert_eq!(TileId::parse(&id.to_string()), Some(id));
        let other = tlog_tiles::Tile::new(8, level, index, u32::from(width), false);
        prop_assert_eq!(ours(&other.path()), id.to_string());
        let bundle = BundleId::new(index, width).unwrap();
        prop_assert_eq!(BundleId::parse(&bundle.to_string()), Some(bundle));
        let other = tlog_tiles::Tile::new(8, 0, index, u32::from(width), true);
        prop_assert_eq!(ours(&other.path()), bundle.to_string());
    }

    #[test]
    fn any_path_has_one_spelling(text in "tile/[0-9einrst]{0,7}/[x0-9/.p]{0,20}") {
        prop_assert!(TileId::parse(&text).is_none_or(|id| id.to_string() == text));
        prop_assert!(BundleId::parse(&text).is_none_or(|id| id.to_string() == text));
    }

    #[test]
    fn bundles_come_back(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..=256)) {
        let mut bytes = Vec::new();
        for entry in &entries {
            push_entry(&mut bytes, entry).unwrap();
        }
        let id = BundleId::new(0, u16::try_from(entries.len()).unwrap()).unwrap();
        prop_assert_eq!(read_bundle(id, &bytes).unwrap(), entries);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the sizes at which it is published and taken up again, the log is the same files; tlog_tiles makes its
    /// proofs from them, and ours are equal.
    #[test]
    fn a_log_grown_in_steps_proves_the_same_as_tlog_tiles(steps in proptest::collection::vec(1..900_u64, 1..4), picks in any::<[u64; 2]>()) {
        let mut files = Files::default();
        let mut size = 0;
        for step in &steps {
            size += step;
            files.grow_to(size);
            files.edge = Edge::resume(size, |id| files.tile(id)).unwrap();
            prop_assert_eq!(files.edge.root(), head(size));
        }
        let root = files.edge.root();
        let reader = Oracle(&files);
        let hashes = tlog_tiles::TileHashReader::new(size, theirs(root), &reader);
        prop_assert_eq!(tlog_tiles::tree_hash(size, &hashes).unwrap(), theirs(root));
        let index = picks[0] % size;
        let proof = Plan::inclusion(index, size).unwrap().resolve(|node| files.node(node, size)).unwrap();
        let expected = tlog_tiles::prove_record(size, index, &hashes).unwrap();
        prop_assert_eq!(proof.iter().copied().map(theirs).collect::<Vec<_>>(), expected);
        prop_assert!(check_inclusion(leaf(index), index, size, &root, &proof).is_ok());
        let old = 1 + picks[1] % size;
        let proof = Plan::consistency(old, size).unwrap().resolve(|node| files.node(node, size)).unwrap();
        let expected = tlog_tiles::prove_tree(size, old, &hashes).unwrap();
        prop_assert_eq!(proof.iter().copied().map(theirs).collect::<Vec<_>>(), expected);
        prop_assert!(hashes.read_hashes(&[0]).unwrap() == [theirs(leaf(0))]);
        let full = files.files.keys().filter_map(|path| TileId::parse(path)).filter(|id| id.is_full());
        let sizes = tlog_tiles::Tile::new_tiles(8, 0, size).into_iter().filter(|tile| tile.width() == 256);
        prop_assert_eq!(full.map(|id| id.to_string()).collect::<std::collections::BTreeSet<_>>(), sizes.map(|tile| ours(&tile.path())).collect());
    }
}
