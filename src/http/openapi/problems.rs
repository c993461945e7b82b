//! Which problem documents an operation answers with. The match is by problem and exhaustive, so a new problem does not
//! compile until somebody says where a client meets it; every refusal that a test sees is looked up in the document
//! (`tests/it/support/contract.rs`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::problem_kind::ProblemKind;
use super::reference;
use crate::domain::value::ValueError;
use crate::http::Operation;
use crate::policy::FieldFaultCode;
use crate::service::ConditionFaultCode;

/// Everybody who is listed may.
const fn is_open(operation: Operation) -> bool {
    matches!(operation, Operation::Live | Operation::Ready | Operation::OpenApi)
}

const fn is_of_a_collection(operation: Operation) -> bool {
    !is_open(operation)
        && !is_of_a_subject(operation)
        && !is_of_the_log(operation)
        && !is_of_keys(operation)
        && !matches!(operation, Operation::Metrics | Operation::Relay)
}

const fn is_of_the_log(operation: Operation) -> bool {
    matches!(operation, Operation::ReadEvents | Operation::ReadCheckpoint | Operation::ReadProof)
}

const fn is_of_keys(operation: Operation) -> bool {
    use Operation::{ApproveRotation, KeyStatus, ListRotations, ReadRotation, RequestRotation};
    matches!(operation, KeyStatus | ListRotations | RequestRotation | ReadRotation | ApproveRotation)
}

const fn is_of_a_subject(operation: Operation) -> bool {
    is_of_one_subject(operation) || is_of_glass(operation)
}

const fn is_of_one_subject(operation: Operation) -> bool {
    use Operation::{
        ApproveErasure, ExportSubject, PlaceHold, ReadCareTeam, ReadErasures, ReadHolds, ReleaseHold,
        RequestErasure, UpdateCareTeam,
    };
    matches!(operation, ReadCareTeam | UpdateCareTeam | ReadHolds | PlaceHold | ReleaseHold | ExportSubject)
        || matches!(operation, ReadErasures | RequestErasure | ApproveErasure)
}

const fn is_of_glass(operation: Operation) -> bool {
    matches!(operation, Operation::OpenBreakGlass | Operation::ListBreakGlass | Operation::ReviewBreakGlass)
}

/// What the path names may not be there.
const fn names_something(operation: Operation) -> bool {
    is_of_a_record(operation)
        || is_of_one_subject(operation)
        || matches!(operation, Operation::ReviewBreakGlass | Operation::Relay)
        || matches!(operation, Operation::ReadRotation | Operation::ApproveRotation)
}

const fn is_of_a_record(operation: Operation) -> bool {
    use Operation::{Create, CreateMany, List, ReadMany, Search};
    is_of_a_collection(operation) && !matches!(operation, Create | CreateMany | ReadMany | Search | List)
}

/// The body is JSON.
const fn takes_json(operation: Operation) -> bool {
    use Operation::{
        OpenBreakGlass, PlaceHold, Relay, RequestErasure, RequestRotation, ReviewBreakGlass, UpdateCareTeam,
    };
    takes_fields(operation)
        || matches!(operation, UpdateCareTeam | OpenBreakGlass | ReviewBreakGlass | PlaceHold)
        || matches!(operation, RequestErasure | RequestRotation | Relay)
}

/// The body is JSON that names fields.
const fn takes_fields(operation: Operation) -> bool {
    use Operation::{Create, CreateMany, ReadMany, Search, Update};
    matches!(operation, Create | CreateMany | ReadMany | Search | Update)
}

const fn is_tus(operation: Operation) -> bool {
    use Operation::{AppendUpload, CancelUpload, StartUpload, UploadState};
    matches!(operation, StartUpload | UploadState | AppendUpload | CancelUpload)
}

