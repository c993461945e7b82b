use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::domain::value::{ValueError, ValueLimits, parse_value};

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(serde_json::Value::from(text).to_string()).unwrap()
}

/// A value as it is stored.
fn stored(field_type: FieldType, text: &str) -> SecretBytes {
    parse_value(field_type, &ValueLimits::of(field_type), &json(text)).unwrap()
}

fn normal(field_type: FieldType, text: &str) -> Option<String> {
    normalised(field_type, &stored(field_type, text)).map(|normal| normal.text().to_owned())
}

fn index(transforms: &[Transform]) -> FieldIndex {
    FieldIndex::new(
        transforms.iter().map(|transform| IndexSpec { transform: *transform, bits: 16 }).collect(),
    )
}

#[test]
fn spellings_of_one_name_are_one() {
    let groups: [&[&str]; 9] = [
        &["José", "JOSE", "jose\u{301}", "Ｊｏｓé"],
        &["Strauß", "STRAUSS", "strauss"],
        &["O'Brien", "O’BRIEN", "obrien"],
        &["Smith-Jones", "smith  jones", "SMITH – JONES"],
        &["Νίκος", "ΝΙΚΟΣ"],
        &["Nováková", "NOVAKOVA"],
        &["İpek", "ipek"],
        &["佐藤", "佐藤 "],
        &["Ji\u{159}i", "Jiri", "JIŘI"],
    ];
    let spelled: Vec<Vec<Option<String>>> =
        groups.iter().map(|names| names.iter().map(|name| normal(FieldType::Name, name)).collect()).collect();
    for (names, group) in groups.iter().zip(&spelled) {
        assert!(group.iter().all(|other| other.is_some() && *other == group[0]), "{names:?}: {group:?}");
    }
    for (at, group) in spelled.iter().enumerate() {
        assert!(spelled[at + 1..].iter().all(|other| other[0] != group[0]));
    }
    assert_eq!(normal(FieldType::Name, "— ' —"), None, "nothing to look for");
}

#[test]
fn identifiers_are_compared_by_what_counts() {
    let same = |field_type, one: &str, other: &str| {
        assert_eq!(normal(field_type, one), normal(field_type, other), "{one} {other}");
    };
    same(FieldType::Ssn, "987-65-4320", "987654320");
    same(FieldType::Mrn, "MRN-0012345678", "mrn0012345678");
    same(FieldType::Email, "Zofie.Novakova@EXAMPLE.org", "zofie.novakova@example.org");
    same(FieldType::Code, "THREAD-1", "thread-1");
    assert_eq!(normal(FieldType::Phone, "+1 (555) 010-1234").as_deref(), Some("+15550101234"));
    assert_eq!(normal(FieldType::Date, "1984-02-29").as_deref(), Some("1984-02-29"));
    let moment = "2026-01-01T23:30:00-01:00";
    assert_eq!(normal(FieldType::DateTime, moment).as_deref(), Some("2026-01-02"), "its day in UTC");
    for field_type in
        [FieldType::Text, FieldType::List, FieldType::Json, FieldType::Boolean, FieldType::Decimal]
    {
        assert!(normalised(field_type, &SecretBytes::new(b"true".to_vec())).is_none());
    }
}

#[test]
fn a_beginning_is_looked_for_by_the_longest_there_is() {
    let index = index(&[Transform::Prefix(5), Transform::Exact, Transform::Prefix(3)]);
    let limits = ValueLimits::of(FieldType::Name);
    let prefix = |text: &str| Sought::prefix((FieldType::Name, &index), &limits, &json(text));
    let part = |text: &str| {
        let (spec, values) = prefix(text).ok().unwrap().looked_up(&index).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a made-up value")]
        let value = String::from_utf8(values[0].expose().to_vec()).unwrap();
        (spec.transform, value)
    };
    assert_eq!(part("Nov"), (Transform::Prefix(3), "nov".to_owned()));
    assert_eq!(part("Ňová"), (Transform::Prefix(3), "nov".to_owned()));
    assert_eq!(part("Nováková"), (Transform::Prefix(5), "novak".to_owned()));
    assert_eq!(prefix("No").err(), Some(SoughtError::TooShort));
    assert_eq!(prefix("O'B").err(), Some(SoughtError::TooShort));
    let met = |text: &str, name: &str| {
        prefix(text).ok().unwrap().is_met_by(FieldType::Name, &stored(FieldType::Name, name))
    };
    assert!(met("nova", "Nováková") && met("nov", "Nov") && !met("novak", "Novotná") && !met("novo", "Nov"));
    // A value that is shorter has no term of that length.
    let parts = index.parts(FieldType::Name, &stored(FieldType::Name, "Nova"));
    let transforms: Vec<Transform> = parts.iter().map(|(spec, _)| spec.transform).collect();
    assert_eq!(transforms, [Transform::Exact, Transform::Prefix(3)]);
}

