//! Documents: what a file is, and the reference to it that a record's field holds. The file itself is sealed in parts
//! (`crypto::file`).

use serde::Deserialize;
use std::borrow::Cow;
use zeroize::{Zeroize, Zeroizing};

use super::cursor::Plain;
use super::format;
use super::render::append_string;
use super::types::ValueError;
use super::wipe::{append_wiping, buffer};
use crate::domain::id::FileId;
use crate::domain::secret::SecretBytes;

/// Most bytes of a file's name.
const MAX_NAME_BYTES: usize = 255;
/// Most bytes of each half of a media type (RFC 6838 section 4.2).
const MAX_TOKEN_BYTES: usize = 127;
/// The text of a file's id, and of the digest over its parts' headers.
const ID_BYTES: usize = 36;
const DIGEST_BYTES: usize = 64;

/// What a file is: how long, of which media type, and perhaps its name. Wiped on drop.
pub struct DocumentLabel {
    bytes: u64,
    media_type: String,
    name: Option<String>,
}

impl Drop for DocumentLabel {
    fn drop(&mut self) {
        self.media_type.zeroize();
        self.name.zeroize();
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelText<'a> {
    bytes: u64,
    #[serde(borrow)]
    media_type: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

impl DocumentLabel {
    /// `media_type` is `type/subtype` without parameters; a name is one line of at most 255 bytes.
    pub fn new(bytes: u64, media_type: &str, name: Option<&str>) -> Result<Self, ValueError> {
        let is_token = |half: &str| {
            let first = half.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            first && half.len() <= MAX_TOKEN_BYTES && half.bytes().all(allowed)
        };
        if !media_type.split_once('/').is_some_and(|(left, right)| is_token(left) && is_token(right)) {
            return Err(ValueError::Malformed);
        }
        let name = match name {
            None => None,
            Some(name) if name.len() > MAX_NAME_BYTES => return Err(ValueError::TooLong),
            Some(name) => {
                let line = format::line(&Plain::of(name))?;
                Some(std::str::from_utf8(&line).map_err(|_| ValueError::Malformed)?.to_owned())
            }
        };
        Ok(Self { bytes, media_type: media_type.to_ascii_lowercase(), name })
    }

    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// RFC 8785 JSON: `{"bytes","media_type","name"}`, the last only if there is one.
    pub fn to_canonical(&self) -> Zeroizing<Vec<u8>> {
        let name_bytes = self.name.as_ref().map_or(0, |name| name.len() * 2 + 16);
        let mut out = buffer(name_bytes + self.media_type.len() + 64);
        append_wiping(&mut out, format!("{{\"bytes\":{},\"media_type\":", self.bytes).as_bytes());
        append_string(&mut out, &self.media_type);
        if let Some(name) = &self.name {
            append_wiping(&mut out, b",\"name\":");
            append_string(&mut out, name);
        }
        append_wiping(&mut out, b"}");
        out
    }

    /// `None` for anything that [`Self::to_canonical`] does not make.
    pub fn from_canonical(text: &[u8]) -> Option<Self> {
        let parsed: LabelText<'_> = serde_json::from_slice(text).ok()?;
        let label = Self::new(parsed.bytes, &parsed.media_type, parsed.name.as_deref()).ok()?;
        (label.to_canonical().as_slice() == text).then_some(label)
    }
}

/// What a record's field holds of a document: which file, the digest over the headers of all its parts, and its label.
pub struct DocumentReference {
    pub file: FileId,
    pub headers_sha256: [u8; 32],
    pub label: DocumentLabel,
}

impl DocumentReference {
    /// The file's id, the digest in hexadecimal, and the label's JSON, one after the other.
    pub fn to_canonical(&self) -> SecretBytes {
        let label = self.label.to_canonical();
        let mut out = buffer(ID_BYTES + DIGEST_BYTES + label.len());
        append_wiping(&mut out, self.file.to_string().as_bytes());
        for byte in self.headers_sha256 {
            append_wiping(&mut out, format!("{byte:02x}").as_bytes());
        }
        append_wiping(&mut out, &label);
        out.into()
    }

    /// `None` for anything that [`Self::to_canonical`] does not make.
    pub fn from_canonical(plaintext: &[u8]) -> Option<Self> {
        let (id, rest) = plaintext.split_first_chunk::<ID_BYTES>()?;
        let (digest, label) = rest.split_first_chunk::<DIGEST_BYTES>()?;
        let mut headers_sha256 = [0; 32];
        for (byte, digits) in headers_sha256.iter_mut().zip(digest.as_chunks::<2>().0) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        let file = FileId::parse(std::str::from_utf8(id).ok()?)?;
        let reference = Self { file, headers_sha256, label: DocumentLabel::from_canonical(label)? };
        #[expect(clippy::disallowed_methods, reason = "compares a value with itself")]
        let is_canonical = reference.to_canonical().expose() == plaintext;
        is_canonical.then_some(reference)
    }
}

/// The part of a reference that a reader sees: the label's JSON.
pub(super) fn shown(plaintext: &[u8]) -> Option<&[u8]> {
    DocumentReference::from_canonical(plaintext)?;
    plaintext.get(ID_BYTES + DIGEST_BYTES..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_strict() {
        let code = |media_type: &str, name: Option<&str>| {
            DocumentLabel::new(1, media_type, name).err().map(ValueError::code)
        };
        assert_eq!(code("application/pdf", None), None);
        assert_eq!(code("image/svg+xml", Some("Befund 3 – Röntgen.svg")), None);
        for bad in ["", "pdf", "/", "a/", "/b", "a/b/c", "text/plain; charset=utf-8", "a b/c", "tëxt/plain"]
        {
            assert_eq!(code(bad, None), Some("malformed"), "{bad}");
        }
        assert_eq!(code("a/b", Some("")), Some("empty"));
        assert_eq!(code("a/b", Some("two\nlines")), Some("control_character"));
        assert_eq!(code("a/b", Some(&"x".repeat(256))), Some("too_long"));
        for other in [
            r#"{"bytes":1, "media_type":"a/b"}"#,
            r#"{"media_type":"a/b","bytes":1}"#,
            r#"{"bytes":1,"media_type":"A/b"}"#,
            r#"{"bytes":1,"media_type":"a/b","name":null}"#,
            r#"{"bytes":1,"media_type":"a/b","more":1}"#,
        ] {
            assert!(DocumentLabel::from_canonical(other.as_bytes()).is_none(), "{other}");
        }
    }

    proptest! {
        #[test]
        #[expect(clippy::disallowed_methods, reason = "a made-up value")]
        fn a_reference_comes_back_and_has_one_spelling(
            id in any::<u128>(),
            headers_sha256 in any::<[u8; 32]>(),
            bytes in any::<u64>(),
            media_type in "[a-z][a-z0-9.+-]{0,20}/[a-z][a-z0-9.+-]{0,20}",
            name in proptest::option::of("[\\PC&&[^\u{2028}\u{2029}]]{1,30}"),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let Ok(label) = DocumentLabel::new(bytes, &media_type, name.as_deref()) else { return Ok(()) };
            let file = FileId::from_uuid(uuid::Uuid::from_u128(id));
            let reference = DocumentReference { file, headers_sha256, label };
            let canonical = reference.to_canonical();
            let again = DocumentReference::from_canonical(canonical.expose()).unwrap();
            prop_assert_eq!((again.file, again.headers_sha256), (file, headers_sha256));
            prop_assert_eq!((again.label.bytes(), again.label.media_type()), (bytes, media_type.as_str()));
            let json = shown(canonical.expose()).unwrap();
            let label = again.label.to_canonical();
            prop_assert_eq!(json, label.as_slice());
            prop_assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok());
            // Whatever else is read is written back as it was.
            let mut changed = canonical.expose().to_vec();
            changed[at.index(canonical.len())] ^= 1 << bit;
            if let Some(other) = DocumentReference::from_canonical(&changed) {
                let written = other.to_canonical();
                prop_assert_eq!(written.expose(), changed.as_slice());
            }
        }
    }
}
