//! Identifiers. Each is a type of its own, parsed once at the edge.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::clock::Clock;
use super::random::{NoRandomness, Random};

/// A version 7 UUID (RFC 9562 section 5.7) from the given clock and random source.
pub fn uuid_v7(clock: &dyn Clock, random: &dyn Random) -> Result<Uuid, NoRandomness> {
    let mut tail = [0_u8; 10];
    random.fill(&mut tail)?;
    Ok(uuid::Builder::from_unix_timestamp_millis(clock.now().as_unix_millis(), &tail).into_uuid())
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// Accepts only the canonical form (lower case, hyphens), so that one id has one spelling.
            pub fn parse(text: &str) -> Option<Self> {
                let id = Uuid::try_parse(text).ok()?;
                let mut buffer = Uuid::encode_buffer();
                (id.hyphenated().encode_lower(&mut buffer) == text).then_some(Self(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A tenant: one customer of Strongroom; tenants never meet.
    TenantId
);
uuid_id!(
    /// The person a record is about.
    SubjectId
);
uuid_id!(
    /// A file that belongs to a field of a record, and the upload that brings it (`UUIDv7`).
    FileId
);
uuid_id!(
    /// Glass that was broken (`UUIDv7`).
    BreakGlassId
);
uuid_id!(
    /// A legal hold on what is kept of a subject (`UUIDv7`).
    HoldId
);
uuid_id!(
    /// An erasure of a subject (`UUIDv7`).
    ErasureId
);
uuid_id!(
    /// A rotation of a tenant key (`UUIDv7`).
    RotationId
);
uuid_id!(
    /// An audit entry (`UUIDv7`).
    EntryId
);
uuid_id!(
    /// One request, as answered in `X-Request-Id`.
    RequestId
);

/// A collection's name as in `policy/collections/`: lower-case letters, digits and `_`, at most 48, letter first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(Arc<str>);

impl CollectionName {
    pub fn parse(text: &str) -> Option<Self> {
        is_word(text).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A field's name within its collection, same alphabet as [`CollectionName`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(Arc<str>);

impl FieldName {
    pub fn parse(text: &str) -> Option<Self> {
        is_word(text).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A destination's name in `policy/relay.toml`: lower-case letters, digits and hyphens, at most 48, letter first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationName(Arc<str>);

impl DestinationName {
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = !text.contains('_') && is_word(&text.replace('-', "_"));
        is_name.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 48
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A field's permanent number within its collection; renaming a field keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u32);

/// A record's id: a UUID, or a token in card collections. At most 64 characters of `[a-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Arc<str>);

impl RecordId {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        fits.then(|| Self(text.into()))
    }

    pub fn from_uuid(id: Uuid) -> Self {
        Self(id.hyphenated().to_string().into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the service could have made it: a UUID, or a token, which is `tok_` and 26 base-32 characters, or digits
    /// that begin with 9 and fail Luhn, which no card number does. Anything else in a path is the caller's text, perhaps
    /// a name or a number of a person: it goes neither into the log nor to the database.
    pub fn is_ours(&self) -> bool {
        let text = self.as_str();
        let token = |rest: &str| {
            rest.len() == 26 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let digits = || (12..=19).contains(&text.len()) && text.starts_with('9') && !passes_luhn(text);
        match text.strip_prefix("tok_") {
            Some(rest) => token(rest),
            None if text.bytes().all(|b| b.is_ascii_digit()) => digits(),
            None => text.len() == 36 && Uuid::try_parse(text).is_ok(),
        }
    }
}

fn passes_luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit.wrapping_sub(b'0'));
            if place % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The version of a record, from 1; the ETag of `GET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordVersion(u32);

impl RecordVersion {
    pub const FIRST: Self = Self(1);

    pub fn new(number: u32) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    /// The following version; `None` after four thousand million updates.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// The number of a key within its owner and class: a tenant key's epoch, a subject key's version. From 1, at most 2^63-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(i64);

impl KeyId {
    pub const FIRST: Self = Self(1);

    pub fn new(number: i64) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    pub fn from_u64(number: u64) -> Option<Self> {
        i64::try_from(number).ok().and_then(Self::new)
    }

    pub const fn as_i64(self) -> i64 {
        self.0
    }

    pub const fn as_u64(self) -> u64 {
        self.0.unsigned_abs()
    }
}

/// Who a second-level key belongs to: a subject, or one record in collections with `key_scope = "record"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyOwner {
    Subject(SubjectId),
    Record(RecordId),
}

impl KeyOwner {
    /// The text in the wrap's associated data and in `subject_key.owner`.
    pub fn to_text(&self) -> String {
        match self {
            Self::Subject(id) => id.to_string(),
            Self::Record(id) => id.as_str().to_owned(),
        }
    }

    /// The word in `subject_key.scope`.
    pub const fn scope(&self) -> &'static str {
        match self {
            Self::Subject(_) => "subject",
            Self::Record(_) => "record",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_an_id() {
        let text = "0192f0c1-0000-7000-8000-000000000001";
        assert_eq!(TenantId::parse(text).map(|id| id.to_string()).as_deref(), Some(text));
        for other in [
            "0192F0C1-0000-7000-8000-000000000001",
            "0192f0c1000070008000000000000001",
            "{0192f0c1-0000-7000-8000-000000000001}",
            "urn:uuid:0192f0c1-0000-7000-8000-000000000001",
            "",
        ] {
            assert!(TenantId::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn words_and_record_ids_are_strict() {
        assert!(FieldName::parse("birth_date").is_some());
        for bad in ["", "1a", "_a", "A", "a-b", "a b", "é", &"a".repeat(49)] {
            assert!(FieldName::parse(bad).is_none(), "{bad}");
        }
        assert!(RecordId::parse("tok_7k3m9q2w5x8z1c4v6b7n0p2r4t").is_some());
        for bad in ["", "a/b", "a%2f", "A", &"a".repeat(65)] {
            assert!(RecordId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_callers_text_is_no_id_of_ours() {
        let is_ours = |text: &str| RecordId::parse(text).unwrap().is_ours();
        for ours in
            ["019b76da-0000-7000-8000-00000000000c", "tok_7k3m9q2w5x8z1c4v6b7n0p2r4t", "9111111111111112"]
        {
            assert!(is_ours(ours), "{ours}");
        }
        for text in ["4111111111111111", "9111111111111111115", "951-47-8263", "smith", "tok_smith"] {
            assert!(!is_ours(text), "{text}");
        }
    }
}
