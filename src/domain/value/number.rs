//! Numbers: whole numbers, exact decimals, and the numbers inside JSON values (RFC 8785 section 3.2.2.3).

use zeroize::Zeroizing;

use super::cursor::Cursor;
use super::format::checked;
use super::types::ValueError;
use super::wipe::{append_wiping, buffer};

type Canonical = Result<Zeroizing<Vec<u8>>, ValueError>;

/// The largest whole number that every JSON reader keeps exactly (RFC 8259 section 6).
const MAX_INTEGER: u64 = (1 << 53) - 1;
const MAX_DECIMAL_DIGITS: usize = 38;

pub(super) fn boolean(cursor: &mut Cursor<'_>) -> Canonical {
    let token = cursor.token();
    cursor.end().map_err(|_| ValueError::WrongKind)?;
    match token {
        "true" | "false" => Ok(written(token.as_bytes())),
        _ => Err(ValueError::WrongKind),
    }
}

/// A JSON number without fraction or exponent.
pub(super) fn integer(cursor: &mut Cursor<'_>) -> Canonical {
    let token = cursor.token();
    cursor.end().map_err(|_| ValueError::WrongKind)?;
    let parts = Parts::of_number(token).ok_or(ValueError::WrongKind)?;
    if parts.fraction.is_some() || parts.exponent.is_some() {
        return Err(ValueError::Malformed);
    }
    let number: i64 = token.parse().map_err(|_| ValueError::OutOfRange)?;
    if number.unsigned_abs() > MAX_INTEGER {
        return Err(ValueError::OutOfRange);
    }
    Ok(written(if number == 0 { b"0" } else { token.as_bytes() }))
}

/// A JSON number or a string that looks like one. All decimals are kept, "98.60" stays "98.60"; exponents are written out.
pub(super) fn decimal(cursor: &mut Cursor<'_>) -> Canonical {
    if cursor.peek() == Some(b'"') {
        let plain = cursor.only_string()?;
        let text = checked(&plain)?;
        return plain_decimal(&Parts::of_text(text).ok_or(ValueError::Malformed)?);
    }
    let token = cursor.token();
    cursor.end().map_err(|_| ValueError::WrongKind)?;
    plain_decimal(&Parts::of_number(token).ok_or(ValueError::WrongKind)?)
}

/// Appends a JSON number in the spelling of ECMAScript (ECMA-262, `Number::toString`; RFC 8785 section 3.2.2.3). A number
/// that would come back with other digits than were sent is refused: it is not ours to round.
pub(super) fn append_double(out: &mut Vec<u8>, token: &str) -> Result<(), ValueError> {
    let sent = Parts::of_number(token).ok_or(ValueError::Malformed)?;
    let number: f64 = token.parse().map_err(|_| ValueError::Malformed)?;
    if !number.is_finite() {
        return Err(ValueError::Inexact);
    }
    let mut spelling = ryu_js::Buffer::new();
    let spelled = spelling.format_finite(number);
    let kept = Parts::of_number(spelled).ok_or(ValueError::Inexact)?;
    if sent.scientific()? != kept.scientific()? {
        return Err(ValueError::Inexact);
    }
    append_wiping(out, spelled.as_bytes());
    Ok(())
}

/// Whether this is a number as JSON writes them (RFC 8259 section 6), however large.
pub(crate) fn is_number(token: &str) -> bool {
    Parts::of_number(token).is_some()
}

/// The parts of a number's text, before any arithmetic.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: Option<&'a str>,
    exponent: Option<&'a str>,
}

/// A number as `0.digits × 10^point`, digits without zeros at either end; zero has none.
#[derive(PartialEq, Eq)]
struct Scientific {
    negative: bool,
    digits: Zeroizing<Vec<u8>>,
    point: i32,
}

impl<'a> Parts<'a> {
    /// RFC 8259 section 6.
    fn of_number(token: &'a str) -> Option<Self> {
        Self::of_text(token).filter(|parts| parts.whole == "0" || !parts.whole.starts_with('0'))
    }

