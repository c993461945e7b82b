//! What can go wrong when parts start.

use std::path::{Path, PathBuf};

/// Why the local parts do not run. Names files and programs; what a program said is in the log that is named.
#[derive(Debug, thiserror::Error)]
pub enum DevStackError {
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is in use by another process; stop that one or choose another directory", .0.display())]
    Held(PathBuf),
    #[error("{} is not empty; an ephemeral stack needs a new or empty directory", .0.display())]
    NotEmpty(PathBuf),
    #[error("{} is not what a stack wrote; remove the directory to start afresh", .0.display())]
    Spoiled(PathBuf),
    #[error("the databases in {} are gone; remove {} to start afresh", home.display(), directory.display())]
    Lost { home: PathBuf, directory: PathBuf },
    #[error("cannot start {program}: {source}")]
    Spawn { program: String, source: std::io::Error },
    #[error("no usable {what}: {why}")]
    NoProgram { what: &'static str, why: String },
    #[error("{program} failed; its log is {}", log.display())]
    Failed { program: &'static str, log: PathBuf },
    #[error("{program} was not ready in time; its log is {}", log.display())]
    NotReady { program: &'static str, log: PathBuf },
    #[error("PostgreSQL does not run as root, and no other account exists: add a user named postgres")]
    NoAccount,
    #[error("no free port on 127.0.0.1")]
    NoPort,
    #[error("{0} runs already")]
    Running(&'static str),
    #[error("{0} is stopped; start it first")]
    Stopped(&'static str),
    #[error("the Vault API did not answer {0} as expected")]
    Api(&'static str),
    #[error("{0}")]
    Site(String),
    #[error(transparent)]
    Randomness(#[from] crate::domain::random::NoRandomness),
}

impl DevStackError {
    /// Turns an `io::Error` about a file into one that names it: `.map_err(DevStackError::file("read", path))`.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}
