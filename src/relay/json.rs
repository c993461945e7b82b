//! JSON (RFC 8259) as a tree that is read strictly and written as it was read.
//!
//! Not `serde_json::Value`: it rounds numbers that a double can't hold, and takes the last of two members of one name. What
//! goes on must be what was sent. Every text in the tree is wiped.

use zeroize::Zeroizing;

use super::pointer::Pointer;
use crate::domain::value::{Cursor, MAX_JSON_DEPTH, ValueError, append_string, append_wiping, is_number};

/// Of all depths together: a tree takes some thirty times the memory of the shortest text that makes it.
const MOST_VALUES: usize = 65_536;

/// Why bytes are no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonFault {
    Syntax,
    DuplicateMember,
    TooDeep,
    TooManyValues,
}

impl From<ValueError> for JsonFault {
    fn from(_: ValueError) -> Self {
        Self::Syntax
    }
}

/// A value and all that is in it.
#[derive(Clone)]
pub(super) enum Node {
    /// `true`, `false`, `null`, or a number with the digits that it came with.
    Word(Zeroizing<String>),
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Object(Vec<(Zeroizing<String>, Node)>),
}

impl Node {
    /// The one value that the whole text is.
    pub fn parse(text: &str) -> Result<Self, JsonFault> {
        let mut cursor = Cursor::new(text);
        let mut left = MOST_VALUES;
        let node = value(&mut cursor, 0, &mut left)?;
        cursor.end()?;
        Ok(node)
    }

    pub fn null() -> Self {
        Self::Word(Zeroizing::new(String::from("null")))
    }

    /// What the pointer names (RFC 6901 section 4).
    pub fn at(&self, pointer: &Pointer) -> Option<&Self> {
        pointer.tokens().try_fold(self, |node, token| match node {
            Self::Object(members) => {
                members.iter().find(|(name, _)| name.as_str() == token).map(|(_, inner)| inner)
            }
            Self::List(items) => items.get(index(token)?),
            Self::Word(_) | Self::Text(_) => None,
        })
    }

    pub fn at_mut(&mut self, pointer: &Pointer) -> Option<&mut Self> {
        pointer.tokens().try_fold(self, |node, token| match node {
            Self::Object(members) => {
                members.iter_mut().find(|(name, _)| name.as_str() == token).map(|(_, inner)| inner)
            }
            Self::List(items) => items.get_mut(index(token)?),
            Self::Word(_) | Self::Text(_) => None,
        })
    }

    /// Whether any name of a member, string, number or other word in it is so.
    pub fn any(&self, is_so: &impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Word(text) | Self::Text(text) => is_so(text),
            Self::List(items) => items.iter().any(|item| item.any(is_so)),
            Self::Object(members) => members.iter().any(|(name, inner)| is_so(name) || inner.any(is_so)),
        }
    }

    /// Appends its text, without white space, members in the order in which they came.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Word(text) => append_wiping(out, text.as_bytes()),
            Self::Text(text) => append_string(out, text),
            Self::List(items) => {
                append_wiping(out, b"[");
                for (place, item) in items.iter().enumerate() {
                    append_wiping(out, if place == 0 { b"" } else { b"," });
                    item.write(out);
                }
                append_wiping(out, b"]");
            }
            Self::Object(members) => {
                append_wiping(out, b"{");
                for (place, (name, inner)) in members.iter().enumerate() {
                    append_wiping(out, if place == 0 { b"" } else { b"," });
                    append_string(out, name);
                    append_wiping(out, b":");
                    inner.write(out);
                }
                append_wiping(out, b"}");
            }
        }
    }
}

/// A place in an array: digits without leading zeros (RFC 6901 section 4). `-`, the place behind the last, is never there.
pub(super) fn index(token: &str) -> Option<usize> {
    let is_plain = token == "0" || !token.starts_with('0');
    (is_plain && token.bytes().all(|byte| byte.is_ascii_digit())).then(|| token.parse().ok()).flatten()
}

fn value(cursor: &mut Cursor<'_>, depth: usize, left: &mut usize) -> Result<Node, JsonFault> {
    *left = left.checked_sub(1).ok_or(JsonFault::TooManyValues)?;
    match cursor.peek() {
        Some(b'{' | b'[') if depth >= MAX_JSON_DEPTH => Err(JsonFault::TooDeep),
        Some(b'{') => object(cursor, depth + 1, left),
        Some(b'[') => list(cursor, depth + 1, left),
        Some(b'"') => Ok(Node::Text(text(cursor)?)),
        _ => match cursor.token() {
            word @ ("true" | "false" | "null") => Ok(Node::Word(Zeroizing::new(word.to_owned()))),
            number if is_number(number) => Ok(Node::Word(Zeroizing::new(number.to_owned()))),
            _ => Err(JsonFault::Syntax),
        },
    }
}

