//! What each operation is for, what it takes and what it answers when it goes well. Refusals are in `problems`.

use serde_json::{Map, Value, json};

use super::collections::{members, schema_of};
use super::parameters::{self, parameter};
use super::problems::{not_let_in, responses};
use super::{object, reference};
use crate::audit::render::Format;
use crate::domain::care_team::MOST_CARE_TEAMS;
use crate::http::Operation;
use crate::policy::Collection;
use crate::service::Alarm;

/// The operation of one collection, or of none.
pub(super) fn describe(operation: Operation, collection: Option<&Collection>) -> Value {
    let (verb, summary) = words(operation);
    let name = collection.map(|collection| collection.name().as_str());
    let id = name.map_or_else(|| verb.to_owned(), |name| format!("{verb}_{name}"));
    let mut described = json!({
        "operationId": id,
        "summary": summary,
        "tags": [name.unwrap_or("service")],
        "responses": answers(operation, collection),
    });
    if let Some(members) = described.as_object_mut() {
        let own = own_parameters(operation, collection);
        if !own.is_empty() {
            members.insert("parameters".to_owned(), own.into());
        }
        if let Some(body) = body(operation, collection) {
            members.insert("requestBody".to_owned(), body);
        }
    }
    described
}

/// Stable word for programs, and a line for people.
const fn words(operation: Operation) -> (&'static str, &'static str) {
    match operation {
        Operation::ReadEvents => {
            ("read_audit_events", "A page of the log of the caller's tenant and of the service")
        }
        Operation::ReadCheckpoint => {
            ("read_log_checkpoint", "The newest published checkpoint of the log (C2SP tlog-checkpoint)")
        }
        Operation::ReadProof => {
            ("read_entry_proof", "The proof that an entry is in the log (C2SP tlog-proof)")
        }
        Operation::ReadCareTeam => ("read_care_team", "The care teams that look after a subject"),
        Operation::UpdateCareTeam => ("update_care_team", "Set the care teams that look after a subject"),
        Operation::OpenBreakGlass => {
            ("open_break_glass", "See more than usual of somebody, for minutes; it is reviewed afterwards")
        }
        Operation::ListBreakGlass => ("list_break_glass", "What waits for its review, the oldest first"),
        Operation::ReviewBreakGlass => ("review_break_glass", "Review what somebody else opened, and end it"),
        Operation::ReadHolds => ("read_holds", "The legal holds on what is kept of a subject"),
        Operation::PlaceHold => {
            ("place_hold", "Place a legal hold: nothing of a subject is deleted, nothing expires")
        }
        Operation::ReleaseHold => ("release_hold", "Release a legal hold"),
        Operation::ExportSubject => {
            ("export_subject", "Everything that is kept of a subject and that policy gives, a page at a time")
        }
        Operation::Relay => ("relay", "Have a request sent on, with values of records put in"),
        Operation::ReadErasures => {
            ("read_erasures", "How far the erasures of a subject have come, and their certificate")
        }
        Operation::RequestErasure => {
            ("request_erasure", "Ask that a subject be erased; somebody else must approve it")
        }
        Operation::ApproveErasure => {
            ("approve_erasure", "Have a subject erased, as somebody else asked: for good, for everybody")
        }
        Operation::KeyStatus
        | Operation::ListRotations
        | Operation::RequestRotation
        | Operation::ReadRotation
        | Operation::ApproveRotation => words_of_keys(operation),
        Operation::OpenApi => ("openapi", "This document"),
        Operation::Live => ("live", "Whether the process answers"),
        Operation::Ready => ("ready", "Whether every part answers"),
        Operation::Metrics => ("metrics", "Counts and times, as Prometheus text"),
        Operation::List => ("list", "Ids, versions and times of the records, by id"),
        Operation::Create => ("create", "Make a record"),
        Operation::CreateMany => ("create_many", "Make up to 500 records, all or none"),
        Operation::ReadMany => ("read_many", "Read up to 500 records, those that there are"),
        Operation::Search => ("search", "Find records by what is in them, those that the caller may read"),
        Operation::Read => ("read", "Read a record, as far as policy goes"),
        Operation::Update => ("update", "Change fields of a record"),
        Operation::Delete => ("delete", "End a record"),
        Operation::ReadFile => ("read_file", "A document as it came"),
        Operation::StartUpload => ("start_upload", "Begin to bring a document (tus 1.0.0)"),
        Operation::UploadState => ("upload_state", "How far an upload has come (tus 1.0.0)"),
        Operation::AppendUpload => ("append_upload", "Bring some or all of a document (tus 1.0.0)"),
        Operation::CancelUpload => ("cancel_upload", "End an upload that is not complete (tus 1.0.0)"),
        Operation::History => ("history", "The versions of a record, newest first"),
    }
}

