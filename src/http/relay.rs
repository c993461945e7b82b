//! Requests that go on to outside services.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::App;
use super::answer::answer;
use super::body;
use super::caller::{Caller, deny};
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::service::RelayRequest;

/// `POST /api/v1/relay/{destination}`: 200 with `{"status","answer"}`, whatever the destination answered.
pub async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // A path that does not decode names nothing.
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let route = Operation::Relay.route();
    let Some(destination) = app.service.destination(&name) else {
        return Err(deny(&app, caller, route, ProblemKind::DestinationUnknown).await);
    };
    let context = caller.operation(route);
    app.service.authorise_relay(&context, &destination).await?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let request = RelayRequest { body: &bytes, headers: &headers };
    Ok(answer(StatusCode::OK, app.service.relay(&context, &destination, request).await?))
}
