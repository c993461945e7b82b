//! The bodies of one collection: what makes a record, what changes one, and what an answer shows of it. The names of these
//! schemas begin with the collection's and a full stop, which no collection's name has.

use serde_json::{Map, Value, json};

use super::fields::{changed, moment, sent, shown, sought};
use super::{object, reference};
use crate::domain::index::MOST_DAYS;
use crate::policy::{Collection, SubjectRule};
use crate::service::{LARGEST_PAGE, MOST_CONDITIONS, MOST_RECORDS};

/// Adds the collection's schemas to those of the document.
pub(super) fn add_schemas(collection: &Collection, schemas: &mut Map<String, Value>) {
    let name = collection.name().as_str();
    let mut add = |part: &str, schema: Value| schemas.insert(format!("{name}.{part}"), schema);
    let names: Vec<&str> = collection.fields().iter().map(|field| field.name.as_str()).collect();
    add("field", json!({ "type": "string", "enum": names }));
    add("create", create(collection));
    add("change", change(collection));
    add("record", record(collection));
    add("create_many", many("records", &schema_of(collection, "create")));
    add("read_many", read_many(collection));
    add("records", records(collection));
    if collection.indexed().next().is_some() {
        add("search", search(collection));
        add("found", found(collection));
    }
}

pub(super) fn schema_of(collection: &Collection, part: &str) -> Value {
    reference("schemas", &format!("{}.{part}", collection.name().as_str()))
}

fn create(collection: &Collection) -> Value {
    let fields = collection.fields().iter();
    let values = fields.clone().filter_map(|field| Some((field.name.as_str().to_owned(), sent(field)?)));
    let required: Vec<&str> =
        fields.filter(|field| field.required).map(|field| field.name.as_str()).collect();
    let fields = object(values.collect(), &required);
    match collection.subject() {
        SubjectRule::OwnsSubject => object(members([("fields", fields)]), &["fields"]),
        SubjectRule::RefersToSubject => {
            object(members([("fields", fields), ("subject", subject())]), &["fields", "subject"])
        }
    }
}

fn change(collection: &Collection) -> Value {
    let values = collection.fields().iter().map(|field| (field.name.as_str().to_owned(), changed(field)));
    let mut fields = object(values.collect(), &[]);
    if let Some(members) = fields.as_object_mut() {
        members.insert("minProperties".to_owned(), json!(1));
    }
    object(members([("fields", fields)]), &["fields"])
}

fn record(collection: &Collection) -> Value {
    let values = collection.fields().iter().map(|field| (field.name.as_str().to_owned(), shown(field)));
    let names = |about: &str| {
        let items = schema_of(collection, "field");
        json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": items, "description": about })
    };
    let members = members([
        ("id", reference("schemas", "Id")),
        ("collection", json!({ "const": collection.name().as_str() })),
        ("subject", subject()),
        ("version", reference("schemas", "Version")),
        ("created_at", moment()),
        ("updated_at", moment()),
        ("fields", object(values.collect(), &[])),
        ("masked", names("Fields that are shown masked.")),
        ("withheld", names("Fields that policy does not show to this caller, whether or not they are set.")),
    ]);
    object(members, &["id", "collection", "version", "created_at", "updated_at", "fields"])
}

fn read_many(collection: &Collection) -> Value {
    let fields = json!({ "type": "array", "uniqueItems": true, "items": schema_of(collection, "field") });
    let ids = json!({
        "type": "array", "minItems": 1, "maxItems": MOST_RECORDS, "uniqueItems": true,
        "items": reference("schemas", "Id"),
    });
    let members = members([("ids", ids), ("fields", fields), ("view", reference("schemas", "View"))]);
    object(members, &["ids"])
}

fn records(collection: &Collection) -> Value {
    let places = |about: &str| {
        json!({
            "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 0 }, "description": about,
        })
    };
    let members = members([
        ("records", json!({ "type": "array", "items": schema_of(collection, "record") })),
        ("missing", places("Places in `ids`, from 0, of what is no record for this caller.")),
        ("unreadable", places("Places in `ids`, from 0, of records that failed their integrity check.")),
    ]);
    object(members, &["records"])
}

fn search(collection: &Collection) -> Value {
    let conditions: Vec<Value> =
        collection.indexed().flat_map(|(field, index)| sought(field, index)).collect();
    let about = format!(
        "All of them must hold. `between` is of at most {MOST_DAYS} days, both included; days of moments are those of UTC."
    );
    let conditions = json!({
        "type": "array", "minItems": 1, "maxItems": MOST_CONDITIONS, "items": { "oneOf": conditions },
        "description": about,
    });
    let fields = json!({ "type": "array", "uniqueItems": true, "items": schema_of(collection, "field") });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": 20 });
    let members = members([
        ("where", conditions),
        ("fields", fields),
        ("view", reference("schemas", "View")),
        ("limit", limit),
        ("cursor", reference("schemas", "Id")),
    ]);
    object(members, &["where"])
}

fn found(collection: &Collection) -> Value {
    let incomplete = "There, and true, where records are not indexed as the policy says, or not yet: the search does not find them.";
    let unreadable = "How many records that may be what was asked for failed their integrity check.";
    let members = members([
        (
            "records",
            json!({ "type": "array", "maxItems": LARGEST_PAGE, "items": schema_of(collection, "record") }),
        ),
        ("next", reference("schemas", "Id")),
        ("incomplete", json!({ "const": true, "description": incomplete })),
        ("unreadable", json!({ "type": "integer", "minimum": 1, "description": unreadable })),
    ]);
    object(members, &["records"])
}

fn many(name: &str, item: &Value) -> Value {
    let items = json!({ "type": "array", "minItems": 1, "maxItems": MOST_RECORDS, "items": item });
    object(members([(name, items)]), &[name])
}

fn subject() -> Value {
    reference("schemas", "Subject")
}

pub(super) fn members<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}