const fn words_of_keys(operation: Operation) -> (&'static str, &'static str) {
    match operation {
        Operation::KeyStatus => {
            ("read_key_status", "The tenant's keys: their ages, and how many keys each wraps")
        }
        Operation::ListRotations => {
            ("list_rotations", "The rotations of the tenant's keys, the newest first")
        }
        Operation::RequestRotation => {
            ("request_rotation", "Have a key replaced by a new one, under which all that it wraps is brought")
        }
        Operation::ReadRotation => ("read_rotation", "How far a rotation has come"),
        _ => ("approve_rotation", "Have the old key destroyed, as somebody else had it replaced"),
    }
}

fn own_parameters(operation: Operation, collection: Option<&Collection>) -> Vec<Value> {
    let all = |names: &[&str]| names.iter().map(|name| parameter(name)).collect();
    match operation {
        Operation::ReadEvents => parameters::of_events(),
        Operation::OpenApi => all(&["IfNoneMatch"]),
        Operation::Live
        | Operation::Ready
        | Operation::Metrics
        | Operation::ReadMany
        | Operation::Search
        | Operation::ReadCheckpoint
        | Operation::ReadProof
        | Operation::ListBreakGlass
        | Operation::ReviewBreakGlass
        | Operation::ReadHolds
        | Operation::ReleaseHold
        | Operation::Relay
        | Operation::ReadErasures
        | Operation::ApproveErasure
        | Operation::KeyStatus
        | Operation::ListRotations
        | Operation::ReadRotation
        | Operation::ApproveRotation
        | Operation::ReadCareTeam => Vec::new(),
        Operation::List => all(&["RecordCursor", "Limit"]),
        Operation::ExportSubject => all(&["ExportCursor", "Limit"]),
        Operation::History => all(&["VersionCursor", "Limit"]),
        Operation::Create
        | Operation::CreateMany
        | Operation::OpenBreakGlass
        | Operation::PlaceHold
        | Operation::RequestErasure
        | Operation::RequestRotation => all(&["IdempotencyKey"]),
        Operation::Read => {
            let fields = collection.map(parameters::fields);
            fields.into_iter().chain(["View", "Version"].map(parameter)).collect()
        }
        Operation::Update | Operation::UpdateCareTeam => all(&["IfMatchRequired"]),
        Operation::Delete => all(&["IfMatch"]),
        Operation::ReadFile => all(&["Version"]),
        Operation::StartUpload => all(&["TusResumable", "UploadLength", "UploadMetadata"]),
        Operation::UploadState | Operation::CancelUpload => all(&["TusResumable"]),
        Operation::AppendUpload => all(&["TusResumable", "UploadOffset"]),
    }
}

