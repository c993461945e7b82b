//! Liveness and readiness, behind the client certificate like everything else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::caller::Caller;

/// `GET /livez`: 200 while the process answers.
pub async fn live(_: Caller) -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// `GET /readyz`: 200 when every part answers, else 503 with the parts that do not.
pub async fn ready(State(app): State<Arc<App>>, _: Caller) -> Response {
    let down = app.service.parts_down().await;
    let status = if down.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if down.is_empty() { "ready" } else { "not ready" };
    (status, Json(json!({ "status": word, "down": down }))).into_response()
}
