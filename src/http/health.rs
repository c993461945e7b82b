//! Liveness, readiness and metrics, behind the client certificate like everything else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::caller::Caller;
use super::operation::Operation;
use super::problem::Problem;
use crate::service::{PartDown, Raised};

/// `GET /livez`: 200 while the process answers.
pub async fn live(_: Caller) -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// `GET /readyz`: 200 when every part answers, else 503 with the parts that do not, each with the time (RFC 3339) at
/// which it was first seen so. 503 as well while the service drains: connections that are open still get their answers, and
/// nobody should be sent here any more. `alarms` are what is wrong although nothing is refused for it. How much waits for people is
/// in the metrics: it is of all tenants, and every client may ask here.
pub async fn ready(State(app): State<Arc<App>>, _: Caller) -> Response {
    let down = app.service.parts_down().await;
    let each = |part: &PartDown| json!({ "part": part.name, "since": part.since.to_rfc3339() });
    let parts: Vec<_> = down.iter().map(each).collect();
    let each = |on: &Raised| json!({ "alarm": on.alarm.as_str(), "since": on.since.to_rfc3339() });
    let alarms: Vec<_> = app.service.alarms().iter().map(each).collect();
    let (status, word) = match (app.service.is_draining(), down.is_empty()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (false, true) => (StatusCode::OK, "ready"),
    };
    (status, Json(json!({ "status": word, "down": parts, "alarms": alarms }))).into_response()
}

/// `GET /metrics`: the Prometheus text format, for operators.
pub async fn metrics(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let context = caller.operation(Operation::Metrics.route());
    app.service.measure(&context).await?;
    let mut response = app.metrics.render().into_response();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
