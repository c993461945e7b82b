//! What is kept about a subject beside records: who looks after them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::answer::answer;
use super::body::{self, Bounded};
use super::caller::Caller;
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use super::records::{etag, if_match};
use crate::domain::care_team::CareTeams;
use crate::domain::id::SubjectId;
use crate::service::CareTeamAnswer;

/// `{"teams":["ward-3"]}`: all of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CareTeamBody {
    teams: Bounded<String>,
}

/// `GET /api/v1/subjects/{id}/care-team`: the names of the teams, and their version as `ETag`.
pub async fn read_care_team(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReadCareTeam.route());
    Ok(of_care_team(&app.service.read_care_team(&context, subject(path)).await?))
}

/// `PUT /api/v1/subjects/{id}/care-team` with `If-Match`: these teams instead.
pub async fn update_care_team(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::UpdateCareTeam.route());
    let expected = if_match(&headers)?.ok_or(Problem::of(ProblemKind::IfMatchRequired))?;
    let subject = subject(path);
    let permit = app.service.authorise_care_team_update(&context, subject).await?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let CareTeamBody { teams } = body::parse(&bytes)?;
    let teams = teams.whole().and_then(CareTeams::parse).ok_or(Problem::of(ProblemKind::BodyShape))?;
    Ok(of_care_team(&app.service.update_care_team(&context, &permit, subject, expected, teams).await?))
}

/// What cannot be an id is nobody's.
pub(super) fn subject(path: Result<Path<String>, PathRejection>) -> Option<SubjectId> {
    path.ok().and_then(|Path(id)| SubjectId::parse(&id))
}

fn of_care_team(found: &CareTeamAnswer) -> Response {
    let mut response = answer(StatusCode::OK, json!({ "teams": found.teams.names() }));
    response.headers_mut().insert(header::ETAG, etag(found.version));
    response
}
