//! OCSF 1.3, class API Activity (6003).

use serde_json::{Map, Value, json};

use super::{Place, objects, text, texts};
use crate::domain::clock::Timestamp;

const CLASS: u64 = 6_003;

/// OCSF, API Activity, `activity_id`.
fn activity(act: &str) -> (u64, &'static str) {
    match act {
        "record.create" => (1, "Create"),
        "record.read" | "record.list" | "record.search" | "record.history" | "document.read"
        | "audit.read" => (2, "Read"),
        "record.update" => (3, "Update"),
        "record.delete" | "audit.prune" | "audit.expire" => (4, "Delete"),
        _ => (99, "Other"),
    }
}

pub(super) fn event(place: Place<'_>, entry: &Value) -> Value {
    let act = text(entry, "/act");
    let (activity_id, activity_name) = activity(act);
    let is_success = text(entry, "/out/status") == "success";
    let time_ms = Timestamp::parse_rfc3339(text(entry, "/ts")).map_or(0, |at| at.as_micros() / 1_000);
    let mut event = json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "type_uid": CLASS * 100 + activity_id,
        "time": time_ms,
        // A refusal is worth a look; what is stored says no more.
        "severity_id": if is_success { 1 } else { 2 },
        "status_id": if is_success { 1 } else { 2 },
        "status": text(entry, "/out/status"),
        "actor": actor(entry),
        "api": api(entry, act),
        "src_endpoint": source(entry),
        "metadata": {
            "version": "1.3.0",
            "product": {
                "name": text(entry, "/dst/service"),
                "vendor_name": "Strongroom",
                "version": text(entry, "/dst/build"),
            },
            "uid": text(entry, "/id"),
            "original_time": text(entry, "/ts"),
            // Where its proof is found.
            "log_name": place.origin,
            "sequence": place.number,
        },
        "resources": objects(entry).filter_map(resource).collect::<Vec<_>>(),
        "unmapped": unmapped(entry),
    });
    if let Some(metadata) = event.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
    }
    if let Some(members) = event.as_object_mut() {
        members.retain(|_, value| {
            value.as_array().is_none_or(|list| !list.is_empty())
                && value.as_object().is_none_or(|map| !map.is_empty())
        });
        match text(entry, "/out/code") {
            "" => {}
            code => drop(members.insert("status_code".to_owned(), json!(code))),
        }
    }
    event
}

fn actor(entry: &Value) -> Value {
    let client = match text(entry, "/who/uid") {
        "" => text(entry, "/who/kind"),
        uid => uid,
    };
    let person = text(entry, "/who/on_behalf_of/uid");
    let mut user = if person.is_empty() {
        // A service account: applications have certificates.
        json!({ "uid": client, "type_id": 3, "type": "System" })
    } else {
        json!({ "uid": person, "type_id": 1, "type": "User", "domain": text(entry, "/who/on_behalf_of/issuer") })
    };
    let roles: Vec<Value> = texts(entry, "/who/roles")
        .into_iter()
        .chain(texts(entry, "/who/on_behalf_of/roles"))
        .map(|role| json!({ "name": role }))
        .collect();
    if let Some(members) = user.as_object_mut().filter(|_| !roles.is_empty()) {
        members.insert("groups".to_owned(), json!(roles));
    }
    let department = text(entry, "/who/on_behalf_of/department");
    if let Some(members) = user.as_object_mut().filter(|_| !department.is_empty()) {
        // OCSF, Organization: a name or an id at least, and the unit in it.
        let organization = json!({ "uid": text(entry, "/tenant"), "ou_name": department });
        members.insert("org".to_owned(), organization);
    }
    json!({ "user": user, "app_name": client })
}

fn api(entry: &Value, act: &str) -> Value {
    let mut api = json!({ "operation": act });
    if let Some(members) = api.as_object_mut().filter(|_| !text(entry, "/req/id").is_empty()) {
        members.insert("request".to_owned(), json!({ "uid": text(entry, "/req/id") }));
    }
    api
}

/// Demanded of every event; what the service did by itself came from its own instance.
fn source(entry: &Value) -> Value {
    match text(entry, "/src/ip") {
        "" => json!({ "name": text(entry, "/dst/instance") }),
        ip => json!({ "ip": ip, "port": entry.pointer("/src/port").and_then(Value::as_u64).unwrap_or(0) }),
    }
}

fn resource(object: &Value) -> Option<Value> {
    let collection = object.get("collection")?.as_str()?;
    let mut resource = json!({ "type": collection });
    let members = resource.as_object_mut()?;
    // OCSF, Resource Details: a name or an id at least.
    match object.get("record").and_then(Value::as_str) {
        Some(record) => members.insert("uid".to_owned(), json!(record)),
        None => members.insert("name".to_owned(), json!(collection)),
    };
    if let Some(version) = object.get("version").and_then(Value::as_u64) {
        members.insert("version".to_owned(), json!(version.to_string()));
    }
    Some(resource)
}

/// What an auditor needs and OCSF has no place for.
fn unmapped(entry: &Value) -> Value {
    let mut rest = Map::new();
    for name in ["tenant", "subj", "purpose", "basis", "asked", "obj", "n", "disc"] {
        if let Some(value) = entry.get(name) {
            rest.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(rest)
}
