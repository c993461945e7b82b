//! The 66-byte header of a seal or a wrapped key, and the key that it and the parent key stand for.
//!
//! ```text
//!   0  version 01 │ 1  suite 01 │ 2  key id (u64) │ 10  salt (24) │ 34  commitment (32)
//! ```

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::domain::id::KeyId;
use crate::domain::secret::Key256;

use super::error::{OpenError, SealError};
use super::primitive::{Cipher, Refused, expand};

/// Length of a header.
pub const HEADER_BYTES: usize = 66;
pub(super) const SALT_BYTES: usize = 24;
const PREFIX_BYTES: usize = 34;
/// Version 1; suite 1 is HKDF-SHA256 with AES-256-GCM.
const VERSION_AND_SUITE: [u8; 2] = [1, 1];

/// What a derived key is for; first in the HKDF info, so that no key serves two purposes.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Values under a subject key.
    Seal,
    /// A subject key under its tenant key.
    Wrap,
    /// The parts of a file under a subject key.
    File,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Seal => b"strongroom/seal/v1",
            Self::Wrap => b"strongroom/wrap/v1",
            Self::File => b"strongroom/file/v1",
        }
    }
}

/// The id of the parent key (the subject key of a seal, the tenant key of a wrapped key). `None` if the
/// version, the suite or the id is one that was never written. Nothing is authenticated yet.
pub fn header_key_id(header: &[u8; HEADER_BYTES]) -> Option<KeyId> {
    let (version_and_suite, rest) = header.split_first_chunk::<2>()?;
    let (key_id, _) = rest.split_first_chunk::<8>()?;
    if *version_and_suite != VERSION_AND_SUITE {
        return None;
    }
    KeyId::from_u64(u64::from_be_bytes(*key_id))
}

/// A new header for this parent key and salt, and the cipher that it stands for.
pub(super) fn create(
    purpose: Purpose,
    key_id: KeyId,
    key: &Key256,
    salt: &[u8; SALT_BYTES],
) -> Result<([u8; HEADER_BYTES], Cipher), SealError> {
    let mut header = [0; HEADER_BYTES];
    let (prefix, commitment) = header.split_at_mut(PREFIX_BYTES);
    let parts = VERSION_AND_SUITE.into_iter().chain(key_id.as_u64().to_be_bytes()).chain(*salt);
    prefix.iter_mut().zip(parts).for_each(|(to, from)| *to = from);

    let derived = derive(purpose, key, prefix)?;
    let [cipher_key, committed] = &**derived;
    commitment.copy_from_slice(committed);
    Ok((header, Cipher::new(cipher_key)))
}

/// The cipher that a stored header stands for.
///
/// The commitment is compared in constant time before anything is decrypted: AES-GCM alone does not commit to
/// its key, and a wrong key can then be told from a changed value.
pub(super) fn open(
    purpose: Purpose,
    key_id: KeyId,
    key: &Key256,
    header: &[u8; HEADER_BYTES],
) -> Result<Cipher, OpenError> {
    if header_key_id(header).ok_or(OpenError::Malformed)? != key_id {
        return Err(OpenError::WrongKey);
    }
    let (prefix, commitment) = header.split_at(PREFIX_BYTES);
    let derived = derive(purpose, key, prefix).map_err(|_| OpenError::Malformed)?;
    let [cipher_key, committed] = &**derived;
    if bool::from(committed.as_slice().ct_eq(commitment)) {
        Ok(Cipher::new(cipher_key))
    } else {
        Err(OpenError::WrongKey)
    }
}

/// Cipher key ‖ commitment = HKDF-Expand(prk = key, info = label ‖ prefix, 64 bytes).
///
/// Boxed, so that returning it leaves no copy on the stack.
fn derive(purpose: Purpose, key: &Key256, prefix: &[u8]) -> Result<Box<Zeroizing<[[u8; 32]; 2]>>, Refused> {
    let mut derived = Box::new(Zeroizing::new([[0; 32]; 2]));
    expand(key, &[purpose.label(), prefix], derived.as_flattened_mut())?;
    Ok(derived)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key256 {
        Key256::copied_from(&[byte; 32]).unwrap()
    }

    fn header(id: i64) -> [u8; HEADER_BYTES] {
        create(Purpose::Seal, KeyId::new(id).unwrap(), &key(7), &[9; SALT_BYTES]).unwrap().0
    }

    #[test]
    fn layout() {
        let header = header(0x0102_0304_0506_0708);
        assert_eq!(header[..10], [1, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(header[10..34], [9; SALT_BYTES]);
        assert_eq!(header_key_id(&header), KeyId::new(0x0102_0304_0506_0708));
    }

    #[test]
    fn only_what_was_written_has_a_key_id() {
        for (at, byte) in [(0, 0), (0, 2), (1, 0), (1, 2)] {
            let mut header = header(1);
            header[at] = byte;
            assert_eq!(header_key_id(&header), None);
            let opened = open(Purpose::Seal, KeyId::FIRST, &key(7), &header);
            assert_eq!(opened.err(), Some(OpenError::Malformed));
        }
        for id in [0, 1 << 63, u64::MAX] {
            let mut header = header(1);
            header[2..10].copy_from_slice(&id.to_be_bytes());
            assert_eq!(header_key_id(&header), None);
        }
    }

    #[test]
    fn opens_only_for_its_key_id_and_purpose() {
        let header = header(5);
        let five = KeyId::new(5).unwrap();
        assert!(open(Purpose::Seal, five, &key(7), &header).is_ok());
        let wrong = [
            open(Purpose::Seal, five, &key(8), &header),
            open(Purpose::Seal, KeyId::FIRST, &key(7), &header),
            open(Purpose::Wrap, five, &key(7), &header),
        ];
        for opened in wrong {
            assert_eq!(opened.err(), Some(OpenError::WrongKey));
        }
    }
}
