//! Why sealing or opening was refused. No variant carries input, a value or a key.

use crate::domain::random::NoRandomness;

use super::primitive::Refused;

/// Nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("a class of this record has no key; make and commit one first")]
    MissingKey,
    #[error("the key does not have the id of the place it is wrapped for; wrap it where it belongs")]
    KeyMismatch,
    #[error("a field is given twice; give each field once")]
    DuplicateField,
    #[error("a value is too large to be sealed in one piece; send it as a file")]
    ValueTooLarge,
    #[error("the system's random source failed; try again once it works")]
    NoRandomness,
    #[error("the cipher refused its input; report this as a defect")]
    Refused,
}

/// Nothing was opened: of several fields, either all are returned or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The commitment, or the key's id, says that this is another key. Found before anything is decrypted.
    #[error("the key does not fit the seal; look for a wrong key or a changed header")]
    WrongKey,
    /// The key is right, but the value, its place or the set of fields is not what was sealed.
    #[error("a sealed value was changed, moved or trimmed; treat this as an incident")]
    Tampered,
    /// The shape is one that sealing never makes. Found before any key is asked for.
    #[error("the stored record is malformed; treat this as an incident")]
    Malformed,
    #[error("the key of a seal is not at hand; it may have been destroyed")]
    MissingKey,
}

impl From<NoRandomness> for SealError {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

impl From<Refused> for SealError {
    fn from(_: Refused) -> Self {
        Self::Refused
    }
}
