//! What goes beside a body: path, query and headers, of requests and of answers.

use serde_json::{Value, json};

use super::collections::schema_of;
use super::fields::moment;
use super::reference;
use crate::audit::{Act, Status};
use crate::domain::purpose::Purpose;
use crate::policy::Collection;

/// Headers that every operation takes.
pub(super) fn of_every_operation() -> Vec<Value> {
    ["PurposeOfUse", "RequestId", "Traceparent"].map(parameter).to_vec()
}

pub(super) fn parameter(name: &str) -> Value {
    reference("parameters", name)
}

/// `?fields=a,b`, of one collection.
pub(super) fn fields(collection: &Collection) -> Value {
    json!({
        "name": "fields", "in": "query", "style": "form", "explode": false,
        "description": "Only these fields; one that policy does not give refuses the read.",
        "schema": {
            "type": "array", "minItems": 1, "uniqueItems": true, "items": schema_of(collection, "field"),
        },
    })
}

/// The fields that hold documents, as a segment of the path.
pub(super) fn document_field(collection: &Collection) -> Value {
    let names: Vec<&str> = super::document_fields(collection).collect();
    json!({ "name": "field", "in": "path", "required": true, "schema": { "type": "string", "enum": names } })
}

/// The log's own query.
pub(super) fn of_events() -> Vec<Value> {
    let query = |name: &str, schema: Value| json!({ "name": name, "in": "query", "schema": schema });
    let acts: Vec<&str> = Act::ALL.iter().map(|act| act.as_str()).collect();
    let word = json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]{0,47}$" });
    vec![
        query("from", json!({ "type": "string", "format": "date-time" })),
        query("until", json!({ "type": "string", "format": "date-time" })),
        query("act", json!({ "enum": acts })),
        query("status", json!({ "enum": Status::ALL.map(Status::as_str) })),
        query("actor", json!({ "type": "string", "maxLength": 64 })),
        query("person", json!({ "type": "string", "minLength": 1, "maxLength": 255 })),
        query("subject", reference("schemas", "Subject")),
        query("collection", word),
        query("record", reference("schemas", "Id")),
        query("purpose", reference("schemas", "PurposeOfUse")),
        query("order", json!({ "enum": ["newest", "oldest"], "default": "newest" })),
        query(
            "cursor",
            json!({ "type": "string", "pattern": "^[0-9a-f]{32}$", "description": "`next` of the page before." }),
        ),
        parameter("Limit"),
    ]
}

/// Shared parameters.
pub(super) fn components() -> Value {
    let path =
        |name: &str, schema: Value| json!({ "name": name, "in": "path", "required": true, "schema": schema });
    let query = |name: &str, about: &str, schema: Value| json!({ "name": name, "in": "query", "description": about, "schema": schema });
    let uuid = json!({ "type": "string", "format": "uuid" });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 500, "default": 100 });
    let next = "`next` of the page before.";
    json!({
        "Id": path("id", reference("schemas", "Id")),
        "SubjectId": path("id", reference("schemas", "Subject")),
        "BreakGlassId": path("id", uuid.clone()),
        "HoldId": path("hold", uuid.clone()),
        "ErasureId": path("erasure", uuid.clone()),
        "RotationId": path("rotation", uuid.clone()),
        "Entry": path("entry", uuid.clone()),
        "Upload": path("upload", uuid),
        "Version": query("version", "An older version; needs the right to the history too.", reference("schemas", "Version")),
        "View": query("view", "Without it, the most that policy gives for each field.", reference("schemas", "View")),
        "RecordCursor": query("cursor", next, reference("schemas", "Id")),
        "ExportCursor": query("cursor", next, reference("schemas", "ExportPlace")),
        "VersionCursor": query("cursor", next, reference("schemas", "Version")),
        "Limit": query("limit", "The most that the page holds.", limit),
        "PurposeOfUse": header("X-Purpose-Of-Use", "Why; HL7 v3 PurposeOfUse. Policy demands it for most.", false, &reference("schemas", "PurposeOfUse")),
        "RequestId": header("X-Request-Id", "A UUID of the caller's is kept, otherwise one is made.", false, &json!({ "type": "string", "format": "uuid" })),
        "Traceparent": header("traceparent", "W3C Trace Context; its trace id goes into the log.", false, &json!({ "type": "string" })),
        "IfMatch": header("If-Match", "The ETag of the version that is meant.", false, &etag()),
        "IfMatchRequired": header("If-Match", "The ETag of the version that was changed.", true, &etag()),
        "IfNoneMatch": header("If-None-Match", "The ETag of the document at hand.", false, &json!({ "type": "string" })),
        "IdempotencyKey": header("Idempotency-Key", "1 to 255 visible ASCII characters, bare or in quotes: sent again within 24 hours, the request is done once.", false, &json!({ "type": "string", "minLength": 1, "maxLength": 512 })),
        "TusResumable": header("Tus-Resumable", "tus 1.0.0; may be left out.", false, &json!({ "const": "1.0.0" })),
        "UploadLength": header("Upload-Length", "Bytes of the document.", true, &json!({ "type": "integer", "minimum": 1 })),
        "UploadMetadata": header("Upload-Metadata", "`filetype` and `filename`, each with its value in base64, by commas.", false, &json!({ "type": "string" })),
        "UploadOffset": header("Upload-Offset", "Bytes that have come so far.", true, &json!({ "type": "integer", "minimum": 0 })),
    })
}

