//! SHA-256 and hexadecimal, for what is public: header digests, fingerprints of certificates and policy. For anything
//! guessable use [`super::keyed_hash`].

use std::fmt::Write as _;

use ring::digest::{Context, SHA256};

/// SHA-256 (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_of_parts(std::iter::once(bytes))
}

/// SHA-256 of the concatenation. Parts of variable length need their lengths in front; nothing is added here.
pub fn sha256_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.into_iter().for_each(|part| context.update(part));
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of lower-case hexadecimal; `None` for anything else, so that bytes have one spelling.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((digit(high)? << 4) | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_known_answers() {
        // FIPS 180-4 examples (NIST CSRC, "SHA256.pdf"), and the empty message.
        assert_eq!(hex(&sha256(b"")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256_of_parts([b"a".as_slice(), b"", b"bc"]), sha256(b"abc"));
    }

    #[test]
    fn hexadecimal_has_one_spelling() {
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(parse_hex(&hex(&every)), Some(every));
        assert_eq!(parse_hex(""), Some(Vec::new()));
        for bad in ["0", "0G", "AB", "0x", " 00", "é"] {
            assert_eq!(parse_hex(bad), None, "{bad}");
        }
    }
}
