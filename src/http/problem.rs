//! Problem documents (RFC 9457). One exhaustive match decides what a stranger may be told.
//!
//! A document never holds anything the caller sent except field names that the collection declares.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::problem_kind::ProblemKind;
use super::watch::Told;
use crate::domain::id::FieldName;
use crate::policy::{DenialCode, FieldFaults};
use crate::service::{ConditionFault, Error, Limit, Part, SendFailure, TemplateFault};

/// Most errors that one answer lists.
const MOST_ERRORS: usize = 256;

/// A refusal as it leaves the service. `type` is "about:blank", so `title` is the status phrase.
#[derive(Debug)]
pub struct Problem {
    kind: ProblemKind,
    errors: Vec<ProblemField>,
    retry_after_seconds: Option<u64>,
    close: bool,
    is_on_record: bool,
}

/// One field's part of a problem. `field` is absent when the body named a field that does not exist.
#[derive(Debug, Serialize)]
pub struct ProblemField {
    /// The place of the record in a batch, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<usize>,
    /// The place of the condition in a search, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub code: &'static str,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [ProblemField],
}

impl Problem {
    pub const fn of(kind: ProblemKind) -> Self {
        Self { kind, errors: Vec::new(), retry_after_seconds: None, close: false, is_on_record: false }
    }

    /// The log has an entry about it. One of a known caller that is not marked so gets one (`super::attempt`).
    #[must_use]
    pub const fn on_record(mut self) -> Self {
        self.is_on_record = true;
        self
    }

    /// The connection is closed after this answer.
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    #[cfg(test)]
    pub(super) const fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let document = Document {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: self.kind.code(),
            detail: self.kind.detail(),
            errors: &self.errors,
        };
        let mut response = (status, Json(document)).into_response();
        let told = Told { code: self.kind.code(), is_on_record: self.is_on_record };
        response.extensions_mut().insert(told);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 section 3.1.
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        let is_down = status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(seconds) = self.retry_after_seconds.or(is_down.then_some(1)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let is_on_record = error.is_on_record();
        let problem = Self::untold(error);
        Self { is_on_record, ..problem }
    }
}

impl Problem {
    fn untold(error: Error) -> Self {
        match error {
            Error::Denied(denial) => Self::of(denied(denial.code)),
            Error::Limited { limit, retry_after_seconds } => {
                let kind = match limit {
                    Limit::Requests => ProblemKind::RateLimited,
                    Limit::Records => ProblemKind::VolumeLimited,
                };
                Self { retry_after_seconds: Some(retry_after_seconds), ..Self::of(kind) }
            }
            Error::FieldsRefused(names) => {
                Self { errors: refused(&names), ..Self::of(ProblemKind::FieldNotAllowed) }
            }
            Error::Invalid(faults) => {
                Self { errors: faulty(None, &faults), ..Self::of(ProblemKind::FieldsInvalid) }
            }
            Error::InvalidRecords(records) => {
                let each = records.iter().flat_map(|(place, faults)| faulty(Some(*place), faults));
                Self { errors: each.take(MOST_ERRORS).collect(), ..Self::of(ProblemKind::FieldsInvalid) }
            }
            Error::SearchInvalid(faults) => {
                Self { errors: unsearchable(&faults), ..Self::of(ProblemKind::SearchInvalid) }
            }
            Error::AnswerTooLarge => Self::of(ProblemKind::AnswerTooLarge),
            Error::SearchTooWide => Self::of(ProblemKind::SearchTooWide),
            Error::BatchSize => Self::of(ProblemKind::BatchSize),
            Error::KeyReused => Self::of(ProblemKind::IdempotencyKeyReused),
            Error::NotFound => Self::of(ProblemKind::RecordNotFound),
            Error::EntryNotFound => Self::of(ProblemKind::EntryNotFound),
            Error::EntryPruned => Self::of(ProblemKind::EntryPruned),
            Error::DocumentNotFound => Self::of(ProblemKind::DocumentNotFound),
            Error::DocumentTooLarge => Self::of(ProblemKind::DocumentTooLarge).closing(),
            Error::UploadNotFound => Self::of(ProblemKind::UploadNotFound),
            Error::UploadOffset => Self::of(ProblemKind::UploadOffset),
            Error::UploadTooLittle => Self::of(ProblemKind::UploadTooLittle),
            Error::BodyIncomplete => Self::of(ProblemKind::BodyIncomplete),
            Error::Stale => Self::of(ProblemKind::VersionStale),
            Error::BreakGlassBounds => Self::of(ProblemKind::BreakGlassBounds),
            Error::ReviewOwn => Self::of(ProblemKind::ReviewOwn),
            Error::ReviewedAlready => Self::of(ProblemKind::ReviewedAlready),
            Error::SubjectHeld => Self::of(ProblemKind::SubjectHeld),
            Error::HoldReleased => Self::of(ProblemKind::HoldReleased),
            Error::ApproveOwn => Self::of(ProblemKind::ApproveOwn),
            Error::ApprovedAlready => Self::of(ProblemKind::ApprovedAlready),
            Error::ErasureLapsed => Self::of(ProblemKind::ErasureLapsed),
            Error::NothingToRotate => Self::of(ProblemKind::NothingToRotate),
            Error::RotationOpen => Self::of(ProblemKind::RotationOpen),
            Error::KeyInUse => Self::of(ProblemKind::KeyInUse),
            Error::KeyTooYoung => Self::of(ProblemKind::KeyTooYoung),
            Error::RelayBody(fault) => Self::of(no_body(fault)),
            Error::RelayValueMissing => Self::of(ProblemKind::RelayValueMissing),
            Error::Relay(failure) => Self::of(not_answered(failure)),
            Error::SubjectRule => Self::of(ProblemKind::SubjectRule),
            Error::SubjectUnknown => Self::of(ProblemKind::SubjectUnknown),
            Error::Unavailable(part) => Self::of(down(part)),
            Error::Tampered => Self::of(ProblemKind::RecordUnreadable),
            Error::Internal(defect) => {
                tracing::error!(defect, "request.failed");
                Self::of(ProblemKind::Internal)
            }
        }
    }
}

