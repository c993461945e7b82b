//! The proof of one entry, from a log's files.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use uuid::Uuid;

use super::files::{Files, ReadFault};
use super::form::EntryReader;
use crate::audit::checkpoint::{EntryProof, SignedCheckpoint};
use crate::audit::export::CHECKPOINT;
use crate::audit::tiles::{BundleId, FULL, Tile, TileId, read_entries};
use crate::audit::tree::Plan;

/// Which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryName {
    Index(u64),
    Id(Uuid),
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveFault {
    #[error(transparent)]
    Read(#[from] ReadFault),
    #[error("the log has no checkpoint")]
    NoCheckpoint,
    #[error("the newest checkpoint holds no such entry")]
    NoEntry,
    #[error("the log's files do not prove the entry; verify the log to see why")]
    Damaged,
    #[error("the form of entries in audit/entry.schema.json cannot be used")]
    Schema,
}

/// An entry's bytes and the proof that they are the log's.
#[derive(Debug)]
pub struct ProvenEntry {
    pub id: Option<Uuid>,
    pub entry: Vec<u8>,
    pub proof: EntryProof,
}

/// Proves an entry by the newest checkpoint. By its id it is looked for from the first entry to the last, on as many
/// threads.
pub fn prove(log: &Path, name: EntryName, threads: usize) -> Result<ProvenEntry, ProveFault> {
    let files = Files::open(log)?;
    let reader = EntryReader::new().ok_or(ProveFault::Schema)?;
    let bytes = files.read(CHECKPOINT)?.ok_or(ProveFault::NoCheckpoint)?;
    let signed = SignedCheckpoint::parse(&bytes).map_err(|_| ProveFault::NoCheckpoint)?;
    let size = signed.checkpoint().size();
    let index = match name {
        EntryName::Index(index) => index,
        EntryName::Id(id) => find(&files, &reader, size, id, threads)?.ok_or(ProveFault::NoEntry)?,
    };
    let bundle =
        BundleId::at(index / u64::from(FULL), size).filter(|_| index < size).ok_or(ProveFault::NoEntry)?;
    let bytes = files.bundle(bundle)?.ok_or(ProveFault::Damaged)?;
    let place = usize::try_from(index - bundle.start_index()).map_err(|_| ProveFault::NoEntry)?;
    let entry = read_entries(bundle.width(), &bytes).0.get(place).ok_or(ProveFault::Damaged)?.to_vec();
    let path = Plan::inclusion(index, size).ok_or(ProveFault::NoEntry)?.resolve(|node| {
        let (id, first) = TileId::of_node(node, size).ok_or(ProveFault::Damaged)?;
        let tile = files.tile(id)?.ok_or(ProveFault::Damaged)?;
        let tile = Tile::from_bytes(id, &tile).map_err(|_| ProveFault::Damaged)?;
        tile.node(node, first).ok_or(ProveFault::Damaged)
    })?;
    let proof = EntryProof::new(index, path, signed);
    proof.check(&entry).map_err(|_| ProveFault::Damaged)?;
    let id = reader.read(&entry).ok().map(|facts| Uuid::from_bytes(facts.id));
    Ok(ProvenEntry { id, entry, proof })
}

fn find(
    files: &Files,
    reader: &EntryReader,
    size: u64,
    id: Uuid,
    threads: usize,
) -> Result<Option<u64>, ReadFault> {
    // Those that are there: what the checkpoint says was not verified, and may be any number.
    let mut bundles: Vec<u64> = files
        .paths(|path| path.starts_with("tile/entries/"))?
        .iter()
        .filter_map(|path| BundleId::parse(path))
        .map(BundleId::index)
        .collect();
    bundles.sort_unstable();
    bundles.dedup();
    let (next, found) = (AtomicUsize::new(0), AtomicU64::new(u64::MAX));
    let search = || {
        while found.load(Ordering::Relaxed) == u64::MAX {
            let Some(index) = bundles.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let Some(bundle) = BundleId::at(*index, size) else { break };
            let bytes = files.bundle(bundle)?.unwrap_or_default();
            for (index, entry) in (bundle.start_index()..).zip(read_entries(bundle.width(), &bytes).0) {
                if reader.read(entry).is_ok_and(|facts| facts.id == *id.as_bytes()) {
                    found.fetch_min(index, Ordering::Relaxed);
                    break;
                }
            }
        }
        Ok(())
    };
    let searched: Vec<Result<(), ReadFault>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(search)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let index = found.into_inner();
    if index == u64::MAX {
        searched.into_iter().collect::<Result<(), _>>()?;
        return Ok(None);
    }
    Ok(Some(index))
}
