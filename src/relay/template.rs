//! What a caller sends: JSON in which placeholders stand for values, and the body that it becomes.

use zeroize::Zeroizing;

use super::json::{JsonFault, Node};
use super::pointer::Pointer;
use super::revealed::RevealedValue;
use crate::domain::id::RecordId;
use crate::domain::secret::SecretBytes;

/// Records that one request may name.
pub const MOST_PLACEHOLDERS: usize = 16;
const OPENING: &str = "{{";
const CLOSING: &str = "}}";

/// Why a body is not sent on. Slots are told by their places, never by what stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    #[error("the body is not utf-8")]
    NotUtf8,
    #[error("the body is not json")]
    NotJson,
    #[error("the body is no object")]
    NotAnObject,
    #[error("an object of the body has two members of one name")]
    DuplicateMember,
    #[error("the body is nested too deep")]
    TooDeep,
    #[error("the body has too many values")]
    TooManyValues,
    #[error("nothing in the body names a record")]
    NoPlaceholder,
    #[error("the body names more than {MOST_PLACEHOLDERS} records")]
    TooManyPlaceholders,
    /// A string or a member's name begins as placeholders do, and stands at no slot.
    #[error("a placeholder stands where the destination has no field")]
    Misplaced,
    /// Of the slot with this place.
    #[error("something else than a placeholder stands where the destination has a field")]
    NoPlaceholderAt(usize),
}

impl From<JsonFault> for TemplateFault {
    fn from(fault: JsonFault) -> Self {
        match fault {
            JsonFault::Syntax => Self::NotJson,
            JsonFault::DuplicateMember => Self::DuplicateMember,
            JsonFault::TooDeep => Self::TooDeep,
            JsonFault::TooManyValues => Self::TooManyValues,
        }
    }
}

/// A body whose placeholders were found. It holds whatever else the caller wrote: no `Debug`.
pub struct Template {
    root: Node,
    /// The place of a slot, and the record that is named there.
    placeholders: Vec<(usize, RecordId)>,
    /// Where they stand.
    pointers: Vec<Pointer>,
}

/// A body with its values in their places. Only [`super::RelayClient::send`] looks inside.
pub struct Filled {
    body: SecretBytes,
    values: Vec<RevealedValue>,
}

impl Template {
    /// Finds the placeholders, `"{{id of a record}}"`, at the slots that are there. Nothing else may stand at a slot, and no
    /// placeholder anywhere else; a slot that the body does not have stays empty.
    pub fn parse(body: &[u8], slots: &[&Pointer]) -> Result<Self, TemplateFault> {
        let text = std::str::from_utf8(body).map_err(|_| TemplateFault::NotUtf8)?;
        let mut root = Node::parse(text)?;
        if !matches!(root, Node::Object(_)) {
            return Err(TemplateFault::NotAnObject);
        }
        let (mut placeholders, mut pointers) = (Vec::new(), Vec::new());
        for (place, slot) in slots.iter().enumerate() {
            let Some(node) = root.at_mut(slot) else { continue };
            placeholders.push((place, record_in(node).ok_or(TemplateFault::NoPlaceholderAt(place))?));
            pointers.push((*slot).clone());
            // So that every other one is misplaced.
            *node = Node::null();
        }
        if root.any(&|text| text.trim_start().starts_with(OPENING)) {
            return Err(TemplateFault::Misplaced);
        }
        match placeholders.len() {
            0 => Err(TemplateFault::NoPlaceholder),
            1..=MOST_PLACEHOLDERS => Ok(Self { root, placeholders, pointers }),
            _ => Err(TemplateFault::TooManyPlaceholders),
        }
    }

    /// The place of each slot that is there and the record that is named in it, in the order of the slots. Never empty.
    pub fn placeholders(&self) -> &[(usize, RecordId)] {
        &self.placeholders
    }

    /// The body to send. `None` unless there is one value for each placeholder, in their order.
    pub fn fill(mut self, values: Vec<RevealedValue>) -> Option<Filled> {
        if values.len() != self.pointers.len() {
            return None;
        }
        for (pointer, value) in self.pointers.iter().zip(&values) {
            *self.root.at_mut(pointer)? = value.node();
        }
        let mut body = Zeroizing::new(Vec::with_capacity(4096));
        self.root.write(&mut body);
        Some(Filled { body: SecretBytes::from(body), values })
    }
}