/// Whether a client may meet the problem at the operation.
#[expect(clippy::too_many_lines, reason = "one exhaustive match: a new problem compiles only with its place")]
fn applies(kind: ProblemKind, operation: Operation) -> bool {
    use Operation::{
        AppendUpload, ApproveErasure, ApproveRotation, CancelUpload, Create, CreateMany, Delete,
        ExportSubject, History, List, OpenBreakGlass, PlaceHold, Read, ReadCheckpoint, ReadEvents, ReadFile,
        ReadMany, ReadProof, Relay, ReleaseHold, RequestErasure, RequestRotation, ReviewBreakGlass, Search,
        StartUpload, Update, UpdateCareTeam, UploadState,
    };
    let is_one_of = |those: &[Operation]| those.contains(&operation);
    match kind {
        ProblemKind::AuditUnavailable
        | ProblemKind::CertificateExpired
        | ProblemKind::CertificateRevoked
        | ProblemKind::IdentityUnlisted
        | ProblemKind::Internal
        | ProblemKind::PeopleUnavailable
        | ProblemKind::PersonNotAllowed
        | ProblemKind::PurposeUnknown
        | ProblemKind::RandomnessUnavailable
        | ProblemKind::RateLimited
        | ProblemKind::RequestAmbiguous
        | ProblemKind::RevocationUnknown
        | ProblemKind::TokenExpired
        | ProblemKind::TokenInvalid
        | ProblemKind::TokenNotBound => true,
        // Paths and methods that are not in this document.
        ProblemKind::MethodNotAllowed | ProblemKind::RouteUnknown => false,
        ProblemKind::ActionNotAllowed
        | ProblemKind::DataUnavailable
        | ProblemKind::DepartmentNotAllowed
        | ProblemKind::HourNotAllowed
        | ProblemKind::PersonRequired
        | ProblemKind::PurposeNotAllowed
        | ProblemKind::PurposeRequired
        | ProblemKind::RelationshipRequired
        | ProblemKind::RolesConflict
        | ProblemKind::SecondFactorRequired
        | ProblemKind::SourceNotAllowed => !is_open(operation),
        ProblemKind::CollectionUnknown => is_of_a_collection(operation),
        ProblemKind::RecordNotFound => names_something(operation),
        // Whatever is put on record as done has to wait for the log's key, which is Vault's.
        ProblemKind::KeysUnavailable => !is_open(operation) && operation != Operation::Metrics,
        ProblemKind::DeadlineExceeded => operation != AppendUpload,
        ProblemKind::BodyIncomplete
        | ProblemKind::EncodingUnsupported
        | ProblemKind::MediaTypeUnsupported => takes_json(operation) || operation == AppendUpload,
        ProblemKind::BodyNotJson
        | ProblemKind::BodyNotUtf8
        | ProblemKind::BodyShape
        | ProblemKind::BodyTooLarge => takes_json(operation),
        ProblemKind::BatchSize => is_one_of(&[CreateMany, ReadMany]),
        ProblemKind::IdempotencyKeyInvalid | ProblemKind::IdempotencyKeyReused => {
            is_one_of(&[Create, CreateMany, OpenBreakGlass, PlaceHold, RequestErasure, RequestRotation])
        }
        ProblemKind::SubjectRule => is_one_of(&[Create, CreateMany]),
        ProblemKind::SubjectUnknown => is_one_of(&[Create, CreateMany, OpenBreakGlass]),
        ProblemKind::BreakGlassBounds => operation == OpenBreakGlass,
        ProblemKind::ReviewOwn | ProblemKind::ReviewedAlready => operation == ReviewBreakGlass,
        ProblemKind::DestinationUnknown
        | ProblemKind::RelayAnswerInvalid
        | ProblemKind::RelayBodyInvalid
        | ProblemKind::RelayCredentialUnavailable
        | ProblemKind::RelayNotConfigured
        | ProblemKind::RelayTimeout
        | ProblemKind::RelayUnreachable
        | ProblemKind::RelayValueMissing => operation == Relay,
        ProblemKind::SubjectHeld => is_one_of(&[Delete, RequestErasure, ApproveErasure]),
        ProblemKind::ApproveOwn | ProblemKind::ApprovedAlready => {
            is_one_of(&[ApproveErasure, ApproveRotation])
        }
        ProblemKind::ErasureLapsed => operation == ApproveErasure,
        ProblemKind::KeyInUse | ProblemKind::KeyTooYoung => operation == ApproveRotation,
        ProblemKind::NothingToRotate | ProblemKind::RotationOpen => operation == RequestRotation,
        ProblemKind::HoldReleased => operation == ReleaseHold,
        ProblemKind::FieldsInvalid => is_one_of(&[Create, CreateMany, Update]),
        ProblemKind::FieldNotAllowed => {
            takes_fields(operation) || is_tus(operation) || is_one_of(&[Read, ReadFile, Relay])
        }
        ProblemKind::IfMatchInvalid | ProblemKind::VersionStale => {
            is_one_of(&[Update, Delete, UpdateCareTeam])
        }
        ProblemKind::IfMatchRequired => is_one_of(&[Update, UpdateCareTeam]),
        ProblemKind::RecordQueryInvalid => operation == Read,
        ProblemKind::PageQueryInvalid => is_one_of(&[List, History, ExportSubject]),
        ProblemKind::FileQueryInvalid => operation == ReadFile,
        ProblemKind::EventsQueryInvalid | ProblemKind::NotAcceptable => operation == ReadEvents,
        ProblemKind::EntryNotFound => is_one_of(&[ReadCheckpoint, ReadProof]),
        ProblemKind::EntryPruned => operation == ReadProof,
        ProblemKind::RecordUnreadable => {
            is_tus(operation)
                || is_one_of(&[ReadEvents, ReadProof])
                || is_one_of(&[Create, CreateMany, Read, Update, ReadFile, ApproveErasure, Relay])
        }
        ProblemKind::SearchInvalid | ProblemKind::SearchTooWide => operation == Search,
        ProblemKind::AnswerTooLarge => operation == ReadMany,
        ProblemKind::VolumeLimited => is_one_of(&[Read, ReadMany, Search, ReadFile, ExportSubject, Relay]),
        ProblemKind::TusVersion => is_tus(operation),
        ProblemKind::DocumentNotFound => is_tus(operation) || operation == ReadFile,
        ProblemKind::UploadNotFound => is_one_of(&[UploadState, AppendUpload, CancelUpload]),
        ProblemKind::UploadHeadersInvalid | ProblemKind::DocumentTooLarge => {
            is_one_of(&[StartUpload, AppendUpload])
        }
        ProblemKind::UploadOffset | ProblemKind::UploadTooLittle => operation == AppendUpload,
    }
}

