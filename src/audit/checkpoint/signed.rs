//! A checkpoint with its signatures.

use std::fmt;

use super::body::{Checkpoint, CheckpointFault};
use super::cosignature::Cosignature;
use super::key::{KeyKind, VerifierKey};
use super::note::{Note, NoteFault, SignatureLine};

/// A signature is not the key's over this checkpoint, or the key is not of the kind for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not this key's over the checkpoint")]
pub struct InvalidSignature;

/// Bytes are no signed checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedCheckpointFault {
    #[error(transparent)]
    Note(#[from] NoteFault),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFault),
}

/// A note whose text is a checkpoint. Being one says nothing about its signatures: ask [`super::Trust`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// What this reads, [`fmt::Display`] gives back byte for byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignedCheckpointFault> {
        let note = Note::parse(bytes)?;
        Ok(Self { checkpoint: Checkpoint::parse(note.text())?, note })
    }

    /// Joins a checkpoint and the log's signature over [`Checkpoint::text`], if the signature holds and the key is the
    /// origin's (tlog-checkpoint, Signatures: their names match).
    pub fn signed(
        checkpoint: Checkpoint,
        key: &VerifierKey,
        signature: &[u8],
    ) -> Result<Self, InvalidSignature> {
        let mut note = Note::of_text(checkpoint.text());
        let fits = key.kind() == KeyKind::Log && key.name().as_str() == checkpoint.origin();
        if !fits || key.check(note.text(), signature).is_none() {
            return Err(InvalidSignature);
        }
        note.put(line_of(key, signature.to_vec()));
        Ok(Self { checkpoint, note })
    }

    /// Adds a witness's signature over [`super::cosigned_message`], if it holds; an older one of the same key goes.
    pub fn cosign(&mut self, key: &VerifierKey, cosignature: Cosignature) -> Result<(), InvalidSignature> {
        let bytes = cosignature.to_bytes();
        if key.kind() != KeyKind::Witness || key.check(self.note.text(), &bytes).is_none() {
            return Err(InvalidSignature);
        }
        self.note.put(line_of(key, bytes));
        Ok(())
    }

    /// Adds those lines of a witness's answer that known keys made; the others are passed over (tlog-witness,
    /// add-checkpoint). A known key's line that does not hold refuses all of them.
    pub fn cosign_with_lines(
        &mut self,
        lines: Vec<SignatureLine>,
        keys: &[VerifierKey],
    ) -> Result<usize, InvalidSignature> {
        let mut taken = Vec::new();
        for line in lines {
            let Some(key) = keys.iter().find(|key| made(key, &line) && key.kind() == KeyKind::Witness) else {
                continue;
            };
            key.check(self.note.text(), &line.signature).ok_or(InvalidSignature)?;
            taken.push(line);
        }
        let count = taken.len();
        for line in taken {
            self.note.put(line);
        }
        Ok(count)
    }

    /// The same checkpoint with some of its lines.
    #[must_use]
    pub fn with_lines(&self, keep: impl Fn(&SignatureLine) -> bool) -> Self {
        let mut note = Note::of_text(self.note.text().to_owned());
        self.note.signatures().iter().filter(|line| keep(line)).for_each(|line| note.put(line.clone()));
        Self { checkpoint: self.checkpoint.clone(), note }
    }

    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub const fn note(&self) -> &Note {
        &self.note
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

fn line_of(key: &VerifierKey, signature: Vec<u8>) -> SignatureLine {
    SignatureLine { name: key.name().clone(), key_id: key.id(), signature }
}

/// signed-note, Signatures: name and id together say whose it is.
pub(super) fn made(key: &VerifierKey, line: &SignatureLine) -> bool {
    key.id() == line.key_id && *key.name() == line.name
}
