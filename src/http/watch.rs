//! What became of each request: metrics, and a line in the service's log.
//!
//! The line is for finding out why something failed, and is written at `debug` for a request that went well: who did what
//! is in the audit log.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::operation::template;
use crate::telemetry::metrics;

/// Put into an answer by whoever makes a problem document of it.
#[derive(Clone, Copy)]
pub struct Told {
    pub code: &'static str,
    /// The audit log has an entry about it.
    pub is_on_record: bool,
}

/// A request from its head to the head of its answer, for the metrics.
pub struct Watch {
    started: Instant,
    in_flight: metrics::InFlight,
    route: &'static str,
    method: &'static str,
}

impl Watch {
    pub fn begin(request: &Request) -> Self {
        Self {
            started: Instant::now(),
            in_flight: metrics::InFlight::begin(),
            route: template(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str)),
            method: method_word(request.method()),
        }
    }

    pub fn end(self, response: &Response) {
        let Self { started, in_flight, route, method } = self;
        metrics::request(route, method, response.status().as_u16(), started.elapsed());
        if let Some(Told { code, .. }) = response.extensions().get() {
            metrics::problem(code);
        }
        drop(in_flight);
    }
}

/// The line of a request that has an answer. Called while the request is on its lines, which says which one it is.
pub fn log(route: &'static str, response: &Response, took: std::time::Duration) {
    let status = response.status();
    let code = response.extensions().get().map(|told: &Told| told.code);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::error!(route, status = status.as_u16(), code, micros, "request.answered");
    } else if status.is_server_error() {
        tracing::warn!(route, status = status.as_u16(), code, micros, "request.answered");
    } else if status.is_client_error() {
        tracing::info!(route, status = status.as_u16(), code, micros, "request.answered");
    } else {
        tracing::debug!(route, status = status.as_u16(), micros, "request.answered");
    }
}

/// A method of HTTP, or `OTHER`: what a client makes up must not become a label.
fn method_word(method: &Method) -> &'static str {
    const KNOWN: [(&str, Method); 7] = [
        ("GET", Method::GET),
        ("HEAD", Method::HEAD),
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("PATCH", Method::PATCH),
        ("DELETE", Method::DELETE),
        ("OPTIONS", Method::OPTIONS),
    ];
    KNOWN.iter().find(|(_, known)| known == method).map_or("OTHER", |(word, _)| *word)
}
