//! Signed notes (C2SP signed-note): a text and lines of signatures under it.

use std::fmt::{self, Write};

use super::key::KeyName;
use super::{from_base64, to_base64};

/// The longest note that is looked at: room for the 16 signatures that everybody must take, several times over, and of
/// kinds that are larger than ours.
pub const LONGEST_NOTE_BYTES: usize = 256 * 1024;
const MOST_SIGNATURES: usize = 100;

/// Em dash and space, before each signature.
const MARK: &str = "\u{2014} ";

/// Bytes are no signed note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    #[error("the note is longer than {LONGEST_NOTE_BYTES} bytes")]
    TooLong,
    #[error("the note is not UTF-8, or has a control character")]
    NotText,
    #[error("the note has no empty line between text and signatures")]
    NoSignatures,
    #[error("a signature line of the note is malformed")]
    SignatureLine,
    #[error("the note has more than {MOST_SIGNATURES} signatures")]
    TooMany,
}

/// One signature, of whatever kind: name and id say which key made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    pub name: KeyName,
    pub key_id: u32,
    pub signature: Vec<u8>,
}

impl SignatureLine {
    /// A line without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(MARK)?.split_once(' ')?;
        let bytes = from_base64(base64)?;
        let (key_id, signature) = bytes.split_first_chunk::<4>()?;
        let is_there = !signature.is_empty();
        is_there.then_some(())?;
        let key_id = u32::from_be_bytes(*key_id);
        Some(Self { name: KeyName::parse(name)?, key_id, signature: signature.to_vec() })
    }

    /// Signature lines alone, as a witness answers them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, NoteFault> {
        if text.is_empty() || !text.ends_with('\n') {
            return Err(NoteFault::SignatureLine);
        }
        if text.lines().count() > MOST_SIGNATURES {
            return Err(NoteFault::TooMany);
        }
        text.split_terminator('\n').map(|line| Self::parse(line).ok_or(NoteFault::SignatureLine)).collect()
    }
}

impl fmt::Display for SignatureLine {
    /// With its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.key_id.to_be_bytes().as_slice(), &self.signature].concat();
        writeln!(f, "{MARK}{} {}", self.name, to_base64(&bytes))
    }
}

/// A text, with its last newline, and the signatures under it. None of them is checked by being here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// What this reads, [`fmt::Display`] gives back byte for byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteFault> {
        if bytes.len() > LONGEST_NOTE_BYTES {
            return Err(NoteFault::TooLong);
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteFault::NotText)?;
        if whole.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteFault::NotText);
        }
        // The last empty line: the text may have some of its own.
        let (text, lines) = whole.rsplit_once("\n\n").ok_or(NoteFault::NoSignatures)?;
        let signatures = SignatureLine::parse_all(lines)?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// A note of a text that ends with a newline and has no control characters besides.
    pub(super) fn of_text(text: String) -> Self {
        Self { text, signatures: Vec::new() }
    }

    /// Adds a line under the others; one of the same key is replaced.
    pub(super) fn put(&mut self, line: SignatureLine) {
        self.signatures.retain(|other| (&other.name, other.key_id) != (&line.name, line.key_id));
        self.signatures.push(line);
    }

    /// The signed text, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_char('\n')?;
        self.signatures.iter().try_for_each(|line| line.fmt(f))
    }
}
