//! One opened value on its way out, and how an answer that repeats it is known.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

use super::json::Node;

/// A value of fewer letters and digits is in most texts by chance: it counts only where it stands alone.
const SHORT_CHARACTERS: usize = 4;

/// A string, number or boolean that is put into a body. Wiped on drop, never printed.
pub struct RevealedValue {
    node: Node,
    sought: Sought,
}

/// What is looked for in an answer.
enum Sought {
    /// Letters and digits, and how many.
    Letters(Zeroizing<String>, usize),
    /// A text without any, as it is.
    Signs(Zeroizing<String>),
    /// A boolean or nothing: to meet it again says nothing.
    Nothing,
}

impl RevealedValue {
    /// Of the JSON text of one string, number or boolean, as [`crate::domain::value::render_value`] writes it; `None` for
    /// anything else.
    pub fn of_json(json: &[u8]) -> Option<Self> {
        let node = Node::parse(std::str::from_utf8(json).ok()?).ok()?;
        let sought = match &node {
            Node::Text(text) => Sought::of(text),
            Node::Word(word) => match word.as_str() {
                "null" => return None,
                "true" | "false" => Sought::Nothing,
                number => Sought::of(number),
            },
            Node::List(_) | Node::Object(_) => return None,
        };
        Some(Self { node, sought })
    }

    pub(super) fn node(&self) -> Node {
        self.node.clone()
    }

    /// Whether a text of an answer has it in it.
    pub(super) fn is_in(&self, spelled: &Spelled<'_>) -> bool {
        match &self.sought {
            Sought::Letters(letters, count) if *count < SHORT_CHARACTERS => spelled.has_words(letters),
            Sought::Letters(letters, _) => spelled.letters.contains(letters.as_str()),
            Sought::Signs(text) => spelled.text.contains(text.as_str()),
            Sought::Nothing => false,
        }
    }
}

impl Sought {
    fn of(text: &str) -> Self {
        let letters = joined(&words_of(text));
        match letters.chars().count() {
            0 if text.trim().is_empty() => Self::Nothing,
            0 => Self::Signs(Zeroizing::new(text.to_owned())),
            count => Self::Letters(letters, count),
        }
    }
}

/// A text of an answer, once as it came and once as values are compared.
pub(super) struct Spelled<'a> {
    text: &'a str,
    words: Vec<Zeroizing<String>>,
    letters: Zeroizing<String>,
}

impl<'a> Spelled<'a> {
    pub fn of(text: &'a str) -> Self {
        let words = words_of(text);
        let letters = joined(&words);
        Self { text, words, letters }
    }

    /// Whether words that follow each other are these letters.
    fn has_words(&self, letters: &str) -> bool {
        (0..self.words.len()).any(|start| {
            let mut rest = letters;
            for word in self.words.iter().skip(start) {
                match rest.strip_prefix(word.as_str()) {
                    Some("") => return true,
                    Some(others) => rest = others,
                    None => return false,
                }
            }
            false
        })
    }
}

/// Compatibility characters and letters with marks taken apart (NFKD), marks dropped, letters and digits in lower case, apart
/// where there are others between. Upper case first joins what only lower case tells apart (ß and ss).
fn words_of(text: &str) -> Vec<Zeroizing<String>> {
    let mut words = Vec::new();
    let mut word = Zeroizing::new(String::new());
    let folded = text.chars().flat_map(char::to_uppercase).nfkd();
    for character in folded.filter(|character| !is_combining_mark(*character)) {
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn joined(words: &[Zeroizing<String>]) -> Zeroizing<String> {
    let mut letters = Zeroizing::new(String::with_capacity(words.iter().map(|word| word.len()).sum()));
    for word in words {
        letters.push_str(word);
    }
    letters
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_in(value: &str, text: &str) -> bool {
        let json = serde_json::to_string(value).unwrap();
        RevealedValue::of_json(json.as_bytes()).unwrap().is_in(&Spelled::of(text))
    }

    #[test]
    fn a_value_is_met_however_it_is_punctuated() {
        for (value, text) in [
            ("951-47-8263", "951478263"),
            ("951478263", "no member 951-47-8263 is known"),
            ("Sørensen", "SØRENSEN"),
            ("Åse Lind", "ase-lind@clinic.example"),
            ("Straße", "STRASSE"),
            ("4111111111111111", "card 4111 1111 1111 1111 declined"),
            ("ＡＢＣ１２", "abc12"),
            ("MRN-0012", "{\"mrn\":\"mrn0012\"}"),
            ("12345", "x12345y"),
            // Short ones alone, or as words.
            ("F", "f"),
            ("F", "sex: F"),
            ("O'B", "ob"),
            ("O'B", "member O'B."),
            ("½", "1/2 of it"),
            ("42", "aged 42."),
            ("—", "a — b"),
        ] {
            assert!(is_in(value, text), "{value} in {text}");
        }
    }

    #[test]
    fn other_text_is_not_a_value() {
        for (value, text) in [
            ("951-47-8263", "951-47-8264"),
            ("12345", "1234"),
            ("F", "off"),
            ("42", "142"),
            ("Ann", "annual"),
            ("", ""),
            ("  ", "a  b"),
            ("—", "-"),
        ] {
            assert!(!is_in(value, text), "{value} in {text}");
        }
    }

    #[test]
    fn scalars_only() {
        for json in ["null", "[]", "{}", "[\"a\"]", "", "a", "\"a", "1 2", "\u{0}"] {
            assert!(RevealedValue::of_json(json.as_bytes()).is_none(), "{json}");
        }
        assert!(RevealedValue::of_json(b"\"\xff\"").is_none());
        let number = RevealedValue::of_json(b"-120034").unwrap();
        assert!(number.is_in(&Spelled::of("120034")) && !number.is_in(&Spelled::of("12003")));
        let boolean = RevealedValue::of_json(b"true").unwrap();
        assert!(!boolean.is_in(&Spelled::of("true")));
    }

    proptest! {
        #[test]
        fn a_value_is_met_in_itself_and_around(value in "\\PC{1,20}", before in "[ -~]{0,6}", after in "[ -~]{0,6}") {
            prop_assume!(!value.trim().is_empty());
            prop_assert!(is_in(&value, &value));
            prop_assert!(is_in(&value, &format!("{before} {value} {after}")), "{:?}", value);
        }

        #[test]
        fn a_long_value_is_met_in_other_spellings(value in "[a-zA-Z0-9]{4,20}", sign in "[ ./_-]") {
            let spaced: Vec<String> = value.chars().map(String::from).collect();
            for text in [value.to_uppercase(), value.to_lowercase(), spaced.join(&sign), format!("a{value}b")] {
                prop_assert!(is_in(&value, &text), "{} in {}", value, text);
            }
        }
    }
}
