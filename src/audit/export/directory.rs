//! A directory of files that are written once: whole or not at all, durable before the next step relies on them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{ExportError, LogFile, Source, Target};

/// Where files are until they are complete; what a killed process left here is removed.
const UNFINISHED: &str = ".unfinished";
const LOCK: &str = ".lock";

/// Entries say who saw whom: for the owner and the group, and for nobody to change.
const FILE_MODE: u32 = 0o440;
const DIRECTORY_MODE: u32 = 0o750;

/// The directory, locked for this process.
pub struct Directory {
    root: PathBuf,
    /// Folders with names in them that are not yet durable.
    unsynced: BTreeSet<PathBuf>,
    /// Folders that are there, whose own names are durable.
    known: BTreeSet<PathBuf>,
    _lock: File,
    #[cfg(test)]
    pub(super) steps_left: Option<u32>,
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
            known: BTreeSet::new(),
            _lock: lock,
            #[cfg(test)]
            steps_left: None,
        })
    }

    fn put_one(&mut self, file: &LogFile) -> Result<(), ExportError> {
        let path = self.root.join(&file.path);
        self.note(&path);
        if let Some(stored) = self.read(&file.path)? {
            return file.same_as(&stored);
        }
        if let Some(parent) = path.parent().filter(|parent| !self.known.contains(*parent)) {
            make_directory(parent)?;
        }
        let unfinished = self.write_unfinished(&file.bytes)?;
        self.step(&path)?;
        // Unlike a rename, a link never takes the place of a file.
        match fs::hard_link(&unfinished, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                file.same_as(&self.read(&file.path)?.unwrap_or_default())?;
            }
            Err(error) => return Err(failed("write", &path)(error)),
        }
        self.step(&path)?;
        fs::remove_file(&unfinished).map_err(failed("remove", &unfinished))
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

    /// A file that a killed process wrote may be there without its name being durable: every folder above counts, up to one
    /// that this process knows.
    fn note(&mut self, path: &Path) {
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root)) {
            self.unsynced.insert(folder.to_owned());
            if self.known.contains(folder) {
                break;
            }
        }
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

/// A directory that somebody else may be writing to: it is read as it is, and nothing is made or locked.
pub struct ReadOnlyDirectory(PathBuf);

impl ReadOnlyDirectory {
    pub const fn new(root: PathBuf) -> Self {
        Self(root)
    }
}

impl Source for ReadOnlyDirectory {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
        read_file(&self.0.join(path))
    }
}

impl Source for Directory {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
        read_file(&self.root.join(path))
    }
}

impl Target for Directory {
    /// A name is durable after [`Self::sync`].
    fn put(&mut self, files: &[LogFile]) -> Result<(), ExportError> {
        files.iter().try_for_each(|file| self.put_one(file))
    }

    fn replace(&mut self, file: &LogFile) -> Result<(), ExportError> {
        let path = self.root.join(&file.path);
        self.note(&path);
        let unfinished = self.write_unfinished(&file.bytes)?;
        self.step(&path)?;
        fs::rename(&unfinished, &path).map_err(failed("replace", &path))?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), ExportError> {
        let folders = self.unsynced.clone();
        for path in &folders {
            self.step(path)?;
            File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))?;
        }
        self.unsynced.clear();
        // With those above it: they were among them.
        self.known.extend(folders.into_iter().filter(|folder| folder.starts_with(&self.root)));
        Ok(())
    }

    fn try_remove(&mut self, folder: &str) {
        let path = self.root.join(folder);
        self.known.retain(|known| !known.starts_with(&path));
        let _ = self.step(&path).is_ok_and(|()| fs::remove_dir_all(&path).is_ok());
    }
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, ExportError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn make_directory(path: &Path) -> Result<(), ExportError> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(failed("create", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.display().to_string();
    move |source| ExportError::Io { what, path, source }
}
