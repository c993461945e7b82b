//! Subject keys under their tenant key: the same construction as a seal, with a label and associated data of its own.

use zeroize::Zeroizing;

use crate::domain::class::DataClass;
use crate::domain::id::{FieldId, KeyId, KeyOwner, TenantId};
use crate::domain::random::Random;
use crate::domain::secret::Key256;

use super::aad::{nonce, wrap_aad};
use super::error::{OpenError, SealError};
use super::header::{self, HEADER_BYTES, Purpose, SALT_BYTES};
use super::key::{SubjectKey, TenantKey};
use super::primitive::TAG_BYTES;

const KEY_BYTES: usize = 32;
/// A wrapped key has the nonce of field 0; its key wraps nothing else.
const KEY_FIELD: FieldId = FieldId(0);

/// Where a subject key belongs. A wrapped key opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrapPlace<'a> {
    pub tenant: TenantId,
    pub owner: &'a KeyOwner,
    pub class: DataClass,
    /// The subject key's own id.
    pub key_id: KeyId,
}

/// A subject key as `subject_key` stores it. [`super::header_key_id`] tells which tenant key opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    pub header: [u8; HEADER_BYTES],
    /// Ciphertext and tag, 48 bytes.
    pub wrapped: Vec<u8>,
}

/// Wraps a subject key with a fresh salt. Refuses a key that has another id than its place.
pub fn wrap_subject_key(
    tenant_key: &TenantKey,
    place: &WrapPlace<'_>,
    key: &SubjectKey,
    random: &dyn Random,
) -> Result<WrappedKey, SealError> {
    if key.id() != place.key_id {
        return Err(SealError::KeyMismatch);
    }
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt)?;
    let (header, cipher) = header::create(Purpose::Wrap, tenant_key.id(), tenant_key.secret(), &salt)?;
    // Wiped if the cipher refuses.
    let mut buffer = Zeroizing::new(Vec::with_capacity(KEY_BYTES + TAG_BYTES));
    buffer.extend_from_slice(key.secret().expose());
    let tag = cipher.seal(nonce(KEY_FIELD), &wrap_aad(&header, place), &mut buffer)?;
    buffer.extend_from_slice(&tag);
    Ok(WrappedKey { header, wrapped: std::mem::take(&mut *buffer) })
}

/// Unwraps a subject key. Errors as those of [`super::open_fields`]: `WrongKey` if `tenant_key` is not the one that wrapped
/// it, `Tampered` if the place or the wrapped bytes differ, `Malformed` if the header is unknown.
pub fn unwrap_subject_key(
    tenant_key: &TenantKey,
    place: &WrapPlace<'_>,
    wrapped: &WrappedKey,
) -> Result<SubjectKey, OpenError> {
    let cipher = header::open(Purpose::Wrap, tenant_key.id(), tenant_key.secret(), &wrapped.header)?;
    let (ciphertext, tag) = wrapped.wrapped.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Tampered)?;
    let ciphertext: &[u8; KEY_BYTES] = ciphertext.try_into().map_err(|_| OpenError::Tampered)?;
    let aad = wrap_aad(&wrapped.header, place);
    let secret = Key256::filled(|bytes| {
        bytes.copy_from_slice(ciphertext);
        cipher.open(nonce(KEY_FIELD), &aad, bytes, *tag)
    })
    .map_err(|_| OpenError::Tampered)?;
    Ok(SubjectKey::unwrapped(place.key_id, secret))
}
