//! Names of tiles and bundles, and what each covers.

use std::fmt::{self, Write};

use super::{FULL, TILE_LEVELS};
use crate::audit::tree::NodeId;

/// Levels of tiles that a path may name (tlog-tiles, Merkle Tree: 0 to 63). No tree of 64-bit size has more than 8.
const LEVELS: u8 = 64;

/// A tile, full or partial: its level, its index within the level, how many hashes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

impl TileId {
    pub fn full(level: u8, index: u64) -> Option<Self> {
        Self::new(level, index, FULL)
    }

    /// `None` for a width of 0 or above 256, or a level above 63.
    pub fn new(level: u8, index: u64, width: u16) -> Option<Self> {
        (level < LEVELS && (1..=FULL).contains(&width)).then_some(Self { level, index, width })
    }

    /// The tile of a tree of `size` entries that holds a subtree of that tree, and the place of the subtree's first
    /// hash in it. `None` where the tree has no such subtree.
    pub fn of_node(node: NodeId, size: u64) -> Option<(Self, u16)> {
        let end = node.index.checked_add(1)?.checked_mul(1_u64.checked_shl(u32::from(node.level))?)?;
        if end > size {
            return None;
        }
        let level = node.level / TILE_LEVELS;
        let height = node.level % TILE_LEVELS;
        let first = node.index << height;
        let tile = Self::at(level, first / u64::from(FULL), size)?;
        Some((tile, u16::try_from(first % u64::from(FULL)).ok()?))
    }

    /// The tile at this place in a tree of `size` entries; `None` where the tree has none.
    pub fn at(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(u32::from(level) * u32::from(TILE_LEVELS)).unwrap_or(0);
        let left = hashes.checked_sub(index.checked_mul(u64::from(FULL))?)?;
        Self::new(level, index, u16::try_from(left.min(u64::from(FULL))).ok()?)
    }

    /// The partial tiles of a tree of `size` entries, the lowest level first (tlog-tiles, Partial Tiles): at level `l`
    /// of `floor(size / 256^l) mod 256` hashes, where that is not 0.
    pub fn partial_of(size: u64) -> Vec<Self> {
        let levels = (0..LEVELS).take_while(|level| size.checked_shr(u32::from(*level) * 8).unwrap_or(0) > 0);
        levels
            .filter_map(|level| {
                let hashes = size >> (u32::from(level) * 8);
                let width = u16::try_from(hashes % u64::from(FULL)).ok()?;
                Self::new(level, hashes / u64::from(FULL), width)
            })
            .collect()
    }

    pub const fn level(self) -> u8 {
        self.level
    }

    pub const fn index(self) -> u64 {
        self.index
    }

    pub const fn width(self) -> u16 {
        self.width
    }

    pub const fn is_full(self) -> bool {
        self.width == FULL
    }

    /// tlog-tiles, Merkle Tree: `(n + 1) * 256^(l+1)`, whatever the width. `None` where no tree reaches as far.
    pub fn end_index(self) -> Option<u64> {
        let shift = (u32::from(self.level) + 1) * u32::from(TILE_LEVELS);
        self.index.checked_add(1)?.checked_mul(1_u64.checked_shl(shift)?)
    }

    /// Whether a log that publishes no entry below `minimum_index` may be without it (tlog-tiles, Pruning; a partial
    /// tile goes with its full one).
    pub fn may_be_pruned(self, minimum_index: u64) -> bool {
        self.end_index().is_some_and(|end| end <= minimum_index)
    }

    /// Reads a path as [`fmt::Display`] writes it; there is one spelling.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let number = level.parse().ok()?;
        let (index, width) = parse_place(rest)?;
        Self::new(number, index, width).filter(|id| id.to_string() == path)
    }
}

impl fmt::Display for TileId {
    /// tlog-tiles, Merkle Tree: `tile/<L>/<N>[.p/<W>]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        write_place(f, self.index, self.width)
    }
}

/// A bundle of entries, full or partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId {
    index: u64,
    width: u16,
}

impl BundleId {
    /// `None` for a width of 0 or above 256.
    pub fn new(index: u64, width: u16) -> Option<Self> {
        (1..=FULL).contains(&width).then_some(Self { index, width })
    }

    /// The bundle at this place in a tree of `size` entries; `None` where the tree has none.
    pub fn at(index: u64, size: u64) -> Option<Self> {
        let tile = TileId::at(0, index, size)?;
        Self::new(index, tile.width())
    }

    pub const fn index(self) -> u64 {
        self.index
    }

    pub const fn width(self) -> u16 {
        self.width
    }

    pub const fn is_full(self) -> bool {
        self.width == FULL
    }

    /// Index of its first entry.
    pub const fn start_index(self) -> u64 {
        self.index.saturating_mul(FULL as u64)
    }

    /// As [`TileId::may_be_pruned`], with the end index of the tile at level 0.
    pub fn may_be_pruned(self, minimum_index: u64) -> bool {
        self.tile().is_some_and(|tile| tile.may_be_pruned(minimum_index))
    }

    /// The tile that holds the hashes of its entries.
    pub fn tile(self) -> Option<TileId> {
        TileId::new(0, self.index, self.width)
    }

    /// Reads a path as [`fmt::Display`] writes it; there is one spelling.
    pub fn parse(path: &str) -> Option<Self> {
        let (index, width) = parse_place(path.strip_prefix("tile/entries/")?)?;
        Self::new(index, width).filter(|id| id.to_string() == path)
    }
}

impl fmt::Display for BundleId {
    /// tlog-tiles, Log entries: `tile/entries/<N>[.p/<W>]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_place(f, self.index, self.width)
    }
}

/// tlog-tiles, Merkle Tree: zero-padded path elements of three digits, all but the last beginning with `x`.
pub fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        path.insert_str(0, &format!("x{:03}/", rest % 1_000));
        rest /= 1_000;
    }
    path
}

fn write_place(f: &mut fmt::Formatter<'_>, index: u64, width: u16) -> fmt::Result {
    f.write_str(&index_path(index))?;
    if width == FULL { Ok(()) } else { f.write_str(".p").and_then(|()| write!(f, "/{width}")) }
}

/// Loosely; the caller compares with the one spelling.
fn parse_place(text: &str) -> Option<(u64, u16)> {
    let (index, width) = match text.split_once(".p/") {
        Some((index, width)) => (index, width.parse().ok()?),
        None => (text, FULL),
    };
    let mut digits = String::with_capacity(index.len());
    for element in index.split('/') {
        digits.write_str(element.strip_prefix('x').unwrap_or(element)).ok()?;
    }
    // The widest index has 20 digits, in groups of three.
    (digits.len() <= 21).then_some(())?;
    Some((digits.parse().ok()?, width))
}
