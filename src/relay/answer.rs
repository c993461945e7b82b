//! What comes back: only members that were declared, and none that repeats a value that was just sent.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::json::{Node, index};
use super::pointer::Pointer;
use super::revealed::{RevealedValue, Spelled};

/// An answer that may go on to the caller.
pub struct Answer {
    /// The destination's own.
    pub status: u16,
    /// The declared members in their places, written anew; `{}` when there is none. Places of an array before one that is
    /// declared are null.
    pub body: Box<RawValue>,
    /// Which of the declared pointers, by their places, are left out because what they name repeats a value.
    pub withheld: Vec<usize>,
}

/// An answer is not JSON, or JSON that two readers could read as two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not json")]
pub struct BrokenAnswer;

impl Answer {
    /// Takes of an answer what is declared. A declared member is left out whole when any string, number or name in it repeats
    /// a value.
    pub fn filtered(
        status: u16,
        body: &[u8],
        declared: &[Pointer],
        revealed: &[RevealedValue],
    ) -> Result<Self, BrokenAnswer> {
        let text = std::str::from_utf8(body).map_err(|_| BrokenAnswer)?;
        let root = Node::parse(text).map_err(|_| BrokenAnswer)?;
        let (mut ways, mut withheld) = (Vec::new(), Vec::new());
        for (place, pointer) in declared.iter().enumerate() {
            match root.at(pointer) {
                Some(found) if repeats(found, revealed) => withheld.push(place),
                Some(_) => ways.push(pointer.tokens().collect::<Vec<_>>()),
                None => {}
            }
        }
        let ways: Vec<&[&str]> = ways.iter().map(Vec::as_slice).collect();
        let shown = picked(&root, &ways).unwrap_or_else(|| Node::Object(Vec::new()));
        Ok(Self { status, body: written(&shown)?, withheld })
    }

    /// An answer that has no body (RFC 9110 section 15.3.5).
    pub(super) fn without_body(status: u16) -> Result<Self, BrokenAnswer> {
        Ok(Self { status, body: written(&Node::Object(Vec::new()))?, withheld: Vec::new() })
    }
}

fn repeats(node: &Node, revealed: &[RevealedValue]) -> bool {
    node.any(&|text| {
        let spelled = Spelled::of(text);
        revealed.iter().any(|value| value.is_in(&spelled))
    })
}

/// What lies on these ways, and what is needed around it; nothing if none leads anywhere.
fn picked(source: &Node, ways: &[&[&str]]) -> Option<Node> {
    if ways.is_empty() {
        return None;
    }
    if ways.iter().any(|way| way.is_empty()) {
        return Some(source.clone());
    }
    match source {
        Node::Object(members) => {
            let pick = |(name, inner): &(Zeroizing<String>, Node)| {
                let inner = picked(inner, &onward(ways, |token| token == name.as_str()))?;
                Some((name.clone(), inner))
            };
            let members: Vec<_> = members.iter().filter_map(pick).collect();
            (!members.is_empty()).then_some(Node::Object(members))
        }
        Node::List(items) => {
            let mut shown = Vec::new();
            for (place, item) in items.iter().enumerate() {
                if let Some(item) = picked(item, &onward(ways, |token| index(token) == Some(place))) {
                    shown.resize(place, Node::null());
                    shown.push(item);
                }
            }
            (!shown.is_empty()).then_some(Node::List(shown))
        }
        Node::Word(_) | Node::Text(_) => None,
    }
}

/// The rest of the ways that lead through a place.
fn onward<'w>(ways: &[&'w [&'w str]], leads: impl Fn(&str) -> bool) -> Vec<&'w [&'w str]> {
    let through =
        |way: &&'w [&'w str]| way.split_first().filter(|(first, _)| leads(first)).map(|(_, rest)| rest);
    ways.iter().filter_map(through).collect()
}

