//! Short texts in paths, queries and headers: each has one spelling.

use strongroom::audit::{Act, Cursor, Status};
use strongroom::domain::clock::Timestamp;
use strongroom::domain::id::{CollectionName, FieldName, RecordId, RequestId, SubjectId};
use strongroom::domain::idempotency::IdempotencyKey;
use strongroom::domain::purpose::Purpose;

pub fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(cursor) = Cursor::parse(text) {
        assert_eq!(cursor.to_text(), text);
    }
    if let Some(id) = SubjectId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(id) = RequestId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(id) = RecordId::parse(text) {
        assert_eq!(id.as_str(), text);
        let luhn = text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_digit()) && passes_luhn(text);
        assert!(!(luhn && id.is_ours()), "a card number counts as an id of ours");
    }
    if let Some(name) = CollectionName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Some(name) = FieldName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Some(purpose) = Purpose::parse(text) {
        assert_eq!(purpose.as_str(), text);
    }
    if let Some(act) = Act::parse(text) {
        assert_eq!(act.as_str(), text);
    }
    if let Some(status) = Status::parse(text) {
        assert_eq!(status.as_str(), text);
    }
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        assert_eq!(Timestamp::parse_rfc3339(&at.to_rfc3339()), Some(at));
    }
    if let Some(key) = IdempotencyKey::parse(text) {
        assert!((1..=255).contains(&key.as_str().len()));
        let quoted = format!("\"{}\"", key.as_str().replace('\\', "\\\\").replace('"', "\\\""));
        let again = IdempotencyKey::parse(&quoted).expect("the quoted form of a key");
        assert!(again.as_str() == key.as_str());
    }
}

fn passes_luhn(digits: &str) -> bool {
    let mut sum = 0;
    for (place, byte) in digits.bytes().rev().enumerate() {
        let digit = u32::from(byte - b'0') * if place % 2 == 0 { 1 } else { 2 };
        sum += digit / 10 + digit % 10;
    }
    sum % 10 == 0
}