fn body(operation: Operation, collection: Option<&Collection>) -> Option<Value> {
    let schema = |part: &str| collection.map(|collection| json!({ "schema": schema_of(collection, part) }));
    let json_body =
        |part: &str| Some(json!({ "required": true, "content": { "application/json": schema(part)? } }));
    match operation {
        Operation::Create => json_body("create"),
        Operation::CreateMany => json_body("create_many"),
        Operation::ReadMany => json_body("read_many"),
        Operation::Search => json_body("search"),
        Operation::Update => {
            let schema = schema("change")?;
            let content = json!({ "application/json": schema, "application/merge-patch+json": schema });
            Some(json!({ "required": true, "content": content }))
        }
        Operation::UpdateCareTeam => Some(shared_body("CareTeam")),
        Operation::OpenBreakGlass => Some(shared_body("NewBreakGlass")),
        Operation::ReviewBreakGlass => Some(shared_body("Review")),
        Operation::PlaceHold => Some(shared_body("NewHold")),
        Operation::Relay => Some(shared_body("NewRelay")),
        Operation::RequestErasure => Some(shared_body("NewErasure")),
        Operation::RequestRotation => Some(shared_body("NewRotation")),
        Operation::AppendUpload => {
            Some(json!({ "required": true, "content": { "application/offset+octet-stream": {} } }))
        }
        _ => None,
    }
}

fn shared_body(name: &str) -> Value {
    let content = json!({ "application/json": { "schema": reference("schemas", name) } });
    json!({ "required": true, "content": content })
}

fn answers(operation: Operation, collection: Option<&Collection>) -> Map<String, Value> {
    let successes = successes(operation, collection).into_iter();
    successes.map(|(status, answer)| (status.to_owned(), answer)).chain(responses(operation)).collect()
}

fn successes(operation: Operation, collection: Option<&Collection>) -> Vec<(&'static str, Value)> {
    let schema = |part: &str| collection.map_or(Value::Null, |collection| schema_of(collection, part));
    let shared = |name: &str| reference("schemas", name);
    let team = |about| ("200", json_answer(about, &[("ETag", "ETag")], &shared("CareTeam")));
    match operation {
        Operation::ReadEvents => vec![("200", events_answer())],
        Operation::ReadCheckpoint => vec![("200", text_answer("The checkpoint, as a signed note."))],
        Operation::ReadProof => {
            vec![("200", text_answer("The proof; what it proves is the entry as it was read."))]
        }
        Operation::ReadCareTeam => vec![team("They are these.")],
        Operation::UpdateCareTeam => vec![team("They are set.")],
        Operation::OpenBreakGlass | Operation::ListBreakGlass | Operation::ReviewBreakGlass => {
            vec![glass_success(operation)]
        }
        Operation::ReadHolds
        | Operation::PlaceHold
        | Operation::ReleaseHold
        | Operation::ExportSubject
        | Operation::ReadErasures
        | Operation::RequestErasure
        | Operation::ApproveErasure => vec![whole_person_success(operation)],
        Operation::Relay => vec![("200", json_answer("It answered.", &[], &shared("Relayed")))],
        Operation::KeyStatus
        | Operation::ListRotations
        | Operation::RequestRotation
        | Operation::ReadRotation
        | Operation::ApproveRotation => vec![keys_success(operation)],
        Operation::OpenApi => vec![
            ("200", json_answer("The document.", &[("ETag", "DocumentETag")], &json!({ "type": "object" }))),
            ("304", answer("It is the one at hand.", &[("ETag", "DocumentETag")])),
        ],
        Operation::Live => vec![("200", json_answer("It does.", &[], &shared("Alive")))],
        Operation::Ready => {
            vec![("200", json_answer("They do.", &[], &shared("Readiness"))), ("503", not_ready())]
        }
        Operation::Metrics => vec![("200", text_answer("The counts."))],
        Operation::List => vec![("200", json_answer("The page.", &[], &shared("RecordList")))],
        Operation::Create => {
            let headers = [("ETag", "ETag"), ("Location", "Location"), ("Idempotency-Replayed", "Replayed")];
            vec![("201", json_answer("It is stored.", &headers, &shared("Written")))]
        }
        Operation::CreateMany => {
            let headers = [("Idempotency-Replayed", "Replayed")];
            vec![("201", json_answer("All are stored.", &headers, &shared("WrittenMany")))]
        }
        Operation::ReadMany => vec![("200", json_answer("Those that there are.", &[], &schema("records")))],
        Operation::Search => vec![("200", json_answer("The page.", &[], &schema("found")))],
        Operation::Read => vec![("200", json_answer("The record.", &[("ETag", "ETag")], &schema("record")))],
        Operation::Update => {
            vec![("200", json_answer("It is stored.", &[("ETag", "ETag")], &shared("Written")))]
        }
        Operation::Delete => vec![("204", answer("It is ended.", &[]))],
        Operation::History => vec![("200", json_answer("The page.", &[], &shared("History")))],
        Operation::ReadFile
        | Operation::StartUpload
        | Operation::UploadState
        | Operation::AppendUpload
        | Operation::CancelUpload => vec![file_success(operation)],
    }
}

