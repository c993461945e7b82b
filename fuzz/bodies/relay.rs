//! What clients send for outside services, and what those answer.

use std::sync::LazyLock;

use serde_json::Value;
use strongroom::relay::{Answer, MOST_PLACEHOLDERS, Pointer, RevealedValue, Template};

static PLACES: LazyLock<Vec<Pointer>> = LazyLock::new(|| {
    ["/a", "/b/0", "/c/d/e", "/~0~1"].map(|text| Pointer::parse(text).expect("a pointer")).to_vec()
});

const VALUE: &str = "W-00981 \"x\"";

fn value() -> RevealedValue {
    let json = Value::from(VALUE).to_string();
    RevealedValue::of_json(json.as_bytes()).expect("a string")
}

#[expect(clippy::disallowed_methods, reason = "a made-up value, looked at to compare it")]
pub fn templates(data: &[u8]) {
    let slots: Vec<&Pointer> = PLACES.iter().collect();
    let Ok(template) = Template::parse(data, &slots) else { return };
    let named = template.placeholders().to_vec();
    assert!((1..=MOST_PLACEHOLDERS).contains(&named.len()));
    assert!(named.windows(2).all(|pair| pair[0].0 < pair[1].0), "a slot twice");
    let filled = template.fill(named.iter().map(|_| value()).collect()).expect("a value for each");
    // The library has no number beyond a double.
    let Ok(mut sent) = serde_json::from_slice::<Value>(data) else { return };
    for (place, record) in &named {
        let there = sent.pointer_mut(slots[*place].as_str()).expect("what was found is there");
        assert_eq!(*there, Value::from(format!("{{{{{}}}}}", record.as_str())));
        *there = Value::from(VALUE);
    }
    let body: Value = serde_json::from_slice(filled.body().expose()).expect("what is sent is JSON");
    assert!(body == sent, "something else than the placeholders is another");
}

pub fn answers(data: &[u8]) {
    let Ok(answer) = Answer::filtered(200, data, &PLACES, &[value()]) else { return };
    assert!(answer.withheld.windows(2).all(|pair| pair[0] < pair[1]));
    // The library has no number beyond a double.
    let Ok(came) = serde_json::from_slice::<Value>(data) else { return };
    let shown: Value = serde_json::from_str(answer.body.get()).expect("what is shown is JSON");
    assert!(!repeats(&shown), "a value came back");
    for (place, pointer) in PLACES.iter().enumerate() {
        let expected = if answer.withheld.contains(&place) { None } else { came.pointer(pointer.as_str()) };
        assert!(shown.pointer(pointer.as_str()) == expected);
    }
}

fn repeats(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(VALUE),
        Value::Array(items) => items.iter().any(repeats),
        Value::Object(members) => members.iter().any(|(name, inner)| name.contains(VALUE) || repeats(inner)),
        _ => false,
    }
}
