//! What a page of an export is.

use serde_json::{Map, Value, json};

use super::collections::{members, schema_of};
use super::{object, reference};
use crate::policy::PolicySet;

pub(super) fn add_schemas(policy: &PolicySet, schemas: &mut Map<String, Value>) {
    let names: Vec<&str> = policy.collections().map(|collection| collection.name().as_str()).collect();
    let collection = || json!({ "enum": names });
    let records: Vec<Value> =
        policy.collections().map(|collection| schema_of(collection, "record")).collect();
    let place = members([("collection", collection()), ("id", reference("schemas", "Id"))]);
    let export = members([
        ("subject", reference("schemas", "Subject")),
        ("records", json!({ "type": "array", "maxItems": 500, "items": { "oneOf": records } })),
        (
            "unreadable",
            json!({
                "type": "array", "minItems": 1, "items": object(place, &["collection", "id"]),
                "description": "Records that failed their integrity check.",
            }),
        ),
        (
            "withheld",
            json!({
                "type": "array", "minItems": 1, "uniqueItems": true, "items": collection(),
                "description": "Collections of which policy gives nothing, whether or not there are records.",
            }),
        ),
        ("next", reference("schemas", "ExportPlace")),
    ]);
    let place = json!({
        "type": "string", "pattern": "^[a-z][a-z0-9_]{0,47}[.][a-z0-9_-]{1,64}$",
        "description": "A collection and a record.",
    });
    schemas.insert("ExportPlace".to_owned(), place);
    schemas.insert("Export".to_owned(), object(export, &["subject", "records"]));
}
