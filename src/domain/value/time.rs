//! Dates and moments.

use zeroize::Zeroizing;

use super::cursor::Plain;
use super::format::checked;
use super::types::ValueError;
use super::wipe::{append_wiping, buffer};
use crate::domain::clock::Timestamp;

/// A date of the Gregorian calendar, `YYYY-MM-DD`, from year 1.
pub(super) fn date(plain: &Plain) -> Result<Zeroizing<Vec<u8>>, ValueError> {
    let text = checked(plain)?;
    if !has_shape(text, "dddd-dd-dd") {
        return Err(ValueError::Malformed);
    }
    let date: jiff::civil::Date = text.parse().map_err(|_| ValueError::OutOfRange)?;
    if date.year() < 1 {
        return Err(ValueError::OutOfRange);
    }
    let mut out = buffer(text.len());
    append_wiping(&mut out, text.as_bytes());
    Ok(out)
}

/// RFC 3339 section 5.6 with an offset; the answer is in UTC with six decimals, anything finer is cut off. Leap seconds
/// are refused, since clocks that smear them could not tell them apart.
pub(super) fn date_time(plain: &Plain) -> Result<Zeroizing<Vec<u8>>, ValueError> {
    let text = checked(plain)?;
    let (moment, offset) = split_offset(text).ok_or(ValueError::Malformed)?;
    let (seconds, fraction) = moment.split_once('.').unwrap_or((moment, "0"));
    let shaped = has_shape(seconds, "dddd-dd-ddTdd:dd:dd")
        && (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && (offset == "Z" || has_shape(offset, "+dd:dd") || has_shape(offset, "-dd:dd"));
    if !shaped {
        return Err(ValueError::Malformed);
    }
    if seconds.ends_with(":60") {
        return Err(ValueError::OutOfRange);
    }
    let at = Timestamp::parse_rfc3339(text).ok_or(ValueError::OutOfRange)?;
    let utc = Zeroizing::new(at.to_rfc3339());
    if !has_shape(utc.as_str(), "dddd-dd-ddTdd:dd:dd.ddddddZ") || utc.starts_with("0000") {
        return Err(ValueError::OutOfRange);
    }
    let mut out = buffer(utc.len());
    append_wiping(&mut out, utc.as_bytes());
    Ok(out)
}

fn split_offset(text: &str) -> Option<(&str, &str)> {
    let length = if text.ends_with('Z') { 1 } else { 6 };
    text.split_at_checked(text.len().checked_sub(length)?)
}

/// Whether `text` has the characters of `shape`, where `d` stands for a digit.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            _ => byte == wanted,
        })
}
