//! The right edge of a tree in tiles: what has to be kept to go on appending, and what appending makes.

use super::{FULL, Tile, TileId};
use crate::audit::tree::{TreeHash, root_of};

/// A tree of `size` entries, reduced to its partial tiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// The hashes of the partial tile of each level; fewer than 256, perhaps none.
    levels: Vec<Vec<TreeHash>>,
}

impl Edge {
    /// Continues a tree of `size` entries from its partial tiles, the ones of [`TileId::partial_of`]. Whether they are
    /// the right ones shows in [`Self::root`].
    pub fn resume<E>(size: u64, mut read: impl FnMut(TileId) -> Result<Tile, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        for id in TileId::partial_of(size) {
            levels.resize_with(usize::from(id.level()), Vec::new);
            levels.push(read(id)?.hashes().to_vec());
        }
        Ok(Self { size, levels })
    }

    /// Continues a tree of `size` entries from what [`Self::to_bytes`] gave. `None` where the bytes are not as many as such a
    /// tree has; whether they are the right ones shows in [`Self::root`].
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let edge = Self::resume(size, |id| {
            let (tile, after) = rest.split_at_checked(usize::from(id.width()) * TreeHash::BYTES).ok_or(())?;
            rest = after;
            Tile::from_bytes(id, tile).map_err(drop)
        });
        edge.ok().filter(|_| rest.is_empty())
    }

    /// The hashes of the partial tiles, the lowest level first.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.partial_tiles().iter().flat_map(|(_, tile)| tile.to_bytes()).collect()
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry's hash and gives the tiles that it fills, the lowest level first.
    pub fn append(&mut self, leaf: TreeHash) -> Vec<(TileId, Tile)> {
        let mut filled = Vec::new();
        let mut hash = leaf;
        for level in 0..=u8::MAX {
            let place = usize::from(level);
            if self.levels.len() <= place {
                self.levels.push(Vec::with_capacity(usize::from(FULL)));
            }
            let Some(hashes) = self.levels.get_mut(place) else { break };
            hashes.push(hash);
            if hashes.len() < usize::from(FULL) {
                break;
            }
            let index = self.size.checked_shr((u32::from(level) + 1) * 8).unwrap_or(0);
            let tile = Tile::new(std::mem::take(hashes));
            let (Some(id), Some(tile)) = (TileId::full(level, index), tile) else { break };
            hash = tile.root();
            filled.push((id, tile));
        }
        self.size += 1;
        filled
    }

    /// The partial tiles as they are now, the lowest level first.
    pub fn partial_tiles(&self) -> Vec<(TileId, Tile)> {
        let tile = |id: TileId| Some((id, Tile::new(self.levels.get(usize::from(id.level()))?.clone())?));
        TileId::partial_of(self.size).into_iter().filter_map(tile).collect()
    }

    /// The tree's head.
    pub fn root(&self) -> TreeHash {
        let mut right: Option<TreeHash> = None;
        for hashes in &self.levels {
            right = join(hashes, right);
        }
        right.unwrap_or_else(TreeHash::of_nothing)
    }
}

/// The hash of complete subtrees of one size with `right`, the hash of everything smaller, after them.
fn join(hashes: &[TreeHash], right: Option<TreeHash>) -> Option<TreeHash> {
    let mut groups = Vec::new();
    let mut rest = hashes;
    while let Some(height) = rest.len().checked_ilog2() {
        let (group, after) = rest.split_at(1 << height);
        groups.extend(root_of(group));
        rest = after;
    }
    groups
        .into_iter()
        .rev()
        .fold(right, |right, left| Some(right.map_or(left, |right| TreeHash::of_node(&left, &right))))
}
