//! Keys that check signatures, and their text (C2SP signed-note, Verifier keys).

use std::fmt;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::cosignature::{Cosignature, cosigned_message};
use super::{from_base64, to_base64};

/// Why a text is no key of ours. Never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("a key has a name, an id of eight hexadecimal digits and its base64, with plus signs between")]
    Form,
    #[error("a key's name is not empty and has no spaces and no plus signs")]
    Name,
    #[error("the key's id is not the one of its name and its bytes")]
    Id,
    #[error("the key is neither Ed25519 (type 1) nor of an Ed25519 cosigner (type 4)")]
    Kind,
}

/// Who signs: not empty, without Unicode spaces and without plus signs (signed-note, Format).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Arc<str>);

impl KeyName {
    pub fn parse(text: &str) -> Option<Self> {
        let is_bad = |c: char| c.is_whitespace() || c.is_ascii_control() || c == '+';
        (!text.is_empty() && !text.contains(is_bad)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a key signs. One key never does both: their messages are told apart by the id only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Ed25519 over the note's text (signed-note, Ed25519 signatures): the log.
    Log,
    /// Ed25519 over the text and a time (tlog-cosignature): a witness.
    Witness,
}

impl KeyKind {
    /// signed-note, Signature types.
    const fn type_byte(self) -> u8 {
        match self {
            Self::Log => 0x01,
            Self::Witness => 0x04,
        }
    }
}

/// A signature that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    ByLog,
    /// With the seconds since the epoch that it names.
    ByWitness {
        time_s: u64,
    },
}

/// A public key with the name it signs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    kind: KeyKind,
    id: u32,
    public: [u8; 32],
}

impl VerifierKey {
    pub fn new(name: KeyName, kind: KeyKind, public: [u8; 32]) -> Self {
        // signed-note, Signatures: SHA-256(name || 0x0A || type || public key)[:4]; tlog-cosignature, Format, the same.
        let mut context = Context::new(&SHA256);
        context.update(name.as_str().as_bytes());
        context.update(&[b'\n', kind.type_byte()]);
        context.update(&public);
        let digest = context.finish();
        let id = digest.as_ref().first_chunk::<4>().copied().map_or(0, u32::from_be_bytes);
        Self { name, kind, id, public }
    }

    /// Reads `name+id+key` as [`fmt::Display`] writes it.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyFault::Form);
        };
        let name = KeyName::parse(name).ok_or(KeyFault::Name)?;
        let bytes = from_base64(key).ok_or(KeyFault::Form)?;
        let kind = match bytes.first() {
            Some(0x01) => KeyKind::Log,
            Some(0x04) => KeyKind::Witness,
            Some(_) => return Err(KeyFault::Kind),
            None => return Err(KeyFault::Form),
        };
        let public = bytes.get(1..).and_then(|rest| rest.try_into().ok()).ok_or(KeyFault::Form)?;
        let key = Self::new(name, kind, public);
        if id == format!("{:08x}", key.id) { Ok(key) } else { Err(KeyFault::Id) }
    }

    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    pub const fn id(&self) -> u32 {
        self.id
    }

    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Whether the signature of a note, without its key id, is this key's over `text`.
    pub(super) fn check(&self, text: &str, signature: &[u8]) -> Option<Signed> {
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        match self.kind {
            KeyKind::Log => key.verify(text.as_bytes(), signature).ok().map(|()| Signed::ByLog),
            KeyKind::Witness => {
                let cosignature = Cosignature::from_bytes(signature)?;
                let message = cosigned_message(cosignature.time_s, text);
                key.verify(message.as_bytes(), &cosignature.signature).ok()?;
                Some(Signed::ByWitness { time_s: cosignature.time_s })
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.kind.type_byte()], self.public.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, to_base64(&bytes))
    }
}
