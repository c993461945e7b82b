//! A directory of files that are written once: whole or not at all, durable before the next step relies on them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::LogFile;

/// Where files are until they are complete; what a killed process left here is removed.
const UNFINISHED: &str = ".unfinished";
const LOCK: &str = ".lock";

/// Entries say who saw whom: for the owner and the group, and for nobody to change.
const FILE_MODE: u32 = 0o440;
const DIRECTORY_MODE: u32 = 0o750;

/// Why the log was not written. What was written before stays and is taken up by the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("another process writes this log")]
    Locked,
    #[error("the directory does not answer")]
    Hangs,
    #[error("{path} is there with other bytes; nothing of a log is ever changed, so find out who did")]
    Different { path: String },
    #[error("{path} is missing or not what it should be")]
    Damaged { path: String },
    #[error(transparent)]
    Tail(#[from] super::TailFault),
    #[error(transparent)]
    TooLarge(#[from] crate::audit::tiles::TooLarge),
    #[error("the checkpoint is not one of the log as it was written")]
    OtherHead,
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: String, source: io::Error },
}

impl ExportError {
    /// What is there is not what was written; anything else may pass by itself.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Different { .. } | Self::Damaged { .. } | Self::Tail(_) | Self::OtherHead)
    }
}

/// The directory, locked for this process.
pub(super) struct Directory {
    root: PathBuf,
    /// Names that were made and are not yet durable.
    unsynced: BTreeSet<PathBuf>,
    _lock: File,
    #[cfg(test)]
    pub steps_left: Option<u32>,
}

impl Directory {
    /// Makes the directory where it is missing. One process at a time: the lock ends with the process.
    pub fn open(root: &Path) -> Result<Self, ExportError> {
        make_directory(root)?;
        let path = root.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o640);
        let lock = options.open(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ExportError::Locked),
            Err(fs::TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        let unfinished = root.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("empty", &unfinished)(error));
            }
            _ => make_directory(&unfinished)?,
        }
        let parent =
            root.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        let unsynced = parent.into_iter().chain([root]).map(Path::to_owned).collect();
        Ok(Self {
            root: root.to_owned(),
            unsynced,
            _lock: lock,
            #[cfg(test)]
            steps_left: None,
        })
    }

    /// Writes a file that is not there yet. There with the same bytes is as good; with others, nothing is touched. The
    /// name is durable after [`Self::sync`].
    pub fn put(&mut self, file: &LogFile) -> Result<(), ExportError> {
        let path = self.root.join(&file.path);
        self.note(&path);
        if let Some(stored) = self.read(&file.path)? {
            return same(file, &stored);
        }
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let unfinished = self.write_unfinished(&file.bytes)?;
        self.step(&path)?;
        // Unlike a rename, a link never takes the place of a file.
        match fs::hard_link(&unfinished, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                same(file, &self.read(&file.path)?.unwrap_or_default())?;
            }
            Err(error) => return Err(failed("write", &path)(error)),
        }
        self.step(&path)?;
        fs::remove_file(&unfinished).map_err(failed("remove", &unfinished))
    }

    /// Replaces a file by another version of it, in one step that survives a crash.
    pub fn replace(&mut self, file: &LogFile) -> Result<(), ExportError> {
        let path = self.root.join(&file.path);
        self.note(&path);
        let unfinished = self.write_unfinished(&file.bytes)?;
        self.step(&path)?;
        fs::rename(&unfinished, &path).map_err(failed("replace", &path))?;
        self.sync()
    }

    /// Makes the names of all files durable that were written so far.
    pub fn sync(&mut self) -> Result<(), ExportError> {
        while let Some(path) = self.unsynced.first().cloned() {
            self.step(&path)?;
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed("sync", &path))?;
            self.unsynced.remove(&path);
        }
        Ok(())
    }

    /// The bytes of a file; `None` where there is none.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
        let full = self.root.join(path);
        match fs::read(&full) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(failed("read", &full)(error)),
        }
    }

    /// Removes a folder with everything in it, as far as that is possible: a target may refuse, and a process may die.
    pub fn try_remove(&mut self, path: &str) {
        let _ =
            self.step(&self.root.join(path)).is_ok_and(|()| fs::remove_dir_all(self.root.join(path)).is_ok());
    }

    fn write_unfinished(&mut self, bytes: &[u8]) -> Result<PathBuf, ExportError> {
        let path = self.root.join(UNFINISHED).join("file");
        // Left by an attempt of this process that failed.
        let _ = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let mut file = options.open(&path).map_err(failed("create", &path))?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        for part in [first, second] {
            self.step(&path)?;
            file.write_all(part).map_err(failed("write", &path))?;
        }
        self.step(&path)?;
        file.sync_all().map_err(failed("sync", &path))?;
        Ok(path)
    }

    /// A file that a killed process wrote may be there without its name being durable: every folder above counts.
    fn note(&mut self, path: &Path) {
        let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        self.unsynced.extend(folders.map(Path::to_owned));
    }

    /// Where a test makes the process die.
    #[cfg(test)]
    fn step(&mut self, path: &Path) -> Result<(), ExportError> {
        match &mut self.steps_left {
            Some(0) => Err(failed("survive", path)(ErrorKind::Interrupted.into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the tests' version can fail")]
    fn step(&mut self, _path: &Path) -> Result<(), ExportError> {
        Ok(())
    }
}

fn same(file: &LogFile, stored: &[u8]) -> Result<(), ExportError> {
    if file.bytes == stored { Ok(()) } else { Err(ExportError::Different { path: file.path.clone() }) }
}

fn make_directory(path: &Path) -> Result<(), ExportError> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(failed("create", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.display().to_string();
    move |source| ExportError::Io { what, path, source }
}