#[test]
fn days_are_of_the_calendar_and_not_too_many() {
    let index = index(&[Transform::Day]);
    let days = |first: &str, last: &str| Sought::days(&index, &json(first), &json(last));
    let count = |first: &str, last: &str| days(first, last).ok().unwrap().looked_up(&index).unwrap().1.len();
    assert_eq!(count("1984-02-28", "1984-03-01"), 3);
    assert_eq!(count("1984-02-29", "1984-02-29"), 1);
    assert_eq!(count("2024-01-01", "2025-02-03"), 400);
    assert_eq!(days("2024-01-01", "2025-02-04").err(), Some(SoughtError::RangeTooLong));
    assert_eq!(days("0001-01-01", "9999-12-31").err(), Some(SoughtError::RangeTooLong));
    assert_eq!(count("9999-12-30", "9999-12-31"), 2);
    assert_eq!(days("2024-01-02", "2024-01-01").err(), Some(SoughtError::RangeReversed));
    assert_eq!(days("2024-02-30", "2024-03-01").err(), Some(SoughtError::Value(ValueError::OutOfRange)));
    let january = days("2026-01-01", "2026-01-31").ok().unwrap();
    let is_met = |text: &str| january.is_met_by(FieldType::DateTime, &stored(FieldType::DateTime, text));
    assert!(is_met("2026-01-31T23:59:59Z") && is_met("2026-02-01T00:30:00+01:00"));
    assert!(!is_met("2026-02-01T00:00:00Z") && !is_met("2025-12-31T23:59:59Z"));
}

#[test]
fn what_has_no_index_of_the_kind_is_not_looked_for() {
    let (exact, day) = (index(&[Transform::Exact]), index(&[Transform::Day]));
    let limits = ValueLimits::of(FieldType::Name);
    let of = |index| (FieldType::Name, index);
    assert_eq!(Sought::prefix(of(&exact), &limits, &json("Nova")).err(), Some(SoughtError::NotIndexed));
    assert_eq!(Sought::exact(of(&day), &limits, &json("Nova")).err(), Some(SoughtError::NotIndexed));
    let date = json("2026-01-01");
    assert_eq!(Sought::days(&exact, &date, &date).err(), Some(SoughtError::NotIndexed));
    assert_eq!(
        Sought::exact(of(&exact), &limits, &json("—")).err(),
        Some(SoughtError::Value(ValueError::Empty))
    );
}

proptest! {
    /// The rule of CipherSweet: at least two others by chance, and no more than √rows.
    #[test]
    fn a_term_leaves_some_others_and_not_many(rows in ROWS) {
        let others = rows >> bits_for(rows);
        prop_assert!((2..4).contains(&others) && others <= rows.isqrt(), "{others}");
    }

    /// Whatever is stored is found by itself, by every beginning that there is an index of, and its terms are of its parts.
    #[test]
    fn a_name_is_found_by_itself(text in "[\\PC&&[^\u{2028}\u{2029}]]{1,24}") {
        let Ok(value) = parse_value(FieldType::Name, &ValueLimits::of(FieldType::Name), &json(&text)) else { return Ok(()) };
        let index = index(&[Transform::Exact, Transform::Prefix(3), Transform::Prefix(8)]);
        let limits = ValueLimits::of(FieldType::Name);
        let Ok(sought) = Sought::exact((FieldType::Name, &index), &limits, &json(&text)) else {
            prop_assert!(index.parts(FieldType::Name, &value).is_empty());
            return Ok(());
        };
        prop_assert!(sought.is_met_by(FieldType::Name, &value));
        let parts = index.parts(FieldType::Name, &value);
        if let Ok(prefix) = Sought::prefix((FieldType::Name, &index), &limits, &json(&text)) {
            prop_assert!(prefix.is_met_by(FieldType::Name, &value));
            let (spec, looked_up) = prefix.looked_up(&index).unwrap();
            #[expect(clippy::disallowed_methods, reason = "a made-up value")]
            let is_among = parts.iter().any(|(other, part)| {
                *other == spec && looked_up.iter().any(|value| value.expose() == part.expose())
            });
            prop_assert!(is_among);
        }
    }
}
