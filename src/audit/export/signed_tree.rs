//! A log's files as far as a checkpoint vouches for them: each tile is believed when the one above it is, up to the root that
//! was signed. Whether the checkpoint is to be believed is for the caller.
//!
//! Not here: all that an auditor asks of a log (`audit::verify`). This answers for single tiles and bundles, wherever files are.

use std::collections::HashMap;

use super::{ExportError, Source};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::tiles::{BundleId, Edge, FULL, Tile, TileId, read_bundle};
use crate::audit::tree::TreeHash;

/// Levels that a tree of 64-bit size has at most.
const LEVELS: u8 = 8;

/// The tree that a checkpoint speaks of.
pub struct SignedTree<S> {
    source: S,
    edge: Edge,
    /// Full tiles above the leaves that were believed.
    believed: HashMap<(u8, u64), Tile>,
}

impl<S: Source> SignedTree<S> {
    /// Of a log whose partial tiles lead to the checkpoint's root; `Damaged` otherwise.
    pub fn open(source: S, checkpoint: &Checkpoint) -> Result<Self, ExportError> {
        let edge = Edge::resume(checkpoint.size(), |id| {
            // Once there is a full one, a partial one may have gone.
            let bytes = match source.read(&id.to_string())? {
                Some(bytes) => Some(bytes),
                None => source.read(&full(id.level(), id.index())?.to_string())?,
            };
            let wanted =
                bytes.as_ref().and_then(|bytes| bytes.get(..usize::from(id.width()) * TreeHash::BYTES));
            wanted.and_then(|bytes| Tile::from_bytes(id, bytes).ok()).ok_or_else(|| damaged(&id))
        })?;
        if edge.root() != *checkpoint.root() {
            return Err(damaged(&super::CHECKPOINT));
        }
        Ok(Self { source, edge, believed: HashMap::new() })
    }

    /// Entries of the tree.
    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The tree's root.
    pub fn root(&self) -> TreeHash {
        self.edge.root()
    }

    /// The leaves of a full bundle, each of which is the entry's that the bundle has in its place. `Damaged` names the file that
    /// is missing or not the tree's.
    pub fn bundle(&mut self, index: u64) -> Result<Vec<TreeHash>, ExportError> {
        let tile = self.read(0, index)?;
        let id = BundleId::new(index, FULL).ok_or_else(|| damaged(&index))?;
        let bytes = self.source.read(&id.to_string())?.ok_or_else(|| damaged(&id))?;
        let entries = read_bundle(id, &bytes).map_err(|_| damaged(&id))?;
        let own = entries.iter().map(|entry| TreeHash::of_leaf(entry));
        if own.eq(tile.hashes().iter().copied()) { Ok(tile.hashes().to_vec()) } else { Err(damaged(&id)) }
    }

    /// The tree as it was at a smaller size, a multiple of 256.
    pub fn before(&mut self, size: u64) -> Result<Edge, ExportError> {
        Edge::resume(size, |id| {
            let partial = self.partial(id.level(), id.index());
            let tile = match partial {
                Some(tile) => tile,
                None => self.above(id.level(), id.index())?,
            };
            let hashes = tile.hashes().get(..usize::from(id.width())).map(<[TreeHash]>::to_vec);
            hashes.and_then(Tile::new).ok_or_else(|| damaged(&id))
        })
    }

    /// The hash that a full tile must have.
    fn expected(&mut self, level: u8, index: u64) -> Result<TreeHash, ExportError> {
        let (parent, place) = (index / u64::from(FULL), index % u64::from(FULL));
        let tile = match self.partial(level + 1, parent) {
            Some(tile) => tile,
            None => self.above(level + 1, parent)?,
        };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        tile.hashes()
            .get(place)
            .copied()
            .ok_or_else(|| damaged(&full(level, index).map_or(index.to_string(), |id| id.to_string())))
    }

    /// The tile at the edge of this place, which the root vouches for by itself.
    fn partial(&self, level: u8, index: u64) -> Option<Tile> {
        let tiles = self.edge.partial_tiles();
        tiles.into_iter().find(|(id, _)| (id.level(), id.index()) == (level, index)).map(|(_, tile)| tile)
    }

    /// A full tile above the leaves.
    fn above(&mut self, level: u8, index: u64) -> Result<Tile, ExportError> {
        if let Some(tile) = self.believed.get(&(level, index)) {
            return Ok(tile.clone());
        }
        let tile = self.read(level, index)?;
        self.believed.insert((level, index), tile.clone());
        Ok(tile)
    }

