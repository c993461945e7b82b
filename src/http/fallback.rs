//! Answers for what is not a route, and for a handler that failed.

use std::any::Any;
use std::sync::Arc;

use axum::extract::{MatchedPath, State};
use axum::response::{IntoResponse, Response};

use super::App;
use super::caller::{Caller, deny};
use super::operation::template;
use super::problem::Problem;
use super::problem_kind::ProblemKind;

pub async fn no_route(State(app): State<Arc<App>>, caller: Caller) -> Problem {
    deny(&app, caller, template(None), ProblemKind::RouteUnknown).await
}

pub async fn no_method(State(app): State<Arc<App>>, path: Option<MatchedPath>, caller: Caller) -> Problem {
    let route = template(path.as_ref().map(MatchedPath::as_str));
    deny(&app, caller, route, ProblemKind::MethodNotAllowed).await
}

/// What a panic becomes. Its message stays out of the answer, as out of the log ([`crate::telemetry::hush_panics`]): it may quote
/// a value.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::from(crate::service::Error::Internal("a handler panicked")).into_response()
}
