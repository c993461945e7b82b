//! Breaking the glass: what opens it, what is answered, and what reviews it.

use serde_json::{Map, Value, json};

use super::collections::members;
use super::{object, reference};
use crate::domain::break_glass::{BreakGlassReason, Verdict};

pub(super) fn add_schemas(schemas: &mut Map<String, Value>) {
    let shared = |name: &str| reference("schemas", name);
    let subjects = json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": shared("Subject") });
    let reason = json!({ "enum": BreakGlassReason::ALL.map(BreakGlassReason::as_str) });
    let reference = json!({
        "type": "string", "pattern": "^[A-Za-z0-9._/-]{1,64}$",
        "description": "Where the reason is written down: the number of a case or a ticket.",
    });
    let uuid = || json!({ "type": "string", "format": "uuid" });
    let minutes =
        json!({ "type": "integer", "minimum": 1, "maximum": 240, "description": "Policy may give fewer." });
    let new = members([
        ("reason", reason.clone()),
        ("reference", reference.clone()),
        ("minutes", minutes),
        ("subjects", subjects.clone()),
    ]);
    let opened = members([("id", uuid()), ("ends_at", shared("Moment"))]);
    let waiting = members([
        ("id", uuid()),
        ("client", json!({ "type": "string" })),
        ("reason", reason),
        ("reference", reference),
        ("opened_at", shared("Moment")),
        ("ends_at", shared("Moment")),
        ("subjects", subjects),
    ]);
    let every = ["id", "client", "reason", "reference", "opened_at", "ends_at", "subjects"];
    let waiting = json!({ "type": "array", "items": object(waiting, &every) });
    let verdict = json!({ "enum": Verdict::ALL.map(Verdict::as_str) });
    let all = [
        ("NewBreakGlass", object(new, &["reason", "reference", "minutes", "subjects"])),
        ("BreakGlass", object(opened, &["id", "ends_at"])),
        ("Unreviewed", object(members([("unreviewed", waiting)]), &["unreviewed"])),
        ("Review", object(members([("verdict", verdict)]), &["verdict"])),
    ];
    schemas.extend(all.map(|(name, schema)| (name.to_owned(), schema)));
}
