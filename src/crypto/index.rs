//! Terms of blind indexes: what of a value may stand in the database, so that it can be found and not read.
//!
//! ```text
//! key  = HKDF-Expand-SHA256(prk = root, info = "strongroom/index/v1" ‖ lp(collection) ‖ u32 field id ‖ u16 transform
//!                           ‖ u16 version of the normalisation, 32 bytes)
//! term = the first bits of HMAC-SHA256(key, lp(part of the normalised value)), the rest of its last byte zero
//! lp(x) = u32 length ‖ x; integers big-endian
//! ```
//!
//! `tests/vectors/index-v1.json` holds known answers of a second implementation. Not here: how values are normalised and
//! how long terms are (`domain::index`), where the root comes from (`keys`).
//!
//! A term cannot be made of anything else:
//!
//! ```compile_fail,E0451
//! use strongroom::crypto::index::IndexTerm;
//! fn forge(term: IndexTerm) -> IndexTerm {
//!     IndexTerm { bytes: b"Smith".to_vec(), ..term }
//! }
//! ```

use super::digest::sha256_of_parts;
use super::error::SealError;
use super::key::TenantKey;
use super::keyed_hash::{derive_key, hmac_sha256};
use crate::domain::id::{CollectionName, FieldId, KeyId};
use crate::domain::index::{IndexSpec, NORMALISATION_VERSION};
use crate::domain::secret::{Key256, SecretBytes};

const LABEL: &str = "strongroom/index/v1";

/// What stands for a part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTerm {
    root: KeyId,
    field: FieldId,
    transform: u16,
    bytes: Vec<u8>,
}

impl IndexTerm {
    /// The number of the root that it was made under.
    pub const fn root(&self) -> KeyId {
        self.root
    }

    pub const fn field(&self) -> FieldId {
        self.field
    }

    /// `domain::index::Transform::number`.
    pub const fn transform(&self) -> u16 {
        self.transform
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Makes the terms of one index of one field.
pub struct TermMaker {
    root: KeyId,
    field: FieldId,
    spec: IndexSpec,
    key: Key256,
}

impl TermMaker {
    pub fn new(
        root: &TenantKey,
        collection: &CollectionName,
        field: FieldId,
        spec: IndexSpec,
    ) -> Result<Self, SealError> {
        let mut info = Vec::with_capacity(64);
        info.extend_from_slice(&length(collection.as_str().len()));
        info.extend_from_slice(collection.as_str().as_bytes());
        info.extend_from_slice(&field.0.to_be_bytes());
        info.extend_from_slice(&spec.transform.number().to_be_bytes());
        info.extend_from_slice(&NORMALISATION_VERSION.to_be_bytes());
        let key = derive_key(root.secret(), LABEL, &info)?;
        Ok(Self { root: root.id(), field, spec, key })
    }

    /// The term of a part that `domain::index` gave.
    pub fn term(&self, part: &SecretBytes) -> IndexTerm {
        #[expect(clippy::disallowed_methods, reason = "the value goes into a keyed digest")]
        let tag = hmac_sha256(&self.key, &[&length(part.len()), part.expose()]);
        let (root, field, transform) = (self.root, self.field, self.spec.transform.number());
        IndexTerm { root, field, transform, bytes: first_bits(&tag, self.spec.bits) }
    }
}

/// The terms of a version, and by which declaration they were made.
#[derive(Default)]
pub struct RecordIndex {
    pub(super) state: Option<i64>,
    pub(super) terms: Vec<IndexTerm>,
}

impl RecordIndex {
    /// `declaration` is a digest of what the collection's indexes are.
    pub fn new(root: &TenantKey, declaration: &[u8; 32], terms: Vec<IndexTerm>) -> Self {
        Self { state: Some(index_state(root, declaration)), terms }
    }
}

/// What a record says that was indexed under this root by this declaration.
pub fn index_state(root: &TenantKey, declaration: &[u8; 32]) -> i64 {
    let digest = sha256_of_parts([declaration.as_slice(), &root.id().as_u64().to_be_bytes()]);
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

fn first_bits(tag: &[u8; 32], bits: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = tag.iter().take(usize::from(bits.div_ceil(8))).copied().collect();
    if let (Some(last), rest @ 1..) = (bytes.last_mut(), bits % 8) {
        *last &= 0xff << (8 - rest);
    }
    bytes
}

/// Values and names are bounded far below 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::index::Transform;

    fn maker(root: u8, collection: &str, field: u32, transform: Transform) -> TermMaker {
        let root = TenantKey::new(KeyId::FIRST, Key256::copied_from(&[root; 32]).unwrap());
        let spec = IndexSpec { transform, bits: 128 };
        TermMaker::new(&root, &CollectionName::parse(collection).unwrap(), FieldId(field), spec).unwrap()
    }

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    #[test]
    fn each_index_of_each_field_has_terms_of_its_own() {
        let all = [
            maker(1, "patients", 1, Transform::Exact),
            maker(2, "patients", 1, Transform::Exact),
            maker(1, "patient", 1, Transform::Exact),
            maker(1, "patients", 2, Transform::Exact),
            maker(1, "patients", 1, Transform::Prefix(3)),
            maker(1, "patients", 1, Transform::Prefix(4)),
            maker(1, "patients", 1, Transform::Day),
        ];
        let terms: Vec<Vec<u8>> = all.iter().map(|maker| maker.term(&secret("nova")).bytes).collect();
        for (at, term) in terms.iter().enumerate() {
            assert_eq!(term.len(), 16);
            assert!(!terms[at + 1..].contains(term));
        }
        assert_eq!(all[0].term(&secret("nova")), all[0].term(&secret("nova")));
    }

    #[test]
    fn a_state_is_of_one_declaration_and_one_root() {
        let root =
            |number| TenantKey::new(KeyId::new(number).unwrap(), Key256::copied_from(&[1; 32]).unwrap());
        let states = [
            index_state(&root(1), &[1; 32]),
            index_state(&root(1), &[2; 32]),
            index_state(&root(2), &[1; 32]),
        ];
        assert!(states[0] != states[1] && states[0] != states[2] && states[1] != states[2]);
    }

    proptest! {
        #[test]
        fn a_term_is_the_beginning_of_a_longer_one(bits in 1_u8..=128, text in "\\PC{0,40}") {
            let long = maker(1, "patients", 1, Transform::Exact);
            let mut short = maker(1, "patients", 1, Transform::Exact);
            short.spec.bits = bits;
            let (long, short) = (long.term(&secret(&text)).bytes, short.term(&secret(&text)).bytes);
            let number = |bytes: &[u8]| {
                let mut whole = [0; 16];
                whole[..bytes.len()].copy_from_slice(bytes);
                u128::from_be_bytes(whole)
            };
            let mask = u128::MAX << (128 - u32::from(bits));
            prop_assert_eq!(short.len(), usize::from(bits).div_ceil(8));
            prop_assert_eq!(number(&short), number(&long) & mask);
        }
    }
}
