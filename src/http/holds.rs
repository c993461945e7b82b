//! Legal holds on what is kept of a person.

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
use crate::domain::hold::HoldReason;
use crate::domain::id::{HoldId, SubjectId};
use crate::service::HoldRequest;

/// `{"reason":"litigation","reference":"CV-2026/117"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldBody {
    reason: String,
    reference: String,
}

/// `GET /api/v1/subjects/{id}/hold`: those in force, and those that were.
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReadHolds.route());
    Ok(answer(StatusCode::OK, app.service.holds(&context, subject(path)).await?))
}

/// `POST /api/v1/subjects/{id}/hold`: 201 with the id, and when it was placed.
pub async fn place(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::PlaceHold.route());
    let subject = subject(path);
    let permit = app.service.authorise_hold(&context, subject).await?;
    let key = idempotency_key(&headers)?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let request = request(body::parse(&bytes)?).ok_or(Problem::of(ProblemKind::BodyShape))?;
    let placed = app.service.place_hold(&context, &permit, subject, request, key.as_ref()).await?;
    Ok(answer_opened(StatusCode::CREATED, placed))
}

/// `DELETE /api/v1/subjects/{id}/hold/{hold}`: 204.
pub async fn release(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReleaseHold.route());
    let (subject, hold) = path.map(|Path(names)| names).unwrap_or_default();
    let (subject, hold) = (SubjectId::parse(&subject), HoldId::parse(&hold));
    app.service.release_hold(&context, subject, hold).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn request(body: HoldBody) -> Option<HoldRequest> {
    Some(HoldRequest {
        reason: HoldReason::parse(&body.reason)?,
        reference: Reference::parse(body.reference)?,
    })
}
