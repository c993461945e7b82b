//! The log in the forms that others read: a table, JSON lines, FHIR, OCSF. One line an entry, each with its number in the log,
//! which is what a proof of it is asked for by.
//!
//! Entries are taken as they are stored; nothing is added that they do not say. Not here: which entries (`cli::audit`).

mod csv;
mod fhir;
mod ocsf;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, with a heading.
    Csv,
    /// The entry with its number.
    Jsonl,
    /// FHIR R4 `AuditEvent`, with the slices of IHE BALP, one resource a line.
    Fhir,
    /// OCSF 1.3 API Activity, one event a line.
    Ocsf,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Csv, Self::Jsonl, Self::Fhir, Self::Ocsf];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Fhir => "fhir",
            Self::Ocsf => "ocsf",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }

    /// What it is called where a caller asks for it (RFC 9110 section 12.5.1).
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Jsonl => "application/jsonl",
            Self::Fhir => "application/fhir+json",
            Self::Ocsf => "application/ocsf+json",
        }
    }

    /// Lines as one document of this form: a table or JSON lines as they are, FHIR as a Bundle, OCSF as a list.
    pub fn document(self, lines: &[String]) -> String {
        match self {
            Self::Csv => terminated(self.heading().iter().chain(lines), "\r\n"),
            Self::Jsonl => terminated(lines, "\n"),
            Self::Fhir => {
                let entries: Vec<String> =
                    lines.iter().map(|line| format!("{{\"resource\":{line}}}")).collect();
                // An empty list is no list in FHIR.
                let entries = match entries.len() {
                    0 => String::new(),
                    _ => format!(",\"entry\":[{}]", entries.join(",")),
                };
                format!("{{\"resourceType\":\"Bundle\",\"type\":\"collection\"{entries}}}")
            }
            Self::Ocsf => format!("[{}]", lines.join(",")),
        }
    }

    /// What stands before the first entry.
    pub fn heading(self) -> Option<String> {
        (self == Self::Csv).then(csv::heading)
    }

    /// One line without its end; an entry that has no number yet goes without. `None` where the bytes are no JSON object: `audit verify` says more of them.
    pub fn line(self, origin: &str, number: Option<u64>, entry: &[u8]) -> Option<String> {
        let entry: Value = serde_json::from_slice(entry).ok().filter(Value::is_object)?;
        let place = Place { origin, number };
        Some(match self {
            Self::Csv => csv::row(place, &entry),
            Self::Jsonl => match number {
                Some(number) => json!({ "log": origin, "index": number, "entry": entry }).to_string(),
                None => json!({ "log": origin, "entry": entry }).to_string(),
            },
            Self::Fhir => fhir::resource(place, &entry).to_string(),
            Self::Ocsf => ocsf::event(place, &entry).to_string(),
        })
    }
}

fn terminated<'a>(lines: impl IntoIterator<Item = &'a String>, end: &str) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push_str(end);
    }
    text
}

/// Where an entry stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    origin: &'a str,
    number: Option<u64>,
}

/// A text in an entry; empty where there is none.
fn text<'e>(entry: &'e Value, pointer: &str) -> &'e str {
    entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a list.
fn texts<'e>(entry: &'e Value, pointer: &str) -> Vec<&'e str> {
    let items = entry.pointer(pointer).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The things that were touched.
fn objects(entry: &Value) -> impl Iterator<Item = &Value> {
    entry.get("obj").and_then(Value::as_array).into_iter().flatten()
}
