//! A log's files, read only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::Note;
use crate::audit::export::{CHECKPOINT, CHECKPOINTS};
use crate::audit::tiles::{BundleId, FULL, TileId, read_entries};

/// A file or a folder could not be read. That is no finding: nothing is known of what it holds.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}")]
pub struct ReadFault {
    path: String,
    source: io::Error,
}

/// The largest file that a log has: a full bundle of the longest entries.
const LARGEST_BYTES: u64 = 256 * (65_535 + 2);

pub(super) struct Files {
    root: PathBuf,
}

/// What is there besides full tiles and bundles.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Widths of partial tiles, by level and index.
    pub tiles: BTreeMap<(u8, u64), BTreeSet<u16>>,
    /// Widths of partial bundles, by index.
    pub bundles: BTreeMap<u64, BTreeSet<u16>>,
    /// The first bundle, whole or not.
    pub first: Option<u64>,
    /// Up to which entry files of entries reach.
    pub reach: u64,
    /// Files that no log has.
    pub strays: Vec<String>,
}

impl Files {
    /// Of a folder that is there.
    pub fn open(root: &Path) -> Result<Self, ReadFault> {
        let fault = |source| ReadFault { path: root.display().to_string(), source };
        fs::read_dir(root).map_err(fault)?;
        Ok(Self { root: root.to_owned() })
    }

    /// A file's bytes; `None` where there is no such file, or it is larger than any of a log.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ReadFault> {
        let full = self.root.join(path);
        let mut bytes = Vec::new();
        let read = fs::File::open(&full).and_then(|file| {
            bytes.reserve_exact(usize::try_from(file.metadata()?.len().min(LARGEST_BYTES)).unwrap_or(0) + 1);
            file.take(LARGEST_BYTES + 1).read_to_end(&mut bytes)
        });
        match read {
            Ok(length) => {
                Ok(u64::try_from(length).is_ok_and(|length| length <= LARGEST_BYTES).then_some(bytes))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(ReadFault { path: full.display().to_string(), source }),
        }
    }

    /// A tile, or as much of the full one (tlog-tiles, Partial Tiles).
    pub fn tile(&self, id: TileId) -> Result<Option<Vec<u8>>, ReadFault> {
        if let Some(bytes) = self.read(&id.to_string())? {
            return Ok(Some(bytes));
        }
        let Some(full) = TileId::full(id.level(), id.index()).filter(|full| *full != id) else {
            return Ok(None);
        };
        let bytes = self.read(&full.to_string())?;
        Ok(bytes.and_then(|bytes| Some(bytes.get(..usize::from(id.width()) * 32)?.to_vec())))
    }

    /// A bundle, or as much of the full one.
    pub fn bundle(&self, id: BundleId) -> Result<Option<Vec<u8>>, ReadFault> {
        if let Some(bytes) = self.read(&id.to_string())? {
            return Ok(Some(bytes));
        }
        let Some(full) = BundleId::new(id.index(), FULL).filter(|full| *full != id) else { return Ok(None) };
        let bytes = self.read(&full.to_string())?;
        Ok(bytes.map(|mut bytes| {
            let rest = read_entries(id.width(), &bytes).1.len();
            bytes.truncate(bytes.len() - rest);
            bytes
        }))
    }

    /// Whether anything is, however large.
    pub fn is_there(&self, path: &str) -> bool {
        self.root.join(path).symlink_metadata().is_ok()
    }

    /// Whether there is a bundle, or the full one that it is the beginning of.
    pub fn has(&self, id: BundleId) -> bool {
        let full = BundleId::new(id.index(), FULL);
        [Some(id), full].into_iter().flatten().any(|id| self.root.join(id.to_string()).is_file())
    }

    /// The newest checkpoint's path and all others', without reading them.
    pub fn checkpoints(&self) -> Result<Vec<String>, ReadFault> {
        let mut paths = vec![CHECKPOINT.to_owned()];
        self.walk(CHECKPOINTS, &mut |path| paths.push(path))?;
        Ok(paths)
    }

    /// The files of tiles and entries that `is_one` is true of.
    pub fn paths(&self, is_one: impl Fn(&str) -> bool) -> Result<Vec<String>, ReadFault> {
        let mut paths = Vec::new();
        self.walk("tile", &mut |path| paths.extend(Some(path).filter(|path| is_one(path))))?;
        Ok(paths)
    }

    pub fn listing(&self) -> Result<Listing, ReadFault> {
        let mut listing = Listing::default();
        self.walk("tile", &mut |path| listing.add(path))?;
        Ok(listing)
    }

    fn walk(&self, folder: &str, found: &mut impl FnMut(String)) -> Result<(), ReadFault> {
        let full = self.root.join(folder);
        let fault = |source| ReadFault { path: full.display().to_string(), source };
        let entries = match fs::read_dir(&full) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(fault(error)),
        };
        for entry in entries {
            let entry = entry.map_err(fault)?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().map_err(fault)?.is_dir() {
                self.walk(&path, found)?;
            } else {
                found(path);
            }
        }
        Ok(())
    }
}

impl Listing {
    /// What is there and no part of a log of `size` entries.
    pub fn notes(&self, size: u64) -> impl Iterator<Item = Note> {
        let unsigned = (self.reach > size).then_some(Note::Unsigned { reach: self.reach });
        let count = self.strays.len();
        let strays = self.strays.first().map(|path| Note::Strays { count, path: path.clone() });
        unsigned.into_iter().chain(strays)
    }

    fn add(&mut self, path: String) {
        if let Some(id) = BundleId::parse(&path) {
            self.first = Some(self.first.map_or(id.index(), |first| first.min(id.index())));
            self.reach = self.reach.max(id.start_index().saturating_add(u64::from(id.width())));
            if !id.is_full() {
                self.bundles.entry(id.index()).or_default().insert(id.width());
            }
        } else if let Some(id) = TileId::parse(&path) {
            if !id.is_full() {
                self.tiles.entry((id.level(), id.index())).or_default().insert(id.width());
            }
        } else {
            self.strays.push(path);
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}
