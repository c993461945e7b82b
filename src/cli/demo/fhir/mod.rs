//! FHIR R4 (newline-delimited JSON) into records of `patients` and `encounters`.
//!
//! Only what the collections have a field for is taken. What is left out is counted by reason, so that a load can say
//! what it did not load. Not here: sending anything.

mod encounter;
mod patient;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

/// The fields of one record, as a create takes them.
pub(super) type Fields = Map<String, Value>;

/// How many things were not taken, by reason.
pub(super) type LeftOut = BTreeMap<&'static str, usize>;

/// A person and their visits.
pub(super) struct Person {
    pub fields: Fields,
    pub encounters: Vec<Fields>,
}

impl Person {
    /// A field's text; empty when it has none.
    pub fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn full_name(&self) -> String {
        format!("{} {}", self.text("given_name"), self.text("family_name"))
    }
}

/// A whole file, mapped.
pub(super) struct Sample {
    pub people: Vec<Person>,
    /// Resources in the file.
    pub resources: usize,
    pub left_out: LeftOut,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum SampleError {
    #[error("line {0} is not a FHIR resource")]
    Line(usize),
    #[error("a {0} lacks its {1}")]
    Lacks(&'static str, &'static str),
}

/// Resources by type, in the order of the file.
type Resources = HashMap<String, Vec<Value>>;

impl Sample {
    /// Maps every resource of `file`, one a line.
    pub fn parse(file: &str) -> Result<Self, SampleError> {
        let mut resources = Resources::new();
        let mut count = 0;
        for (number, line) in file.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let resource: Value = serde_json::from_str(line).map_err(|_| SampleError::Line(number + 1))?;
            let kind = resource.get("resourceType").and_then(Value::as_str);
            let kind = kind.ok_or(SampleError::Line(number + 1))?.to_owned();
            resources.entry(kind).or_default().push(resource);
            count += 1;
        }
        let mut left_out = LeftOut::new();
        let mut encounters = encounter::by_patient(&resources, &mut left_out)?;
        let mut people = Vec::new();
        for patient in list(&resources, "Patient") {
            let id = text(patient, "/id").ok_or(SampleError::Lacks("Patient", "id"))?;
            people.push(Person {
                fields: patient::map(patient, &mut left_out)?,
                encounters: encounters.remove(id).unwrap_or_default(),
            });
        }
        let strays: usize = encounters.values().map(Vec::len).sum();
        count_left_out(&mut left_out, "encounters of nobody in the file", strays);
        Ok(Self { people, resources: count, left_out })
    }

    pub fn encounters(&self) -> usize {
        self.people.iter().map(|person| person.encounters.len()).sum()
    }
}

fn list<'r>(resources: &'r Resources, kind: &str) -> &'r [Value] {
    resources.get(kind).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

/// The id in a reference: `urn:uuid:{id}`.
fn reference<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    text(value, pointer)?.strip_prefix("urn:uuid:")
}

/// A coding as `system|code`.
fn coding(value: &Value) -> Option<String> {
    Some(format!("{}|{}", text(value, "/system")?, text(value, "/code")?))
}

fn put(fields: &mut Fields, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.into());
    }
}

fn count_left_out(left_out: &mut LeftOut, reason: &'static str, count: usize) {
    if count > 0 {
        *left_out.entry(reason).or_default() += count;
    }
}
