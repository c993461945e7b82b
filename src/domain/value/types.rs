//! The closed lists: field types with their permanent numbers, and the reasons a value is refused.

/// What a field holds. The number of a type is sealed with every value and never changes or returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldType {
    /// Unicode text with newlines and tabs.
    Text,
    /// One line of Unicode text: a person's name, a title, a place.
    Name,
    /// A calendar date, `YYYY-MM-DD`.
    Date,
    /// A moment: RFC 3339, kept in UTC with microseconds.
    DateTime,
    Email,
    /// E.164.
    Phone,
    /// An object of `line`, `city`, `district`, `state`, `postal_code`, `country`.
    Address,
    /// United States social security number, `AAA-GG-SSSS`.
    Ssn,
    /// Medical record number or another identifier of letters, digits and hyphens.
    Mrn,
    /// Printable ASCII words, as a code or `system|code`.
    Code,
    /// A whole number within ±(2^53 − 1).
    Integer,
    /// An exact decimal of at most 38 digits.
    Decimal,
    Boolean,
    /// Lines of text.
    List,
    /// Any JSON value.
    Json,
    /// A file of any kind, which comes by an upload.
    Document,
}

impl FieldType {
    pub const ALL: [Self; 16] = [
        Self::Text,
        Self::Name,
        Self::Date,
        Self::DateTime,
        Self::Email,
        Self::Phone,
        Self::Address,
        Self::Ssn,
        Self::Mrn,
        Self::Code,
        Self::Integer,
        Self::Decimal,
        Self::Boolean,
        Self::List,
        Self::Json,
        Self::Document,
    ];

    /// The permanent number that enters a sealed value's associated data.
    pub const fn type_id(self) -> u16 {
        match self {
            Self::Text => 1,
            Self::Name => 2,
            Self::Date => 3,
            Self::DateTime => 4,
            Self::Email => 5,
            Self::Phone => 6,
            Self::Address => 7,
            Self::Ssn => 8,
            Self::Mrn => 9,
            Self::Code => 10,
            Self::Integer => 11,
            Self::Decimal => 12,
            Self::Boolean => 13,
            Self::List => 14,
            Self::Json => 15,
            Self::Document => 16,
        }
    }

    pub fn from_type_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|field_type| field_type.type_id() == id)
    }

    /// The word in `policy/collections/*.toml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Name => "name",
            Self::Date => "date",
            Self::DateTime => "date-time",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Address => "address",
            Self::Ssn => "ssn",
            Self::Mrn => "mrn",
            Self::Code => "code",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Boolean => "boolean",
            Self::List => "list",
            Self::Json => "json",
            Self::Document => "document",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field_type| field_type.as_str() == word)
    }

    /// The most bytes a canonical value of this type may have; a field may declare fewer.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Text | Self::List => 65_536,
            Self::Name | Self::Code => 256,
            Self::Date => 10,
            Self::DateTime => 27,
            Self::Email => 254,
            Self::Phone => 16,
            Self::Address => 2_048,
            Self::Ssn => 11,
            Self::Mrn => 64,
            Self::Integer => 17,
            Self::Decimal => 40,
            Self::Boolean => 5,
            Self::Json => 262_144,
            // Of the reference to the file; `limits.document_bytes` bounds the file.
            Self::Document => 1_024,
        }
    }
}

/// Why a value is refused. The codes are stable and appear in problem documents; the value never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ValueError {
    #[error("send the kind of JSON value that the field's type asks for")]
    WrongKind,
    #[error("leave the field out instead of sending it empty")]
    Empty,
    #[error("shorten the value")]
    TooLong,
    #[error("send fewer items")]
    TooManyItems,
    #[error("nest the value less deeply")]
    TooDeep,
    #[error("remove control characters")]
    ControlCharacter,
    #[error("send surrogates in pairs")]
    LoneSurrogate,
    #[error("name each member of an object once")]
    DuplicateMember,
    #[error("use only the members that the type has")]
    UnknownMember,
    #[error("write the value in the form of the field's type")]
    Malformed,
    #[error("send a value within the type's range")]
    OutOfRange,
    #[error("send a number with no more digits than a double gives back, or send it as text")]
    Inexact,
    #[error("send one of the values that the field lists")]
    NotListed,
    #[error("bring the document by an upload; here it can only be removed")]
    UploadNeeded,
}

impl ValueError {
    pub const ALL: [Self; 14] = [
        Self::WrongKind,
        Self::Empty,
        Self::TooLong,
        Self::TooManyItems,
        Self::TooDeep,
        Self::ControlCharacter,
        Self::LoneSurrogate,
        Self::DuplicateMember,
        Self::UnknownMember,
        Self::Malformed,
        Self::OutOfRange,
        Self::Inexact,
        Self::NotListed,
        Self::UploadNeeded,
    ];

    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongKind => "wrong_kind",
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::TooManyItems => "too_many_items",
            Self::TooDeep => "too_deep",
            Self::ControlCharacter => "control_character",
            Self::LoneSurrogate => "lone_surrogate",
            Self::DuplicateMember => "duplicate_member",
            Self::UnknownMember => "unknown_member",
            Self::Malformed => "malformed",
            Self::OutOfRange => "out_of_range",
            Self::Inexact => "inexact",
            Self::NotListed => "not_listed",
            Self::UploadNeeded => "upload_needed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_numbers_are_permanent() {
        for (expected, field_type) in (1_u16..).zip(FieldType::ALL) {
            assert_eq!(field_type.type_id(), expected, "{}", field_type.as_str());
            assert_eq!(FieldType::from_type_id(expected), Some(field_type));
            assert_eq!(FieldType::parse(field_type.as_str()), Some(field_type));
        }
        assert_eq!(FieldType::from_type_id(0), None);
        assert_eq!(FieldType::from_type_id(17), None);
        assert_eq!(FieldType::parse("string"), None);
    }
}
