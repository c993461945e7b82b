//! The schemas of fields beside the parser of values: what a schema refuses the parser refuses, and what the service shows
//! of a value fits, in plain and masked.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use strongroom::domain::value::{FieldType, mask_value, parse_value, render_value};
use strongroom::policy::{Field, PolicySet};

use crate::support::contract::{DOCUMENT, faults};
use crate::support::policy_directory;

static POLICY: LazyLock<PolicySet> = LazyLock::new(|| PolicySet::load(&policy_directory()).unwrap());

/// Every field of a type, with the name of its collection.
fn fields(field_type: FieldType) -> Vec<(&'static str, &'static Field)> {
    let all = POLICY.collections().flat_map(|collection| {
        collection.fields().iter().map(move |field| (collection.name().as_str(), field))
    });
    all.filter(|(_, field)| field.field_type == field_type).collect()
}

fn property(collection: &str, part: &str, field: &Field) -> &'static Value {
    let schema = &DOCUMENT["components"]["schemas"][format!("{collection}.{part}")];
    &schema["properties"]["fields"]["properties"][field.name.as_str()]
}

/// Whether the parser took it; whatever it took fits what the document says of the field.
#[expect(clippy::disallowed_methods, reason = "made-up values")]
fn check(collection: &str, field: &Field, sent: &Value) -> bool {
    let raw = RawValue::from_string(sent.to_string()).unwrap();
    let Ok(canonical) = parse_value(field.field_type, &field.limits, &raw) else { return false };
    let name = field.name.as_str();
    let spaced = sent.as_str().is_some_and(|text| text.trim() != text);
    for part in ["create", "change"] {
        let faults = faults(property(collection, part, field), sent);
        assert!(spaced || faults.is_empty(), "{collection}.{name} {part}: {sent} is taken: {faults:?}");
    }
    let forms = &property(collection, "record", field)["anyOf"];
    let mut plain = Vec::new();
    render_value(field.field_type, canonical.expose(), &mut plain).unwrap();
    let mut masked = Vec::new();
    mask_value(field.field_type, field.mask, canonical.expose(), &mut masked);
    for (shown, schema) in [(plain, &forms[0]), (masked, &forms[1])] {
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        let faults = faults(schema, &shown);
        assert!(faults.is_empty(), "{collection}.{name}: {shown} is shown of {sent}: {faults:?}");
    }
    true
}

/// Values of about the right form, and others.
fn values(field_type: FieldType) -> BoxedStrategy<Value> {
    let text = |pattern: &'static str| pattern.prop_map(Value::from).boxed();
    match field_type {
        FieldType::Text => text("[\\PC\n\t]{0,40}"),
        FieldType::Name => text("\\PC{0,40}"),
        FieldType::Date => text("(19|20|00)[0-9]{2}-[01][0-9]-[0-3][0-9]"),
        FieldType::DateTime => text(
            "20[0-9]{2}-0[0-9]-[0-2][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][01][0-9]:[0-5]0)",
        ),
        FieldType::Email => text("[a-zé.!+@ ]{1,8}@[a-zA-Z0-9.-]{1,12}\\.[a-z]{1,4}"),
        FieldType::Phone => text("(\\+?1?|\\+[0-9]{2})[ (]?[0-9]{3}[) .-]{0,2}[0-9]{3}[ .-]?[0-9]{3,5}"),
        FieldType::Address => address(),
        FieldType::Ssn => text("[0-9]{3}-?[0-9]{2}-?[0-9]{4}"),
        FieldType::Mrn => text("[A-Za-z0-9-]{0,70}"),
        FieldType::Code => text("[ -~|]{0,12}"),
        FieldType::Integer => {
            let near = ((-1_i64 << 54)..(1 << 54)).prop_map(Value::from);
            prop_oneof![near, any::<f64>().prop_map(Value::from)].boxed()
        }
        FieldType::Decimal => prop_oneof![
            text("-?[0-9]{0,40}\\.?[0-9]{0,5}([eE]-?[0-9]{1,2})?"),
            any::<f64>().prop_map(Value::from)
        ]
        .boxed(),
        FieldType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        FieldType::List => proptest::collection::vec("\\PC{0,12}", 0..6).prop_map(Value::from).boxed(),
        FieldType::Json | FieldType::Document => anything(),
    }
}

fn address() -> BoxedStrategy<Value> {
    let part = || proptest::option::of("\\PC{0,12}");
    let lines = proptest::option::of(proptest::collection::vec("[a-z]{0,4}", 0..6));
    (lines, part(), part(), part(), "[a-z]{0,4}")
        .prop_map(|(line, city, state, postal_code, other)| {
            let mut members = serde_json::Map::new();
            let parts = [("city", city), ("state", state), ("postal_code", postal_code)];
            for (name, part) in parts.into_iter().filter_map(|(name, part)| Some((name, part?))) {
                members.insert(name.to_owned(), json!(part));
            }
            if let Some(line) = line {
                members.insert("line".to_owned(), json!(line));
            }
            if other.len() == 4 {
                members.insert(other, json!("x"));
            }
            Value::Object(members)
        })
        .boxed()
}

fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}

#[test]
fn what_a_schema_refuses_the_parser_refuses_and_what_is_shown_fits() {
    for field_type in FieldType::ALL {
        let fields = fields(field_type);
        let mut taken = 0;
        let mut runner = proptest::test_runner::TestRunner::default();
        let strategy = (prop_oneof![4 => values(field_type), 1 => anything()], any::<prop::sample::Index>());
        runner
            .run(&strategy, |(sent, at)| {
                let (collection, field) = fields[at.index(fields.len())];
                let sent = match &field.limits.values {
                    // Else none of the values that a field lists would ever come.
                    Some(values) if sent.is_string() => json!(&*values[at.index(values.len())]),
                    _ => sent,
                };
                if field_type == FieldType::Document {
                    prop_assert!(property(collection, "create", field).is_null());
                } else if check(collection, field, &sent) {
                    prop_assert!(true);
                }
                Ok(())
            })
            .unwrap();
        // Not all of them are refused: what is checked above happens.
        for _ in 0..200 {
            let sent = strategy.new_tree(&mut runner).unwrap().current().0;
            taken += usize::from(fields.iter().any(|(collection, field)| {
                field_type != FieldType::Document && check(collection, field, &sent)
            }));
        }
        assert!(taken > 10 || field_type == FieldType::Document, "{field_type:?}: {taken} of 200 are taken");
    }
}
