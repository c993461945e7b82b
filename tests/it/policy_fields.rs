//! The fields of a request body against the shipped collections: every fault is named, nothing is echoed.

#![cfg(test)]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::value::RawValue;
use strongroom::domain::class::DataClass;
use strongroom::policy::{Collection, FieldFaults, ParseMode, ParsedFields, PolicySet};

static PATIENTS: LazyLock<Arc<Collection>> = LazyLock::new(|| {
    let set = PolicySet::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"))).unwrap();
    Arc::clone(set.collection("patients").unwrap())
});

fn parse(json: &str, mode: ParseMode) -> Result<ParsedFields, FieldFaults> {
    PATIENTS.parse_fields(&RawValue::from_string(json.to_owned()).unwrap(), mode)
}

/// Faults as "field:code", or ":code" without a known field, in the order found.
fn faults(json: &str, mode: ParseMode) -> Vec<String> {
    let faults = parse(json, mode).err().map(|faults| faults.faults().to_vec()).unwrap_or_default();
    let name =
        |field: Option<&strongroom::domain::id::FieldName>| field.map_or("", |name| name.as_str()).to_owned();
    faults.iter().map(|fault| format!("{}:{}", name(fault.field.as_ref()), fault.code.code())).collect()
}

#[expect(clippy::disallowed_methods, reason = "the test compares plaintext with what it sent")]
fn values(parsed: &ParsedFields) -> Vec<(u32, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    parsed.set.iter().map(|field| (field.id.0, text(field.value.expose()))).collect()
}

const MINIMAL: &str =
    r#"{"mrn":"3847490","birth_date":"2006-05-18","given_name":"Aaron","family_name":"Gusikowski"}"#;

#[test]
fn fields_come_in_the_order_of_their_ids() {
    let parsed = parse(MINIMAL, ParseMode::Create).unwrap();
    let expected = [(1, "Gusikowski"), (2, "Aaron"), (4, "2006-05-18"), (11, "3847490")];
    assert_eq!(values(&parsed), expected.map(|(id, value)| (id, value.to_owned())));
    assert!(parsed.removed.is_empty());
    assert_eq!(parsed.set[0].type_id, 2);
    assert_eq!(parsed.set[0].class, DataClass::Pii);
}

#[test]
fn a_sample_patient_fits() {
    let body = r#"{"family_name":"Gusikowski","given_name":"Aaron","name_prefix":"Mr.","birth_date":"2006-05-18",
        "sex":"M","gender":"male","email":"aaron.gusikowski431@example.com","phone":"555-799-7941",
        "address":{"line":["7412 Waelchi Branch"],"city":"Boston","state":"Massachusetts","postal_code":"02112","country":"US"},
        "ssn":"999-54-3615","mrn":"3847490","drivers_licence":"S652448210","language":"en-US","marital_status":"M",
        "race":"urn:oid:2.16.840.1.113883.6.238|2054-5","ethnicity":"urn:oid:2.16.840.1.113883.6.238|2186-5",
        "insurance":{"payer":"Medicare","member":"1EG4"},"active":true,"deceased_at":"2026-01-02T03:04:05Z","notes":"a\nb"}"#;
    assert_eq!(parse(body, ParseMode::Create).unwrap().set.len(), 20);
}

#[test]
fn every_fault_is_listed_and_none_echoes() {
    let body = r#"{"family_name":7,"given_name":"A","birth_date":"1999-02-30","hunter2":"x","email":"hunter2","sex":"hunter2","sex":"F"}"#;
    let found = faults(body, ParseMode::Create);
    assert_eq!(
        found,
        [
            "family_name:wrong_kind",
            "birth_date:out_of_range",
            ":unknown_field",
            "email:malformed",
            "sex:not_listed",
            "sex:duplicate_field",
            "mrn:required"
        ]
    );
    let error = parse(body, ParseMode::Create).err().unwrap();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn a_field_is_one_field_however_it_is_spelled() {
    let body = MINIMAL.replacen('{', r#"{"\u006drn":"1","#, 1);
    assert_eq!(faults(&body, ParseMode::Create), ["mrn:duplicate_field"]);
    assert_eq!(faults(r#"{"Phone":"1"}"#, ParseMode::Patch), [":unknown_field"]);
}

#[test]
fn a_patch_sets_and_removes() {
    let parsed = parse(r#"{"phone":null,"email":"a@b.co","ssn":null}"#, ParseMode::Patch).unwrap();
    assert_eq!(values(&parsed), [(7, "a@b.co".to_owned())]);
    assert_eq!(parsed.removed.iter().map(|id| id.0).collect::<Vec<_>>(), [8, 10]);
    assert_eq!(faults(r#"{"mrn":null}"#, ParseMode::Patch), ["mrn:required"]);
    assert_eq!(faults("{}", ParseMode::Patch), [":nothing_to_change"]);
    assert_eq!(
        faults(&MINIMAL.replacen('{', r#"{"phone":null,"#, 1), ParseMode::Create),
        ["phone:wrong_kind"]
    );
}

#[test]
fn what_is_no_object_is_refused() {
    for json in ["[]", "1", "null", "\"a\"", "true"] {
        let found = faults(json, ParseMode::Patch);
        assert!(found.contains(&":not_an_object".to_owned()), "{json}: {found:?}");
    }
    assert!(faults(r#"{"\ud800":1}"#, ParseMode::Patch).contains(&":not_an_object".to_owned()));
}

#[test]
fn the_list_of_faults_is_bounded() {
    let body: Vec<String> = (0..500).map(|number| format!("\"unknown_{number}\":1")).collect();
    assert_eq!(faults(&format!("{{{}}}", body.join(",")), ParseMode::Patch).len(), 64);
}
