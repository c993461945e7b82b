//! The patterns of `audit/entry.schema.json`: sequences of character classes with counts, matched in one pass.

/// One after the other; each takes as much as it can.
pub(super) struct Pattern {
    runs: Vec<Run>,
}

struct Run {
    class: [bool; 256],
    least: usize,
    most: usize,
}

impl Pattern {
    /// Reads `^…$` made of literals, escaped literals and classes, each with `+`, `{n}`, `{m,n}` or once. `None` for
    /// anything else, and for a pattern in which taking as much as possible could take too much.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('^')?.strip_suffix('$')?;
        let mut runs: Vec<Run> = Vec::new();
        while !rest.is_empty() {
            let (class, after) = class(rest)?;
            let (least, most, after) = count(after)?;
            // Only plain characters: a string that matches needs no escapes, so its bytes are its canonical form.
            let is_plain = (0_u8..=255).zip(&class).all(|(byte, member)| !member || is_plain(byte));
            let overlaps = |run: &Run| {
                run.least != run.most && run.class.iter().zip(&class).any(|(one, other)| *one && *other)
            };
            if !is_plain || runs.last().is_some_and(overlaps) {
                return None;
            }
            runs.push(Run { class, least, most });
            rest = after;
        }
        Some(Self { runs })
    }

    /// How many bytes at the beginning match all of the pattern.
    pub fn matched(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        for run in &self.runs {
            let rest = bytes.get(at..)?;
            let in_class = |byte: &&u8| run.class.get(usize::from(**byte)).copied().unwrap_or(false);
            let length = rest.iter().take(run.most).take_while(in_class).count();
            if length < run.least {
                return None;
            }
            at += length;
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
