//! Routes, extractors and answers. Talks to `service` and `tls` only; never to storage, keys or crypto.

mod answer;
mod attempt;
mod audit;
mod batch;
mod body;
mod break_glass;
mod caller;
pub mod door;
mod erasures;
mod export;
mod fallback;
mod files;
mod framing;
mod health;
mod holds;
mod idempotency;
mod keys;
pub mod openapi;
mod operation;
mod pages;
mod person;
mod place;
mod problem;
mod problem_kind;
mod records;
mod relay;
mod search;
mod subjects;
mod watch;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;

pub use operation::Operation;
pub use problem_kind::ProblemKind;
pub use witness::{WitnessApp, witness_router};

use crate::people::People;
use crate::service::Service;
use crate::telemetry::metrics::Renderer;
use crate::tls::Admission;

/// What every handler shares.
pub struct App {
    pub service: Arc<Service>,
    pub admission: Arc<Admission>,
    pub people: Arc<People>,
    /// The largest request body, and the largest of a batch.
    pub body_bytes: usize,
    pub batch_body_bytes: usize,
    /// The largest document.
    pub document_bytes: u64,
    /// After this long a request is answered 503, whatever it waits for.
    pub request_timeout: Duration,
    /// An upload that goes on by less than [`door::PROGRESS_BYTES`] in this long is cut.
    pub stall_timeout: Duration,
    pub metrics: Renderer,
    pub openapi: openapi::OpenApiCache,
}

/// The whole interface. Every route, the fallbacks included, is behind [`caller::enter`].
pub fn router(app: Arc<App>) -> Router {
    let routes = Operation::ALL
        .iter()
        .fold(Router::new(), |router, operation| router.route(operation.route(), operation.endpoint()));
    routes
        .fallback(fallback::no_route)
        .method_not_allowed_fallback(fallback::no_method)
        .layer(from_fn_with_state(Arc::clone(&app), caller::enter))
        .with_state(app)
}
