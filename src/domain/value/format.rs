//! The string types: each takes a decoded string and gives its one canonical spelling.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use zeroize::Zeroizing;

use super::cursor::Plain;
use super::limits::PhoneCountry;
use super::types::ValueError;
use super::wipe::{append_char, append_wiping, buffer};

type Canonical = Result<Zeroizing<Vec<u8>>, ValueError>;

/// Text of several lines: NFC, trimmed; a CR LF becomes LF.
pub(super) fn text(plain: &Plain) -> Canonical {
    let mut lines = buffer(plain.as_str().len());
    let mut rest = plain.as_str().trim();
    while let Some((before, after)) = rest.split_once("\r\n") {
        append_wiping(&mut lines, before.as_bytes());
        append_wiping(&mut lines, b"\n");
        rest = after;
    }
    append_wiping(&mut lines, rest.as_bytes());
    normalise(std::str::from_utf8(&lines).unwrap_or_default(), |c| c.is_control() && c != '\n' && c != '\t')
}

/// One line: NFC, trimmed, no control characters at all.
pub(super) fn line(plain: &Plain) -> Canonical {
    normalise(checked(plain)?, char::is_control)
}

/// RFC 5321 section 4.1.2, a dot-string local part, in which RFC 6531 section 3.3 lets letters of any script be, and a
/// host name of at least two labels in ASCII, which is lower-cased.
pub(super) fn email(plain: &Plain) -> Canonical {
    let text = checked(plain)?;
    let (local, domain) = text.rsplit_once('@').ok_or(ValueError::Malformed)?;
    let atom = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
    };
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let mut out = normalise(local, char::is_control).map_err(|_| ValueError::Malformed)?;
    let composed = std::str::from_utf8(&out).unwrap_or_default();
    let fits = composed.len() <= 64
        && local.len() == local.trim().len()
        && composed.split('.').all(atom)
        && domain.contains('.')
        && domain.len() <= 253
        && domain.split('.').all(label);
    if !fits {
        return Err(ValueError::Malformed);
    }
    append_wiping(&mut out, b"@");
    let start = out.len();
    append_wiping(&mut out, domain.as_bytes());
    if let Some(domain) = out.get_mut(start..) {
        domain.make_ascii_lowercase();
    }
    Ok(out)
}

/// E.164: `+` and 8 to 15 digits. Spaces, hyphens, full stops and parentheses between the digits are dropped; a number
/// without a country gets the one that the field declares.
pub(super) fn phone(plain: &Plain, country: Option<PhoneCountry>) -> Canonical {
    let text = checked(plain)?;
    let (international, rest) = text.strip_prefix('+').map_or((false, text), |rest| (true, rest));
    let mut digits = buffer(text.len() + 2);
    for byte in rest.bytes() {
        match byte {
            b'0'..=b'9' => append_wiping(&mut digits, &[byte]),
            b' ' | b'-' | b'.' | b'(' | b')' => {}
            _ => return Err(ValueError::Malformed),
        }
    }
    let mut out = buffer(digits.len() + 2);
    append_wiping(&mut out, b"+");
    if !international {
        match (country, digits.len(), digits.first()) {
            (Some(PhoneCountry::NorthAmerica), 10, _) => append_wiping(&mut out, b"1"),
            (Some(PhoneCountry::NorthAmerica), 11, Some(b'1')) => {}
            _ => return Err(ValueError::Malformed),
        }
    }
    append_wiping(&mut out, &digits);
    let fits = (9..=16).contains(&out.len()) && out.get(1) != Some(&b'0');
    if fits { Ok(out) } else { Err(ValueError::Malformed) }
}

/// Nine digits, plain or as `AAA-GG-SSSS`. Area 000 and 666, group 00 and serial 0000 were never issued; areas from 900
/// are taken, since taxpayer numbers and test data use them.
pub(super) fn ssn(plain: &Plain) -> Canonical {
    let text = checked(plain)?;
    let mut digits = buffer(9);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => append_wiping(&mut digits, &[byte]),
            b'-' if text.len() == 11 && matches!(index, 3 | 6) => {}
            _ => return Err(ValueError::Malformed),
        }
    }
    if digits.len() != 9 {
        return Err(ValueError::Malformed);
    }
    let (area, rest) = digits.split_at(3);
    let (group, serial) = rest.split_at(2);
    if area == b"000" || area == b"666" || group == b"00" || serial == b"0000" {
        return Err(ValueError::OutOfRange);
    }
    let mut out = buffer(11);
    for (part, separator) in [(area, &b"-"[..]), (group, b"-"), (serial, b"")] {
        append_wiping(&mut out, part);
        append_wiping(&mut out, separator);
    }
    Ok(out)
}

/// Letters, digits and hyphens, with at least one letter or digit.
pub(super) fn mrn(plain: &Plain) -> Canonical {
    let text = checked(plain)?;
    let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_alphanumeric());
    if fits { Ok(copied(text)) } else { Err(ValueError::Malformed) }
}

/// Printable ASCII words with single spaces between them, at most one `|` with something on both sides.
pub(super) fn code(plain: &Plain) -> Canonical {
    let text = checked(plain)?;
    let printable = text.bytes().all(|b| (0x20..=0x7e).contains(&b)) && !text.contains("  ");
    let mut sides = text.split('|');
    let paired = sides.by_ref().take(2).all(|side| !side.is_empty()) && sides.next().is_none();
    if printable && paired { Ok(copied(text)) } else { Err(ValueError::Malformed) }
}

/// Trims, composes and refuses what `refused` names; an empty rest is refused too.
pub(super) fn normalise(text: &str, refused: impl Fn(char) -> bool) -> Canonical {
    let text = text.trim();
    if text.chars().any(refused) {
        return Err(ValueError::ControlCharacter);
    }
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Ok(copied(text));
    }
    let mut out = buffer(text.len());
    for character in text.nfc() {
        append_char(&mut out, character);
    }
    Ok(out)
}

/// The trimmed text of a one-line type, free of control characters and not empty.
pub(super) fn checked(plain: &Plain) -> Result<&str, ValueError> {
    let text = plain.as_str();
    if text.chars().any(char::is_control) {
        return Err(ValueError::ControlCharacter);
    }
    let text = text.trim();
    if text.is_empty() { Err(ValueError::Empty) } else { Ok(text) }
}

fn copied(text: &str) -> Zeroizing<Vec<u8>> {
    let mut out = buffer(text.len());
    append_wiping(&mut out, text.as_bytes());
    out
}
