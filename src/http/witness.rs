//! The witness's interface (C2SP tlog-witness): what a log asks for, and what monitors read. Behind the same door as the
//! service, so that only listed certificates are heard; the specification asks for no more than the log's signature.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use serde_json::json;

use super::framing::is_ambiguous;
use crate::audit::checkpoint::LONGEST_NOTE_BYTES;
use crate::audit::witness::{Refusal, Witness};
use crate::domain::actor::CertificateFacts;
use crate::domain::clock::SharedClock;
use crate::tls::Admission;

/// A note, and 63 lines of a proof before it.
const LONGEST_REQUEST_BYTES: usize = LONGEST_NOTE_BYTES + 4_096;
/// From the first byte of a request to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// tlog-witness, add-checkpoint.
const TLOG_SIZE: HeaderValue = HeaderValue::from_static("text/x.tlog.size");

/// What every handler shares.
pub struct WitnessApp {
    pub witness: Arc<Witness>,
    pub admission: Arc<Admission>,
    pub clock: SharedClock,
}

/// The whole interface, all of it behind [`enter`].
pub fn witness_router(app: Arc<WitnessApp>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin_hash}/checkpoint", get(newest))
        .route("/livez", get(async || StatusCode::OK))
        .fallback(async || problem(StatusCode::NOT_FOUND, "no_such_route"))
        .method_not_allowed_fallback(async || problem(StatusCode::METHOD_NOT_ALLOWED, "no_such_method"))
        .layer(from_fn_with_state(Arc::clone(&app), enter))
        .with_state(app)
}

/// Asks of every request anew whether its certificate passes, and bounds its time.
async fn enter(State(app): State<Arc<WitnessApp>>, request: Request, next: Next) -> Response {
    if is_ambiguous(request.version(), request.headers()) {
        return problem(StatusCode::BAD_REQUEST, "request_ambiguous");
    }
    let facts = request.extensions().get::<Arc<CertificateFacts>>().cloned();
    let admitted = facts.map(|facts| app.admission.admit(&facts, app.clock.now()));
    let client = match admitted {
        Some(Ok(identity)) => Arc::clone(&identity.client),
        Some(Err(refusal)) => {
            tracing::info!(code = refusal.code(), "witness.not_admitted");
            return problem(StatusCode::FORBIDDEN, "not_admitted");
        }
        None => return problem(StatusCode::FORBIDDEN, "not_admitted"),
    };
    let method = request.method().clone();
    // What a panic said stays where it was: it may quote what was sent.
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match tokio::time::timeout(REQUEST_TIMEOUT, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "deadline_exceeded"),
    };
    tracing::debug!(client = %client, method = %method, status = response.status().as_u16(), "witness.answered");
    response
}

/// `POST /add-checkpoint`.
async fn add_checkpoint(State(app): State<Arc<WitnessApp>>, body: Body) -> Response {
    let Ok(body) = to_bytes(body, LONGEST_REQUEST_BYTES).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large");
    };
    let now_s = u64::try_from(app.clock.now().as_seconds()).unwrap_or(0);
    // It writes files, and goes on to its end when the caller hangs up.
    let asked = tokio::task::spawn_blocking(move || app.witness.add_checkpoint(&body, now_s)).await;
    match asked {
        Ok(Ok(lines)) => text(StatusCode::OK, lines),
        Ok(Err(refusal)) => refused(&refusal),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// `GET /{origin hash}/checkpoint`, tlog-witness, Monitor Retrieval Mechanism.
async fn newest(State(app): State<Arc<WitnessApp>>, Path(origin_hash): Path<String>) -> Response {
    match app.witness.newest(&origin_hash) {
        Some(checkpoint) => text(StatusCode::OK, checkpoint),
        None => problem(StatusCode::NOT_FOUND, "no_checkpoint"),
    }
}

/// The statuses are the specification's. A log that does not only grow is for people to know of at once.
fn refused(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::Malformed(_) => problem(StatusCode::BAD_REQUEST, "request_malformed"),
        Refusal::UnknownLog => problem(StatusCode::NOT_FOUND, "unknown_log"),
        Refusal::Untrusted(_) => problem(StatusCode::FORBIDDEN, "checkpoint_not_trusted"),
        Refusal::OtherSize { size } => {
            let mut response = text(StatusCode::CONFLICT, format!("{size}\n"));
            response.headers_mut().insert(header::CONTENT_TYPE, TLOG_SIZE);
            response
        }
        Refusal::Inconsistent => {
            tracing::error!("witness.log_inconsistent");
            problem(StatusCode::UNPROCESSABLE_ENTITY, "checkpoint_inconsistent")
        }
        Refusal::Ledger(fault) => {
            tracing::error!(error = %fault, "witness.state_failed");
            problem(StatusCode::SERVICE_UNAVAILABLE, "state_unavailable")
        }
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body).into_response()
}

/// RFC 9457, as the service answers; nothing of the request is in it.
fn problem(status: StatusCode, code: &'static str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let document = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "code": code });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, document.to_string()).into_response()
}