fn glass_success(operation: Operation) -> (&'static str, Value) {
    let shared = |name: &str| reference("schemas", name);
    let headers = [("Idempotency-Replayed", "Replayed")];
    match operation {
        Operation::OpenBreakGlass => ("201", json_answer("It is open.", &headers, &shared("BreakGlass"))),
        Operation::ListBreakGlass => ("200", json_answer("These do.", &[], &shared("Unreviewed"))),
        _ => ("204", answer("It is reviewed.", &[])),
    }
}

/// What a privacy officer does to all that is kept of a person.
fn whole_person_success(operation: Operation) -> (&'static str, Value) {
    let shared = |name: &str| reference("schemas", name);
    let headers = [("Idempotency-Replayed", "Replayed")];
    match operation {
        Operation::ReadHolds => ("200", json_answer("These.", &[], &shared("Holds"))),
        Operation::PlaceHold => ("201", json_answer("It is in force.", &headers, &shared("Hold"))),
        Operation::ReleaseHold => ("204", answer("It is released.", &[])),
        Operation::ExportSubject => ("200", json_answer("The page.", &[], &shared("Export"))),
        Operation::ReadErasures => ("200", json_answer("These.", &[], &shared("Erasures"))),
        Operation::RequestErasure => {
            ("202", json_answer("It waits for an approval.", &headers, &shared("RequestedErasure")))
        }
        _ => ("204", answer("Nothing of the subject opens any more; its keys follow.", &[])),
    }
}

/// What a custodian does with the tenant's keys.
fn keys_success(operation: Operation) -> (&'static str, Value) {
    let shared = |name: &str| reference("schemas", name);
    let headers = [("Idempotency-Replayed", "Replayed")];
    match operation {
        Operation::KeyStatus => ("200", json_answer("They are these.", &[], &shared("KeyStatus"))),
        Operation::ListRotations => ("200", json_answer("These.", &[], &shared("Rotations"))),
        Operation::RequestRotation => {
            ("202", json_answer("It goes on by itself.", &headers, &shared("RequestedRotation")))
        }
        Operation::ReadRotation => ("200", json_answer("So far.", &[], &shared("Rotation"))),
        _ => ("204", answer("The old key is destroyed within seconds.", &[])),
    }
}

fn file_success(operation: Operation) -> (&'static str, Value) {
    let tus = ("Tus-Resumable", "TusResumable");
    let offset = ("Upload-Offset", "UploadOffset");
    match operation {
        Operation::ReadFile => {
            let headers = [("ETag", "ETag"), ("Content-Length", "ContentLength")];
            let content = json!({ "*/*": {} });
            ("200", with_content(answer("The document, of its own media type.", &headers), content))
        }
        Operation::StartUpload => ("201", answer("It is begun.", &[tus, ("Location", "Location")])),
        Operation::UploadState => {
            ("200", answer("How far it is.", &[tus, offset, ("Upload-Length", "UploadLength")]))
        }
        Operation::AppendUpload => ("204", answer("How far it is now.", &[tus, offset, ("ETag", "NewETag")])),
        _ => ("204", answer("It is ended.", &[tus])),
    }
}

/// `/readyz` tells of parts that are down in a document of its own; everything else that ends in a 503 is a problem.
fn not_ready() -> Value {
    let readiness = json!({ "schema": reference("schemas", "Readiness") });
    let content = json!({ "application/json": readiness, "application/problem+json": not_let_in() });
    with_content(answer("They do not, or nobody can be let in.", &[]), content)
}

