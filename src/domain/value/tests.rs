//! Each type's accepted and refused spellings. What holds for all values is in `properties`.

use super::*;

fn parse_with(field_type: FieldType, limits: &ValueLimits, json: &str) -> Result<String, ValueError> {
    let value = parse_text(field_type, limits, json)?;
    Ok(String::from_utf8(value.to_vec()).unwrap())
}

fn limits(field_type: FieldType) -> ValueLimits {
    ValueLimits { phone_country: Some(PhoneCountry::NorthAmerica), ..ValueLimits::of(field_type) }
}

pub(super) fn parse(field_type: FieldType, json: &str) -> Result<String, ValueError> {
    parse_with(field_type, &limits(field_type), json)
}

pub(super) fn render(field_type: FieldType, plaintext: &str) -> String {
    let mut out = Vec::new();
    render_value(field_type, plaintext.as_bytes(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

pub(super) fn masked(field_type: FieldType, mask: Mask, plaintext: &str) -> String {
    let mut out = Vec::new();
    mask_value(field_type, mask, plaintext.as_bytes(), &mut out);
    serde_json::from_slice(&out).unwrap()
}

/// Accepted spellings: (JSON, canonical plaintext).
#[track_caller]
fn accepts(field_type: FieldType, cases: &[(&str, &str)]) {
    for (json, canonical) in cases {
        assert_eq!(parse(field_type, json).as_deref(), Ok(*canonical), "{json}");
        let rendered = render(field_type, canonical);
        assert_eq!(parse(field_type, &rendered).as_deref(), Ok(*canonical), "again: {rendered}");
    }
}

#[track_caller]
fn refuses(field_type: FieldType, cases: &[(&str, ValueError)]) {
    for (json, error) in cases {
        assert_eq!(parse(field_type, json), Err(*error), "{json}");
    }
}

use ValueError as E;

#[test]
fn every_type_refuses_other_kinds_and_text_that_is_not_json() {
    // A document has no JSON, of any kind.
    assert_eq!(parse(FieldType::Document, "null"), Err(E::UploadNeeded));
    for field_type in FieldType::ALL.into_iter().filter(|each| *each != FieldType::Document) {
        assert_eq!(parse(field_type, "null"), Err(E::WrongKind), "{}", field_type.as_str());
        for json in [
            "",
            "\"",
            "\"a",
            "\"a\" \"b\"",
            "[",
            "{",
            "[1,",
            "{\"a\"",
            "{\"a\":1,}",
            "[1,]",
            "tru",
            "1.",
            "-",
        ] {
            assert!(parse(field_type, json).is_err(), "{} {json}", field_type.as_str());
        }
    }
    for field_type in [FieldType::Text, FieldType::Name, FieldType::Date, FieldType::Ssn, FieldType::Code] {
        refuses(
            field_type,
            &[("1", E::WrongKind), ("true", E::WrongKind), ("[]", E::WrongKind), ("{}", E::WrongKind)],
        );
        refuses(field_type, &[("\"\"", E::Empty), ("\"  \"", E::Empty)]);
    }
}

#[test]
fn strings_are_decoded_strictly() {
    accepts(
        FieldType::Name,
        &[
            (r#""Ann""#, "Ann"),
            (r#"  " Ann Lee "  "#, "Ann Lee"),
            (r#""a\u0062\/\"\\""#, "ab/\"\\"),
            (r#""\ud83e\ude7a""#, "🩺"),
            ("\"Zoe\u{308}\"", "Zoë"),
            (r#""Zoe\u0308""#, "Zoë"),
            ("\"李明\"", "李明"),
        ],
    );
    refuses(
        FieldType::Name,
        &[
            (r#""\ud83e""#, E::LoneSurrogate),
            (r#""\ud83ex""#, E::LoneSurrogate),
            (r#""\ud83e\u0041""#, E::LoneSurrogate),
            (r#""\ude7a\ud83e""#, E::LoneSurrogate),
            (r#""a\u0000b""#, E::ControlCharacter),
            (r#""a\nb""#, E::ControlCharacter),
            (r#""a\u007fb""#, E::ControlCharacter),
            (r#""a\u0085b""#, E::ControlCharacter),
            ("\"a\u{0}b\"", E::ControlCharacter),
            (r#""\x""#, E::Malformed),
            (r#""\u12""#, E::Malformed),
            (r#""\u+123""#, E::Malformed),
        ],
    );
    assert_eq!(parse(FieldType::Name, &format!("\"{}\"", "é".repeat(128))).map(|v| v.len()), Ok(256));
    assert_eq!(parse(FieldType::Name, &format!("\"{}\"", "é".repeat(129))), Err(E::TooLong));
}

#[test]
fn text_keeps_lines() {
    accepts(
        FieldType::Text,
        &[(r#""a\tb\n\nc""#, "a\tb\n\nc"), (r#""a\r\nb\r\n""#, "a\nb"), (r#""\r\n a""#, "a")],
    );
    refuses(
        FieldType::Text,
        &[(r#""a\rb""#, E::ControlCharacter), (r#""a\u001bb""#, E::ControlCharacter), (r#""\n""#, E::Empty)],
    );
}

#[test]
fn dates() {
    accepts(FieldType::Date, &[(r#""2024-02-29""#, "2024-02-29"), (r#"" 0001-01-01 ""#, "0001-01-01")]);
    refuses(
        FieldType::Date,
        &[
            (r#""2023-02-29""#, E::OutOfRange),
            (r#""2024-13-01""#, E::OutOfRange),
            (r#""0000-01-01""#, E::OutOfRange),
            (r#""2024-2-9""#, E::Malformed),
            (r#""20240229""#, E::Malformed),
            (r#""2024-02-29T00:00""#, E::Malformed),
            (r#""29.02.2024""#, E::Malformed),
            (r#""٢٠٢٤-02-29""#, E::Malformed),
        ],
    );
}

#[test]
fn moments() {
    accepts(
        FieldType::DateTime,
        &[
            (r#""2023-03-23T11:31:00.702402+00:00""#, "2023-03-23T11:31:00.702402Z"),
            (r#""2023-03-23T11:31:00Z""#, "2023-03-23T11:31:00.000000Z"),
            (r#""2023-03-23T23:31:00.1-05:30""#, "2023-03-24T05:01:00.100000Z"),
            (r#""2023-03-23T11:31:00.7024021Z""#, "2023-03-23T11:31:00.702402Z"),
            (r#""1900-01-01T00:00:00.000001Z""#, "1900-01-01T00:00:00.000001Z"),
        ],
    );
    refuses(
        FieldType::DateTime,
        &[
            (r#""2023-03-23""#, E::Malformed),
            (r#""2023-03-23 11:31:00Z""#, E::Malformed),
            (r#""2023-03-23T11:31Z""#, E::Malformed),
            (r#""2023-03-23T11:31:00""#, E::Malformed),
            (r#""2023-03-23T11:31:00.Z""#, E::Malformed),
            (r#""2023-03-23T11:31:00Z[UTC]""#, E::Malformed),
            (r#""2023-03-23T11:31:00+0000""#, E::Malformed),
            (r#""2023-03-23t11:31:00z""#, E::Malformed),
            (r#""2023-02-30T11:31:00Z""#, E::OutOfRange),
            (r#""2023-03-23T24:00:00Z""#, E::OutOfRange),
            (r#""2016-12-31T23:59:60Z""#, E::OutOfRange),
            (r#""0001-01-01T00:00:00+01:00""#, E::OutOfRange),
            (r#""+02023-03-23T11:31:00Z""#, E::Malformed),
            (r#""é""#, E::Malformed),
        ],
    );
}

#[test]
fn addresses_of_mail_and_telephone() {
    accepts(
        FieldType::Email,
        &[
            (r#""aaron.G+x@Example.COM""#, "aaron.G+x@example.com"),
            (r#"" a@b.co ""#, "a@b.co"),
            ("\"ada\u{301}n@b.co\"", "adán@b.co"),
        ],
    );
    for bad in [
        "a",
        "@b.co",
        "a@",
        "a@b",
        "a@b..co",
        "a@-b.co",
        "a@b-.co",
        "a b@c.de",
        "a @b.co",
        "a\u{200d}b@c.de",
        ".a@b.co",
        "a.@b.co",
        "a..b@c.de",
        "a@b@c.de",
        "\\\"a\\\"@b.co",
        "a@é.co",
        "a@[127.0.0.1]",
    ] {
        assert_eq!(parse(FieldType::Email, &format!("\"{bad}\"")), Err(E::Malformed), "{bad}");
    }
    accepts(
        FieldType::Phone,
        &[
            (r#""555-799-7941""#, "+15557997941"),
            (r#""(555) 799.7941""#, "+15557997941"),
            (r#""1 555 799 7941""#, "+15557997941"),
            (r#""+1 555 799 7941""#, "+15557997941"),
            (r#""+49 30 1234567""#, "+49301234567"),
        ],
    );
    for bad in [
        "799-7941",
        "25557997941",
        "+0123456789",
        "+12345",
        "+1234567890123456",
        "555-799-7941x1",
        "++1555",
        "+",
    ] {
        assert_eq!(parse(FieldType::Phone, &format!("\"{bad}\"")), Err(E::Malformed), "{bad}");
    }
    let undeclared = ValueLimits::of(FieldType::Phone);
    assert_eq!(parse_with(FieldType::Phone, &undeclared, r#""555-799-7941""#), Err(E::Malformed));
    assert!(parse_with(FieldType::Phone, &undeclared, r#""+15557997941""#).is_ok());
}

#[test]
fn identifiers() {
    accepts(FieldType::Ssn, &[(r#""999-54-3615""#, "999-54-3615"), (r#""999543615""#, "999-54-3615")]);
    refuses(
        FieldType::Ssn,
        &[
            (r#""000-54-3615""#, E::OutOfRange),
            (r#""666-54-3615""#, E::OutOfRange),
            (r#""999-00-3615""#, E::OutOfRange),
            (r#""999-54-0000""#, E::OutOfRange),
            (r#""99-954-3615""#, E::Malformed),
            (r#""999 54 3615""#, E::Malformed),
            (r#""99954361""#, E::Malformed),
            (r#""9995436150""#, E::Malformed),
            (r#""999-54-361é""#, E::Malformed),
        ],
    );
    accepts(FieldType::Mrn, &[(r#"" 3847490 ""#, "3847490"), (r#""S652-448210""#, "S652-448210")]);
    refuses(
        FieldType::Mrn,
        &[(r#""a b""#, E::Malformed), (r#""--""#, E::Malformed), (r#""é""#, E::Malformed)],
    );
    accepts(
        FieldType::Code,
        &[
            (r#""en-US""#, "en-US"),
            (r#""http://loinc.org|93030-5""#, "http://loinc.org|93030-5"),
            (r#""a b""#, "a b"),
        ],
    );
    for bad in ["a  b", "|a", "a|", "|", "a|b|c", "é"] {
        assert_eq!(parse(FieldType::Code, &format!("\"{bad}\"")), Err(E::Malformed), "{bad}");
    }
    let listed = ValueLimits { values: Some(["F", "M"].map(Box::from).into()), ..limits(FieldType::Code) };
    assert_eq!(parse_with(FieldType::Code, &listed, r#"" F ""#).as_deref(), Ok("F"));
    assert_eq!(parse_with(FieldType::Code, &listed, r#""f""#), Err(E::NotListed));
}

#[test]
fn numbers() {
    accepts(
        FieldType::Integer,
        &[("0", "0"), ("-0", "0"), ("42", "42"), ("9007199254740991", "9007199254740991"), (" -7 ", "-7")],
    );
    refuses(
        FieldType::Integer,
        &[
            ("9007199254740992", E::OutOfRange),
            ("-9007199254740992", E::OutOfRange),
            ("-9223372036854775808", E::OutOfRange),
            ("99999999999999999999", E::OutOfRange),
            ("1.0", E::Malformed),
            ("1e2", E::Malformed),
            ("\"1\"", E::WrongKind),
            ("01", E::WrongKind),
            ("+1", E::WrongKind),
            ("NaN", E::WrongKind),
        ],
    );
    accepts(
        FieldType::Decimal,
        &[
            ("98.60", "98.60"),
            ("\"98.60\"", "98.60"),
            ("\"007.5\"", "7.5"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("1.5e3", "1500"),
            ("1.50e1", "15.0"),
            ("-25e-1", "-2.5"),
            ("1e-3", "0.001"),
            ("12E+0", "12"),
            ("0e9", "0"),
            ("0.1234567890123456789012345678901234567", "0.1234567890123456789012345678901234567"),
        ],
    );
    refuses(
        FieldType::Decimal,
        &[
            ("1e38", E::OutOfRange),
            ("1e-38", E::OutOfRange),
            ("1e99999999999", E::OutOfRange),
            ("1e-2147483648", E::OutOfRange),
            ("0.01e-2147483648", E::OutOfRange),
            ("123456789012345678901234567890123456789", E::OutOfRange),
            ("\".5\"", E::Malformed),
            ("\"5.\"", E::Malformed),
            ("\"+5\"", E::Malformed),
            ("\"1,5\"", E::Malformed),
            ("\"Infinity\"", E::Malformed),
            ("true", E::WrongKind),
        ],
    );
    accepts(FieldType::Boolean, &[("true", "true"), (" false ", "false")]);
    refuses(FieldType::Boolean, &[("\"true\"", E::WrongKind), ("1", E::WrongKind), ("True", E::WrongKind)]);
}

#[test]
fn lists_and_addresses() {
    accepts(FieldType::List, &[("[]", "[]"), (r#"[ " b ", "a\u0308" ]"#, r#"["b","ä"]"#)]);
    refuses(
        FieldType::List,
        &[
            ("[1]", E::WrongKind),
            ("[[]]", E::WrongKind),
            (r#"[""]"#, E::Empty),
            (r#"["a\nb"]"#, E::ControlCharacter),
            (r#"["a" "b"]"#, E::Malformed),
            ("{}", E::WrongKind),
        ],
    );
    let long = format!("[{}]", vec!["\"a\""; 257].join(","));
    assert_eq!(parse(FieldType::List, &long), Err(E::TooManyItems));
    assert_eq!(parse(FieldType::List, &format!("[\"{}\"]", "a".repeat(1025))), Err(E::TooLong));
    accepts(
        FieldType::Address,
        &[(
            r#"{"state":"Massachusetts","line":["7412 Waelchi Branch"],"city":" Boston","postal_code":"02112","country":"US"}"#,
            r#"{"city":"Boston","country":"US","line":["7412 Waelchi Branch"],"postal_code":"02112","state":"Massachusetts"}"#,
        )],
    );
    refuses(
        FieldType::Address,
        &[
            ("{}", E::Empty),
            ("\"Boston\"", E::WrongKind),
            (r#"{"town":"Boston"}"#, E::UnknownMember),
            (r#"{"city":"a","city":"b"}"#, E::DuplicateMember),
            (r#"{"city":"a","\u0063ity":"b"}"#, E::DuplicateMember),
            (r#"{"city":1}"#, E::WrongKind),
            (r#"{"line":"a"}"#, E::WrongKind),
            (r#"{"line":["a","b","c","d","e"]}"#, E::TooManyItems),
            (r#"{"city":null}"#, E::WrongKind),
        ],
    );
}

#[test]
fn json_values() {
    accepts(
        FieldType::Json,
        &[
            (
                r#"{ "b" : [1.0, 2e3, -0, 1e21, 1e-7], "a" : {"é":null}, "\ud83e\ude7a":true }"#,
                r#"{"a":{"é":null},"b":[1,2000,0,1e+21,1e-7],"🩺":true}"#,
            ),
            ("\"x\\u000ay\"".replace("\\u000a", " ").as_str(), "\"x y\""),
            ("[]", "[]"),
            ("42.39055960367879", "42.39055960367879"),
            ("9007199254740992", "9007199254740992"),
            // Two shortest spellings are equally close; ECMAScript takes the even one, Rust's own formatting does not.
            ("592941853610559.2", "592941853610559.2"),
        ],
    );
    refuses(
        FieldType::Json,
        &[
            (r#"{"a":1,"a":2}"#, E::DuplicateMember),
            (r#"{"a":1,"b":2,"\u0061":3}"#, E::DuplicateMember),
            (r#"[{"x":{"a":1,"a":1}}]"#, E::DuplicateMember),
            ("9007199254740993", E::Inexact),
            ("592941853610559.25", E::Inexact),
            ("0.1000000000000000055511151231257827", E::Inexact),
            ("1e400", E::Inexact),
            ("1e-400", E::Inexact),
            (r#""a\u0000""#, E::ControlCharacter),
            (r#"{"a\u0000":1}"#, E::ControlCharacter),
            (r#""\udead""#, E::LoneSurrogate),
            ("{1:2}", E::Malformed),
            ("[01]", E::Malformed),
            ("[nul]", E::Malformed),
        ],
    );
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(FieldType::Json, &nested(32)).is_ok());
    assert_eq!(parse(FieldType::Json, &nested(33)), Err(E::TooDeep));
    assert_eq!(parse(FieldType::Json, &"[".repeat(1_000_000)), Err(E::TooDeep));
    let many = format!("[{}]", vec!["1"; 4_096].join(","));
    assert_eq!(parse(FieldType::Json, &many), Err(E::TooManyItems));
    let long = format!("\"{}\"", "a".repeat(262_143));
    assert_eq!(parse(FieldType::Json, &long), Err(E::TooLong));
}

#[test]
fn masks() {
    for (field_type, mask, plaintext, expected) in [
        (FieldType::Ssn, Mask::LastFour, "999-54-3615", "•••3615"),
        (FieldType::Ssn, Mask::FormatKept, "999-54-3615", "•••-••-••••"),
        (FieldType::Phone, Mask::LastFour, "+15557997941", "•••7941"),
        (FieldType::Mrn, Mask::LastFour, "3847490", "•••"),
        (FieldType::Mrn, Mask::LastFour, "1-2-3-4-5", "•••"),
        (FieldType::Name, Mask::Initial, "Gusikowski", "G•••"),
        (FieldType::Name, Mask::Initial, "G", "•••"),
        (FieldType::Date, Mask::YearOnly, "2006-05-18", "2006"),
        (FieldType::DateTime, Mask::YearOnly, "2023-03-23T11:31:00.702402Z", "2023"),
        (FieldType::Email, Mask::DomainOnly, "a@example.com", "•••@example.com"),
        (FieldType::Boolean, Mask::Full, "true", "•••"),
        (FieldType::Json, Mask::Full, "{}", "•••"),
        // A mask without a meaning for the type covers everything.
        (FieldType::Text, Mask::LastFour, "something long", "•••"),
    ] {
        assert_eq!(masked(field_type, mask, plaintext), expected, "{plaintext}");
    }
    let mut out = Vec::new();
    mask_value(FieldType::Name, Mask::Initial, &[0xff, 0xfe], &mut out);
    assert_eq!(out, "\"•••\"".as_bytes());
}

#[test]
fn what_is_not_of_the_type_is_not_rendered() {
    for (field_type, plaintext) in [
        (FieldType::Text, &b"\xff"[..]),
        (FieldType::Integer, b"1.5"),
        (FieldType::Integer, b""),
        (FieldType::Boolean, b"yes"),
        (FieldType::Json, b""),
        (FieldType::Document, b"{}"),
    ] {
        let mut out = Vec::new();
        assert_eq!(render_value(field_type, plaintext, &mut out), Err(Unrenderable));
        assert!(out.is_empty());
    }
}
