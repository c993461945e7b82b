//! What the log says of itself: signed notes, checkpoints, cosignatures, proofs of single entries, and whom to believe
//! (C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof, tlog-policy).
//!
//! Everything is text that one reading gives back byte for byte; what could be read in two ways is refused. Signatures
//! are checked here with ring and made elsewhere: Vault signs [`Checkpoint::text`], a witness [`cosigned_message`], and
//! [`SignedCheckpoint::signed`] and [`SignedCheckpoint::cosign`] take a signature up only if it holds.

mod body;
mod certificate;
mod cosignature;
#[cfg(test)]
pub(crate) mod fixtures;
mod key;
mod note;
mod proof;
mod signed;
#[cfg(test)]
mod tests;
mod trust;

pub use body::{Checkpoint, CheckpointFault};
pub use certificate::{CertificateFault, ErasureStatement, certified};
pub use cosignature::{Cosignature, cosigned_message};
pub use key::{KeyFault, KeyKind, KeyName, VerifierKey};
pub use note::{LONGEST_NOTE_BYTES, Note, NoteFault, SignatureLine};
pub use proof::{EntryProof, ProofFault};
pub use signed::{InvalidSignature, SignedCheckpoint, SignedCheckpointFault};
pub use trust::{Distrust, Endorsement, Trust, TrustFault, TrustFaultKind};

use base64ct::{Base64, Encoding};

use crate::audit::tree::TreeHash;

/// RFC 4648 section 4, the one spelling: padded, no stray bits, no white space.
pub(in crate::audit) fn to_base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

pub(in crate::audit) fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

/// A hash on a line of its own.
pub(in crate::audit) fn hash_from_base64(text: &str) -> Option<TreeHash> {
    Some(TreeHash::from_bytes(from_base64(text)?.try_into().ok()?))
}

/// An ASCII decimal without leading zeroes, at most 2^63 - 1, since other implementations count with signed numbers.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = if is_plain { text.parse::<i64>().ok()? } else { return None };
    u64::try_from(number).ok()
}
