//! The credential that a destination knows us by: where Vault has it, and as a header.

use http::HeaderValue;
use hyper::body::Bytes;
use zeroize::Zeroizing;

use crate::domain::secret::SecretBytes;

const MOST_PATH_BYTES: usize = 128;
const MOST_KEY_BYTES: usize = 64;

/// A key of one secret of Vault's key-value store. Made of letters, digits, `-` and `_` only, so that it can go into a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialPlace {
    path: Box<str>,
    key: Box<str>,
}

impl CredentialPlace {
    /// `path` may have parts, between `/`.
    pub fn parse(path: &str, key: &str) -> Option<Self> {
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let fits = path.len() <= MOST_PATH_BYTES && path.split('/').all(is_word);
        (fits && key.len() <= MOST_KEY_BYTES && is_word(key))
            .then(|| Self { path: path.into(), key: key.into() })
    }

    /// Of the secret, within the store.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Of the value within the secret.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The value of a header: the prefix and the credential, marked so that it is never printed. `None` when that is no value of
/// a header, for a line end or another sign in it.
pub fn credential_header(prefix: &str, credential: &SecretBytes) -> Option<HeaderValue> {
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len() + credential.len()));
    text.extend_from_slice(prefix.as_bytes());
    #[expect(
        clippy::disallowed_methods,
        reason = "the credential goes to its destination, in a header marked as sensitive"
    )]
    text.extend_from_slice(credential.expose());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_plain_words() {
        let place = CredentialPlace::parse("payments/clearing_house-1", "token").unwrap();
        assert_eq!((place.path(), place.key()), ("payments/clearing_house-1", "token"));
        assert!(CredentialPlace::parse(&"a".repeat(128), &"k".repeat(64)).is_some());
        for (path, key) in [
            ("", "k"),
            ("a", ""),
            ("/a", "k"),
            ("a/", "k"),
            ("a//b", "k"),
            ("a/../b", "k"),
            ("a b", "k"),
            ("a?version=1", "k"),
            ("a%2fb", "k"),
            ("a", "k/l"),
            ("a", "k.l"),
            ("é", "k"),
            (&"a".repeat(129), "k"),
            ("a", &"k".repeat(65)),
        ] {
            assert!(CredentialPlace::parse(path, key).is_none(), "{path} {key}");
        }
    }

    #[test]
    fn a_header_is_sensitive_and_one_line() {
        let secret = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        let value = credential_header("Bearer ", &secret("s3cret")).unwrap();
        assert_eq!(value.as_bytes(), b"Bearer s3cret");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("s3cret"));
        for text in ["two\nlines", "end\r\n", "nul\0", "\u{7f}"] {
            assert!(credential_header("", &secret(text)).is_none(), "{text:?}");
        }
    }
}
