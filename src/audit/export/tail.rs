//! The growing end of a log: which files it is made of, without touching any.

use super::LogFile;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::tiles::{BundleId, Edge, FULL, Tile, TileId, TooLarge, push_entry, read_bundle};
use crate::audit::tree::TreeHash;

/// What is stored does not continue to the checkpoint that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailFault {
    #[error("the stored tiles do not lead to the checkpoint's root")]
    Root,
    #[error("the stored entries are not those of the stored tiles")]
    Entries,
}

/// A log of some size: the hashes of its partial tiles and the entries of its partial bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    edge: Edge,
    /// The bytes of the partial bundle.
    bundle: Vec<u8>,
}

impl Tail {
    /// The files that [`Self::resume`] needs for a log of this size.
    pub fn needs(size: u64) -> (Vec<TileId>, Option<BundleId>) {
        (TileId::partial_of(size), BundleId::at(size / u64::from(FULL), size))
    }

    /// Continues at a checkpoint, with the tiles and the bundle of [`Self::needs`], if they lead to its root.
    pub fn resume<E: From<TailFault>>(
        checkpoint: &Checkpoint,
        tile: impl FnMut(TileId) -> Result<Tile, E>,
        bundle: impl FnOnce(BundleId) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let edge = Edge::resume(checkpoint.size(), tile)?;
        if edge.root() != *checkpoint.root() {
            return Err(TailFault::Root.into());
        }
        let Some(id) = Self::needs(edge.size()).1 else { return Ok(Self { edge, bundle: Vec::new() }) };
        let bytes = bundle(id)?;
        let entries = read_bundle(id, &bytes).map_err(|_| TailFault::Entries)?;
        let hashes = entries.iter().map(|entry| TreeHash::of_leaf(entry));
        let partial = edge.partial_tiles();
        let stored = partial.first().filter(|(tile, _)| tile.level() == 0).map(|(_, tile)| tile.hashes());
        if !stored.is_some_and(|stored| hashes.eq(stored.iter().copied())) {
            return Err(TailFault::Entries.into());
        }
        Ok(Self { edge, bundle: bytes })
    }

    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The tree over the entries.
    pub const fn edge(&self) -> &Edge {
        &self.edge
    }

    pub fn root(&self) -> TreeHash {
        self.edge.root()
    }

    /// Appends an entry and gives the full bundle and tiles that it completes.
    pub fn append(&mut self, entry: &[u8]) -> Result<Vec<LogFile>, TooLarge> {
        push_entry(&mut self.bundle, entry)?;
        let index = self.edge.size() / u64::from(FULL);
        let filled = self.edge.append(TreeHash::of_leaf(entry));
        if filled.is_empty() {
            return Ok(Vec::new());
        }
        let bundle = BundleId::new(index, FULL).map(|id| file(&id, std::mem::take(&mut self.bundle)));
        Ok(bundle
            .into_iter()
            .chain(filled.into_iter().map(|(id, tile)| file(&id, tile.to_bytes())))
            .collect())
    }

    /// The partial bundle and tiles that a checkpoint of this size needs besides the full ones.
    pub fn partial_files(&self) -> Vec<LogFile> {
        let bundle = Self::needs(self.edge.size()).1.map(|id| file(&id, self.bundle.clone()));
        let tiles = self.edge.partial_tiles().into_iter().map(|(id, tile)| file(&id, tile.to_bytes()));
        bundle.into_iter().chain(tiles).collect()
    }
}

fn file(id: &dyn ToString, bytes: Vec<u8>) -> LogFile {
    LogFile { path: id.to_string(), bytes }
}
