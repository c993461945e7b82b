//! The tiles above the entries' hashes: held against the signed root from the top down, so that each full tile of
//! entries' hashes has a root that is known before it is read.

use super::files::{Files, ReadFault};
use super::finding::{Finding, Findings};
use super::heads::Head;
use crate::audit::tiles::{Edge, FULL, Tile, TileId};
use crate::audit::tree::{Frontier, Plan, TreeHash};

/// All tiles of level 1 and above of a tree, and the partial tile of level 0. A level's tiles before the part of the log
/// that is verified may be gone (tlog-tiles, Pruning).
pub(super) struct Upper {
    size: u64,
    levels: Vec<Level>,
    /// The hashes of the last entries, where the signed root vouches for them.
    last_leaves: Option<Vec<TreeHash>>,
}

/// A tree as far as it was made.
#[derive(Clone)]
pub(super) struct Tree {
    frontier: Frontier,
    /// The tree whose leaves are the roots of full tiles of level 0.
    edge: Edge,
}

impl Tree {
    /// The root of the tree with these leaves after it.
    pub fn root_with(&self, leaves: &[TreeHash]) -> TreeHash {
        self.frontier.root_with(leaves)
    }

    /// Appends a full tile by its root, and gives the tiles above that it fills.
    pub fn append(&mut self, root: TreeHash) -> Vec<(TileId, Tile)> {
        let _ = self.frontier.append_subtree(8, root);
        self.edge.append(root)
    }

    pub fn partial_tiles(&self) -> Vec<(TileId, Tile)> {
        self.edge.partial_tiles()
    }
}

struct Level {
    number: u8,
    /// By index; `None` where a tile is missing or malformed.
    tiles: Vec<Option<Tile>>,
    /// Whether the signed root vouches for it.
    authentic: Vec<bool>,
}

impl Upper {
    /// Reads the tiles of the tree that `head` speaks of. Those that lie before `start` may be missing.
    pub fn read(files: &Files, head: &Head, start: u64, findings: &mut Findings) -> Result<Self, ReadFault> {
        let mut upper = Self { size: head.size, levels: Vec::new(), last_leaves: None };
        for level in 1..=8 {
            let mut tiles = Vec::new();
            while let Some(id) = TileId::at(level, u64::try_from(tiles.len()).unwrap_or(u64::MAX), head.size)
            {
                tiles.push(read_tile(files, id, id.may_be_pruned(start), findings)?);
            }
            if tiles.is_empty() {
                break;
            }
            let authentic = vec![false; tiles.len()];
            upper.levels.push(Level { number: level, tiles, authentic });
        }
        upper.authenticate(files, head, findings)?;
        Ok(upper)
    }

    /// The partial tiles together make the root; every full tile makes a hash of the level above.
    fn authenticate(&mut self, files: &Files, head: &Head, findings: &mut Findings) -> Result<(), ReadFault> {
        let leaf_edge = match TileId::at(0, head.size / u64::from(FULL), head.size) {
            Some(id) => files.tile(id)?.and_then(|bytes| Tile::from_bytes(id, &bytes).ok()),
            None => None,
        };
        let edge = Edge::resume(head.size, |id| {
            let tile = if id.level() == 0 { leaf_edge.as_ref() } else { self.tile(id) };
            tile.cloned().ok_or(())
        });
        let is_authentic = edge.is_ok_and(|edge| edge.root() == head.root);
        if is_authentic {
            self.last_leaves = leaf_edge.map(|tile| tile.hashes().to_vec());
        }
        for place in (0..self.levels.len()).rev() {
            let Some(level) = self.levels.get(place) else { continue };
            let (mut authentic, mut changed) = (Vec::with_capacity(level.tiles.len()), Vec::new());
            for (index, tile) in (0_u64..).zip(&level.tiles) {
                let expected = self.expected(level.number, index);
                let fits = match tile {
                    Some(tile) if tile.hashes().len() < usize::from(FULL) => is_authentic,
                    Some(tile) => expected == Some(tile.root()),
                    None => false,
                };
                if tile.is_some() && !fits && expected.is_some() {
                    changed.extend(TileId::full(level.number, index));
                }
                authentic.push(fits);
            }
            if let Some(level) = self.levels.get_mut(place) {
                level.authentic = authentic;
            }
            findings.extend(changed.iter().map(|id| Finding::TileChanged { path: id.to_string() }));
        }
        Ok(())
    }

