//! Breaking the glass, and reviewing what was broken.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::answer::{answer, answer_opened};
use super::body::{self, Bounded};
use super::caller::Caller;
use super::idempotency::idempotency_key;
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::domain::action::Action;
use crate::domain::break_glass::{BreakGlassReason, Reference, Verdict};
use crate::domain::id::{BreakGlassId, SubjectId};
use crate::service::BreakGlassRequest;

/// `{"reason":"emergency","reference":"ED-117","minutes":15,"subjects":["…"]}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenBody {
    reason: String,
    reference: String,
    minutes: u32,
    subjects: Bounded<String>,
}

/// `{"verdict":"justified"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReviewBody {
    verdict: String,
}

/// `POST /api/v1/break-glass`: 201 with the id, and when it ends.
pub async fn open(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::OpenBreakGlass.route());
    let permit = app.service.authorise_break_glass(&context, Action::OpenBreakGlass).await?;
    let key = idempotency_key(&headers)?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let request = request(body::parse(&bytes)?).ok_or(Problem::of(ProblemKind::BodyShape))?;
    let opened = app.service.open_break_glass(&context, &permit, request, key.as_ref()).await?;
    Ok(answer_opened(StatusCode::CREATED, opened))
}

/// `GET /api/v1/break-glass`: what waits for its review.
pub async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ListBreakGlass.route());
    Ok(answer(StatusCode::OK, app.service.list_break_glass(&context).await?))
}

/// `POST /api/v1/break-glass/{id}/review`: 204.
pub async fn review(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReviewBreakGlass.route());
    let permit = app.service.authorise_break_glass(&context, Action::ReviewBreakGlass).await?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let ReviewBody { verdict } = body::parse(&bytes)?;
    let verdict = Verdict::parse(&verdict).ok_or(Problem::of(ProblemKind::BodyShape))?;
    let id = path.ok().and_then(|Path(id)| BreakGlassId::parse(&id));
    app.service.review_break_glass(&context, &permit, id, verdict).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn request(body: OpenBody) -> Option<BreakGlassRequest> {
    let subjects = body.subjects.whole()?.iter().map(|id| SubjectId::parse(id)).collect::<Option<_>>()?;
    Some(BreakGlassRequest {
        reason: BreakGlassReason::parse(&body.reason)?,
        reference: Reference::parse(body.reference)?,
        minutes: body.minutes,
        subjects,
    })
}
