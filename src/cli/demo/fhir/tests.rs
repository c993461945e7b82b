//! The shipped sample, whole: what it becomes, and that the collections take every field of it.

use serde_json::{Value, json, value::to_raw_value};

use super::*;
use crate::policy::{ParseMode, PolicySet};

fn file(relative: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn sample() -> Sample {
    Sample::parse(&std::fs::read_to_string(file("examples/fhir/fhir-r4-sample.ndjson")).unwrap()).unwrap()
}

#[test]
fn every_record_of_the_sample_fits_its_collection() {
    let set = PolicySet::load(&file("policy")).unwrap();
    let sample = sample();
    assert_eq!((sample.people.len(), sample.encounters(), sample.resources), (28, 168, 720));
    let fits = |collection: &str, fields: &Fields| {
        let raw = to_raw_value(fields).unwrap();
        match set.collection(collection).unwrap().parse_fields(&raw, ParseMode::Create) {
            Ok(parsed) => assert_eq!(parsed.set.len(), fields.len()),
            Err(faults) => panic!("{collection} {:?}: {fields:?}", faults.faults()),
        }
    };
    for person in &sample.people {
        fits("patients", &person.fields);
        person.encounters.iter().for_each(|encounter| fits("encounters", encounter));
    }
}

#[test]
fn what_is_left_out_is_counted() {
    let expected = [
        ("conditions of visits that the file does not have", 18),
        ("e-mail addresses with a space in them", 1),
        ("earlier names (no field for them)", 5),
        ("observations of visits that the file does not have", 16),
        ("passport numbers (no field for them)", 15),
        ("prescriptions of visits that the file does not have", 21),
    ];
    let sample = sample();
    assert_eq!(sample.left_out, LeftOut::from(expected));
    let without: Vec<String> = sample
        .people
        .iter()
        .filter(|person| person.text("email").is_empty())
        .map(Person::full_name)
        .collect();
    assert_eq!(without, ["María Luisa Loya"]);
}

#[test]
fn a_patient_has_what_us_core_says_of_them() {
    let sample = sample();
    let aaron = sample.people.first().unwrap();
    assert_eq!(
        Value::Object(aaron.fields.clone()),
        json!({
            "family_name": "Gusikowski", "given_name": "Aaron", "name_prefix": "Mr.", "birth_date": "2006-05-18",
            "gender": "male", "sex": "M", "active": true, "marital_status": "M", "language": "en-US",
            "address": {
                "line": ["7412 Waelchi Branch"], "city": "Boston", "state": "Massachusetts",
                "postal_code": "02112", "country": "US",
            },
            "mrn": "3847490", "ssn": "999-54-3615", "drivers_licence": "S652448210",
            "phone": "555-799-7941", "email": "aaron.gusikowski431@example.com",
            "race": "urn:oid:2.16.840.1.113883.6.238|2054-5",
            "ethnicity": "urn:oid:2.16.840.1.113883.6.238|2186-5",
        })
    );
    let notes: Vec<&str> =
        aaron.encounters.iter().filter_map(|encounter| encounter.get("note")?.as_str()).collect();
    assert_eq!(notes.len(), 2);
    assert!(
        notes
            .iter()
            .all(|note| note.contains("# Chief Complaint") && note.contains("Aaron is a 19 year-old"))
    );
}

#[test]
fn everything_that_names_a_visit_of_the_file_is_with_it() {
    let sample = sample();
    let all = || sample.people.iter().flat_map(|person| &person.encounters);
    let lines =
        |name: &str| -> usize { all().filter_map(|fields| Some(fields.get(name)?.as_array()?.len())).sum() };
    assert_eq!((lines("diagnoses"), lines("medications"), lines("documents")), (137, 37, 56));
    let measured: usize = all()
        .filter_map(|fields| fields.get("vitals")?.as_object())
        .flat_map(|vitals| vitals.values())
        .map(|list| list.as_array().unwrap().len())
        .sum();
    assert_eq!(measured, 208);
    assert_eq!(all().filter(|fields| fields.contains_key("note")).count(), 56);
    assert_eq!(all().filter(|fields| fields["emergency"] == true).count(), 16);
    assert!(all().any(|fields| fields.contains_key("weight_kg") && fields.contains_key("allergies")));
}

#[test]
fn a_file_that_is_not_fhir_is_refused_by_line() {
    assert_eq!(Sample::parse("\n{}").err(), Some(SampleError::Line(2)));
    assert_eq!(Sample::parse("{\"resourceType\":\"Patient\"}\nno").err(), Some(SampleError::Line(2)));
    let nameless = Sample::parse("{\"resourceType\":\"Patient\",\"id\":\"1\"}");
    assert_eq!(nameless.err(), Some(SampleError::Lacks("Patient", "official name")));
}