    /// The hash that a full tile must have, where the signed root vouches for it.
    pub fn expected(&self, level: u8, index: u64) -> Option<TreeHash> {
        let parent = self.levels.get(usize::from(level))?;
        let place = usize::try_from(index / u64::from(FULL)).ok()?;
        parent.authentic.get(place).filter(|authentic| **authentic)?;
        let hashes = parent.tiles.get(place)?.as_ref()?.hashes();
        hashes.get(usize::try_from(index % u64::from(FULL)).ok()?).copied()
    }

    /// The hashes of the last, partial tile of level 0, where the signed root vouches for them.
    pub fn last_leaves(&self) -> Option<&[TreeHash]> {
        self.last_leaves.as_deref()
    }

    /// The tree before entry `start`, a multiple of 256, from the tiles.
    pub fn begin(&self, start: u64) -> Option<Tree> {
        let node = |node| {
            let (id, first) = TileId::of_node(node, self.size).ok_or(())?;
            self.tile(id).and_then(|tile| tile.node(node, first)).ok_or(())
        };
        // Each subtree of the head by itself.
        let nodes: Result<Vec<TreeHash>, ()> = Plan::head(start).nodes().map(node).collect();
        let frontier = Frontier::resume(start, nodes.ok()?)?;
        let edge = Edge::resume(start / u64::from(FULL), |id| {
            let stored =
                TileId::at(id.level() + 1, id.index(), self.size).and_then(|id| self.tile(id)).ok_or(())?;
            let hashes = stored.hashes().get(..usize::from(id.width())).ok_or(())?;
            Tile::new(hashes.to_vec()).ok_or(())
        });
        Some(Tree { frontier, edge: edge.ok()? })
    }

    /// Holds a stored tile against what was made from below it, in one way or two. `id` counts the level above the
    /// entries' hashes as 0.
    pub fn compare(&self, id: TileId, made: &[Tile], findings: &mut Findings) {
        let Some(level) = self.levels.get(usize::from(id.level())) else { return };
        let Ok(place) = usize::try_from(id.index()) else { return };
        let is_known = level.authentic.get(place).copied().unwrap_or(false);
        let stored = level.tiles.get(place).and_then(Option::as_ref);
        // Of a tile whose parent vouches against it this has been said.
        let is_said = self.expected(level.number, id.index()).is_some();
        if let Some(stored) = stored.filter(|stored| !made.contains(stored) && !is_known && !is_said) {
            let width = u16::try_from(stored.hashes().len()).unwrap_or(FULL);
            let path = TileId::new(level.number, id.index(), width).map(|id| id.to_string());
            findings.extend(path.map(|path| Finding::TileChanged { path }));
        }
    }

    /// The tile of this place in the tree, where the signed root vouches for it; level 0 is not kept here.
    pub fn authentic(&self, level: u8, index: u64) -> Option<&Tile> {
        let place = usize::try_from(index).ok()?;
        let authentic = &self.levels.get(usize::from(level.checked_sub(1)?))?.authentic;
        authentic.get(place).filter(|authentic| **authentic)?;
        self.stored(level, index)
    }

    fn stored(&self, level: u8, index: u64) -> Option<&Tile> {
        let level = self.levels.get(usize::from(level.checked_sub(1)?))?;
        level.tiles.get(usize::try_from(index).ok()?)?.as_ref()
    }

    fn tile(&self, id: TileId) -> Option<&Tile> {
        self.stored(id.level(), id.index())
    }
}

/// A stored tile; what is wrong with it is a finding.
pub(super) fn read_tile(
    files: &Files,
    id: TileId,
    may_be_missing: bool,
    findings: &mut Findings,
) -> Result<Option<Tile>, ReadFault> {
    let path = id.to_string();
    let Some(bytes) = files.tile(id)? else {
        if !may_be_missing {
            findings.add(Finding::TileMissing { path });
        }
        return Ok(None);
    };
    match Tile::from_bytes(id, &bytes) {
        Ok(tile) => Ok(Some(tile)),
        Err(why) => {
            findings.add(Finding::TileMalformed { path, why: why.to_string() });
            Ok(None)
        }
    }
}
