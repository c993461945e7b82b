//! Field types and values: strict parsing, one canonical form per value, rendering and masking.
//!
//! A value is parsed once, at the edge, into the canonical bytes that are sealed; rendering copies them straight into
//! an answer. Every buffer that held plaintext is wiped, also when it grows. What a caller sent never enters an error.
//!
//! The strict reading and writing of JSON is lent to [`crate::relay`].
//!
//! Not here: which field has which type (`policy`), search normalisation, or any decision about who may see a value.

mod cursor;
mod document;
mod format;
mod limits;
mod mask;
mod number;
mod render;
mod structured;
mod time;
mod types;
mod wipe;

pub(crate) use cursor::Cursor;
pub use document::{DocumentLabel, DocumentReference};
pub use limits::{PhoneCountry, ValueLimits};
pub use mask::{Mask, mask_value};
pub(crate) use number::is_number;
pub(crate) use render::append_string;
pub use render::{Unrenderable, render_value};
pub use types::{FieldType, ValueError};
pub use wipe::append_wiping;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::secret::SecretBytes;

/// Deepest nesting of a JSON value.
pub const MAX_JSON_DEPTH: usize = 32;

/// Parses one JSON value as `field_type` and returns its canonical plaintext, UTF-8:
///
/// * strings (text, name, e-mail, phone, SSN, MRN, code, date, date-time) normalised by type, without quotes;
/// * integer, boolean and decimal as their text, the decimal without exponent and with its own number of decimals;
/// * address, list and JSON as RFC 8785 JSON text.
///
/// Documents have no JSON; they come by an upload ([`DocumentReference`]).
///
/// A canonical value parses to itself. `null` is [`ValueError::WrongKind`]: absence is the caller's business.
pub fn parse_value(
    field_type: FieldType,
    limits: &ValueLimits,
    json: &RawValue,
) -> Result<SecretBytes, ValueError> {
    parse_text(field_type, limits, json.get()).map(SecretBytes::from)
}

fn parse_text(
    field_type: FieldType,
    limits: &ValueLimits,
    json: &str,
) -> Result<Zeroizing<Vec<u8>>, ValueError> {
    let mut cursor = Cursor::new(json);
    let value = match field_type {
        FieldType::Text => format::text(&cursor.only_string()?),
        FieldType::Name => format::line(&cursor.only_string()?),
        FieldType::Date => time::date(&cursor.only_string()?),
        FieldType::DateTime => time::date_time(&cursor.only_string()?),
        FieldType::Email => format::email(&cursor.only_string()?),
        FieldType::Phone => format::phone(&cursor.only_string()?, limits.phone_country),
        FieldType::Ssn => format::ssn(&cursor.only_string()?),
        FieldType::Mrn => format::mrn(&cursor.only_string()?),
        FieldType::Code => format::code(&cursor.only_string()?),
        FieldType::Address => structured::address(&mut cursor),
        FieldType::List => structured::list(&mut cursor, limits.max_items),
        FieldType::Json => structured::json(&mut cursor, limits.max_items),
        FieldType::Integer => number::integer(&mut cursor),
        FieldType::Decimal => number::decimal(&mut cursor),
        FieldType::Boolean => number::boolean(&mut cursor),
        FieldType::Document => Err(ValueError::UploadNeeded),
    }?;
    if value.len() > limits.max_bytes {
        return Err(ValueError::TooLong);
    }
    if !limits.allows(&value) {
        return Err(ValueError::NotListed);
    }
    Ok(value)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
