//! Legal holds: what places one, what is answered, and what there is.

use serde_json::{Map, Value, json};

use super::collections::members;
use super::{object, reference};
use crate::domain::hold::HoldReason;

pub(super) fn add_schemas(schemas: &mut Map<String, Value>) {
    let at = || reference("schemas", "Moment");
    let reason = || json!({ "enum": HoldReason::ALL.map(HoldReason::as_str) });
    let case = || {
        json!({
            "type": "string", "pattern": "^[A-Za-z0-9._/-]{1,64}$",
            "description": "Where the reason is written down: the number of a case.",
        })
    };
    let uuid = || json!({ "type": "string", "format": "uuid" });
    let client = || json!({ "type": "string", "description": "A client; for whom it acted, the log says." });
    let new = members([("reason", reason()), ("reference", case())]);
    let placed = members([("id", uuid()), ("placed_at", at())]);
    let hold = members([
        ("id", uuid()),
        ("reason", reason()),
        ("reference", case()),
        ("placed_by", client()),
        ("placed_at", at()),
        ("released_by", client()),
        ("released_at", at()),
    ]);
    let every = ["id", "reason", "reference", "placed_by", "placed_at"];
    let holds = json!({ "type": "array", "items": object(hold, &every) });
    let all = [
        ("NewHold", object(new, &["reason", "reference"])),
        ("Hold", object(placed, &["id", "placed_at"])),
        ("Holds", object(members([("holds", holds)]), &["holds"])),
    ];
    schemas.extend(all.map(|(name, schema)| (name.to_owned(), schema)));
}
