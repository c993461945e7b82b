//! JSON Schemas of fields, from the types, limits and masks that a collection's file declares: as a value is sent, as it is
//! shown in plain, and as it is shown masked.
//!
//! What a schema refuses the service refuses too, but for spaces around a value and text that composing makes shorter;
//! the service refuses more (calendars, checks across a value, sizes in bytes). `tests/it/openapi_fields.rs` holds both
//! sides of that to the parser.

use serde_json::{Map, Value, json};

use super::object;
use crate::domain::index::FieldIndex;
use crate::domain::value::{FieldType, Mask, ValueLimits};
use crate::policy::Field;

/// No control characters.
const ONE_LINE: &str = r"^[^\x00-\x1f\x7f-\x9f]+$";
const HOST: &str = r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$";
/// The largest whole number that every JSON reader keeps exactly.
const MAX_INTEGER: i64 = (1 << 53) - 1;

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Sent,
    Shown,
}

/// As a caller may send it; `None` for a document, which is not sent as JSON.
pub(super) fn sent(field: &Field) -> Option<Value> {
    let is_json = field.field_type != FieldType::Document;
    is_json.then(|| described(field, value(field.field_type, &field.limits, Way::Sent)))
}

/// In a PATCH: a value to set, or `null`, which removes the field where it is not required.
pub(super) fn changed(field: &Field) -> Value {
    let removed = json!({ "type": "null" });
    match sent(field) {
        None => described(field, removed),
        Some(value) if field.required => value,
        Some(_) => {
            let value = value(field.field_type, &field.limits, Way::Sent);
            described(field, json!({ "anyOf": [value, removed] }))
        }
    }
}

/// As an answer shows it: in plain, or masked, and then its name stands in `masked`.
pub(super) fn shown(field: &Field) -> Value {
    let plain = value(field.field_type, &field.limits, Way::Shown);
    described(field, json!({ "anyOf": [plain, masked(field.mask)] }))
}

/// The conditions by which a field can be looked for.
pub(super) fn sought(field: &Field, index: &FieldIndex) -> Vec<Value> {
    let condition = |word: &str, values: Vec<(&str, Value)>| {
        let mut properties = Map::new();
        properties.insert("field".to_owned(), json!({ "const": field.name.as_str() }));
        properties.insert("match".to_owned(), json!({ "const": word }));
        let mut required = vec!["field", "match"];
        for (name, value) in values {
            properties.insert(name.to_owned(), value);
            required.push(name);
        }
        object(properties, &required)
    };
    let mut conditions = Vec::new();
    if index.exact().is_some() {
        let value = value(field.field_type, &field.limits, Way::Sent);
        conditions.push(condition("exact", vec![("value", described(field, value))]));
    }
    if let Some(shortest) = index.prefix_lengths().min() {
        let about = format!("At least {shortest} letters or digits, as they are compared.");
        let mut value = value(field.field_type, &field.limits, Way::Sent);
        if let Some(members) = value.as_object_mut() {
            members.insert("description".to_owned(), json!(about));
        }
        conditions.push(condition("prefix", vec![("value", value)]));
    }
    if index.day().is_some() {
        let day = || value(FieldType::Date, &ValueLimits::of(FieldType::Date), Way::Sent);
        conditions.push(condition("on", vec![("value", day())]));
        conditions.push(condition("between", vec![("from", day()), ("until", day())]));
    }
    conditions
}

/// The field's own line, and what a client's developer should know before putting a value somewhere.
fn described(field: &Field, mut schema: Value) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.insert("description".to_owned(), json!(&*field.about));
        members.insert("x-class".to_owned(), json!(field.class.as_str()));
        members.insert("x-mask".to_owned(), json!(field.mask.as_str()));
        members.insert("x-type".to_owned(), json!(field.field_type.as_str()));
    }
    schema
}