fn answer(about: &str, headers: &[(&str, &str)]) -> Value {
    let all = headers.iter().chain(&[("X-Request-Id", "RequestId")]);
    let headers: Map<String, Value> =
        all.map(|(header, component)| ((*header).to_owned(), reference("headers", component))).collect();
    json!({ "description": about, "headers": headers })
}

fn json_answer(about: &str, headers: &[(&str, &str)], schema: &Value) -> Value {
    with_content(answer(about, headers), json!({ "application/json": { "schema": schema } }))
}

fn text_answer(about: &str) -> Value {
    with_content(answer(about, &[]), json!({ "text/plain": { "schema": { "type": "string" } } }))
}

/// Entries as they are stored, or in the form that was asked for.
fn events_answer() -> Value {
    let mut content = Map::new();
    let stored = json!({ "schema": reference("schemas", "AuditEvents") });
    content.insert(String::from("application/json"), stored);
    for form in Format::ALL {
        let schema = match form {
            Format::Csv | Format::Jsonl => json!({ "type": "string" }),
            Format::Fhir => json!({ "type": "object" }),
            Format::Ocsf => json!({ "type": "array", "items": { "type": "object" } }),
        };
        content.insert(form.media_type().to_owned(), json!({ "schema": schema }));
    }
    with_content(
        answer("The page.", &[("Next-Cursor", "NextCursor"), ("Pruned-Until", "PrunedUntil")]),
        content.into(),
    )
}

fn with_content(mut answer: Value, content: Value) -> Value {
    if let Some(members) = answer.as_object_mut() {
        members.insert("content".to_owned(), content);
    }
    answer
}

/// Answers that are the same for every collection.
pub(super) fn schemas() -> Map<String, Value> {
    let shared = |name: &str| reference("schemas", name);
    let list = |items: Value| json!({ "type": "array", "items": items });
    let at = || shared("Moment");
    let word = json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]{0,47}$" });
    let uuid = json!({ "type": "string", "format": "uuid" });
    let written = members([
        ("id", shared("Id")),
        ("collection", word),
        ("subject", shared("Subject")),
        ("version", shared("Version")),
        ("updated_at", at()),
    ]);
    let listed = members([("id", shared("Id")), ("version", shared("Version")), ("updated_at", at())]);
    let listed = object(listed, &["id", "version", "updated_at"]);
    let version = members([("version", shared("Version")), ("updated_at", at()), ("entry", uuid)]);
    let version = object(version, &["version", "updated_at", "entry"]);
    let records = members([("records", list(listed)), ("next", shared("Id"))]);
    let versions = members([("versions", list(version)), ("next", shared("Version"))]);
    let cursor = json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" });
    let entries =
        members([("entries", list(shared("AuditEntry"))), ("next", cursor), ("pruned_until", at())]);
    let down = members([("part", json!({ "enum": ["data", "keys", "vault", "audit"] })), ("since", at())]);
    let down = object(down, &["part", "since"]);
    let alarm = members([("alarm", json!({ "enum": Alarm::ALL.map(Alarm::as_str) })), ("since", at())]);
    let alarms = list(object(alarm, &["alarm", "since"]));
    let status = json!({ "enum": ["ready", "not ready", "draining"] });
    let readiness = members([("status", status), ("down", list(down)), ("alarms", alarms)]);
    let team = json!({ "type": "string", "minLength": 1, "maxLength": 128 });
    let teams = json!({ "type": "array", "maxItems": MOST_CARE_TEAMS, "uniqueItems": true, "items": team });
    members([
        ("CareTeam", object(members([("teams", teams)]), &["teams"])),
        ("Written", object(written, &["id", "collection", "version", "updated_at"])),
        ("WrittenMany", object(members([("records", list(shared("Written")))]), &["records"])),
        ("RecordList", object(records, &["records"])),
        ("History", object(versions, &["versions"])),
        ("AuditEvents", object(entries, &["entries"])),
        ("Alive", object(members([("status", json!({ "const": "alive" }))]), &["status"])),
        ("Readiness", object(readiness, &["status", "down", "alarms"])),
    ])
}
