//! A cursor over JSON text (RFC 8259) that decodes strings into buffers that are wiped.
//!
//! `serde_json` decodes escapes into `String`s that it frees unwiped, and takes the last of two equal members; so the
//! text of a value is read here. The cursor trusts nothing: it is safe on text that is not JSON at all, which is
//! [`ValueError::Malformed`].

use zeroize::Zeroizing;

use super::types::ValueError;
use super::wipe::{append_char, append_wiping, buffer};

/// A decoded string.
pub(crate) struct Plain(Zeroizing<Vec<u8>>);

impl Plain {
    /// Text that came without quotes.
    pub(crate) fn of(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }

    /// The text; the decoder only ever appends whole characters.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next significant byte, not consumed.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while self.byte().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.byte()
    }

    /// Consumes the next significant byte if it is `wanted`.
    pub(crate) fn take(&mut self, wanted: u8) -> bool {
        let taken = self.peek() == Some(wanted);
        self.at += usize::from(taken);
        taken
    }

    /// As [`Cursor::take`], where JSON allows nothing else.
    pub(crate) fn require(&mut self, wanted: u8) -> Result<(), ValueError> {
        if self.take(wanted) { Ok(()) } else { Err(ValueError::Malformed) }
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), ValueError> {
        if self.peek().is_none() { Ok(()) } else { Err(ValueError::Malformed) }
    }

    /// A letter word (`true`, `null`) or a number, as it stands.
    pub(crate) fn token(&mut self) -> &'a str {
        self.peek();
        let start = self.at;
        while self
            .byte()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The whole text is one string.
    pub(crate) fn only_string(&mut self) -> Result<Plain, ValueError> {
        let plain = self.string()?;
        self.end()?;
        Ok(plain)
    }

    /// A string, decoded; other kinds of value are [`ValueError::WrongKind`].
    pub(crate) fn string(&mut self) -> Result<Plain, ValueError> {
        if !self.take(b'"') {
            return Err(ValueError::WrongKind);
        }
        let mut out = buffer(self.run_to_quote());
        loop {
            let start = self.at;
            while self.byte().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            append_wiping(&mut out, self.text.get(start..self.at).unwrap_or_default().as_bytes());
            match self.next() {
                Some(b'"') => return Ok(Plain(out)),
                Some(b'\\') => append_char(&mut out, self.escape()?),
                Some(_) => return Err(ValueError::ControlCharacter),
                None => return Err(ValueError::Malformed),
            }
        }
    }

    /// An upper bound of the string's decoded length: escapes only shrink.
    fn run_to_quote(&self) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let mut escaped = false;
        rest.iter()
            .position(|&byte| {
                let ends = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            })
            .unwrap_or(rest.len())
    }

    fn escape(&mut self) -> Result<char, ValueError> {
        Ok(match self.next() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(ValueError::Malformed),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, ValueError> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if self.next() != Some(b'\\') || self.next() != Some(b'u') {
                    return Err(ValueError::LoneSurrogate);
                }
                let second = self.hex4()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(ValueError::LoneSurrogate);
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or(ValueError::LoneSurrogate)
    }

    fn hex4(&mut self) -> Result<u32, ValueError> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(ValueError::Malformed)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ValueError::Malformed);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| ValueError::Malformed)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.byte();
        self.at += usize::from(byte.is_some());
        byte
    }
}
