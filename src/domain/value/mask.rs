//! Masks: what of a value a caller sees who may know that it is there, and a hint of it, but not the value.
//!
//! A mask shows at most half of a value's letters and digits; shorter values are masked whole.

use super::render::append_string;
use super::types::FieldType;
use super::wipe::{append_char, append_wiping, buffer};

/// What stands for everything that is not shown.
pub const MASK: &str = "•••";

/// How much of a value the masked view shows; declared per field in `policy/collections/*.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Nothing, not even the length.
    Full,
    /// The last four letters or digits, of a value that has at least eight.
    LastFour,
    /// The first letter.
    Initial,
    /// The year of a date or a moment.
    YearOnly,
    /// The domain of an e-mail address.
    DomainOnly,
    /// Separators and length, every letter and digit covered.
    FormatKept,
}

impl Mask {
    pub const ALL: [Self; 6] =
        [Self::Full, Self::LastFour, Self::Initial, Self::YearOnly, Self::DomainOnly, Self::FormatKept];

    /// The word in `policy/collections/*.toml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::LastFour => "last-four",
            Self::Initial => "initial",
            Self::YearOnly => "year-only",
            Self::DomainOnly => "domain-only",
            Self::FormatKept => "format-kept",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mask| mask.as_str() == word)
    }

    /// Whether the mask has a meaning for the type; a collection that says otherwise is refused at load.
    pub const fn fits(self, field_type: FieldType) -> bool {
        match self {
            Self::Full => true,
            Self::LastFour | Self::FormatKept => {
                matches!(field_type, FieldType::Phone | FieldType::Ssn | FieldType::Mrn | FieldType::Code)
            }
            Self::Initial => matches!(field_type, FieldType::Name),
            Self::YearOnly => matches!(field_type, FieldType::Date | FieldType::DateTime),
            Self::DomainOnly => matches!(field_type, FieldType::Email),
        }
    }
}

/// Appends the masked view of a canonical plaintext to `out`: a JSON string whatever the type. A mask that does not fit
/// the type, or a plaintext that is not text, is masked whole.
pub fn mask_value(field_type: FieldType, mask: Mask, plaintext: &[u8], out: &mut Vec<u8>) {
    let text = std::str::from_utf8(plaintext).unwrap_or_default();
    let mut shown = buffer(text.len().saturating_mul(3) + 16);
    match if mask.fits(field_type) { mask } else { Mask::Full } {
        Mask::Full => {}
        Mask::LastFour => last_four(text, &mut shown),
        Mask::Initial => initial(text, &mut shown),
        Mask::YearOnly => append_wiping(&mut shown, text.get(..4).unwrap_or_default().as_bytes()),
        Mask::DomainOnly => domain(text, &mut shown),
        Mask::FormatKept => format_kept(text, &mut shown),
    }
    match std::str::from_utf8(&shown) {
        Ok(shown) if !shown.is_empty() => append_string(out, shown),
        _ => append_string(out, MASK),
    }
}

fn last_four(text: &str, shown: &mut Vec<u8>) {
    let counted = || text.chars().filter(|character| character.is_alphanumeric());
    let count = counted().count();
    if count >= 8 {
        append_wiping(shown, MASK.as_bytes());
        counted().skip(count - 4).for_each(|character| append_char(shown, character));
    }
}

fn initial(text: &str, shown: &mut Vec<u8>) {
    let mut characters = text.chars();
    if let (Some(first), Some(_)) = (characters.next(), characters.next()) {
        append_char(shown, first);
        append_wiping(shown, MASK.as_bytes());
    }
}

fn domain(text: &str, shown: &mut Vec<u8>) {
    if let Some((_, domain)) = text.rsplit_once('@') {
        append_wiping(shown, MASK.as_bytes());
        append_wiping(shown, b"@");
        append_wiping(shown, domain.as_bytes());
    }
}

fn format_kept(text: &str, shown: &mut Vec<u8>) {
    for character in text.chars() {
        append_char(shown, if character.is_alphanumeric() { '•' } else { character });
    }
}