    fn read(&mut self, level: u8, index: u64) -> Result<Tile, ExportError> {
        let id = full(level, index)?;
        let is_of_the_tree = level < LEVELS && id.end_index().is_some_and(|end| end <= self.size());
        if !is_of_the_tree {
            return Err(damaged(&id));
        }
        let expected = self.expected(level, index)?;
        let bytes = self.source.read(&id.to_string())?.ok_or_else(|| damaged(&id))?;
        let tile = Tile::from_bytes(id, &bytes).map_err(|_| damaged(&id))?;
        if tile.root() == expected { Ok(tile) } else { Err(damaged(&id)) }
    }
}

fn full(level: u8, index: u64) -> Result<TileId, ExportError> {
    TileId::full(level, index).ok_or_else(|| damaged(&index))
}

fn damaged(path: &dyn ToString) -> ExportError {
    ExportError::Damaged { path: path.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Tail;
    use super::*;

    /// The files of a log, in memory.
    #[derive(Clone, Default)]
    struct Shelf(HashMap<String, Vec<u8>>);

    impl Source for Shelf {
        fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
            Ok(self.0.get(path).cloned())
        }
    }

    fn log(entries: u32) -> (Shelf, Checkpoint, Vec<Edge>) {
        let (mut shelf, mut tail) = (Shelf::default(), Tail::default());
        let mut edges = vec![Edge::default()];
        for entry in 0..entries {
            let files = tail.append(&entry.to_be_bytes()).unwrap();
            shelf.0.extend(files.into_iter().map(|file| (file.path, file.bytes)));
            edges.push(tail.edge().clone());
        }
        shelf.0.extend(tail.partial_files().into_iter().map(|file| (file.path, file.bytes)));
        let checkpoint = Checkpoint::new("log.test/a", tail.size(), tail.root()).unwrap();
        (shelf, checkpoint, edges)
    }

    /// More than one tile of the second level, and a partial one of each.
    const MANY: u32 = 66_000;

    #[test]
    fn what_the_root_vouches_for_is_found_at_every_level() {
        let (shelf, checkpoint, edges) = log(MANY);
        let mut tree = SignedTree::open(shelf, &checkpoint).unwrap();
        assert_eq!((tree.size(), tree.root()), (checkpoint.size(), *checkpoint.root()));
        for index in [0, 1, 255, 256] {
            let first = u32::try_from(index).unwrap() * 256;
            let leaves: Vec<TreeHash> =
                (first..first + 256).map(|n| TreeHash::of_leaf(&n.to_be_bytes())).collect();
            assert_eq!(tree.bundle(index).unwrap(), leaves);
        }
        assert!(matches!(tree.bundle(257), Err(ExportError::Damaged { .. })), "the last one is not full");
        for size in [0, 256, 512, 65_280, 65_536, 65_792] {
            let edge = &edges[usize::try_from(size).unwrap()];
            assert_eq!(tree.before(size).unwrap(), *edge, "{size}");
        }
    }

    /// Whatever is changed or missing is found by whoever needs it, and named.
    #[test]
    fn what_is_not_the_trees_is_named() {
        let (whole, checkpoint, _) = log(MANY);
        let found = |change: &dyn Fn(&mut Shelf)| {
            let mut shelf = whole.clone();
            change(&mut shelf);
            let found = SignedTree::open(shelf, &checkpoint).and_then(|mut tree| tree.bundle(3));
            match found {
                Err(ExportError::Damaged { path }) => path,
                other => panic!("{other:?}"),
            }
        };
        let names = [
            ("tile/entries/003", "tile/entries/003"),
            ("tile/0/003", "tile/0/003"),
            ("tile/1/000", "tile/1/000"),
            ("tile/1/001.p/1", "checkpoint"),
        ];
        for (file, named) in names {
            for bit in [0, 77, 500] {
                let found = found(&|shelf| {
                    let bytes = shelf.0.get_mut(file).unwrap();
                    let place = bit % (bytes.len() * 8);
                    bytes[place / 8] ^= 1 << (place % 8);
                });
                assert_eq!(found, named, "{file}, bit {bit}");
            }
            let missing = found(&|shelf| drop(shelf.0.remove(file)));
            assert_eq!(missing, if named == "checkpoint" { file } else { named });
        }
    }
}
