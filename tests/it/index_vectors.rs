//! Known answers of the terms of blind indexes, which a second implementation made (`tests/vectors/`): normalisation, part and
//! term, from the value as it is stored.

#![cfg(test)]

use serde::Deserialize;
use strongroom::crypto::TenantKey;
use strongroom::crypto::digest::{hex, parse_hex};
use strongroom::crypto::index::TermMaker;
use strongroom::domain::id::{CollectionName, FieldId, KeyId};
use strongroom::domain::index::{IndexSpec, Transform, normalised};
use strongroom::domain::secret::{Key256, SecretBytes};
use strongroom::domain::value::FieldType;

#[derive(Deserialize)]
struct Vector {
    name: String,
    root: String,
    collection: String,
    field: u32,
    #[serde(rename = "type")]
    field_type: String,
    value: String,
    transform: String,
    bits: u8,
    part: Option<String>,
    term: Option<String>,
}

fn transform(word: &str) -> Transform {
    match word.split_once(':') {
        Some(("prefix", length)) => Transform::Prefix(length.parse().unwrap()),
        _ if word == "exact" => Transform::Exact,
        _ => Transform::Day,
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the values are made up, and compared")]
fn terms_are_the_known_ones() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../vectors/index-v1.json")).unwrap();
    assert!(vectors.len() >= 18);
    for vector in vectors {
        let root = Key256::copied_from(&parse_hex(&vector.root).unwrap()).unwrap();
        let root = TenantKey::new(KeyId::FIRST, root);
        let spec = IndexSpec { transform: transform(&vector.transform), bits: vector.bits };
        let collection = CollectionName::parse(&vector.collection).unwrap();
        let maker = TermMaker::new(&root, &collection, FieldId(vector.field), spec).unwrap();
        let field_type = FieldType::parse(&vector.field_type).unwrap();
        let value = SecretBytes::new(vector.value.into_bytes());
        let part = normalised(field_type, &value).and_then(|normal| normal.part(spec.transform));
        let text = part.as_ref().map(|part| String::from_utf8(part.expose().to_vec()).unwrap());
        assert_eq!(text, vector.part, "{}", vector.name);
        let term = part.map(|part| hex(maker.term(&part).bytes()));
        assert_eq!(term, vector.term, "{}", vector.name);
    }
}
