//! Canonical plaintext to JSON, appended to an answer without being parsed again.

use super::document::shown;
use super::types::FieldType;
use super::wipe::append_wiping;

/// A stored plaintext that is not what its type says. Sealed values are authentic, so this is a fault of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored value does not have its field's type")]
pub struct Unrenderable;

/// Appends the JSON of a canonical plaintext to `out`, wiping what it outgrows. Nothing is appended on error.
/// A decimal becomes a string: a JSON number would lose digits in most readers.
pub fn render_value(field_type: FieldType, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Unrenderable> {
    let text = std::str::from_utf8(plaintext).map_err(|_| Unrenderable)?;
    match field_type {
        FieldType::Text
        | FieldType::Name
        | FieldType::Date
        | FieldType::DateTime
        | FieldType::Email
        | FieldType::Phone
        | FieldType::Ssn
        | FieldType::Mrn
        | FieldType::Code
        | FieldType::Decimal => append_string(out, text),
        FieldType::Integer => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Unrenderable);
            }
            append_wiping(out, plaintext);
        }
        FieldType::Boolean => {
            if !matches!(text, "true" | "false") {
                return Err(Unrenderable);
            }
            append_wiping(out, plaintext);
        }
        FieldType::Address | FieldType::List | FieldType::Json => {
            if text.is_empty() {
                return Err(Unrenderable);
            }
            append_wiping(out, plaintext);
        }
        FieldType::Document => append_wiping(out, shown(plaintext).ok_or(Unrenderable)?),
    }
    Ok(())
}

/// RFC 8785 section 3.2.2.2: the two-character escapes where there is one, `\u00xx` for other control characters.
pub(crate) fn append_string(out: &mut Vec<u8>, text: &str) {
    append_wiping(out, b"\"");
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, tail) = rest.split_at(at);
        append_wiping(out, plain);
        if let Some((&byte, after)) = tail.split_first() {
            append_escape(out, byte);
            rest = after;
        }
    }
    append_wiping(out, rest);
    append_wiping(out, b"\"");
}

fn append_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        0x08 => b"\\b",
        b'\t' => b"\\t",
        b'\n' => b"\\n",
        0x0c => b"\\f",
        b'\r' => b"\\r",
        _ => {
            append_wiping(out, format!("\\u{byte:04x}").as_bytes());
            return;
        }
    };
    append_wiping(out, short);
}