/// Status → codes.
fn codes(operation: Operation) -> BTreeMap<u16, BTreeSet<&'static str>> {
    let mut codes: BTreeMap<u16, BTreeSet<&'static str>> = BTreeMap::new();
    for kind in ProblemKind::ALL.iter().filter(|kind| applies(**kind, operation)) {
        codes.entry(kind.status().as_u16()).or_default().insert(kind.code());
    }
    codes
}

/// Adds an operation's refusals to the answers that the document's operations share.
pub(super) fn add_responses(operation: Operation, responses: &mut Map<String, Value>) {
    let all = codes(operation).into_iter();
    for (status, codes) in all.filter(|(status, _)| !is_mixed(operation, *status)) {
        responses.insert(name(operation, status), response(operation, status, &codes));
    }
}

/// The refusals of an operation, as its `responses`.
pub(super) fn responses(operation: Operation) -> impl Iterator<Item = (String, Value)> {
    codes(operation)
        .into_keys()
        .filter(move |status| !is_mixed(operation, *status))
        .map(move |status| (status.to_string(), reference("responses", &name(operation, status))))
}

/// `/readyz` tells of parts that are down with 503, in a document of its own.
fn is_mixed(operation: Operation, status: u16) -> bool {
    operation == Operation::Ready && status == 503
}

fn name(operation: Operation, status: u16) -> String {
    format!("{operation:?}.{status}")
}

fn response(operation: Operation, status: u16, codes: &BTreeSet<&'static str>) -> Value {
    let mut headers = Map::new();
    headers.insert("X-Request-Id".to_owned(), reference("headers", "RequestId"));
    if status == 401 {
        headers.insert("WWW-Authenticate".to_owned(), reference("headers", "Challenge"));
    }
    if matches!(status, 429 | 503) {
        headers.insert("Retry-After".to_owned(), reference("headers", "RetryAfter"));
    }
    let about: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let mut response = json!({ "description": about.join(", "), "headers": headers });
    let schema = schema_of(status, codes);
    // The answer to a HEAD has no body to say why.
    let has_body = operation.method() != axum::http::Method::HEAD;
    if let Some(members) = response.as_object_mut().filter(|_| has_body) {
        members.insert("content".to_owned(), json!({ "application/problem+json": { "schema": schema } }));
    }
    response
}

fn schema_of(status: u16, codes: &BTreeSet<&'static str>) -> Value {
    json!({
        "allOf": [
            reference("schemas", "Problem"),
            { "properties": { "status": { "const": status }, "code": { "enum": codes } } },
        ],
    })
}

/// The content of an answer of `/readyz` with 503 that is no readiness.
pub(super) fn not_let_in() -> Value {
    let codes = codes(Operation::Ready).remove(&503).unwrap_or_default();
    json!({ "schema": schema_of(503, &codes) })
}

/// RFC 9457; `type` is "about:blank", so `title` is the status phrase.
pub(super) fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "description": "A refusal (RFC 9457). Programs act on `code`; nothing in it repeats what was sent.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "const": "about:blank" },
            "title": { "type": "string", "description": "The phrase of the status." },
            "status": { "type": "integer" },
            "code": { "type": "string", "pattern": "^[a-z0-9_]+$" },
            "detail": { "type": "string", "description": "For people: what to do about it." },
            "errors": {
                "type": "array", "minItems": 1, "maxItems": 256, "items": reference("schemas", "ProblemField"),
            },
        },
    })
}

/// One field's part of a problem.
pub(super) fn field_schema() -> Value {
    use FieldFaultCode::{DuplicateField, NotAnObject, NothingToChange, Required, UnknownField};
    let own =
        [NotAnObject, UnknownField, DuplicateField, Required, NothingToChange].map(FieldFaultCode::code);
    let values = ValueError::ALL.map(ValueError::code);
    let codes: BTreeSet<&str> =
        own.into_iter().chain(ConditionFaultCode::OWN).chain(values).chain(["not_allowed"]).collect();
    json!({
        "type": "object", "additionalProperties": false, "required": ["code"],
        "properties": {
            "record": {
                "type": "integer", "minimum": 0, "description": "The place of the record in a batch, from 0.",
            },
            "condition": {
                "type": "integer", "minimum": 0, "description": "The place of the condition in a search, from 0.",
            },
            "field": {
                "type": "string", "description": "Absent where the body named a field that does not exist.",
            },
            "code": { "enum": codes },
        },
    })
}
