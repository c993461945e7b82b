//! Liveness and readiness, behind the client certificate like everything else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::caller::Caller;
use crate::service::PartDown;

/// `GET /livez`: 200 while the process answers.
pub async fn live(_: Caller) -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// `GET /readyz`: 200 when every part answers, else 503 with the parts that do not, each with the time (RFC 3339) at
/// which it was first seen so.
pub async fn ready(State(app): State<Arc<App>>, _: Caller) -> Response {
    let down = app.service.parts_down().await;
    let each = |part: &PartDown| json!({ "part": part.name, "since": part.since.to_rfc3339() });
    let parts: Vec<_> = down.iter().map(each).collect();
    let status = if down.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if down.is_empty() { "ready" } else { "not ready" };
    (status, Json(json!({ "status": word, "down": parts }))).into_response()
}