fn value(field_type: FieldType, limits: &ValueLimits, way: Way) -> Value {
    let text = |pattern: &str| text(limits, pattern);
    match (field_type, way) {
        (FieldType::Text, _) => json!({ "type": "string", "minLength": 1, "maxLength": limits.max_bytes }),
        (FieldType::Name, _) => text(ONE_LINE),
        (FieldType::Date, _) => with_format("date", text("^[0-9]{4}-[0-9]{2}-[0-9]{2}$")),
        (FieldType::DateTime, Way::Sent) => json!({
            "type": "string", "format": "date-time",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
        }),
        (FieldType::DateTime, Way::Shown) => moment(),
        (FieldType::Email, _) => with_format("idn-email", text(&format!("^[^@\\s]+@{HOST}"))),
        (FieldType::Phone, Way::Sent) if limits.phone_country.is_some() => {
            json!({ "type": "string", "pattern": r"^\+?[0-9 ().-]+$" })
        }
        (FieldType::Phone, Way::Sent) => json!({ "type": "string", "pattern": r"^\+[0-9 ().-]+$" }),
        (FieldType::Phone, Way::Shown) => text(r"^\+[1-9][0-9]{7,14}$"),
        (FieldType::Ssn, Way::Sent) => text("^([0-9]{9}|[0-9]{3}-[0-9]{2}-[0-9]{4})$"),
        (FieldType::Ssn, Way::Shown) => text("^[0-9]{3}-[0-9]{2}-[0-9]{4}$"),
        (FieldType::Mrn, _) => text("^-*[A-Za-z0-9][A-Za-z0-9-]*$"),
        (FieldType::Code, _) => code(limits),
        (FieldType::Integer, _) => {
            json!({ "type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER })
        }
        (FieldType::Decimal, Way::Sent) => json!({
            "type": ["number", "string"], "pattern": r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$",
        }),
        (FieldType::Decimal, Way::Shown) => text(r"^-?[0-9]+(\.[0-9]+)?$"),
        (FieldType::Boolean, _) => json!({ "type": "boolean" }),
        (FieldType::Address, _) => address(),
        (FieldType::List, _) => {
            json!({ "type": "array", "maxItems": limits.max_items, "items": line(1_024) })
        }
        (FieldType::Json, _) => json!({ "type": ["object", "array", "string", "number", "boolean"] }),
        (FieldType::Document, _) => document(),
    }
}

/// RFC 3339 in UTC with six decimals, as every answer has times.
pub(super) fn moment() -> Value {
    json!({
        "type": "string", "format": "date-time",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
    })
}

fn text(limits: &ValueLimits, pattern: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": limits.max_bytes, "pattern": pattern })
}

fn line(max_bytes: usize) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": max_bytes, "pattern": ONE_LINE })
}

fn with_format(format: &str, mut schema: Value) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.insert("format".to_owned(), json!(format));
    }
    schema
}

/// Printable ASCII, `code` or `system|code`; or one of the values that the field lists.
fn code(limits: &ValueLimits) -> Value {
    match &limits.values {
        Some(values) => {
            let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
            json!({ "type": "string", "enum": values })
        }
        None => text(limits, r"^[ -{}~]+(\|[ -{}~]+)?$"),
    }
}

fn address() -> Value {
    let mut members = Map::new();
    for name in ["city", "country", "district", "postal_code", "state"] {
        members.insert(name.to_owned(), line(256));
    }
    members.insert("line".to_owned(), json!({ "type": "array", "maxItems": 4, "items": line(256) }));
    json!({ "type": "object", "additionalProperties": false, "minProperties": 1, "properties": members })
}

/// What a document is; the file itself has a path of its own.
fn document() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["bytes", "media_type"],
        "properties": {
            "bytes": { "type": "integer", "minimum": 1 },
            "media_type": { "type": "string", "maxLength": 255, "pattern": "^[^/]+/[^/]+$" },
            "name": line(255),
        },
    })
}

fn masked(mask: Mask) -> Value {
    let pattern = match mask {
        Mask::Full => return json!({ "const": "•••" }),
        Mask::LastFour => "^•••([A-Za-z0-9]{4})?$",
        // One character may be two code units.
        Mask::Initial => "^.{0,2}•••$",
        Mask::YearOnly => "^([0-9]{4}|•••)$",
        Mask::DomainOnly => "^•••(@.+)?$",
        Mask::FormatKept => "^[^A-Za-z0-9]+$",
    };
    json!({ "type": "string", "pattern": pattern })
}