impl Filled {
    pub fn body(&self) -> &SecretBytes {
        &self.body
    }

    pub(super) fn into_parts(self) -> (SecretBytes, Vec<RevealedValue>) {
        (self.body, self.values)
    }
}

fn record_in(node: &Node) -> Option<RecordId> {
    let Node::Text(text) = node else { return None };
    RecordId::parse(text.strip_prefix(OPENING)?.strip_suffix(CLOSING)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::relay::json::tests::document;

    const RECORD: &str = "019b76da-0000-7000-8000-00000000000c";
    const OTHER: &str = "019b76da-0000-7000-8000-00000000000d";

    fn pointers(texts: &[&str]) -> Vec<Pointer> {
        texts.iter().map(|text| Pointer::parse(text).unwrap()).collect()
    }

    fn parse(body: &str, slots: &[&str]) -> Result<Template, TemplateFault> {
        let slots = pointers(slots);
        Template::parse(body.as_bytes(), &slots.iter().collect::<Vec<_>>())
    }

    fn fault(body: &str, slots: &[&str]) -> Option<TemplateFault> {
        parse(body, slots).err()
    }

    fn named(template: &Template) -> Vec<(usize, &str)> {
        template.placeholders().iter().map(|(place, record)| (*place, record.as_str())).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a made-up value, compared")]
    fn filled(template: Template, values: &[&str]) -> Option<String> {
        let values = values.iter().map(|json| RevealedValue::of_json(json.as_bytes()).unwrap()).collect();
        template.fill(values).map(|filled| String::from_utf8(filled.body().expose().to_vec()).unwrap())
    }

    #[test]
    fn values_come_into_the_places_of_their_placeholders() {
        let body = format!(
            r#"{{ "amount": 10.10, "subscriber": {{ "member_id": "{{{{{RECORD}}}}}", "name": "of {{{{ no one" }},
                "lines": [ {{"code": 1}}, {{"code": "{{{{{OTHER}}}}}"}} ], "big": 12345678901234567890123 }}"#
        );
        let slots = ["/subscriber/birth_date", "/lines/1/code", "/subscriber/member_id", "/lines/7/code"];
        let template = parse(&body, &slots).unwrap();
        assert_eq!(named(&template), [(1, OTHER), (2, RECORD)]);
        let sent = filled(template, &["402", r#""W \"1\", {\"a\":2}""#]).unwrap();
        assert_eq!(
            sent,
            r#"{"amount":10.10,"subscriber":{"member_id":"W \"1\", {\"a\":2}","name":"of {{ no one"},"lines":[{"code":1},{"code":402}],"big":12345678901234567890123}"#
        );
    }

    /// A value is a value, whatever it looks like: it is not looked through again, and ends nothing.
    #[test]
    fn what_is_filled_in_is_not_read_again() {
        let body = format!(r#"{{"a":"{{{{{RECORD}}}}}","b":"{{{{{RECORD}}}}}"}}"#);
        let template = parse(&body, &["/a", "/b"]).unwrap();
        let value = format!(r#""{{{{{OTHER}}}}}\",\"c\":1""#);
        let sent: serde_json::Value =
            serde_json::from_str(&filled(template, &[&value, "true"]).unwrap()).unwrap();
        assert_eq!(sent, serde_json::json!({ "a": format!("{{{{{OTHER}}}}}\",\"c\":1"), "b": true }));
    }

    #[test]
    fn there_is_one_value_for_each_placeholder() {
        let body = format!(r#"{{"a":"{{{{{RECORD}}}}}","b":"{{{{{OTHER}}}}}"}}"#);
        for values in [&["1"][..], &[], &["1", "2", "3"]] {
            assert_eq!(filled(parse(&body, &["/a", "/b"]).unwrap(), values), None);
        }
        let twice = filled(parse(&body.replace(OTHER, RECORD), &["/a", "/b"]).unwrap(), &["1", "2"]);
        assert_eq!(twice.as_deref(), Some(r#"{"a":1,"b":2}"#));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        use TemplateFault::{
            DuplicateMember, Misplaced, NoPlaceholder, NoPlaceholderAt, NotAnObject, NotJson, TooDeep,
        };
        let good = format!(r#""a":"{{{{{RECORD}}}}}""#);
        let beside = |more: &str| format!("{{{good},{more}}}");
        assert_eq!(fault(&format!("{{{good}}}"), &["/a"]), None);
        for (body, expected) in [
            (String::new(), NotJson),
            (format!("{{{good}"), NotJson),
            (format!("{{{good}}} x"), NotJson),
            (format!("[{{{good}}}]"), NotAnObject),
            (format!(r#""{{{{{RECORD}}}}}""#), NotAnObject),
            (beside(&good), DuplicateMember),
            (beside(r#""b":{"c":1,"c":1}"#), DuplicateMember),
            (beside(&format!("\"b\":{}{}", "[".repeat(33), "]".repeat(33))), TooDeep),
            (beside(r#""b":"{{""#), Misplaced),
            (beside(r#""b":" {{x}} and so on""#), Misplaced),
            (beside(r#""{{b":1"#), Misplaced),
            (beside(&format!(r#""b":["{{{{{RECORD}}}}}"]"#)), Misplaced),
            (r#"{"b":1}"#.to_owned(), NoPlaceholder),
            ("{}".to_owned(), NoPlaceholder),
        ] {
            assert_eq!(fault(&body, &["/a"]), Some(expected), "{body}");
        }
        for there in [
            "null",
            "1",
            "true",
            "[]",
            "{}",
            "\"\"",
            r#""text""#,
            r#""{{}}""#,
            r#""{{Not An Id}}""#,
            r#""{{a/b}}""#,
            r#"["{{a}}"]"#,
            r#""{{a}""#,
            r#""{a}}""#,
            r#"" {{a}}""#,
            r#""{{a}} ""#,
            r#""{{ a }}""#,
            r#""{{{{a}}}}""#,
            r#""{{a}}{{a}}""#,
        ] {
            let body = format!("{{{good},\"b\":{there}}}");
            assert_eq!(fault(&body, &["/a", "/b"]), Some(NoPlaceholderAt(1)), "{there}");
        }
        assert_eq!(Template::parse(b"{\"a\":\"\xff\"}", &[]).err(), Some(TemplateFault::NotUtf8));
        assert!(fault(&format!("{{{good}}}"), &["/a", "/a"]).is_some(), "one place is not two slots");
    }

    #[test]
    fn sixteen_records_are_the_most() {
        let body = |count: usize| {
            let members: Vec<String> =
                (0..count).map(|number| format!(r#""{number}":"{{{{{RECORD}}}}}""#)).collect();
            format!("{{{}}}", members.join(","))
        };
        let names: Vec<String> = (0..17).map(|number| format!("/{number}")).collect();
        let slots: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(parse(&body(16), &slots).map(|template| template.placeholders().len()).ok(), Some(16));
        assert_eq!(fault(&body(17), &slots), Some(TemplateFault::TooManyPlaceholders));
    }

    proptest! {
        /// Whatever else a body has goes on as it came, and the values stand where the placeholders stood.
        #[test]
        fn nothing_but_the_placeholders_changes(
            rest in document(),
            ids in prop::collection::vec("[a-z0-9_-]{1,64}", 1..4),
            values in prop::collection::vec("\\PC{0,12}", 4),
        ) {
            let holders: Vec<String> = ids.iter().map(|id| format!("{{{{{id}}}}}")).collect();
            let slots: Vec<String> = (0..ids.len()).map(|place| format!("/slots/{place}/x")).collect();
            let items = |texts: &[String]| {
                texts.iter().map(|text| serde_json::json!({ "x": text })).collect::<Vec<_>>()
            };
            let sent = serde_json::json!({ "rest": rest, "slots": items(&holders) }).to_string();
            let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
            let template = parse(&sent, &slots);
            if rest.to_string().contains("{{") {
                return Ok(());
            }
            let template = template.map_err(|fault| TestCaseError::fail(fault.to_string()))?;
            prop_assert!(template.placeholders().iter().map(|(_, id)| id.as_str()).eq(ids.iter().map(String::as_str)));
            let values = &values[..ids.len()];
            let json: Vec<String> = values.iter().map(|value| serde_json::json!(value).to_string()).collect();
            let json: Vec<&str> = json.iter().map(String::as_str).collect();
            let body = filled(template, &json).unwrap();
            prop_assert_eq!(body, serde_json::json!({ "rest": rest, "slots": items(values) }).to_string());
        }
    }
}
