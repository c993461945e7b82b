//! The patterns of `audit/entry.schema.json`: sequences of character classes with counts, matched in one pass.

/// One after the other; each takes as much as it can.
pub(super) struct Pattern {
    runs: Vec<Run>,
}

/// All bits where one byte stands, where a hexadecimal digit does, and where a decimal one does.
#[derive(Default)]
pub(super) struct Masks {
    pub literal: Vec<u8>,
    pub hex: Vec<u8>,
    pub digit: Vec<u8>,
}

struct Run {
    class: Class,
    least: usize,
    most: usize,
}

/// Ids, digests and times are most of an entry: what they are made of is compared without a table, many bytes at once.
enum Class {
    LowerHex,
    Digit,
    One(u8),
    Of(Box<[bool; 256]>),
}

impl Class {
    fn new(members: [bool; 256]) -> Self {
        let is = |class: &dyn Fn(u8) -> bool| {
            (0_u8..=255).zip(&members).all(|(byte, is_in)| class(byte) == *is_in)
        };
        let first = (0_u8..=255).zip(&members).find(|(_, is_in)| **is_in).map_or(0, |(byte, _)| byte);
        if is(&is_lower_hex) {
            Self::LowerHex
        } else if is(&|byte| byte.is_ascii_digit()) {
            Self::Digit
        } else if is(&|byte| byte == first) {
            Self::One(first)
        } else {
            Self::Of(Box::new(members))
        }
    }

    fn has(&self, byte: u8) -> bool {
        match self {
            Self::LowerHex => is_lower_hex(byte),
            Self::Digit => byte.is_ascii_digit(),
            Self::One(one) => byte == *one,
            Self::Of(members) => members.get(usize::from(byte)).copied().unwrap_or(false),
        }
    }

    /// Looks at all of them, whatever the first is: that is what makes it several at once.
    fn has_all(&self, bytes: &[u8]) -> bool {
        match self {
            Self::LowerHex => bytes.iter().fold(true, |all, byte| all & is_lower_hex(*byte)),
            Self::Digit => bytes.iter().fold(true, |all, byte| all & byte.is_ascii_digit()),
            Self::One(_) | Self::Of(_) => bytes.iter().all(|byte| self.has(*byte)),
        }
    }

    /// How many of the first bytes are of it.
    fn count(&self, bytes: &[u8]) -> usize {
        // Asked once which class it is, and not for each byte.
        let until = |is_of: &dyn Fn(u8) -> bool| bytes.iter().position(|byte| !is_of(*byte));
        let end = match self {
            Self::Of(members) => {
                bytes.iter().position(|byte| !members.get(usize::from(*byte)).copied().unwrap_or(false))
            }
            Self::LowerHex => until(&is_lower_hex),
            Self::Digit => until(&|byte| byte.is_ascii_digit()),
            Self::One(one) => until(&|byte| byte == *one),
        };
        end.unwrap_or(bytes.len())
    }

    fn overlaps(&self, other: &Self) -> bool {
        (0_u8..=255).any(|byte| self.has(byte) && other.has(byte))
    }
}

const fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() | matches!(byte, b'a'..=b'f')
}

impl Pattern {
    /// Reads `^…$` made of literals, escaped literals and classes, each with `+`, `{n}`, `{m,n}` or once. `None` for
    /// anything else, and for a pattern in which taking as much as possible could take too much.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('^')?.strip_suffix('$')?;
        let mut runs: Vec<Run> = Vec::new();
        while !rest.is_empty() {
            let (members, after) = class(rest)?;
            let (least, most, after) = count(after)?;
            // Only plain characters: a string that matches needs no escapes, so its bytes are its canonical form.
            let is_plain = (0_u8..=255).zip(&members).all(|(byte, member)| !member || is_plain(byte));
            let class = Class::new(members);
            let overlaps = |run: &Run| run.least != run.most && run.class.overlaps(&class);
            if !is_plain || runs.last().is_some_and(overlaps) {
                return None;
            }
            runs.push(Run { class, least, most });
            rest = after;
        }
        Some(Self { runs })
    }

    /// What all that matches is made of, byte by byte; `None` where that has several lengths, or other classes.
    pub fn masks(&self) -> Option<Masks> {
        let mut masks = Masks::default();
        for Run { class, least, most } in &self.runs {
            (least == most).then_some(())?;
            let [literal, hex, digit] = match class {
                Class::One(_) => [u8::MAX, 0, 0],
                Class::LowerHex => [0, u8::MAX, 0],
                Class::Digit => [0, 0, u8::MAX],
                Class::Of(_) => return None,
            };
            let length = masks.literal.len() + least;
            masks.literal.resize(length, literal);
            masks.hex.resize(length, hex);
            masks.digit.resize(length, digit);
        }
        Some(masks)
    }

    /// How many bytes at the beginning match all of the pattern.
    pub fn matched(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0_usize;
        for Run { class, least, most } in &self.runs {
            at += if least == most {
                class.has_all(bytes.get(at..at.checked_add(*least)?)?).then_some(*least)?
            } else {
                let rest = bytes.get(at..)?;
                let length = class.count(rest.get(..*most).unwrap_or(rest));
                (length >= *least).then_some(length)?
            };
        }
        Some(at)
    }
}

const fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte < 0x7f && byte != b'"' && byte != b'\\'
}

/// A class or a literal at the beginning, and what follows it.
fn class(text: &str) -> Option<([bool; 256], &str)> {
    let mut class = [false; 256];
    let mut add = |from: u8, to: u8| {
        for (byte, member) in (0_u8..=255).zip(class.iter_mut()) {
            *member |= (from..=to).contains(&byte);
        }
    };
    let rest = if let Some(inside) = text.strip_prefix('[') {
        let (members, rest) = inside.split_once(']').filter(|(members, _)| !members.starts_with('^'))?;
        let mut members = members.as_bytes();
        while let Some((from, after)) = members.split_first() {
            members = after;
            match after {
                [b'-', to, after @ ..] => {
                    add(*from, *to);
                    members = after;
                }
                _ => add(*from, *from),
            }
        }
        rest
    } else {
        let literal = text.strip_prefix('\\').unwrap_or(text);
        let is_escaped = literal.len() < text.len();
        let byte = *literal.as_bytes().first()?;
        let is_literal =
            if is_escaped { byte.is_ascii_punctuation() } else { !b".^$*+?()[]{}|".contains(&byte) };
        is_literal.then_some(())?;
        add(byte, byte);
        literal.get(1..)?
    };
    Some((class, rest))
}

/// A count at the beginning, and what follows it.
fn count(text: &str) -> Option<(usize, usize, &str)> {
    if let Some(rest) = text.strip_prefix('+') {
        return Some((1, usize::MAX, rest));
    }
    let Some(inside) = text.strip_prefix('{') else { return Some((1, 1, text)) };
    let (numbers, rest) = inside.split_once('}')?;
    let (least, most) = numbers.split_once(',').unwrap_or((numbers, numbers));
    let (least, most) = (least.parse().ok()?, most.parse().ok()?);
    (least <= most).then_some((least, most, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().matched(text.as_bytes()) == Some(text.len())
    }

    #[test]
    fn patterns_match_what_they_say() {
        assert!(is_match("^[a-z]+\\.[a-z]+$", "record.read"));
        for wrong in ["record", "record.", ".read", "record.read.twice", "Record.read", ""] {
            assert!(!is_match("^[a-z]+\\.[a-z]+$", wrong), "{wrong}");
        }
        assert!(is_match("^[0-9]{4}-[0-9]{2}Z$", "2026-01Z") && !is_match("^[0-9]{4}-[0-9]{2}Z$", "2026-1Z"));
        assert!(is_match("^[a-z][a-z0-9_]{0,3}$", "a") && is_match("^[a-z][a-z0-9_]{0,3}$", "a_09"));
        assert!(!is_match("^[a-z][a-z0-9_]{0,3}$", "a_099"));
        assert!(is_match("^[A-Za-z0-9._:/~+-]{1,256}$", "a.B_9:/~+-"));
    }

    #[test]
    fn patterns_that_cannot_be_matched_in_one_pass_are_refused() {
        for wrong in [
            "a",
            "^a",
            "a$",
            "^[a-z]+[a-c]$",
            "^.$",
            "^a*$",
            "^(a)$",
            "^a|b$",
            "^[^a]$",
            "^[a\"]$",
            "^\\d$",
            "^é$",
            "^a{2,1}$",
            "^a{$",
        ] {
            assert!(Pattern::parse(wrong).is_none(), "{wrong}");
        }
    }
}
