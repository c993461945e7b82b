//! Keyed digests of requests: what is kept of an idempotency key and of the body that came with it.
//!
//! Both are HMAC-SHA256 under keys derived from a root of the tenant, so that the table that keeps them tells nothing to
//! somebody without the key hierarchy: not the caller's key, and not whether a guessed body was sent.

use ring::hmac;

use super::error::SealError;
use super::key::TenantKey;
use super::keyed_hash::{derive_key, hmac_sha256};
use super::record::PlainField;
use crate::domain::id::{CollectionName, KeyId, SubjectId};

/// HMAC of who sent a key (a client's name, and where it acts for a person their issuer's name and id) and the key, each
/// length-prefixed: each client, and each person behind it, has its own keys.
pub fn key_mac(root: &TenantKey, sender: &[&str], key: &str) -> Result<[u8; 32], SealError> {
    let derived = derive_key(root.secret(), "strongroom/idempotency-key/v1", &[])?;
    let words = sender.iter().chain(std::iter::once(&key));
    let parts: Vec<_> = words.map(|word| (length(word.len()), word.as_bytes())).collect();
    let parts: Vec<&[u8]> = parts.iter().flat_map(|(length, word)| [&length[..], word]).collect();
    Ok(hmac_sha256(&derived, &parts))
}

/// HMAC of what a request creates: lp(operation) ‖ lp(collection), then for each record lp(subject) ‖ u32 number of
/// fields ‖ (u32 field id ‖ u16 type ‖ lp(canonical value)), fields ascending by id; lp(x) = u32 length ‖ x, integers
/// big-endian. It is over values as they are sealed, so two spellings of one body are one body.
pub struct BodyMac {
    root: KeyId,
    context: hmac::Context,
}

impl BodyMac {
    /// `operation` is a word of the program, one for each kind of request that may be repeated.
    pub fn begin(
        root: &TenantKey,
        operation: &'static str,
        collection: &CollectionName,
    ) -> Result<Self, SealError> {
        let mut mac = Self::under(root, operation)?;
        mac.put(collection.as_str().as_bytes());
        Ok(mac)
    }

    fn under(root: &TenantKey, operation: &'static str) -> Result<Self, SealError> {
        let derived = derive_key(root.secret(), "strongroom/idempotency-body/v1", &[])?;
        let context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, derived.expose()));
        let mut mac = Self { root: root.id(), context };
        mac.put(operation.as_bytes());
        Ok(mac)
    }

    /// HMAC of what a request asks for that creates no record: lp(operation) ‖ lp(word) for each word, in the order of the
    /// program.
    pub fn of_words(
        root: &TenantKey,
        operation: &'static str,
        words: &[&[u8]],
    ) -> Result<([u8; 32], KeyId), SealError> {
        let mut mac = Self::under(root, operation)?;
        for word in words {
            mac.put(word);
        }
        Ok(mac.finish())
    }

    pub fn record(&mut self, subject: Option<SubjectId>, fields: &[PlainField]) {
        self.put(subject.as_ref().map_or(&[], |subject| subject.as_uuid().as_bytes().as_slice()));
        let mut ordered: Vec<&PlainField> = fields.iter().collect();
        ordered.sort_unstable_by_key(|field| field.id);
        self.context.update(&length(ordered.len()));
        for field in ordered {
            self.context.update(&field.id.0.to_be_bytes());
            self.context.update(&field.type_id.to_be_bytes());
            #[expect(clippy::disallowed_methods, reason = "the value goes into a keyed digest")]
            self.put(field.value.expose());
        }
    }

    /// The digest, and the number of the root that it was made under.
    pub fn finish(self) -> ([u8; 32], KeyId) {
        let mut mac = [0; 32];
        mac.copy_from_slice(self.context.sign().as_ref());
        (mac, self.root)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.context.update(&length(bytes.len()));
        self.context.update(bytes);
    }
}

/// Bodies are bounded far below 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::class::DataClass;
    use crate::domain::id::FieldId;
    use crate::domain::secret::{Key256, SecretBytes};

    fn root(byte: u8) -> TenantKey {
        TenantKey::new(KeyId::FIRST, Key256::copied_from(&[byte; 32]).unwrap())
    }

    fn field(id: u32, value: &str) -> PlainField {
        let value = SecretBytes::new(value.as_bytes().to_vec());
        PlainField { id: FieldId(id), type_id: 1, class: DataClass::Phi, value }
    }

    fn body(root_byte: u8, operation: &'static str, records: &[&[(u32, &str)]]) -> [u8; 32] {
        let name = CollectionName::parse("patients").unwrap();
        let mut mac = BodyMac::begin(&root(root_byte), operation, &name).unwrap();
        for fields in records {
            let fields: Vec<PlainField> = fields.iter().map(|(id, value)| field(*id, value)).collect();
            mac.record(None, &fields);
        }
        mac.finish().0
    }

    #[test]
    fn each_request_has_a_digest_of_its_own() {
        let all = [
            body(1, "create", &[&[(1, "a"), (2, "b")]]),
            body(2, "create", &[&[(1, "a"), (2, "b")]]),
            body(1, "create_many", &[&[(1, "a"), (2, "b")]]),
            body(1, "create", &[&[(1, "ab"), (2, "")]]),
            body(1, "create", &[&[(1, "a")], &[(2, "b")]]),
            body(1, "create", &[&[(2, "a"), (1, "b")]]),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        // The order in which fields were sent is no difference.
        assert_eq!(body(1, "create", &[&[(2, "b"), (1, "a")]]), all[0]);
    }

    #[test]
    fn words_keep_their_places() {
        let mac = |operation, words: &[&str]| {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            BodyMac::of_words(&root(1), operation, &words).unwrap().0
        };
        assert_eq!(mac("open", &["a", "b"]), mac("open", &["a", "b"]));
        let others = [
            mac("open", &["a", "b"]),
            mac("open", &["b", "a"]),
            mac("open", &["ab"]),
            mac("open", &["ab", ""]),
            mac("opena", &["b"]),
            body(1, "open", &[]),
        ];
        assert_eq!(others.iter().collect::<HashSet<_>>().len(), others.len());
    }

    #[test]
    fn keys_are_the_clients_and_the_persons_own() {
        let mac = |sender: &[&str], key| key_mac(&root(1), sender, key).unwrap();
        assert_eq!(mac(&["portal"], "k"), mac(&["portal"], "k"));
        let others = [
            mac(&["portal"], "k"),
            mac(&["mobile"], "k"),
            mac(&["portal"], "l"),
            mac(&["portalk"], ""),
            mac(&["portal", "staff", "p-1"], "k"),
            mac(&["portal", "staff", "p-2"], "k"),
            mac(&["portal", "staffp", "-1"], "k"),
            mac(&["portal", "other", "p-1"], "k"),
        ];
        assert_eq!(others.iter().collect::<HashSet<_>>().len(), others.len());
    }
}
