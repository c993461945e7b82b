//! What holds for every value: it comes back as it went in, and masks hide it.

use proptest::prelude::*;

use super::tests::{masked, parse, render};
use super::*;

/// JSON of every type, mostly valid.
fn sent() -> impl Strategy<Value = (FieldType, String)> {
    let quoted = |text: String| serde_json::Value::from(text).to_string();
    prop_oneof![
        "\\PC{0,40}".prop_map(move |text| (FieldType::Name, quoted(text))),
        "[\\PC\n\t\r]{0,60}".prop_map(move |text| (FieldType::Text, quoted(text))),
        "[ -~]{0,20}".prop_map(move |text| (FieldType::Code, quoted(text))),
        "[A-Za-z0-9-]{1,20}".prop_map(move |text| (FieldType::Mrn, quoted(text))),
        "[0-9]{9}".prop_map(move |text| (FieldType::Ssn, quoted(text))),
        "[+]?[0-9 .()-]{7,18}".prop_map(move |text| (FieldType::Phone, quoted(text))),
        "[a-zA-Z0-9.+]{1,12}@[a-zA-Z0-9-]{1,8}\\.[A-Za-z]{2,4}".prop_map(move |t| (FieldType::Email, quoted(t))),
        "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]".prop_map(move |text| (FieldType::Date, quoted(text))),
        "[12][0-9]{3}-0[1-9]-[0-2][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]0[0-9]:[0-5][0-9])"
            .prop_map(move |text| (FieldType::DateTime, quoted(text))),
        any::<i64>().prop_map(|number| (FieldType::Integer, number.to_string())),
        any::<f64>().prop_map(|number| (FieldType::Decimal, number.to_string())),
        "-?[0-9]{1,20}(\\.[0-9]{1,20})?(e-?[0-9]{1,2})?".prop_map(move |text| (FieldType::Decimal, quoted(text))),
        any::<bool>().prop_map(|value| (FieldType::Boolean, value.to_string())),
        prop::collection::vec("\\PC{0,12}", 0..6)
            .prop_map(|items| (FieldType::List, serde_json::to_string(&items).unwrap())),
        prop::collection::btree_map(
            prop::sample::select(vec!["city", "state", "country", "district", "postal_code"]),
            "\\PC{1,12}",
            0..4,
        )
        .prop_map(|members| (FieldType::Address, serde_json::to_string(&members).unwrap())),
        json().prop_map(|value| (FieldType::Json, value.to_string())),
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        "\\PC{0,10}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map("\\PC{0,6}", inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_parsed_renders_and_parses_to_itself((field_type, json) in sent()) {
        if let Ok(canonical) = parse(field_type, &json) {
            let rendered = render(field_type, &canonical);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&rendered).is_ok(), "{}", rendered);
            let again = parse(field_type, &rendered);
            prop_assert_eq!(again.as_deref(), Ok(canonical.as_str()));
        }
    }

    #[test]
    fn json_is_canonical_as_the_library_says(value in json()) {
        if !value.is_null() {
            let expected = serde_json_canonicalizer::to_string(&value).unwrap();
            let found = parse(FieldType::Json, &value.to_string());
            prop_assert_eq!(found.as_deref(), Ok(expected.as_str()));
        }
    }

    #[test]
    fn doubles_are_spelled_as_the_library_says(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        if number.is_finite() {
            let expected = serde_json_canonicalizer::to_string(&number).unwrap();
            let sent = serde_json::to_string(&number).unwrap();
            let found = parse(FieldType::Json, &sent);
            prop_assert_eq!(found.as_deref(), Ok(expected.as_str()));
        }
    }

    #[test]
    fn nothing_that_is_sent_breaks_the_parser(
        field_type in prop::sample::select(FieldType::ALL.to_vec()),
        json in "[\\[\\]{}\",:0-9a-ftnu\\\\.eE+ é\u{0}-]{0,40}",
    ) {
        if parse(field_type, &json).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
        }
    }

    #[test]
    fn a_mask_hides_most_of_the_value(
        (field_type, json) in sent(),
        mask in prop::sample::select(Mask::ALL.to_vec()),
    ) {
        if let Ok(canonical) = parse(field_type, &json) {
            let shown = masked(field_type, mask, &canonical);
            let hidden = canonical.chars().any(char::is_alphanumeric);
            prop_assert!(!hidden || !shown.contains(&canonical), "{} in {}", canonical, shown);
            if mask == Mask::Full || !mask.fits(field_type) {
                prop_assert_eq!(shown.as_str(), "•••");
            }
        }
    }
}