const fn down(part: Part) -> ProblemKind {
    match part {
        Part::Data => ProblemKind::DataUnavailable,
        Part::Keys => ProblemKind::KeysUnavailable,
        Part::Audit => ProblemKind::AuditUnavailable,
        Part::Randomness => ProblemKind::RandomnessUnavailable,
        Part::RelayRoots => ProblemKind::RelayNotConfigured,
        Part::RelayCredential => ProblemKind::RelayCredentialUnavailable,
    }
}

/// What every body must be has the codes of every body.
const fn no_body(fault: TemplateFault) -> ProblemKind {
    match fault {
        TemplateFault::NotUtf8 => ProblemKind::BodyNotUtf8,
        TemplateFault::NotJson => ProblemKind::BodyNotJson,
        TemplateFault::NotAnObject | TemplateFault::DuplicateMember => ProblemKind::BodyShape,
        TemplateFault::TooDeep
        | TemplateFault::TooManyValues
        | TemplateFault::NoPlaceholder
        | TemplateFault::TooManyPlaceholders
        | TemplateFault::Misplaced
        | TemplateFault::NoPlaceholderAt(_) => ProblemKind::RelayBodyInvalid,
    }
}

const fn not_answered(failure: SendFailure) -> ProblemKind {
    match failure {
        SendFailure::Unreachable => ProblemKind::RelayUnreachable,
        SendFailure::AnswerInvalid => ProblemKind::RelayAnswerInvalid,
        SendFailure::TimedOut => ProblemKind::RelayTimeout,
    }
}

const fn denied(code: DenialCode) -> ProblemKind {
    match code {
        DenialCode::PurposeRequired => ProblemKind::PurposeRequired,
        DenialCode::PurposeNotAllowed => ProblemKind::PurposeNotAllowed,
        DenialCode::ActionNotAllowed => ProblemKind::ActionNotAllowed,
        DenialCode::RolesConflict => ProblemKind::RolesConflict,
        DenialCode::PersonRequired => ProblemKind::PersonRequired,
        DenialCode::SecondFactorRequired => ProblemKind::SecondFactorRequired,
        DenialCode::RelationshipRequired => ProblemKind::RelationshipRequired,
        DenialCode::DepartmentNotAllowed => ProblemKind::DepartmentNotAllowed,
        DenialCode::HourNotAllowed => ProblemKind::HourNotAllowed,
        DenialCode::SourceNotAllowed => ProblemKind::SourceNotAllowed,
    }
}

fn refused(names: &[FieldName]) -> Vec<ProblemField> {
    let entry = |name: &FieldName| ProblemField {
        record: None,
        condition: None,
        field: Some(name.as_str().to_owned()),
        code: "not_allowed",
    };
    names.iter().map(entry).collect()
}

fn unsearchable(faults: &[ConditionFault]) -> Vec<ProblemField> {
    let entry = |fault: &ConditionFault| ProblemField {
        record: None,
        condition: fault.condition,
        field: fault.field.as_ref().map(|name| name.as_str().to_owned()),
        code: fault.code.code(),
    };
    faults.iter().map(entry).collect()
}

fn faulty(record: Option<usize>, faults: &FieldFaults) -> Vec<ProblemField> {
    let name = |name: &FieldName| name.as_str().to_owned();
    faults
        .faults()
        .iter()
        .map(|fault| ProblemField {
            record,
            condition: None,
            field: fault.field.as_ref().map(name),
            code: fault.code.code(),
        })
        .collect()
}
