//! Erasing a person: what asks for it, what is answered, and how far it has come.

use serde_json::{Map, Value, json};

use super::collections::members;
use super::{object, reference};
use crate::domain::erasure::ErasureReason;

pub(super) fn add_schemas(schemas: &mut Map<String, Value>) {
    let at = || reference("schemas", "Moment");
    let reason = || json!({ "enum": ErasureReason::ALL.map(ErasureReason::as_str) });
    let case = || {
        json!({
            "type": "string", "pattern": "^[A-Za-z0-9._/-]{1,64}$",
            "description": "Where the request is written down: the number of a case.",
        })
    };
    let uuid = || json!({ "type": "string", "format": "uuid" });
    let client = || json!({ "type": "string", "description": "A client; for whom it acted, the log says." });
    let new = members([("reason", reason()), ("reference", case())]);
    let asked = members([("id", uuid()), ("lapses_at", at())]);
    let certificate = json!({
        "type": "string",
        "description": "A signed note: `strongroom audit certificate` checks it with the log's public keys.",
    });
    let erasure = members([
        ("id", uuid()),
        ("state", json!({ "enum": ["requested", "lapsed", "erasing", "erased"] })),
        ("reason", reason()),
        ("reference", case()),
        ("requested_by", client()),
        ("requested_at", at()),
        ("lapses_at", at()),
        ("approved_by", client()),
        ("approved_at", at()),
        ("erased_at", at()),
        ("certificate", certificate),
    ]);
    let every = ["id", "state", "reason", "reference", "requested_by", "requested_at", "lapses_at"];
    let erasures = json!({ "type": "array", "items": object(erasure, &every) });
    let all = [
        ("NewErasure", object(new, &["reason", "reference"])),
        ("RequestedErasure", object(asked, &["id", "lapses_at"])),
        ("Erasures", object(members([("erasures", erasures)]), &["erasures"])),
    ];
    schemas.extend(all.map(|(name, schema)| (name.to_owned(), schema)));
}
