//! Erasing a person: asked for, approved by somebody else, shown.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::answer::{answer, answer_opened};
use super::body;
use super::caller::Caller;
use super::idempotency::idempotency_key;
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use super::subjects::subject;
use crate::domain::break_glass::Reference;
use crate::domain::erasure::ErasureReason;
use crate::domain::id::{ErasureId, SubjectId};
use crate::service::ErasureRequest;

/// `{"reason":"person_request","reference":"GDPR-117"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureBody {
    reason: String,
    reference: String,
}

/// `GET /api/v1/subjects/{id}/erase`: how far it has come, and the certificate once it is done.
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReadErasures.route());
    Ok(answer(StatusCode::OK, app.service.erasures(&context, subject(path)).await?))
}

/// `POST /api/v1/subjects/{id}/erase`: 202, since somebody else must approve it.
pub async fn request(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::RequestErasure.route());
    let subject = subject(path);
    let permit = app.service.authorise_erasure(&context, subject).await?;
    let key = idempotency_key(&headers)?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let request = parsed(body::parse(&bytes)?).ok_or(Problem::of(ProblemKind::BodyShape))?;
    let asked = app.service.request_erasure(&context, &permit, subject, request, key.as_ref()).await?;
    Ok(answer_opened(StatusCode::ACCEPTED, asked))
}

/// `POST /api/v1/subjects/{id}/erase/{erasure}/approve`: 204; nothing opens any more, and the keys follow.
pub async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ApproveErasure.route());
    let (subject, erasure) = path.map(|Path(names)| names).unwrap_or_default();
    let (subject, erasure) = (SubjectId::parse(&subject), ErasureId::parse(&erasure));
    app.service.approve_erasure(&context, subject, erasure).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn parsed(body: ErasureBody) -> Option<ErasureRequest> {
    Some(ErasureRequest {
        reason: ErasureReason::parse(&body.reason)?,
        reference: Reference::parse(body.reference)?,
    })
}
