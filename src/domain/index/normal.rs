//! The spelling in which values are compared, by type. A change of it is another version, under which terms are made anew.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

use super::Transform;
use crate::domain::secret::SecretBytes;
use crate::domain::value::{FieldType, append_wiping};

/// Enters the derivation of the terms' key.
pub const NORMALISATION_VERSION: u16 = 1;

/// A value as it is compared. Wiped on drop, never printed.
pub struct Normal(Zeroizing<Vec<u8>>);

/// The spelling of a canonical value that two values share which are to be found as one:
///
/// * names: compatibility characters and letters with marks taken apart (NFKD), marks dropped, case folded, apostrophes
///   dropped, and whatever else is neither letter nor digit one space;
/// * e-mail addresses in lower case; telephone numbers as they are (E.164);
/// * social security numbers their digits; identifiers their letters and digits, in lower case;
/// * codes in lower case; whole numbers as they are; dates, and moments their day in UTC.
///
/// `None` for types that have no such spelling, and where nothing is left of the value.
pub fn normalised(field_type: FieldType, value: &SecretBytes) -> Option<Normal> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the value goes into a keyed term, or is compared with one that is sought"
    )]
    let text = std::str::from_utf8(value.expose()).ok()?;
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    match field_type {
        FieldType::Name => name(text, &mut out),
        FieldType::Email | FieldType::Code => text.chars().for_each(|each| lower(each, &mut out)),
        FieldType::Phone | FieldType::Integer | FieldType::Date => append_wiping(&mut out, text.as_bytes()),
        FieldType::DateTime => append_wiping(&mut out, text.get(..10)?.as_bytes()),
        FieldType::Ssn | FieldType::Mrn => {
            let kept = text.chars().filter(char::is_ascii_alphanumeric);
            kept.for_each(|each| lower(each, &mut out));
        }
        FieldType::Text
        | FieldType::Address
        | FieldType::Decimal
        | FieldType::Boolean
        | FieldType::List
        | FieldType::Json
        | FieldType::Document => return None,
    }
    (!out.is_empty()).then_some(Normal(out))
}

impl Normal {
    /// What of it a term of this kind stands for; `None` where it is shorter than that.
    pub fn part(&self, transform: Transform) -> Option<SecretBytes> {
        let bytes: &[u8] = match transform {
            Transform::Exact | Transform::Day => &self.0,
            Transform::Prefix(length) => self.beginning(length)?,
        };
        Some(SecretBytes::new(bytes.to_vec()))
    }

    pub fn characters(&self) -> usize {
        self.text().chars().count()
    }

    pub(super) fn equals(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    pub(super) fn begins_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn beginning(&self, characters: u8) -> Option<&[u8]> {
        let text = self.text();
        let last = usize::from(characters).checked_sub(1)?;
        let (at, character) = text.char_indices().nth(last)?;
        text.as_bytes().get(..at + character.len_utf8())
    }
}

/// Unicode has no simpler way to fold case without tables of its own: upper case first joins what only lower case tells
/// apart (ß and ss, ς and σ).
fn name(text: &str, out: &mut Vec<u8>) {
    let mut is_apart = false;
    for character in text.nfkd().filter(|each| !is_combining_mark(*each)) {
        if is_apostrophe(character) {
            continue;
        }
        if !character.is_alphanumeric() {
            is_apart = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut is_apart) {
            append_wiping(out, b" ");
        }
        character.to_uppercase().for_each(|upper| lower(upper, out));
    }
}

const fn is_apostrophe(character: char) -> bool {
    matches!(
        character,
        '\'' | '`' | '´' | '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2bb}' | '\u{2bc}' | '\u{2032}'
    )
}

/// Each character by itself, so that a letter has one lower case wherever it stands.
fn lower(character: char, out: &mut Vec<u8>) {
    for each in character.to_lowercase().filter(|each| !is_combining_mark(*each)) {
        let mut utf8 = Zeroizing::new([0_u8; 4]);
        append_wiping(out, each.encode_utf8(utf8.as_mut()).as_bytes());
    }
}
