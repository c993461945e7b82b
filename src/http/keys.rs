//! Tenant keys, for custodians: how old they are, and their rotation. Never a key.

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
use crate::domain::break_glass::Reference;
use crate::domain::class::DataClass;
use crate::domain::id::RotationId;
use crate::domain::rotation::RotationReason;
use crate::service::RotationRequest;

/// `{"class":"phi","reason":"scheduled","reference":"KEY-2026/11"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationBody {
    class: String,
    reason: String,
    reference: String,
}

/// `GET /api/v1/keys/status`: the keys of each class, and the rotation that is open.
pub async fn status(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let context = caller.operation(Operation::KeyStatus.route());
    Ok(answer(StatusCode::OK, app.service.key_status(&context).await?))
}

/// `GET /api/v1/keys/rotations`: the newest first.
pub async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ListRotations.route());
    Ok(answer(StatusCode::OK, app.service.rotations(&context).await?))
}

/// `GET /api/v1/keys/rotations/{rotation}`: how far it has come.
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReadRotation.route());
    Ok(answer(StatusCode::OK, app.service.rotation(&context, rotation(path)).await?))
}

/// `POST /api/v1/keys/rotations`: 202, since it takes its time.
pub async fn request(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::RequestRotation.route());
    let permit = app.service.authorise_rotation(&context).await?;
    let key = idempotency_key(&headers)?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let request = parsed(body::parse(&bytes)?).ok_or(Problem::of(ProblemKind::BodyShape))?;
    let asked = app.service.request_rotation(&context, &permit, request, key.as_ref()).await?;
    Ok(answer_opened(StatusCode::ACCEPTED, asked))
}

/// `POST /api/v1/keys/rotations/{rotation}/approvals`: 204; the old key is destroyed within seconds.
pub async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ApproveRotation.route());
    app.service.approve_rotation(&context, rotation(path)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An id that none can have is like one that none has.
fn rotation(path: Result<Path<String>, PathRejection>) -> Option<RotationId> {
    path.ok().and_then(|Path(id)| RotationId::parse(&id))
}

fn parsed(body: RotationBody) -> Option<RotationRequest> {
    Some(RotationRequest {
        class: DataClass::parse(&body.class)?,
        reason: RotationReason::parse(&body.reason)?,
        reference: Reference::parse(body.reference)?,
    })
}
