//! A log that grows in its place.

use super::{CHECKPOINT, ExportError, LogFile, Tail, Target};
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::tiles::{BundleId, FULL, Tile, TileId};

/// A target may write files side by side, and they are in memory until it has.
const FILES_AT_ONCE: usize = 16;

/// Writes one log. Entries are appended, made durable, and then published by a checkpoint; whatever step a process dies
/// at, the next one finds the log as its `checkpoint` says, and what was written beyond that is written again with the
/// same bytes.
pub struct LogWriter<T> {
    target: T,
    tail: Tail,
    published: Option<SignedCheckpoint>,
    /// Full tiles and bundles whose partial ones are not needed any more once a checkpoint says so.
    filled: Vec<String>,
}

impl<T: Target> LogWriter<T> {
    /// Opens a log where its checkpoint left it, or begins one. What is stored must lead to the checkpoint's root;
    /// whether the checkpoint is to be believed is for the caller, who knows the keys and how far the log should be.
    pub fn open(mut target: T) -> Result<Self, ExportError> {
        let published = match target.read(CHECKPOINT)? {
            Some(bytes) => Some(SignedCheckpoint::parse(&bytes).map_err(|_| damaged(&CHECKPOINT))?),
            None => None,
        };
        let tail = match &published {
            Some(signed) => {
                Tail::resume(signed.checkpoint(), |id| read_tile(&target, id), |id| read_bundle(&target, id))?
            }
            None => Tail::default(),
        };
        if let Some(signed) = &published {
            // A process may have died between the two steps of publishing.
            target.put(&[LogFile::of_checkpoint(signed)])?;
            target.sync()?;
        }
        Ok(Self { target, tail, published, filled: Vec::new() })
    }

    /// The newest checkpoint.
    pub const fn published(&self) -> Option<&SignedCheckpoint> {
        self.published.as_ref()
    }

    /// The log with what was appended.
    pub const fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Appends entries and makes them durable, with everything that a checkpoint of the new size needs. On an error the
    /// log is as it was, and the same call may be tried again.
    pub fn append<'a>(&mut self, entries: impl IntoIterator<Item = &'a [u8]>) -> Result<(), ExportError> {
        let mut tail = self.tail.clone();
        let (mut files, mut filled) = (Vec::new(), Vec::new());
        for entry in entries {
            files.append(&mut tail.append(entry)?);
            if files.len() >= FILES_AT_ONCE {
                self.target.put(&files)?;
                filled.extend(files.drain(..).map(|file| file.path));
            }
        }
        let full = files.len();
        files.append(&mut tail.partial_files());
        self.target.put(&files)?;
        self.target.sync()?;
        filled.extend(files.into_iter().take(full).map(|file| file.path));
        self.tail = tail;
        self.filled.append(&mut filled);
        Ok(())
    }

    /// Publishes a checkpoint of the log as it was appended: makes it the newest, and keeps it for good. Another one of
    /// the same size and root (a heartbeat, one more cosignature) may follow.
    pub fn publish(&mut self, signed: &SignedCheckpoint) -> Result<(), ExportError> {
        let checkpoint = signed.checkpoint();
        if checkpoint.size() != self.tail.size() || *checkpoint.root() != self.tail.root() {
            return Err(ExportError::OtherHead);
        }
        let kept = LogFile::of_checkpoint(signed);
        // In this order a kept checkpoint that goes further than the newest one is never this process's doing.
        self.target.replace(&LogFile { path: CHECKPOINT.to_owned(), bytes: kept.bytes.clone() })?;
        self.target.put(&[kept])?;
        self.target.sync()?;
        self.published = Some(signed.clone());
        // tlog-tiles, Partial Tiles: a partial tile may go once the full one is there. One a minute would soon be most of
        // the log.
        for path in std::mem::take(&mut self.filled) {
            self.target.try_remove(&format!("{path}.p"));
        }
        Ok(())
    }

    /// Keeps a public key beside the log, for whoever has no other copy; nobody has to believe it, and one that is there under
    /// another name stays so.
    pub fn keep_key(&mut self, key: &LogFile) -> Result<(), ExportError> {
        match self.target.put(std::slice::from_ref(key)) {
            Ok(()) | Err(ExportError::Different { .. }) => self.target.sync(),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
impl LogWriter<super::Directory> {
    pub(super) fn die_after(&mut self, steps: u32) {
        self.target.steps_left = Some(steps);
    }
}

/// A partial tile, or as much of the full one.
fn read_tile(target: &impl Target, id: TileId) -> Result<Tile, ExportError> {
    let full = TileId::full(id.level(), id.index()).unwrap_or(id);
    let bytes = match target.read(&id.to_string())? {
        Some(bytes) => bytes,
        None => target.read(&full.to_string())?.ok_or_else(|| damaged(&id))?,
    };
    let wanted = bytes.get(..usize::from(id.width()) * 32).ok_or_else(|| damaged(&id))?;
    Tile::from_bytes(id, wanted).map_err(|_| damaged(&id))
}

fn read_bundle(target: &impl Target, id: BundleId) -> Result<Vec<u8>, ExportError> {
    if let Some(bytes) = target.read(&id.to_string())? {
        return Ok(bytes);
    }
    let full = BundleId::new(id.index(), FULL).ok_or_else(|| damaged(&id))?;
    let mut bytes = target.read(&full.to_string())?.ok_or_else(|| damaged(&id))?;
    let rest = crate::audit::tiles::read_entries(id.width(), &bytes).1.len();
    bytes.truncate(bytes.len() - rest);
    Ok(bytes)
}

fn damaged(path: &dyn ToString) -> ExportError {
    ExportError::Damaged { path: path.to_string() }
}
