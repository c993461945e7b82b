//! Lists, addresses and JSON values, each written as RFC 8785 JSON text.

use zeroize::Zeroizing;

use super::MAX_JSON_DEPTH;
use super::cursor::{Cursor, Plain};
use super::format::{checked, line};
use super::number::append_double;
use super::render::append_string;
use super::types::ValueError;
use super::wipe::{append_wiping, buffer};

type Canonical = Result<Zeroizing<Vec<u8>>, ValueError>;

const MAX_ITEM_BYTES: usize = 1_024;
const MAX_ADDRESS_PART_BYTES: usize = 256;
const MAX_ADDRESS_LINES: usize = 4;

/// The members of an address, in the order that RFC 8785 section 3.2.3 gives them.
const ADDRESS_MEMBERS: [&str; 6] = ["city", "country", "district", "line", "postal_code", "state"];

/// An array of lines of text; it may be empty.
pub(super) fn list(cursor: &mut Cursor<'_>, max_items: usize) -> Canonical {
    let out = lines(cursor, max_items, MAX_ITEM_BYTES)?;
    cursor.end()?;
    Ok(out)
}

/// An object of known members, all optional, at least one of them there; `line` is an array of up to four lines.
pub(super) fn address(cursor: &mut Cursor<'_>) -> Canonical {
    if !cursor.take(b'{') {
        return Err(ValueError::WrongKind);
    }
    let mut parts: [Option<Zeroizing<Vec<u8>>>; 6] = Default::default();
    members(cursor, |cursor, member| {
        let index = ADDRESS_MEMBERS.iter().position(|known| *known == member.as_str());
        let slot = index.and_then(|index| parts.get_mut(index)).ok_or(ValueError::UnknownMember)?;
        let part = if member.as_str() == "line" {
            lines(cursor, MAX_ADDRESS_LINES, MAX_ADDRESS_PART_BYTES)?
        } else {
            quoted(&cursor.string()?, MAX_ADDRESS_PART_BYTES)?
        };
        if slot.replace(part).is_some() { Err(ValueError::DuplicateMember) } else { Ok(()) }
    })?;
    cursor.end()?;
    if parts.iter().all(Option::is_none) {
        return Err(ValueError::Empty);
    }
    let mut out = buffer(parts.iter().flatten().map(|part| part.len() + 16).sum());
    let mut separator = b"{";
    for (name, part) in ADDRESS_MEMBERS.iter().zip(&parts) {
        let Some(part) = part else { continue };
        append_wiping(&mut out, separator);
        append_string(&mut out, name);
        append_wiping(&mut out, b":");
        append_wiping(&mut out, part);
        separator = b",";
    }
    append_wiping(&mut out, b"}");
    Ok(out)
}

/// Any JSON value, nested at most [`MAX_JSON_DEPTH`] deep, of at most `max_items` values in all.
pub(super) fn json(cursor: &mut Cursor<'_>, max_items: usize) -> Canonical {
    let mut out = buffer(256);
    let mut left = max_items;
    value(cursor, 0, &mut left, &mut out)?;
    cursor.end()?;
    if *out == b"null" {
        return Err(ValueError::WrongKind);
    }
    Ok(out)
}

fn value(
    cursor: &mut Cursor<'_>,
    depth: usize,
    left: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    *left = left.checked_sub(1).ok_or(ValueError::TooManyItems)?;
    match cursor.peek() {
        Some(b'{' | b'[') if depth >= MAX_JSON_DEPTH => Err(ValueError::TooDeep),
        Some(b'{') => object(cursor, depth + 1, left, out),
        Some(b'[') => array(cursor, depth + 1, left, out),
        Some(b'"') => {
            append_string(out, uncontrolled(&cursor.string()?)?);
            Ok(())
        }
        _ => match cursor.token() {
            word @ ("true" | "false" | "null") => {
                append_wiping(out, word.as_bytes());
                Ok(())
            }
            number => append_double(out, number),
        },
    }
}

fn array(
    cursor: &mut Cursor<'_>,
    depth: usize,
    left: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    cursor.require(b'[')?;
    append_wiping(out, b"[");
    items(cursor, |cursor, first| {
        append_wiping(out, if first { b"" } else { b"," });
        value(cursor, depth, left, out)
    })?;
    append_wiping(out, b"]");
    Ok(())
}

/// RFC 8785 section 3.2.3: members in the order of their names' UTF-16 code units.
fn object(
    cursor: &mut Cursor<'_>,
    depth: usize,
    left: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    cursor.require(b'{')?;
    let mut found: Vec<(Plain, Zeroizing<Vec<u8>>)> = Vec::new();
    members(cursor, |cursor, name| {
        uncontrolled(&name)?;
        let mut written = buffer(64);
        value(cursor, depth, left, &mut written)?;
        found.push((name, written));
        Ok(())
    })?;
    found.sort_by(|(a, _), (b, _)| a.as_str().encode_utf16().cmp(b.as_str().encode_utf16()));
    let twice = found.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a.as_str() == b.as_str()));
    if twice {
        return Err(ValueError::DuplicateMember);
    }
    append_wiping(out, b"{");
    for (index, (name, written)) in found.iter().enumerate() {
        append_wiping(out, if index == 0 { b"" } else { b"," });
        append_string(out, name.as_str());
        append_wiping(out, b":");
        append_wiping(out, written);
    }
    append_wiping(out, b"}");
    Ok(())
}

fn lines(cursor: &mut Cursor<'_>, max_items: usize, max_item_bytes: usize) -> Canonical {
    if !cursor.take(b'[') {
        return Err(ValueError::WrongKind);
    }
    let mut out = buffer(256);
    append_wiping(&mut out, b"[");
    let mut left = max_items;
    items(cursor, |cursor, first| {
        left = left.checked_sub(1).ok_or(ValueError::TooManyItems)?;
        append_wiping(&mut out, if first { b"" } else { b"," });
        append_wiping(&mut out, &quoted(&cursor.string()?, max_item_bytes)?);
        Ok(())
    })?;
    append_wiping(&mut out, b"]");
    Ok(out)
}

/// One line of text, normalised and written as a JSON string.
fn quoted(plain: &Plain, max_bytes: usize) -> Canonical {
    checked(plain)?;
    let text = line(plain)?;
    if text.len() > max_bytes {
        return Err(ValueError::TooLong);
    }
    let mut out = buffer(text.len() + 8);
    append_string(&mut out, std::str::from_utf8(&text).unwrap_or_default());
    Ok(out)
}

fn uncontrolled(plain: &Plain) -> Result<&str, ValueError> {
    let text = plain.as_str();
    if text.chars().any(char::is_control) { Err(ValueError::ControlCharacter) } else { Ok(text) }
}

/// The items of an array whose bracket is consumed.
fn items<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&mut Cursor<'a>, bool) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    if cursor.take(b']') {
        return Ok(());
    }
    let mut first = true;
    loop {
        each(cursor, first)?;
        first = false;
        if cursor.take(b']') {
            return Ok(());
        }
        cursor.require(b',')?;
    }
}

/// The members of an object whose brace is consumed.
fn members<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&mut Cursor<'a>, Plain) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    if cursor.take(b'}') {
        return Ok(());
    }
    loop {
        let name = cursor.string().map_err(|error| match error {
            ValueError::WrongKind => ValueError::Malformed,
            other => other,
        })?;
        cursor.require(b':')?;
        each(cursor, name)?;
        if cursor.take(b'}') {
            return Ok(());
        }
        cursor.require(b',')?;
    }
}
