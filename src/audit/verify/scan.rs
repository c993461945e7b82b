//! Reads the entries of an exported log in their order, up to its newest checkpoint. Whether they are the log's is for
//! [`super::Verification`] to say.

use std::path::Path;

use super::files::Files;
use super::prove::ProveFault;
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::export::CHECKPOINT;
use crate::audit::tiles::{BundleId, FULL, read_entries};

/// A log's files and its newest checkpoint.
pub struct Scan {
    files: Files,
    newest: SignedCheckpoint,
}

impl Scan {
    pub fn open(log: &Path) -> Result<Self, ProveFault> {
        let files = Files::open(log)?;
        let bytes = files.read(CHECKPOINT)?.ok_or(ProveFault::NoCheckpoint)?;
        let newest = SignedCheckpoint::parse(&bytes).map_err(|_| ProveFault::NoCheckpoint)?;
        Ok(Self { files, newest })
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.newest.checkpoint().origin()
    }

    /// Hands over each entry from number `from` on, with its number, until there are no more or `each` says no.
    pub fn entries(&self, from: u64, mut each: impl FnMut(u64, &[u8]) -> bool) -> Result<(), ProveFault> {
        let size = self.newest.checkpoint().size();
        let mut index = from / u64::from(FULL);
        // Without its first entries, as a log that has been kept for long may be, it begins with the first that is there.
        if BundleId::at(index, size).is_some_and(|id| !self.files.has(id)) {
            index = self.files.listing()?.first.filter(|first| *first > index).ok_or(ProveFault::Damaged)?;
        }
        while let Some(bundle) = BundleId::at(index, size) {
            let bytes = self.files.bundle(bundle)?.ok_or(ProveFault::Damaged)?;
            let (entries, _) = read_entries(bundle.width(), &bytes);
            if entries.len() != usize::from(bundle.width()) {
                return Err(ProveFault::Damaged);
            }
            for (number, entry) in (bundle.start_index()..).zip(entries) {
                if number >= from && !each(number, entry) {
                    return Ok(());
                }
            }
            index += 1;
        }
        Ok(())
    }
}
