//! Names as entries hold them.

use std::borrow::Cow;
use std::fmt::Write as _;

const DIGEST: &str = "sha256:";

/// A name from reviewed configuration (client, role, policy, SAN), or one that an identity provider gave a person. One
/// that is not made of `[A-Za-z0-9._:/~+-]`, or is longer than 256, or looks like a digest, is replaced by its digest: it
/// still tells two apart, and carries no text.
pub(super) fn label(text: &str) -> Cow<'_, str> {
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'~' | b'+' | b'-');
    if (1..=256).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(DIGEST) {
        return Cow::Borrowed(text);
    }
    let mut digest = DIGEST.to_owned();
    for byte in ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref() {
        // Writing to a String does not fail.
        let _ = write!(digest, "{byte:02x}");
    }
    Cow::Owned(digest)
}

/// A name as an entry holds it, given as it is or as it was copied out of an entry.
pub(super) fn label_held(text: &str) -> Cow<'_, str> {
    let is_digest = text.strip_prefix(DIGEST).is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    if is_digest { Cow::Borrowed(text) } else { label(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_and_others_are_digests_that_no_name_can_be() {
        for plain in ["portal", "p-4711", "spiffe://x/client/a", "0197a000-0000-7000-8000-0000000000d1"] {
            assert_eq!(label(plain), plain);
        }
        let jane = label("jane@example.org");
        assert!(jane.starts_with("sha256:") && jane.len() == 71 && !jane.contains("jane"));
        assert_ne!(label(&jane), jane, "a name that is another's digest");
        assert_eq!(label_held(&jane), jane);
        assert_eq!(label_held("jane@example.org"), jane);
        assert_eq!(label_held("sha256:x"), label("sha256:x"));
        for other in ["", "auth0|4711", "a b", &"x".repeat(257)] {
            assert!(label(other).starts_with("sha256:"), "{other}");
        }
    }
}
