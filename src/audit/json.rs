//! Canonical JSON (RFC 8785) as it is written: what an entry's bytes are made of.

use std::io::Write;
use std::sync::Arc;

use uuid::Uuid;

use super::label::label;
use crate::domain::id::FieldName;

/// The largest integer that every JSON reader keeps exact.
const LARGEST: u64 = (1 << 53) - 1;

/// Writes a comma before every element but the first.
#[derive(Default)]
pub(super) struct Comma {
    started: bool,
}

impl Comma {
    pub(super) fn next(&mut self, json: &mut Json) {
        if self.started {
            json.out.push(b',');
        }
        self.started = true;
    }
}

/// A growing canonical JSON text.
pub(super) struct Json {
    pub(super) out: Vec<u8>,
}

impl Json {
    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// RFC 8785 section 3.2.2.2.
    pub(super) fn string(&mut self, text: &str) {
        self.out.push(b'"');
        if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
            self.raw(text);
        } else {
            for character in text.chars() {
                self.escaped(character);
            }
        }
        self.out.push(b'"');
    }

    fn escaped(&mut self, character: char) {
        match character {
            '"' => self.raw("\\\""),
            '\\' => self.raw("\\\\"),
            '\u{8}' => self.raw("\\b"),
            '\t' => self.raw("\\t"),
            '\n' => self.raw("\\n"),
            '\u{c}' => self.raw("\\f"),
            '\r' => self.raw("\\r"),
            control if control < ' ' => {
                self.raw("\\u00");
                self.hex_digits(u8::try_from(u32::from(control)).unwrap_or(0));
            }
            other => self.raw(other.encode_utf8(&mut [0; 4])),
        }
    }

    pub(super) fn label(&mut self, text: &str) {
        self.out.push(b'"');
        self.raw(&label(text));
        self.out.push(b'"');
    }

    pub(super) fn labels(&mut self, texts: &[Arc<str>]) {
        self.out.push(b'[');
        let mut comma = Comma::default();
        for text in texts {
            comma.next(self);
            self.label(text);
        }
        self.out.push(b']');
    }

    pub(super) fn names(&mut self, names: &[FieldName]) {
        self.out.push(b'[');
        let mut comma = Comma::default();
        for name in names {
            comma.next(self);
            self.string(name.as_str());
        }
        self.out.push(b']');
    }

    pub(super) fn uuid(&mut self, id: &Uuid) {
        let mut buffer = Uuid::encode_buffer();
        self.out.push(b'"');
        self.raw(id.hyphenated().encode_lower(&mut buffer));
        self.out.push(b'"');
    }

    pub(super) fn hex(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        for byte in bytes {
            self.hex_digits(*byte);
        }
        self.out.push(b'"');
    }

    fn hex_digits(&mut self, byte: u8) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        self.out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }

    pub(super) fn number(&mut self, number: u64) {
        // Into memory, which does not fail.
        let _ = write!(self.out, "{}", number.min(LARGEST));
    }
}
