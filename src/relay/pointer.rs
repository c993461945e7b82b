//! JSON pointers (RFC 6901): the name of a place in a document.

/// Longer ones are a mistake, and errors should not grow with them.
const MOST_BYTES: usize = 256;
/// As deep as a document may be.
const MOST_TOKENS: usize = crate::domain::value::MAX_JSON_DEPTH;

/// A place below the top of a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    text: Box<str>,
    /// Unescaped.
    tokens: Box<[Box<str>]>,
}

/// Why a text is no pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerFault {
    #[error("the empty pointer is the whole document; name a member of it")]
    Whole,
    #[error("a pointer begins with /")]
    NoSlash,
    #[error("after ~ there is 0 for ~ itself or 1 for /")]
    Escape,
    #[error("a pointer has at most {MOST_BYTES} bytes")]
    TooLong,
    #[error("a pointer goes at most {MOST_TOKENS} deep")]
    TooDeep,
}

impl Pointer {
    /// RFC 6901 section 3, but for the empty one, which names the whole document.
    pub fn parse(text: &str) -> Result<Self, PointerFault> {
        if text.is_empty() {
            return Err(PointerFault::Whole);
        }
        if text.len() > MOST_BYTES {
            return Err(PointerFault::TooLong);
        }
        let rest = text.strip_prefix('/').ok_or(PointerFault::NoSlash)?;
        let tokens = rest.split('/').map(unescaped).collect::<Result<Box<[_]>, _>>()?;
        if tokens.len() > MOST_TOKENS {
            return Err(PointerFault::TooDeep);
        }
        Ok(Self { text: text.into(), tokens })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names `other`, or something inside of it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.tokens.starts_with(&other.tokens)
    }

    /// The names on the way, from the top.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(AsRef::as_ref)
    }
}

/// RFC 6901 section 4: `~1` first, then `~0`, which reading from the left comes to.
fn unescaped(token: &str) -> Result<Box<str>, PointerFault> {
    let mut plain = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '~' => match characters.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(PointerFault::Escape),
            },
            other => other,
        });
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::relay::json::Node;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap()
    }

    fn at(document: &str, text: &str) -> Option<String> {
        let document = Node::parse(document).unwrap();
        let mut out = Vec::new();
        document.at(&pointer(text))?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    /// The examples of RFC 6901 section 5.
    #[test]
    fn the_examples_of_the_standard() {
        let document = r#"{ "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5,
            "k\"l": 6, " ": 7, "m~n": 8 }"#;
        for (text, value) in [
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(at(document, text).as_deref(), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let document = r#"{"list":[1,[2]],"0":"zero","text":"abc"}"#;
        for text in [
            "/lists",
            "/list/2",
            "/list/-",
            "/list/00",
            "/list/01",
            "/list/+1",
            "/list/ 1",
            "/list/1e0",
            "/list/",
            "/list/99999999999999999999",
            "/text/0",
            "/list/0/0",
            "/list/length",
            "//",
            "/LIST",
        ] {
            assert_eq!(at(document, text), None, "{text}");
        }
        assert_eq!(at(document, "/0").as_deref(), Some(r#""zero""#));
        assert_eq!(at(document, "/list/1/0").as_deref(), Some("2"));
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for (text, fault) in [
            ("", PointerFault::Whole),
            ("a", PointerFault::NoSlash),
            ("#/a", PointerFault::NoSlash),
            (" /a", PointerFault::NoSlash),
            ("/a~", PointerFault::Escape),
            ("/~2", PointerFault::Escape),
            ("/a~/b", PointerFault::Escape),
        ] {
            assert_eq!(Pointer::parse(text), Err(fault), "{text}");
        }
        assert_eq!(Pointer::parse(&"/a".repeat(33)), Err(PointerFault::TooDeep));
        assert!(Pointer::parse(&"/a".repeat(32)).is_ok());
        assert_eq!(Pointer::parse(&format!("/{}", "a".repeat(256))), Err(PointerFault::TooLong));
        assert!(Pointer::parse(&format!("/{}", "a".repeat(255))).is_ok());
    }

    #[test]
    fn a_place_is_within_itself_and_what_is_above_it() {
        for (inner, outer, is_within) in [
            ("/a", "/a", true),
            ("/a/b", "/a", true),
            ("/a", "/a/b", false),
            ("/ab", "/a", false),
            ("/a~1b", "/a", false),
            ("/a/", "/a", true),
            ("/b/a", "/a", false),
        ] {
            assert_eq!(pointer(inner).is_within(&pointer(outer)), is_within, "{inner} in {outer}");
        }
    }

    fn written<'a>(tokens: impl Iterator<Item = &'a str>) -> String {
        tokens.fold(String::new(), |text, token| text + "/" + &token.replace('~', "~0").replace('/', "~1"))
    }

    proptest! {
        #[test]
        fn every_place_has_a_pointer_and_other_readers_know_it(
            tokens in prop::collection::vec("[a-b~/0-1\\PC]{0,4}", 1..5),
            leaf in any::<u32>(),
        ) {
            let text = written(tokens.iter().map(String::as_str));
            let document = tokens.iter().rev().fold(serde_json::json!(leaf), |inner, token| {
                serde_json::json!({ token.as_str(): inner })
            });
            let parsed = Pointer::parse(&text).unwrap();
            prop_assert_eq!(parsed.as_str(), text.as_str());
            prop_assert!(parsed.tokens().eq(tokens.iter().map(String::as_str)));
            prop_assert_eq!(at(&document.to_string(), &text), Some(leaf.to_string()));
            prop_assert_eq!(document.pointer(&text), Some(&serde_json::json!(leaf)));
        }

        #[test]
        fn whatever_is_written_is_a_pointer_or_refused(text in "[/~0-2a\\PC]{0,24}") {
            if let Ok(parsed) = Pointer::parse(&text) {
                let again = written(parsed.tokens());
                prop_assert_eq!(again, text);
                prop_assert!(parsed.is_within(&parsed));
            }
        }
    }
}
