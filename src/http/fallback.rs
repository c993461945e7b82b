//! Answers for what is not a route, and for a handler that failed.

use std::any::Any;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

pub async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "route_unknown", "there is no such path; see /api/v1/openapi.json")
}

pub async fn no_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}

/// What a panic becomes. Its message stays out of the log and the answer: it may quote a value.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("http.handler_panicked");
    Problem::from(crate::service::Error::Internal("panic")).into_response()
}
