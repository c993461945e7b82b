//! Tenant keys and their rotation: what asks for one, what is answered, and how far it has come.

use serde_json::{Map, Value, json};

use super::collections::members;
use super::{object, reference};
use crate::domain::class::DataClass;
use crate::domain::rotation::RotationReason;

pub(super) fn add_schemas(schemas: &mut Map<String, Value>) {
    let shared = |name: &str| reference("schemas", name);
    let list = |items: Value| json!({ "type": "array", "items": items });
    let class = || json!({ "enum": DataClass::ALL.map(DataClass::as_str) });
    let reason = || json!({ "enum": RotationReason::ALL.map(RotationReason::as_str) });
    let case = || {
        json!({
            "type": "string", "pattern": "^[A-Za-z0-9._/-]{1,64}$",
            "description": "Where the reason is written down: the number of a case.",
        })
    };
    let uuid = || json!({ "type": "string", "format": "uuid" });
    let number = |about: &str| json!({ "type": "integer", "minimum": 1, "description": format!("The number of {about}.") });
    let of_keys = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let new = members([("class", class()), ("reason", reason()), ("reference", case())]);
    let asked = members([
        ("id", uuid()),
        ("class", class()),
        ("from", number("the old key")),
        ("to", number("its successor")),
    ]);
    let key = members([
        ("id", number("the key")),
        ("state", json!({ "enum": ["active", "retiring"] })),
        ("since", shared("Moment")),
        ("created_at", shared("Moment")),
        ("age_days", json!({ "type": "integer", "minimum": 0 })),
        ("wraps", of_keys("Keys of persons and records that need it.")),
    ]);
    let key = object(key, &["id", "state", "since", "created_at", "age_days", "wraps"]);
    let of_class = members([("class", class()), ("keys", list(key)), ("rotation", shared("Rotation"))]);
    let of_class = object(of_class, &["class", "keys"]);
    let all = [
        ("NewRotation", object(new, &["class", "reason", "reference"])),
        ("RequestedRotation", object(asked, &["id", "class", "from", "to"])),
        ("Rotation", rotation(case())),
        ("Rotations", object(members([("rotations", list(shared("Rotation")))]), &["rotations"])),
        ("KeyStatus", object(members([("classes", list(of_class))]), &["classes"])),
    ];
    schemas.extend(all.map(|(name, schema)| (name.to_owned(), schema)));
}

fn rotation(case: Value) -> Value {
    let at = || reference("schemas", "Moment");
    let custodian = || json!({ "type": "string", "description": "A custodian's client." });
    let number = || json!({ "type": "integer", "minimum": 1 });
    let of_keys = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let properties = members([
        ("id", json!({ "type": "string", "format": "uuid" })),
        ("class", json!({ "enum": DataClass::ALL.map(DataClass::as_str) })),
        ("from", number()),
        ("to", number()),
        ("state", json!({ "enum": ["requested", "rewrapping", "rewrapped", "destroying", "destroyed"] })),
        ("reason", json!({ "enum": RotationReason::ALL.map(RotationReason::as_str) })),
        ("reference", case),
        ("requested_by", custodian()),
        ("requested_at", at()),
        ("rewrapped", of_keys("Keys that were wrapped again.")),
        ("left", of_keys("Keys that the old key still wraps.")),
        ("began_at", at()),
        ("rewrapped_at", at()),
        ("destroyable_from", at()),
        ("approved_by", custodian()),
        ("approved_at", at()),
        ("destroyed_at", at()),
    ]);
    let every = [
        "id",
        "class",
        "from",
        "to",
        "state",
        "reason",
        "reference",
        "requested_by",
        "requested_at",
        "rewrapped",
        "left",
    ];
    object(properties, &every)
}
