//! FHIR Encounters as records of `encounters`, each with what refers to it: diagnoses, measurements, medication, notes;
//! and with the patient's allergies that were known by then.

use std::collections::HashMap;

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::{Fields, LeftOut, Resources, SampleError, coding, count_left_out, list, put, reference, text};

const BODY_WEIGHT: &str = "29463-7";

/// Records by the patient's id, in the order of the file.
pub(super) fn by_patient(
    resources: &Resources,
    left_out: &mut LeftOut,
) -> Result<HashMap<String, Vec<Fields>>, SampleError> {
    let mut visits: Vec<(String, String, Fields)> = Vec::new();
    for encounter in list(resources, "Encounter") {
        let id = text(encounter, "/id").ok_or(SampleError::Lacks("Encounter", "id"))?;
        let patient =
            reference(encounter, "/subject/reference").ok_or(SampleError::Lacks("Encounter", "subject"))?;
        let mut fields = visit(encounter)?;
        let known = allergies(resources, patient, fields.get("started_at").and_then(Value::as_str));
        put(&mut fields, "allergies", (!known.is_empty()).then_some(known));
        visits.push((id.to_owned(), patient.to_owned(), fields));
    }
    attach(resources, &mut visits, left_out);
    let mut by_patient: HashMap<String, Vec<Fields>> = HashMap::new();
    for (_, patient, fields) in visits {
        by_patient.entry(patient).or_default().push(fields);
    }
    Ok(by_patient)
}

fn visit(encounter: &Value) -> Result<Fields, SampleError> {
    let mut fields = Fields::new();
    let lacks = |what| SampleError::Lacks("Encounter", what);
    let kind = text(encounter, "/class/code").ok_or(lacks("class"))?;
    put(&mut fields, "started_at", Some(text(encounter, "/period/start").ok_or(lacks("start"))?));
    put(&mut fields, "ended_at", text(encounter, "/period/end"));
    put(&mut fields, "status", text(encounter, "/status"));
    put(&mut fields, "kind", Some(kind));
    put(&mut fields, "emergency", Some(kind == "EMER"));
    put(&mut fields, "type_code", encounter.pointer("/type/0/coding/0").and_then(coding));
    put(&mut fields, "reason", text(encounter, "/reasonCode/0/text"));
    Ok(fields)
}

/// How one resource goes into a visit's fields.
type Add = fn(&mut Fields, &Value);

/// Puts each resource that names an encounter with it; one that names an encounter outside the file is counted.
fn attach(resources: &Resources, visits: &mut [(String, String, Fields)], left_out: &mut LeftOut) {
    let index: HashMap<String, usize> =
        visits.iter().enumerate().map(|(at, (id, _, _))| (id.clone(), at)).collect();
    let kinds: [(&str, &str, &'static str, Add); 4] = [
        ("Condition", "/encounter/reference", "conditions of visits that the file does not have", condition),
        (
            "Observation",
            "/encounter/reference",
            "observations of visits that the file does not have",
            observation,
        ),
        (
            "MedicationRequest",
            "/encounter/reference",
            "prescriptions of visits that the file does not have",
            medication,
        ),
        (
            "DocumentReference",
            "/context/encounter/0/reference",
            "documents of visits that the file does not have",
            document,
        ),
    ];
    for (kind, pointer, reason, add) in kinds {
        for resource in list(resources, kind) {
            let found =
                reference(resource, pointer).and_then(|id| index.get(id)).and_then(|at| visits.get_mut(*at));
            match found {
                Some((_, _, fields)) => add(fields, resource),
                None => count_left_out(left_out, reason, 1),
            }
        }
    }
}

fn condition(fields: &mut Fields, condition: &Value) {
    push_line(fields, "diagnoses", display(condition, "/code"));
}

fn medication(fields: &mut Fields, request: &Value) {
    push_line(fields, "medications", display(request, "/medicationCodeableConcept"));
}

/// `{"8480-6": [{"display": …, "value": …, "unit": …}]}`: one code can be measured more than once in a visit.
fn observation(fields: &mut Fields, observation: &Value) {
    let Some(code) = text(observation, "/code/coding/0/code") else { return };
    let mut measured = json!({ "display": display(observation, "/code") });
    let quantity = observation.pointer("/valueQuantity/value");
    let value = quantity.cloned().or_else(|| display(observation, "/valueCodeableConcept").map(Value::from));
    if let Some(members) = measured.as_object_mut() {
        put(members, "value", value);
        put(members, "unit", text(observation, "/valueQuantity/unit"));
    }
    if let (BODY_WEIGHT, Some(quantity)) = (code, quantity) {
        put(fields, "weight_kg", Some(quantity.clone()));
    }
    let vitals = fields.entry("vitals").or_insert_with(|| json!({}));
    if let Some(vitals) = vitals.as_object_mut() {
        let list = vitals.entry(code).or_insert_with(|| json!([]));
        list.as_array_mut().into_iter().for_each(|list| list.push(measured.clone()));
    }
}

/// The note's text goes to `note`; `documents` keeps what it was.
fn document(fields: &mut Fields, document: &Value) {
    let data = text(document, "/content/0/attachment/data").and_then(|data| Base64::decode_vec(data).ok());
    let Some(note) = data.and_then(|bytes| String::from_utf8(bytes).ok()) else { return };
    let note = match fields.get("note").and_then(Value::as_str) {
        Some(earlier) => format!("{earlier}\n\n{}", note.trim()),
        None => note.trim().to_owned(),
    };
    put(fields, "note", Some(note));
    let reference = json!({
        "id": text(document, "/id"),
        "type": document.pointer("/type/coding/0").and_then(coding),
        "date": text(document, "/date"),
    });
    let documents = fields.entry("documents").or_insert_with(|| json!([]));
    documents.as_array_mut().into_iter().for_each(|list| list.push(reference.clone()));
}

/// What the patient was allergic to when the visit began. FHIR's times here are all in UTC and of one form, so their
/// order as text is their order in time.
fn allergies(resources: &Resources, patient: &str, started_at: Option<&str>) -> Vec<String> {
    list(resources, "AllergyIntolerance")
        .iter()
        .filter(|allergy| reference(allergy, "/patient/reference") == Some(patient))
        .filter(|allergy| text(allergy, "/recordedDate") <= started_at)
        .filter_map(|allergy| display(allergy, "/code"))
        .collect()
}

fn display(value: &Value, concept: &str) -> Option<String> {
    let of = |member: &str| text(value, &format!("{concept}{member}"));
    of("/coding/0/display").or_else(|| of("/text")).or_else(|| of("/coding/0/code")).map(str::to_owned)
}

fn push_line(fields: &mut Fields, name: &str, line: Option<String>) {
    let Some(line) = line else { return };
    let list = fields.entry(name).or_insert_with(|| json!([]));
    list.as_array_mut().into_iter().for_each(|list| list.push(line.as_str().into()));
}
