//! The text of a checkpoint (C2SP tlog-checkpoint).

use super::{decimal, hash_from_base64, to_base64};
use crate::audit::tree::TreeHash;

/// A text is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFault {
    #[error("a checkpoint has an origin, a size and a root, each on a line")]
    Lines,
    #[error("the checkpoint's origin or an extension is empty or has a control character")]
    EmptyLine,
    #[error("the checkpoint's size is not a decimal number below 2^63")]
    Size,
    #[error("the checkpoint's root is not the base64 of 32 bytes")]
    Root,
}

/// A log's head: how many entries, and the root over all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: TreeHash,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// The name of the log is the origin; there are no extension lines, which nobody could audit.
    pub fn new(origin: &str, size: u64, root: TreeHash) -> Result<Self, CheckpointFault> {
        if !is_line(origin) {
            return Err(CheckpointFault::EmptyLine);
        }
        if i64::try_from(size).is_err() {
            return Err(CheckpointFault::Size);
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions: Vec::new() })
    }

    /// Reads the text of a note; [`Self::text`] gives it back byte for byte.
    pub fn parse(text: &str) -> Result<Self, CheckpointFault> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointFault::Lines)?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointFault::Lines);
        };
        let size = decimal(size).ok_or(CheckpointFault::Size)?;
        let root = hash_from_base64(root).ok_or(CheckpointFault::Root)?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if !extensions.iter().all(|line| is_line(line)) {
            return Err(CheckpointFault::EmptyLine);
        }
        Ok(Self { extensions, ..Self::new(origin, size, root)? })
    }

    /// The bytes that the log signs: each line with its newline.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, to_base64(self.root.as_bytes()));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    pub const fn root(&self) -> &TreeHash {
        &self.root
    }

    /// Opaque lines after the root; signed, and without a meaning here.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte >= b' ')
}