fn list(cursor: &mut Cursor<'_>, depth: usize, left: &mut usize) -> Result<Node, JsonFault> {
    cursor.require(b'[')?;
    let mut items = Vec::new();
    if cursor.take(b']') {
        return Ok(Node::List(items));
    }
    loop {
        items.push(value(cursor, depth, left)?);
        if cursor.take(b']') {
            return Ok(Node::List(items));
        }
        cursor.require(b',')?;
    }
}

fn object(cursor: &mut Cursor<'_>, depth: usize, left: &mut usize) -> Result<Node, JsonFault> {
    cursor.require(b'{')?;
    let mut members = Vec::new();
    if cursor.take(b'}') {
        return Ok(Node::Object(members));
    }
    loop {
        let name = text(cursor)?;
        cursor.require(b':')?;
        members.push((name, value(cursor, depth, left)?));
        if cursor.take(b'}') {
            break;
        }
        cursor.require(b',')?;
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let is_twice = names.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
    if is_twice { Err(JsonFault::DuplicateMember) } else { Ok(Node::Object(members)) }
}

fn text(cursor: &mut Cursor<'_>) -> Result<Zeroizing<String>, JsonFault> {
    Ok(Zeroizing::new(cursor.string()?.as_str().to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(text: &str) -> Result<String, JsonFault> {
        let mut out = Vec::new();
        Node::parse(text)?.write(&mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_read_is_written_as_it_was() {
        for (sent, written) in [
            (" { \"b\" : [ 1 , 2.50 ] ,\n\"a\":null}\t", r#"{"b":[1,2.50],"a":null}"#),
            // A double would make other numbers of these.
            (
                "[12345678901234567890123, 1e400, 0.10000000000000000001, -0, 1E+2]",
                "[12345678901234567890123,1e400,0.10000000000000000001,-0,1E+2]",
            ),
            (r#"["\u00e9\ud83d\ude00\/\"\\\n\u0000"]"#, "[\"é😀/\\\"\\\\\\n\\u0000\"]"),
            ("[[],{},\"\",true,false]", "[[],{},\"\",true,false]"),
            (r#"{"":1," ":2}"#, r#"{"":1," ":2}"#),
        ] {
            assert_eq!(rewritten(sent).as_deref(), Ok(written), "{sent}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "[1 2]",
            "nul",
            "True",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "NaN",
            "'a'",
            "\"a",
            "\"\\x\"",
            "\"\t\"",
            "\"\\ud800\"",
            "\"\\udc00\\ud800\"",
            "1 1",
            "[]]",
            "\u{feff}1",
            "{\"a\":}",
            "/* */1",
            "[1]x",
        ] {
            assert_eq!(rewritten(text), Err(JsonFault::Syntax), "{text}");
        }
        assert_eq!(rewritten(r#"{"a":1,"b":2,"a":1}"#), Err(JsonFault::DuplicateMember));
        assert_eq!(rewritten(r#"[{"\u0061":1,"a":2}]"#), Err(JsonFault::DuplicateMember));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(rewritten(&nested(32)), Ok(nested(32)));
        assert_eq!(rewritten(&nested(33)), Err(JsonFault::TooDeep));
        let many = |items: usize| format!("[{}0]", "0,".repeat(items - 1));
        assert!(rewritten(&many(MOST_VALUES - 1)).is_ok());
        assert_eq!(rewritten(&many(MOST_VALUES)), Err(JsonFault::TooManyValues));
    }

    /// Any document, not too large.
    pub fn document() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::hash_map("\\PC{0,4}", inner, 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_is_what_the_library_reads(value in document()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(rewritten(&text), Ok(value.to_string()));
            }
        }

        #[test]
        fn what_is_no_json_to_the_library_is_none_here(text in "[\\[\\]{}\",:0-9a-ftnu\\\\.eE+ é\u{0}-]{0,40}") {
            if let Ok(written) = rewritten(&text) {
                // The library has no number beyond a double.
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                prop_assert!(is_json, "{}", text);
                prop_assert_eq!(rewritten(&written), Ok(written));
            }
        }
    }
}
