//! Why a key is not to be had.

use super::transit::TransitError;
use crate::crypto::{OpenError, SealError};
use crate::domain::random::NoRandomness;
use crate::storage::StorageError;

/// What a caller is told; the details were logged where they happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Vault or the key database is away and the cache has no answer (any more). May pass by itself.
    #[error("the keys cannot be reached; try again")]
    Unavailable,
    #[error("the service was refused; check its credentials, and its policy in vault")]
    Denied,
    #[error("there is no such key; it may have been destroyed")]
    Missing,
    #[error("the key's wrapping is too old to be opened")]
    TooOld,
    /// The owner has a tombstone: no key is ever made for it again.
    #[error("the owner of the key was erased")]
    Erased,
    /// A wrapped key does not open in its place; treat this as an incident.
    #[error("a wrapped key does not open; treat this as an incident")]
    Unusable,
    #[error("the system's random source failed")]
    NoRandomness,
}

impl KeyError {
    /// Whether a key in the cache may be used on until the end of its hard life. Everything else is an answer.
    pub(super) const fn is_ridden_out(self) -> bool {
        match self {
            Self::Unavailable | Self::NoRandomness => true,
            Self::Denied | Self::Missing | Self::TooOld | Self::Erased | Self::Unusable => false,
        }
    }
}

impl From<TransitError> for KeyError {
    fn from(error: TransitError) -> Self {
        match error {
            // A credential file that is being replaced, a proxy's page instead of Vault's answer: not Vault's word.
            TransitError::Unavailable | TransitError::Setting(_) | TransitError::Malformed => {
                Self::Unavailable
            }
            TransitError::Denied | TransitError::UnsafeKey { .. } => Self::Denied,
            TransitError::Missing => Self::Missing,
            TransitError::TooOld => Self::TooOld,
            TransitError::Unusable | TransitError::Refused { .. } => Self::Unusable,
        }
    }
}

impl From<StorageError> for KeyError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Malformed(_) | StorageError::TooMuch => Self::Unusable,
            StorageError::Secret(_)
            | StorageError::Roots(_)
            | StorageError::Unavailable
            | StorageError::Timeout
            | StorageError::Conflict
            | StorageError::Stale
            | StorageError::Held
            | StorageError::Claimed
            | StorageError::Refused { .. } => Self::Unavailable,
        }
    }
}

impl From<OpenError> for KeyError {
    fn from(_: OpenError) -> Self {
        Self::Unusable
    }
}

impl From<SealError> for KeyError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::NoRandomness => Self::NoRandomness,
            _ => Self::Unusable,
        }
    }
}

impl From<NoRandomness> for KeyError {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}
