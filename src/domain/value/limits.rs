//! What a field may declare beyond its type.

use std::sync::Arc;

use super::types::FieldType;

/// The bounds that one field's values keep, on top of its type's own rules.
#[derive(Clone, Debug)]
pub struct ValueLimits {
    /// Most bytes of the canonical value.
    pub max_bytes: usize,
    /// Most items of a list; most values, at any depth, of a JSON value.
    pub max_items: usize,
    /// The only values allowed, in canonical form; `None` allows every value of the type.
    pub values: Option<Arc<[Box<str>]>>,
    /// The country of phone numbers that come without one; without it they are refused.
    pub phone_country: Option<PhoneCountry>,
}

impl ValueLimits {
    /// The widest limits that the type allows.
    pub const fn of(field_type: FieldType) -> Self {
        let max_items = match field_type {
            FieldType::Json => 4_096,
            _ => 256,
        };
        Self { max_bytes: field_type.max_bytes(), max_items, values: None, phone_country: None }
    }

    pub(super) fn allows(&self, value: &[u8]) -> bool {
        self.values.as_ref().is_none_or(|values| values.iter().any(|listed| listed.as_bytes() == value))
    }
}

/// A country whose national numbers can be told from their digits alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneCountry {
    /// The North American Numbering Plan, `+1`: ten digits, or eleven with a leading 1.
    NorthAmerica,
}

impl PhoneCountry {
    pub fn parse(word: &str) -> Option<Self> {
        (word == "+1").then_some(Self::NorthAmerica)
    }
}
