//! What is sent on to an outside service, and what comes back.

use serde_json::{Map, Value, json};

use super::collections::members;
use super::object;
use crate::policy::PolicySet;

const BODY: &str = "A request of the destination's own interface. Where its file names a place, and there alone, stands `{{`, the id \
of a record and `}}`, and nothing else; it is sent with the value of that record. One such place at least, and 16 at most.";
const ANSWER: &str = "What the destination's file gives back of its answer, in its places; what repeats a value that was sent is left \
out and named in `withheld`.";

/// The destinations of the policy, as a segment of the path; `None` where there are none.
pub(super) fn destination(policy: &PolicySet) -> Option<Value> {
    let names: Vec<&str> = policy.destinations().map(|one| one.name().as_str()).collect();
    let parameter = json!({
        "name": "destination", "in": "path", "required": true, "schema": { "type": "string", "enum": names },
    });
    (!names.is_empty()).then_some(parameter)
}

pub(super) fn add_schemas(schemas: &mut Map<String, Value>) {
    let body = json!({ "type": "object", "minProperties": 1, "description": BODY });
    let status = json!({
        "type": "integer", "minimum": 200, "maximum": 599, "description": "The destination's own.",
    });
    let pointer = json!({ "type": "string", "pattern": "^/" });
    let answer = members([
        ("status", status),
        ("answer", json!({ "type": "object", "description": ANSWER })),
        ("withheld", json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": pointer })),
    ]);
    schemas.insert("NewRelay".to_owned(), body);
    schemas.insert("Relayed".to_owned(), object(answer, &["status", "answer"]));
}
