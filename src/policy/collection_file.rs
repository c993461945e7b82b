//! Reading one `policy/collections/*.toml`: unknown keys, reused ids and fields without a class are refused.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::collection::{CardPart, Collection, Field, KeyScope, RESERVED_NAMES, SubjectRule};
use super::index_file::{IndexEntry, read_index};
use crate::domain::class::DataClass;
use crate::domain::id::{CollectionName, FieldId, FieldName};
use crate::domain::value::{FieldType, Mask, PhoneCountry, ValueLimits, parse_value};

const MAX_FIELDS: usize = 256;
/// Ids from here up are kept for the service's own use.
const MAX_FIELD_ID: u32 = 65_535;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectionFile {
    name: String,
    about: String,
    subject: SubjectRule,
    key_scope: KeyScope,
    /// Ids of fields that are gone; they never return.
    #[serde(default)]
    retired_ids: Vec<u32>,
    field: Vec<FieldEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldEntry {
    id: u32,
    name: String,
    #[serde(rename = "type")]
    field_type: String,
    class: DataClass,
    mask: String,
    /// Of cardholder data only.
    card: Option<CardPart>,
    about: String,
    #[serde(default)]
    required: bool,
    max_bytes: Option<usize>,
    max_items: Option<usize>,
    /// The only values a code may have.
    values: Option<Vec<String>>,
    /// The country of phone numbers that come without one.
    country: Option<String>,
    /// How the field can be looked for.
    index: Option<IndexEntry>,
}

/// `stem` is the file's name without `.toml`; it must be the collection's name. The error is a sentence for the person
/// who edits the file.
pub(super) fn read_collection(stem: &str, text: &str) -> Result<Collection, String> {
    let file: CollectionFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.name != stem {
        return Err(format!("name the collection as the file, {stem}"));
    }
    if RESERVED_NAMES.contains(&file.name.as_str()) {
        return Err("choose another name, this one is a path of the interface".to_owned());
    }
    let name = CollectionName::parse(&file.name)
        .ok_or("name the collection in lower-case letters, digits and _, letter first, at most 48")?;
    if file.key_scope == KeyScope::Record && file.subject == SubjectRule::OwnsSubject {
        return Err("key_scope = \"record\" is for records that refer to a subject".to_owned());
    }
    if file.field.is_empty() || file.field.len() > MAX_FIELDS {
        return Err(format!("declare 1 to {MAX_FIELDS} fields"));
    }
    let mut ids: HashSet<u32> = HashSet::new();
    if !file.retired_ids.iter().all(|id| ids.insert(*id)) {
        return Err("list each retired id once".to_owned());
    }
    let mut names = HashSet::new();
    let mut fields = Vec::with_capacity(file.field.len());
    for entry in file.field {
        let label = format!("field {} ({})", entry.id, entry.name);
        if !ids.insert(entry.id) {
            return Err(format!("{label}: give it an id that no field has or had"));
        }
        let field = read_field(&entry).map_err(|why| format!("{label}: {why}"))?;
        if !names.insert(field.name.clone()) {
            return Err(format!("{label}: give it a name that no other field has"));
        }
        fields.push(field);
    }
    Ok(Collection::new(name, file.subject, file.key_scope, one_line(&file.about)?, fields))
}

fn read_field(entry: &FieldEntry) -> Result<Field, String> {
    if !(1..=MAX_FIELD_ID).contains(&entry.id) {
        return Err(format!("choose an id from 1 to {MAX_FIELD_ID}"));
    }
    let name = FieldName::parse(&entry.name)
        .ok_or("use lower-case letters, digits and _, letter first, at most 48")?;
    let field_type = FieldType::parse(&entry.field_type).ok_or("use one of the types in policy/README.md")?;
    let mask = Mask::parse(&entry.mask).ok_or("use one of the masks in policy/README.md")?;
    if !mask.fits(field_type) {
        return Err(format!("the mask {} does not fit the type {}", mask.as_str(), field_type.as_str()));
    }
    if entry.card.is_some() && entry.class != DataClass::Chd {
        return Err("card is for fields of the class chd".to_owned());
    }
    if field_type == FieldType::Document && (entry.required || entry.max_bytes.is_some()) {
        return Err("a document comes after its record and is bounded by limits.document_bytes: leave out required and max_bytes".to_owned());
    }
    let limits = read_limits(entry, field_type)?;
    let index = entry.index.as_ref().map(|index| read_index(index, field_type, &limits)).transpose()?;
    let about = one_line(&entry.about)?;
    Ok(Field {
        id: FieldId(entry.id),
        name,
        field_type,
        class: entry.class,
        mask,
        card: entry.card,
        required: entry.required,
        limits,
        index,
        about,
    })
}

fn read_limits(entry: &FieldEntry, field_type: FieldType) -> Result<ValueLimits, String> {
    let mut limits = ValueLimits::of(field_type);
    if let Some(max_bytes) = entry.max_bytes {
        if !(1..=limits.max_bytes).contains(&max_bytes) {
            return Err(format!("choose max_bytes from 1 to {}", limits.max_bytes));
        }
        limits.max_bytes = max_bytes;
    }
    if let Some(max_items) = entry.max_items {
        let counted = matches!(field_type, FieldType::List | FieldType::Json);
        if !counted || !(1..=limits.max_items).contains(&max_items) {
            return Err("max_items is for lists and JSON, from 1 to the type's own limit".to_owned());
        }
        limits.max_items = max_items;
    }
    if let Some(values) = &entry.values {
        limits.values = Some(read_values(values, field_type)?);
    }
    if let Some(country) = &entry.country {
        let country = PhoneCountry::parse(country).filter(|_| field_type == FieldType::Phone);
        limits.phone_country = Some(country.ok_or("country is for phone fields, and only +1 is known")?);
    }
    Ok(limits)
}

/// Listed values are codes in canonical form, each once.
fn read_values(values: &[String], field_type: FieldType) -> Result<Arc<[Box<str>]>, String> {
    let unlimited = ValueLimits::of(FieldType::Code);
    let canonical = |value: &String| {
        let json = RawValue::from_string(serde_json::Value::from(value.as_str()).to_string()).ok()?;
        let parsed = parse_value(FieldType::Code, &unlimited, &json).ok()?;
        #[expect(clippy::disallowed_methods, reason = "a value of a policy file, not of a person")]
        let same = parsed.expose() == value.as_bytes();
        same.then_some(())
    };
    let distinct: HashSet<&String> = values.iter().collect();
    let fits = field_type == FieldType::Code
        && !values.is_empty()
        && distinct.len() == values.len()
        && values.iter().all(|value| canonical(value).is_some());
    if fits {
        Ok(values.iter().map(|value| value.as_str().into()).collect())
    } else {
        Err("values is for code fields: distinct printable words".to_owned())
    }
}

fn one_line(text: &str) -> Result<Box<str>, String> {
    let fits = !text.trim().is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    if fits { Ok(text.into()) } else { Err("say in one line what it is about".to_owned()) }
}
