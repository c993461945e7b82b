//! Looks for texts and bytes in every usual spelling: as they are, in hexadecimal, in base64 at each of the three places
//! where it can begin, and escaped as JSON does.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};

use crate::support::hex;

/// What is looked for.
#[derive(Default)]
pub struct Search {
    patterns: Vec<(String, Vec<u8>)>,
    machine: std::sync::OnceLock<AhoCorasick>,
}

impl Search {
    pub fn text(&mut self, name: &str, text: &str) {
        for form in [text.to_owned(), text.to_lowercase(), escaped(text, false), escaped(text, true)] {
            self.bytes(name, form.as_bytes());
        }
    }

    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 8, "{name} is too short to look for");
        let mut forms = vec![bytes.to_vec()];
        forms.push(hex(bytes).into_bytes());
        forms.push(hex(bytes).to_uppercase().into_bytes());
        for offset in 0..3 {
            let shifted = [&[0; 2][..offset.min(2)], bytes].concat();
            for text in [Base64Unpadded::encode_string(&shifted), Base64UrlUnpadded::encode_string(&shifted)]
            {
                // Without the characters that also depend on what comes before and after.
                let first = [0, 2, 3][offset];
                let whole = shifted.len() * 8 / 6;
                forms.push(text.as_bytes()[first..whole].to_vec());
            }
        }
        forms.sort();
        forms.dedup();
        self.patterns.extend(forms.into_iter().map(|form| (name.to_owned(), form)));
        self.machine.take();
    }

    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.machine().is_match(bytes)
    }

    /// Panics with what was found and where, and not with the bytes around it.
    pub fn none_in(&self, place: &str, bytes: &[u8]) {
        if let Some(found) = self.machine().find(bytes) {
            let (name, form) = &self.patterns[found.pattern().as_usize()];
            panic!("{place}: {name}, {} bytes long, at {}", form.len(), found.start());
        }
    }

    /// What is in it, and where.
    pub fn all_in(&self, bytes: &[u8]) -> Vec<(&str, usize)> {
        let found = self.machine().find_iter(bytes);
        found.map(|found| (self.patterns[found.pattern().as_usize()].0.as_str(), found.start())).collect()
    }

    fn machine(&self) -> &AhoCorasick {
        self.machine.get_or_init(|| {
            let forms = self.patterns.iter().map(|(_, form)| form);
            AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(forms).unwrap()
        })
    }
}

/// With every character that is not ASCII as a `\u` escape.
fn escaped(text: &str, is_upper: bool) -> String {
    text.encode_utf16()
        .map(|unit| match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
            _ if is_upper => format!("\\u{unit:04X}"),
            _ => format!("\\u{unit:04x}"),
        })
        .collect()
}

#[test]
fn every_spelling_is_found() {
    let mut search = Search::default();
    search.text("the mark", "Žluťoučkýkůň");
    let text = "Žluťoučkýkůň";
    for before in ["", "a", "ab", "abc"] {
        let plain = format!("{before}{text}!");
        let hex = hex(plain.as_bytes());
        for found in [
            plain.clone(),
            hex.clone(),
            hex.to_uppercase(),
            Base64Unpadded::encode_string(plain.as_bytes()),
            Base64UrlUnpadded::encode_string(plain.as_bytes()),
            format!("{before}\\u017dlu\\u0165ou\\u010dk\\u00fdk\\u016f\\u0148"),
        ] {
            assert!(search.is_in(found.as_bytes()), "{found}");
        }
    }
    assert!(!search.is_in("Žluťoučký kůň".as_bytes()));
}
