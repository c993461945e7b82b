//! Where the files of a log are kept: they are written once, whole or not at all.

use super::{LogFile, TailFault};

/// Why the log was not written. What was written before stays and is taken up by the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("another process writes this log")]
    Locked,
    #[error("the target does not answer")]
    Hangs,
    #[error("it lacks entries that were pruned from the database: copy the log's files here first")]
    Pruned,
    #[error("{path} is there with other bytes; nothing of a log is ever changed, so find out who did")]
    Different { path: String },
    #[error("{path} is missing or not what it should be")]
    Damaged { path: String },
    #[error(transparent)]
    Tail(#[from] TailFault),
    #[error(transparent)]
    TooLarge(#[from] crate::audit::tiles::TooLarge),
    #[error("the checkpoint is not one of the log as it was written")]
    OtherHead,
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: String, source: std::io::Error },
    #[error("cannot {what} {path}: {why}")]
    Bucket { what: &'static str, path: String, why: &'static str },
    #[error(
        "{path} is not locked until its time: create the bucket with object lock, and let the service see it (audit/README.md)"
    )]
    Unlocked { path: String },
}

impl ExportError {
    /// What is there is not what was written; anything else may pass by itself.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Different { .. } | Self::Damaged { .. } | Self::Tail(_) | Self::OtherHead)
    }
}

/// Where a log's files can be read. Its methods may block.
pub trait Source: Send {
    /// The bytes of a file; `None` where there is none.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError>;
}

/// One log's place. Its methods may block.
pub trait Target: Source {
    /// Writes files that are not there yet. There with the same bytes is as good; with others, nothing is touched. They
    /// are durable after [`Self::sync`].
    fn put(&mut self, files: &[LogFile]) -> Result<(), ExportError>;

    /// Replaces a file by another version of it, in one durable step.
    fn replace(&mut self, file: &LogFile) -> Result<(), ExportError>;

    /// Makes everything durable that was written so far.
    fn sync(&mut self) -> Result<(), ExportError>;

    /// Removes a folder with everything in it, as far as that is possible: a target may refuse, and a process may die.
    fn try_remove(&mut self, folder: &str);
}

impl Source for Box<dyn Source> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
        (**self).read(path)
    }
}

impl Source for Box<dyn Target> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ExportError> {
        (**self).read(path)
    }
}

impl Target for Box<dyn Target> {
    fn put(&mut self, files: &[LogFile]) -> Result<(), ExportError> {
        (**self).put(files)
    }

    fn replace(&mut self, file: &LogFile) -> Result<(), ExportError> {
        (**self).replace(file)
    }

    fn sync(&mut self) -> Result<(), ExportError> {
        (**self).sync()
    }

    fn try_remove(&mut self, folder: &str) {
        (**self).try_remove(folder);
    }
}
