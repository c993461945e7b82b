//! Problem documents (RFC 9457). One exhaustive match decides what a stranger may be told.
//!
//! A document never holds anything the caller sent except field names that the collection declares.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::policy::DenialCode;
use crate::service::{Error, Part};

/// A refusal as it leaves the service. `type` is "about:blank", so `title` is the status phrase; `code` is the stable
/// part that programs act on.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    pub(super) code: &'static str,
    detail: &'static str,
    errors: Vec<ProblemField>,
    retry_after_seconds: Option<u32>,
    close: bool,
}

/// One field's part of a problem. `field` is absent when the body named a field that does not exist.
#[derive(Debug, Serialize)]
pub struct ProblemField {
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
    pub const fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { status, code, detail, errors: Vec::new(), retry_after_seconds: None, close: false }
    }

    #[must_use]
    pub fn with_errors(mut self, errors: Vec<ProblemField>) -> Self {
        self.errors = errors;
        self
    }

    /// The connection is closed after this answer.
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    const fn unavailable(code: &'static str, detail: &'static str) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        problem.retry_after_seconds = Some(1);
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            errors: &self.errors,
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds {
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
        match error {
            Error::Denied(denial) => denied(denial.code),
            Error::FieldsRefused(names) => Self::new(
                StatusCode::FORBIDDEN,
                "field_not_allowed",
                "policy does not give these fields in the view asked for; ask for fewer or for view=masked",
            )
            .with_errors(
                names
                    .iter()
                    .map(|name| ProblemField { field: Some(name.as_str().to_owned()), code: "not_allowed" })
                    .collect(),
            ),
            Error::NotFound => Self::new(
                StatusCode::NOT_FOUND,
                "record_not_found",
                "there is no such record for this caller",
            ),
            Error::Stale => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "version_stale",
                "the record has changed; read it again and send its ETag in If-Match",
            ),
            Error::Invalid(errors) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "fields_invalid",
                "one or more fields do not fit the collection; each is listed with its code",
            )
            .with_errors(
                errors
                    .faults()
                    .iter()
                    .map(|fault| ProblemField {
                        field: fault.field.as_ref().map(|name| name.as_str().to_owned()),
                        code: fault.code.code(),
                    })
                    .collect(),
            ),
            Error::SubjectRule => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "subject_rule",
                "give `subject` in collections whose records refer to one, and leave it out where a record makes its own",
            ),
            Error::SubjectUnknown => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "subject_unknown",
                "the subject does not exist for this caller; create its record first",
            ),
            Error::Unavailable(part) => unavailable(part),
            Error::Tampered => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "record_unreadable",
                "the stored record failed its integrity check and was not opened; the security team has been told",
            ),
            Error::Internal(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the service failed; nothing was revealed",
            ),
        }
    }
}

fn denied(code: DenialCode) -> Problem {
    let (code, detail) = match code {
        DenialCode::PurposeRequired => (
            "purpose_required",
            "send X-Purpose-Of-Use with an HL7 v3 PurposeOfUse code that your role may use",
        ),
        DenialCode::PurposeNotAllowed => {
            ("purpose_not_allowed", "your role may not do this for the purpose in X-Purpose-Of-Use")
        }
        DenialCode::ActionNotAllowed => ("action_not_allowed", "policy does not allow this to your role"),
    };
    Problem::new(StatusCode::FORBIDDEN, code, detail)
}

fn unavailable(part: Part) -> Problem {
    match part {
        Part::Data => {
            Problem::unavailable("data_unavailable", "the data database is down or late; try again")
        }
        Part::Keys => {
            Problem::unavailable("keys_unavailable", "the key hierarchy is down or late; try again")
        }
        Part::Audit => Problem::unavailable(
            "audit_unavailable",
            "the audit log cannot be written, so nothing is answered; try again",
        ),
        Part::Randomness => {
            Problem::unavailable("randomness_unavailable", "the system has no randomness; try again")
        }
    }
}
