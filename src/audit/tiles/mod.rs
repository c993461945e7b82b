//! The tree in files: tiles of hashes and bundles of entries (C2SP tlog-tiles).
//!
//! Paths and bytes only; who reads and writes them is not here. A tile or bundle is *full* at 256 and then never changes;
//! the rightmost ones of a tree are *partial*, each a prefix of what it will become.

mod bundle;
mod edge;
mod path;
#[cfg(test)]
mod tests;
mod tile;

pub(super) use bundle::read_entries;
pub use bundle::{BundleFault, LARGEST_ENTRY_BYTES, TooLarge, push_entry, read_bundle};
pub use edge::Edge;
pub use path::{BundleId, TileId, index_path};
pub use tile::{Tile, TileFault};

/// Hashes in a full tile, entries in a full bundle.
pub const FULL: u16 = 256;

/// A tile spans this many levels of the tree.
const TILE_LEVELS: u8 = 8;
