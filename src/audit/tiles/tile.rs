//! The bytes of a tile.

use super::{FULL, TILE_LEVELS, TileId};
use crate::audit::tree::{NodeId, TreeHash, root_of};

/// What stands in a tile's file is not that tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileFault {
    #[error("a tile of {expected} hashes has {expected_bytes} bytes, and this has {bytes}")]
    Length { expected: u16, expected_bytes: usize, bytes: usize },
}

/// Consecutive hashes of one level: of leaves at level 0, of full tiles of the level below above that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    hashes: Vec<TreeHash>,
}

impl Tile {
    /// `None` without hashes, or with more than 256.
    pub fn new(hashes: Vec<TreeHash>) -> Option<Self> {
        (1..=usize::from(FULL)).contains(&hashes.len()).then_some(Self { hashes })
    }

    /// Reads the file of the tile `id`. A full tile is also every partial one before it: of a longer file give the first
    /// `width * 32` bytes.
    pub fn from_bytes(id: TileId, bytes: &[u8]) -> Result<Self, TileFault> {
        let expected_bytes = usize::from(id.width()) * TreeHash::BYTES;
        if bytes.len() != expected_bytes {
            let expected = id.width();
            return Err(TileFault::Length { expected, expected_bytes, bytes: bytes.len() });
        }
        let (chunks, _) = bytes.as_chunks::<{ TreeHash::BYTES }>();
        Ok(Self { hashes: chunks.iter().copied().map(TreeHash::from_bytes).collect() })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(TreeHash::as_bytes).copied().collect()
    }

    pub fn hashes(&self) -> &[TreeHash] {
        &self.hashes
    }

    /// The hash of all its hashes: where the tile is full, its hash in the level above.
    pub fn root(&self) -> TreeHash {
        root_of(&self.hashes).unwrap_or_else(TreeHash::of_nothing)
    }

    /// The hash of a subtree that lies in this tile from `first` on, as [`TileId::of_node`] says.
    pub fn node(&self, node: NodeId, first: u16) -> Option<TreeHash> {
        let from = usize::from(first);
        let count = 1_usize << (node.level % TILE_LEVELS);
        root_of(self.hashes.get(from..from.checked_add(count)?)?)
    }
}
