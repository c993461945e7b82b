//! What a witness remembers: for each log the newest checkpoint that it cosigned, in a file that is replaced whole.
//!
//! Memory is all that a witness has against a log that shows it an older or another tree. So nothing is remembered for a
//! log until somebody says that it begins ([`Ledger::begin`]): a witness whose files were lost refuses, and does not start
//! to believe anew.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};

use crate::audit::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::audit::tree::TreeHash;

/// Signed checkpoints that were refused and kept as evidence, at most.
const MOST_EVIDENCE: usize = 1_000;
/// Of these, such as came with a proof that does not hold: whoever asks may have spoilt the proof of a checkpoint that is
/// sound, so they leave room for what speaks for itself.
const MOST_DOUBTFUL: usize = 500;

/// Why the witness's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFault {
    #[error("another process is this witness")]
    Locked,
    #[error("{0} is not what this witness wrote there")]
    Damaged(String),
    #[error("this log is known already")]
    Known,
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: String, source: io::Error },
}

/// The newest checkpoint of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub checkpoint: Checkpoint,
    /// With the log's signature and this witness's; `None` for a log of which nothing was cosigned yet.
    pub signed: Option<SignedCheckpoint>,
}

/// The directory, locked for this process.
pub struct Ledger {
    root: PathBuf,
    heads: Mutex<HashMap<String, Head>>,
    _lock: File,
}

impl Ledger {
    /// Opens the directory, which must be there.
    pub fn open(root: &Path) -> Result<Self, LedgerFault> {
        let path = root.join(".lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerFault::Locked),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        let mut heads = HashMap::new();
        for entry in fs::read_dir(root).map_err(failed("read", root))? {
            let path = entry.map_err(failed("read", root))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with('.') || path.is_dir() {
                continue;
            }
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            let head = Head::parse(&bytes).filter(|head| name == file_name(head.checkpoint.origin()));
            let head = head.ok_or_else(|| LedgerFault::Damaged(path.display().to_string()))?;
            heads.insert(head.checkpoint.origin().to_owned(), head);
        }
        Ok(Self { root: root.to_owned(), heads: Mutex::new(heads), _lock: lock })
    }

    /// Makes the directory where it is missing.
    pub fn create(root: &Path) -> Result<Self, LedgerFault> {
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed("create", root))?;
        Self::open(root)
    }

    /// From now on the log of this origin is watched, from its first entry on.
    pub fn begin(&self, origin: &str) -> Result<(), LedgerFault> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.contains_key(origin) {
            return Err(LedgerFault::Known);
        }
        let damaged = |_| LedgerFault::Damaged(String::from("the origin"));
        let checkpoint = Checkpoint::new(origin, 0, TreeHash::of_nothing()).map_err(damaged)?;
        self.write(&file_name(origin), checkpoint.text().as_bytes())?;
        heads.insert(origin.to_owned(), Head { checkpoint, signed: None });
        Ok(())
    }

    /// The newest checkpoint of a log; `None` for a log that is not watched.
    pub fn head(&self, origin: &str) -> Option<Head> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).get(origin).cloned()
    }

    /// As [`Self::head`], by what tlog-witness calls the origin hash.
    pub fn head_by_hash(&self, origin_hash: &str) -> Option<Head> {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.iter().find(|(origin, _)| file_name(origin) == origin_hash).map(|(_, head)| head.clone())
    }

    /// Looks at the newest checkpoint of a log and replaces it, as one step that no other comes between (tlog-witness,
    /// add-checkpoint). What `judge` gives is durable before this returns; an error of either kind changes nothing.
    pub(super) fn advance<E>(
        &self,
        origin: &str,
        judge: impl FnOnce(Option<&Head>) -> Result<SignedCheckpoint, E>,
    ) -> Result<Result<SignedCheckpoint, E>, LedgerFault> {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = match judge(heads.get(origin)) {
            Ok(signed) => signed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.write(&file_name(origin), signed.to_string().as_bytes())?;
        let head = Head { checkpoint: signed.checkpoint().clone(), signed: Some(signed.clone()) };
        heads.insert(origin.to_owned(), head);
        Ok(Ok(signed))
    }

    /// Keeps a checkpoint that the log signed and that is not the continuation of what it showed before. Of the size of the
    /// one that was cosigned, with another root, it proves with it that the log was forked; with signatures that were not
    /// verified it would have a new name each time.
    pub(super) fn keep_evidence(&self, signed: &SignedCheckpoint) -> Result<(), LedgerFault> {
        // Files are written one at a time: all of them begin under one name.
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let size = signed.checkpoint().size();
        let is_proof =
            heads.get(signed.checkpoint().origin()).is_some_and(|head| head.checkpoint.size() == size);
        let most = if is_proof { MOST_EVIDENCE } else { MOST_DOUBTFUL };
        let folder = self.root.join("refused");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed("create", &folder))?;
        let bytes = signed.to_string().into_bytes();
        let name = format!("refused/{}", hex(&bytes));
        let kept = fs::read_dir(&folder).map_err(failed("read", &folder))?.count();
        if kept < most && !self.root.join(&name).exists() {
            self.write(&name, &bytes)?;
        }
        Ok(())
    }

    /// Whole or not at all, and durable. The caller holds `heads`.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), LedgerFault> {
        let (path, new) = (self.root.join(name), self.root.join(".new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).map_err(failed("create", &new))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &new))?;
        fs::rename(&new, &path).map_err(failed("replace", &path))?;
        let folder = path.parent().unwrap_or(&self.root);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(signed) = SignedCheckpoint::parse(bytes) {
            return Some(Self { checkpoint: signed.checkpoint().clone(), signed: Some(signed) });
        }
        let checkpoint = Checkpoint::parse(std::str::from_utf8(bytes).ok()?).ok()?;
        let is_empty = checkpoint.size() == 0 && *checkpoint.root() == TreeHash::of_nothing();
        is_empty.then_some(Self { checkpoint, signed: None })
    }

    /// The time of this witness's newest cosignature, in seconds.
    pub(super) fn time_s(&self, time_of: impl Fn(&SignedCheckpoint) -> Option<u64>) -> u64 {
        self.signed.as_ref().and_then(time_of).unwrap_or(0)
    }
}

/// tlog-witness, Monitor Retrieval Mechanism: the SHA-256 of the origin in lower-case hexadecimal digits.
fn file_name(origin: &str) -> String {
    hex(origin.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerFault {
    let path = path.display().to_string();
    move |source| LedgerFault::Io { what, path, source }
}
