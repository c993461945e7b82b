//! What an exported log need not keep any longer (tlog-tiles, Pruning): whether its first entries may be missing, which of them may
//! go, and their removal.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use uuid::Uuid;

use super::files::{Files, Listing, ReadFault};
use super::form::EntryReader;
use super::prove::ProveFault;
use crate::audit::tiles::{BundleId, FULL, TileId, read_bundle};
use crate::domain::clock::Timestamp;

/// The first entry that is kept, where files of those before it are gone. Of its bundle every entry must be older than `kept_from`:
/// those that are gone had lower numbers, so they were committed before it.
pub(super) fn kept(
    files: &Files,
    listing: &Listing,
    reader: &EntryReader,
    kept_from: Timestamp,
) -> Result<Option<u64>, ReadFault> {
    let Some(index) = listing.first.filter(|index| *index > 0) else { return Ok(None) };
    let is_old = all_of(files, reader, index, &|at, _| at < kept_from)?;
    Ok(is_old.then_some(index.saturating_mul(u64::from(FULL))))
}

/// What an expiry asks of an entry: its time, and its bytes.
type Question<'a> = dyn Fn(Timestamp, &[u8]) -> bool + 'a;

/// Whether there is a whole bundle, each entry of which is such a one.
fn all_of(
    files: &Files,
    reader: &EntryReader,
    index: u64,
    is_such: &Question<'_>,
) -> Result<bool, ReadFault> {
    let Some(id) = BundleId::new(index, FULL) else { return Ok(false) };
    let bytes = files.read(&id.to_string())?.unwrap_or_default();
    let time = |entry: &[u8]| time_of(Uuid::from_bytes(reader.read(entry).ok()?.id));
    Ok(read_bundle(id, &bytes)
        .is_ok_and(|entries| entries.iter().all(|entry| time(entry).is_some_and(|at| is_such(at, entry)))))
}

/// An entry's id has its time in it, and was compared with what the entry says.
fn time_of(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let micros = seconds.checked_mul(1_000_000)?.checked_add(u64::from(nanos / 1_000))?;
    i64::try_from(micros).ok().map(Timestamp::from_micros)
}

/// A file could not be removed. Those before it in the log's order are gone, and the log holds.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}: {source}")]
pub struct RemoveFault {
    path: String,
    source: std::io::Error,
}

/// The files of a log's first entries that need not be kept.
#[derive(Debug)]
pub struct Expiry {
    first: u64,
    minimum: u64,
    /// In the order in which they go.
    paths: Vec<String>,
}

impl Expiry {
    /// Finds the entries, from the first on and below number `below`, that `may_go` says. The last bundle of such
    /// entries stays, so that whoever verifies the log sees that what is gone before it was old enough.
    pub fn find(log: &Path, below: u64, may_go: &Question<'_>) -> Result<Self, ProveFault> {
        let files = Files::open(log)?;
        let reader = EntryReader::new().ok_or(ProveFault::Schema)?;
        let first = files.listing()?.first.unwrap_or(0);
        let mut end = first;
        while (end + 1).saturating_mul(u64::from(FULL)) <= below && all_of(&files, &reader, end, may_go)? {
            end += 1;
        }
        let minimum = end.saturating_sub(1).max(first).saturating_mul(u64::from(FULL));
        let mut paths = files.paths(|path| may_be_pruned(path, minimum))?;
        paths.sort_by_cached_key(|path| place(path));
        Ok(Self { first: first.saturating_mul(u64::from(FULL)), minimum, paths })
    }

    /// The first entry that there is.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The first entry that stays: the log's minimum index from then on.
    pub const fn minimum_index(&self) -> u64 {
        self.minimum
    }

    /// How many files go; some of them may have been left by a removal that was broken off.
    pub fn files(&self) -> usize {
        self.paths.len()
    }

    /// Removes them, those of the first entries first; `progress` hears how many are gone. Broken off anywhere the log holds,
    /// and the rest is found again.
    pub fn remove(&self, log: &Path, progress: &mut dyn FnMut(usize)) -> Result<(), RemoveFault> {
        for (done, path) in (1..).zip(&self.paths) {
            let full = log.join(path);
            match fs::remove_file(&full) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(RemoveFault { path: full.display().to_string(), source });
                }
                _ => {}
            }
            // Folders that have become empty; one that has not stays.
            let folders = full.ancestors().skip(1).take_while(|folder| *folder != log);
            let _ = folders.take_while(|folder| fs::remove_dir(folder).is_ok()).count();
            progress(done);
        }
        Ok(())
    }
}

fn may_be_pruned(path: &str, minimum: u64) -> bool {
    BundleId::parse(path).is_some_and(|id| id.may_be_pruned(minimum))
        || TileId::parse(path).is_some_and(|id| id.may_be_pruned(minimum))
}

/// Entries by their numbers, whole bundles after partial ones; then hashes from below. So what is left of the entries is one piece.
fn place(path: &str) -> (u8, u64, u16) {
    match (BundleId::parse(path), TileId::parse(path)) {
        (Some(id), _) => (0, id.index(), id.width()),
        (None, Some(id)) => (id.level() + 1, id.index(), id.width()),
        (None, None) => (u8::MAX, 0, 0),
    }
}