fn written(node: &Node) -> Result<Box<RawValue>, BrokenAnswer> {
    let mut out = Vec::with_capacity(1024);
    node.write(&mut out);
    let text = String::from_utf8(out).map_err(|_| BrokenAnswer)?;
    RawValue::from_string(text).map_err(|_| BrokenAnswer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::relay::json::tests::document;

    fn revealed(values: &[&str]) -> Vec<RevealedValue> {
        values.iter().map(|json| RevealedValue::of_json(json.as_bytes()).unwrap()).collect()
    }

    fn filtered(body: &str, declared: &[&str], values: &[&str]) -> Option<(String, Vec<usize>)> {
        let declared: Vec<Pointer> = declared.iter().map(|text| Pointer::parse(text).unwrap()).collect();
        let answer = Answer::filtered(200, body.as_bytes(), &declared, &revealed(values)).ok()?;
        Some((answer.body.get().to_owned(), answer.withheld))
    }

    fn shown(body: &str, declared: &[&str]) -> String {
        filtered(body, declared, &[]).unwrap().0
    }

    #[test]
    fn declared_members_come_back_in_their_places_and_nothing_else() {
        let body = r#"{ "status": "active", "trace": "x", "amount": 12345678901234567890.10,
            "coverage": { "plan": "gold", "notes": "…", "dates": [ {"from": 1, "to": 2}, {"from": 3, "to": 4} ] } }"#;
        for (declared, expected) in [
            (&["/status"][..], r#"{"status":"active"}"#),
            (&["/coverage/plan", "/status"], r#"{"status":"active","coverage":{"plan":"gold"}}"#),
            (&["/coverage/dates/1/from"], r#"{"coverage":{"dates":[null,{"from":3}]}}"#),
            (
                &["/coverage/dates/1/to", "/coverage/dates/0/from"],
                r#"{"coverage":{"dates":[{"from":1},{"to":4}]}}"#,
            ),
            (&["/coverage/dates/0"], r#"{"coverage":{"dates":[{"from":1,"to":2}]}}"#),
            (
                &["/coverage/dates", "/coverage/dates/0/to"],
                r#"{"coverage":{"dates":[{"from":1,"to":2},{"from":3,"to":4}]}}"#,
            ),
            (&["/amount"], r#"{"amount":12345678901234567890.10}"#),
            (&["/none", "/status/deep", "/coverage/dates/2", "/coverage/dates/-"], "{}"),
            (&[], "{}"),
        ] {
            assert_eq!(shown(body, declared), expected, "{declared:?}");
        }
        assert_eq!(shown(r#"[{"a":1,"b":2},7]"#, &["/0/b"]), r#"[{"b":2}]"#);
        assert_eq!(shown("[1]", &["/status"]), "{}");
        assert_eq!(shown("\"active\"", &["/status"]), "{}");
    }

    #[test]
    fn what_repeats_a_value_is_left_out_with_all_that_is_declared_there() {
        let body = r#"{ "message": "no member W-00981 is known", "member": 981, "deep": { "list": ["ok", "w00981"] },
            "W00981": 1, "named": { "W 00981": true }, "fine": "W-0098" }"#;
        let declared = ["/message", "/deep", "/deep/list/0", "/W00981", "/named", "/fine"];
        let (shown, withheld) = filtered(body, &declared, &["\"W-00981\""]).unwrap();
        // The name of a declared member is the policy's own; what it holds is not.
        assert_eq!(shown, r#"{"deep":{"list":["ok"]},"W00981":1,"fine":"W-0098"}"#);
        assert_eq!(withheld, [0, 1, 4]);
        let (shown, withheld) = filtered(body, &["/member", "/fine"], &["981"]).unwrap();
        assert_eq!((shown.as_str(), withheld), (r#"{"fine":"W-0098"}"#, vec![0]));
        // Any of the values that were sent.
        let (_, withheld) =
            filtered(body, &["/fine", "/member"], &["\"nothing\"", "981", "\"W-0098\""]).unwrap();
        assert_eq!(withheld, [0, 1]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for body in ["", "{", "<html>", "{} {}", r#"{"a":1,"a":2}"#, "{\"a\":01}", &"[".repeat(40)] {
            assert!(filtered(body, &["/a"], &[]).is_none(), "{body}");
        }
        assert_eq!(Answer::filtered(200, b"\"\xff\"", &[], &[]).err(), Some(BrokenAnswer));
        let empty = Answer::without_body(204).unwrap();
        assert_eq!((empty.status, empty.body.get(), empty.withheld.is_empty()), (204, "{}", true));
    }

    /// Every place of a document.
    fn places(value: &serde_json::Value, above: &str, out: &mut Vec<String>) {
        let below = |token: &str| format!("{above}/{}", token.replace('~', "~0").replace('/', "~1"));
        let inner: Vec<(String, &serde_json::Value)> = match value {
            serde_json::Value::Object(members) => members.iter().map(|(name, v)| (below(name), v)).collect(),
            serde_json::Value::Array(items) => {
                items.iter().enumerate().map(|(place, v)| (below(&place.to_string()), v)).collect()
            }
            _ => Vec::new(),
        };
        for (place, value) in inner {
            out.push(place.clone());
            places(value, &place, out);
        }
    }

    proptest! {
        #[test]
        fn what_is_declared_is_there_and_what_is_shown_was_declared(
            value in document(),
            chosen in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut all = Vec::new();
            places(&value, "", &mut all);
            let all: Vec<String> = all.into_iter().filter(|place| Pointer::parse(place).is_ok()).collect();
            prop_assume!(!all.is_empty());
            let declared: Vec<&str> = chosen.iter().map(|index| index.get(&all).as_str()).collect();
            let shown: serde_json::Value = serde_json::from_str(&shown(&value.to_string(), &declared)).unwrap();
            let value: serde_json::Value = serde_json::from_str(&value.to_string()).unwrap();
            for pointer in &declared {
                prop_assert_eq!(shown.pointer(pointer), value.pointer(pointer));
            }
            let mut found = Vec::new();
            places(&shown, "", &mut found);
            for place in found {
                let is_padding = shown.pointer(&place) == Some(&serde_json::Value::Null);
                let is_declared = |pointer: &&str| {
                    let (place, pointer) = (format!("{place}/"), format!("{pointer}/"));
                    place.starts_with(&pointer) || pointer.starts_with(&place)
                };
                prop_assert!(is_padding || declared.iter().any(is_declared), "{}", place);
            }
        }

        /// However deep it is, and whatever is around it, a value that was sent comes back nowhere.
        #[test]
        fn a_value_never_comes_back(
            (one, other) in (document(), document()),
            secret in "[A-Za-z0-9]{6,12}",
            (before, after) in ("\\PC{0,4}", "\\PC{0,4}"),
            is_name in any::<bool>(),
        ) {
            let text = format!("{before}{secret}{after}");
            let told = if is_name { serde_json::json!({ text: other }) } else { serde_json::json!([other, text]) };
            let body = serde_json::json!({ "one": one, "deep": { "told": told } }).to_string();
            let value = format!("\"{}\"", secret.to_lowercase());
            let (shown, withheld) = filtered(&body, &["/one", "/deep", "/deep/told"], &[&value]).unwrap();
            prop_assert!(!shown.contains(&secret));
            prop_assert!(withheld.ends_with(&[1, 2]), "{:?}", withheld);
        }
    }
}