fn header(name: &str, about: &str, required: bool, schema: &Value) -> Value {
    json!({ "name": name, "in": "header", "required": required, "description": about, "schema": schema })
}

fn etag() -> Value {
    json!({ "type": "string", "pattern": "^\"[1-9][0-9]*\"$" })
}

/// Headers of answers.
pub(super) fn answer_headers() -> Value {
    let header =
        |about: &str, schema: Value| json!({ "description": about, "required": true, "schema": schema });
    let bytes = json!({ "type": "integer", "minimum": 0 });
    json!({
        "RequestId": header("The request in the log.", json!({ "type": "string", "format": "uuid" })),
        "ETag": header("The record's version.", etag()),
        "DocumentETag": header("Changes with the policy and with the service.", json!({ "type": "string" })),
        "Location": header("Where it is.", json!({ "type": "string" })),
        "UploadOffset": header("Bytes that have come so far.", bytes.clone()),
        "UploadLength": header("Bytes of the document.", bytes.clone()),
        "ContentLength": header("Bytes of the document; fewer mean that it broke off.", bytes),
        "TusResumable": header("The version of tus.", json!({ "const": "1.0.0" })),
        "RetryAfter": header("Seconds after which it may be tried again.", json!({ "type": "integer", "minimum": 1 })),
        "Challenge": header("RFC 6750.", json!({ "const": "Bearer error=\"invalid_token\"" })),
        "Replayed": {
            "description": "There, and `true`, where an earlier request under the same key is answered again.",
            "schema": { "const": "true" },
        },
        "NextCursor": {
            "description": "`cursor` of the next page, where there is one and the body has no place for it.",
            "schema": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
        },
        "PrunedUntil": {
            "description": "Entries before this time have left the database and are in the exported files only; there where the \
                query reaches before it, and the body has no place for it.",
            "schema": reference("schemas", "Moment"),
        },
        "NewETag": {
            "description": "There with the last byte: the record's new version.",
            "schema": etag(),
        },
    })
}

/// Schemas that parameters, bodies and answers share.
pub(super) fn schemas() -> Value {
    let purposes: Vec<&str> = Purpose::ALL.into_iter().map(Purpose::as_str).collect();
    json!({
        "Id": { "type": "string", "pattern": "^[a-z0-9_-]{1,64}$", "description": "A UUID, or a token." },
        "Subject": { "type": "string", "format": "uuid", "description": "The person a record is about." },
        "Version": { "type": "integer", "minimum": 1, "maximum": u32::MAX },
        "View": { "enum": ["plain", "masked"] },
        "PurposeOfUse": { "enum": purposes },
        "Moment": moment(),
    })
}