    /// As a JSON number, leading zeros allowed.
    fn of_text(text: &'a str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = rest
            .split_once(['e', 'E'])
            .map_or((rest, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
        let (whole, fraction) =
            mantissa.split_once('.').map_or((mantissa, None), |(whole, fraction)| (whole, Some(fraction)));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let signed = |part: &str| digits(part.strip_prefix(['+', '-']).unwrap_or(part));
        let fits = digits(whole) && fraction.is_none_or(digits) && exponent.is_none_or(signed);
        fits.then_some(Self { negative, whole, fraction, exponent })
    }

    fn exponent(&self) -> Result<i32, ValueError> {
        let Some(text) = self.exponent else { return Ok(0) };
        let exponent: i32 = text.parse().map_err(|_| ValueError::OutOfRange)?;
        if exponent.unsigned_abs() > 9_999 { Err(ValueError::OutOfRange) } else { Ok(exponent) }
    }

    /// All digits, and how many of them stand before the decimal point once the exponent is written out.
    fn digits(&self) -> Result<(Zeroizing<Vec<u8>>, i32), ValueError> {
        let fraction = self.fraction.unwrap_or_default();
        let mut digits = buffer(self.whole.len() + fraction.len());
        append_wiping(&mut digits, self.whole.as_bytes());
        append_wiping(&mut digits, fraction.as_bytes());
        let whole = i32::try_from(self.whole.len()).map_err(|_| ValueError::OutOfRange)?;
        Ok((digits, whole.checked_add(self.exponent()?).ok_or(ValueError::OutOfRange)?))
    }

    fn scientific(&self) -> Result<Scientific, ValueError> {
        let (all, point) = self.digits()?;
        let leading = all.iter().take_while(|&&digit| digit == b'0').count();
        let significant = all.get(leading..).unwrap_or_default().trim_ascii_end_zeros();
        if significant.is_empty() {
            return Ok(Scientific { negative: false, digits: buffer(0), point: 0 });
        }
        let leading = i32::try_from(leading).map_err(|_| ValueError::OutOfRange)?;
        let point = point.checked_sub(leading).ok_or(ValueError::OutOfRange)?;
        Ok(Scientific { negative: self.negative, digits: written(significant), point })
    }
}

trait TrimZeros {
    fn trim_ascii_end_zeros(&self) -> &[u8];
}

impl TrimZeros for [u8] {
    fn trim_ascii_end_zeros(&self) -> &[u8] {
        let trailing = self.iter().rev().take_while(|&&digit| digit == b'0').count();
        self.get(..self.len() - trailing).unwrap_or_default()
    }
}

fn plain_decimal(parts: &Parts<'_>) -> Canonical {
    let (digits, point) = parts.digits()?;
    let max = i32::try_from(MAX_DECIMAL_DIGITS).unwrap_or(i32::MAX);
    if digits.len() > MAX_DECIMAL_DIGITS || !(-max..=max).contains(&point) {
        return Err(ValueError::OutOfRange);
    }
    // Zeros in front and behind, so that the point falls inside the digits; then the needless ones go.
    let before = usize::try_from(1 - point).unwrap_or(0);
    let mut padded = buffer(before + digits.len() + MAX_DECIMAL_DIGITS);
    append_zeros(&mut padded, before);
    append_wiping(&mut padded, &digits);
    let point = usize::try_from(point.max(1)).unwrap_or(1);
    let missing = point.saturating_sub(padded.len());
    append_zeros(&mut padded, missing);
    let (whole, fraction) = padded.split_at_checked(point).ok_or(ValueError::OutOfRange)?;
    let leading = whole.iter().take_while(|&&digit| digit == b'0').count().min(whole.len().saturating_sub(1));
    let whole = whole.get(leading..).unwrap_or_default();
    if whole.len() + fraction.len() > MAX_DECIMAL_DIGITS {
        return Err(ValueError::OutOfRange);
    }
    let mut out = buffer(whole.len() + fraction.len() + 2);
    if parts.negative && padded.iter().any(|&digit| digit != b'0') {
        append_wiping(&mut out, b"-");
    }
    append_wiping(&mut out, whole);
    if !fraction.is_empty() {
        append_wiping(&mut out, b".");
        append_wiping(&mut out, fraction);
    }
    Ok(out)
}

fn append_zeros(out: &mut Vec<u8>, count: usize) {
    for _ in 0..count {
        append_wiping(out, b"0");
    }
}

fn written(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = buffer(bytes.len());
    append_wiping(&mut out, bytes);
    out
}
