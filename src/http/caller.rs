//! From a connection's certificate to an actor, on every request: nothing about identity is remembered.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use super::attempt::Attempt;
use super::door::PeerAddress;
use super::framing::is_ambiguous;
use super::operation::{is_paced_by_client, template, waiting};
use super::person::{Bearer, behind};
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use super::watch::{Watch, log};
use super::{App, fallback};
use crate::domain::actor::{Actor, CertificateFacts};
use crate::domain::clock::Timestamp;
use crate::domain::context::{OperationContext, RequestFacts};
use crate::domain::id::{RequestId, uuid_v7};
use crate::domain::purpose::Purpose;
use crate::service::Error;
use crate::telemetry::request::{RequestLabels, TraceLabels, on_lines};
use crate::tls::Refusal;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static PURPOSE: HeaderName = HeaderName::from_static("x-purpose-of-use");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Who is asking, in which request and why; handlers take it as an argument.
#[derive(Clone)]
pub struct Caller {
    actor: Actor,
    id: RequestId,
    trace: Option<String>,
    purpose: Option<Purpose>,
    at: Timestamp,
}

impl Caller {
    /// The context that use cases demand, for the operation with this route template.
    pub fn operation(self, route: &'static str) -> OperationContext {
        OperationContext {
            actor: self.actor,
            request: RequestFacts { id: self.id, trace: self.trace, route },
            purpose: self.purpose,
            at: self.at,
            break_glass: OnceLock::new(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(not_through_the_door)
    }
}

/// The middleware around every route: gives the request its id, admits the caller or answers 403, bounds the time it may
/// take, and counts what becomes of it. One layer for all of it: each costs every request a boxed future and a copy of what
/// is below.
pub async fn enter(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let watch = Watch::begin(&request);
    let response = identify(&app, request, next).await;
    watch.end(&response);
    response
}

async fn identify(app: &App, request: Request, next: Next) -> Response {
    let id = match request_id(app, request.headers()) {
        Ok(id) => id,
        Err(problem) => return problem.into_response(),
    };
    let trace = request.headers().get(&TRACEPARENT).and_then(parse_trace);
    let (text, of) = (id.to_string(), trace.as_ref().map(|trace| trace.trace.clone()));
    let value = HeaderValue::from_str(&text);
    let labels = RequestLabels { id: text, trace };
    let mut response = on_lines(labels, serve(app, request, next, id, of)).await;
    if let Ok(value) = value {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}

async fn serve(
    app: &App,
    mut request: Request,
    next: Next,
    id: RequestId,
    trace: Option<String>,
) -> Response {
    let started = Instant::now();
    let presented = Presented::of(&mut request, trace);
    let route = presented.route;
    let response = match admit(app, presented, id).await {
        Ok(caller) => {
            let attempt = Attempt::of(&request, caller.clone());
            request.extensions_mut().insert(caller);
            let response = handle(app, request, next).await;
            attempt.settle(app, response).await
        }
        Err(problem) => problem.into_response(),
    };
    log(route, &response, started.elapsed());
    response
}

/// Runs the handler. One that panics becomes an answer that tells nothing. One that waits too long is cut; what it had handed
/// to the audit log or to PostgreSQL goes on there, and the caller is told that the outcome is not known.
async fn handle(app: &App, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let is_paced_by_client = is_paced_by_client(request.method(), matched);
    let timeout = app.request_timeout + waiting(request.method(), matched);
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    let ended =
        if is_paced_by_client { Ok(handled.await) } else { tokio::time::timeout(timeout, handled).await };
    match ended {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => fallback::panicked(panic),
        Err(_) => Problem::of(ProblemKind::DeadlineExceeded).into_response(),
    }
}

/// What the connection and the headers say of the caller.
struct Presented {
    certificate: Option<Arc<CertificateFacts>>,
    source: Option<PeerAddress>,
    trace: Option<String>,
    purpose: Result<Option<Purpose>, ProblemKind>,
    bearer: Bearer,
    is_ambiguous: bool,
    route: &'static str,
}

impl Presented {
    fn of(request: &mut Request, trace: Option<String>) -> Self {
        let bearer = Bearer::take(request.headers_mut());
        let headers = request.headers();
        Self {
            certificate: request.extensions().get::<Arc<CertificateFacts>>().cloned(),
            source: request.extensions().get::<PeerAddress>().copied(),
            trace,
            purpose: purpose(headers),
            bearer,
            is_ambiguous: is_ambiguous(request.version(), headers),
            route: template(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str)),
        }
    }
}

async fn admit(app: &App, presented: Presented, id: RequestId) -> Result<Caller, Problem> {
    let certificate = presented.certificate.ok_or_else(not_through_the_door)?;
    let source = presented.source.ok_or_else(not_through_the_door)?.0;
    let at = app.service.clock().now();
    let identity = match app.admission.admit(&certificate, at) {
        Ok(identity) => identity,
        Err(refusal) => {
            let kind = kind_of(refusal);
            app.service.note_refused_caller(&certificate, source, kind.code()).await;
            return Err(Problem::of(kind).closing());
        }
    };
    let actor = Actor::new(identity, certificate, source);
    let caller = Caller { actor, id, trace: presented.trace, purpose: None, at };
    let context = caller.clone().operation(presented.route);
    app.service.charge_client(&context).await?;
    if presented.is_ambiguous {
        return Err(deny(app, caller, presented.route, ProblemKind::RequestAmbiguous).await.closing());
    }
    let caller = match behind(app, &caller.actor, presented.bearer).await {
        Ok(actor) => Caller { actor, ..caller },
        Err(kind) => return Err(deny(app, caller, presented.route, kind).await),
    };
    if caller.actor.person().is_some() {
        app.service.charge_person(&caller.clone().operation(presented.route)).await?;
    }
    match presented.purpose {
        Ok(purpose) => Ok(Caller { purpose, ..caller }),
        Err(kind) => Err(deny(app, caller, presented.route, kind).await),
    }
}

/// Refuses a known caller before it is clear what it wants; on record before it is told.
pub async fn deny(app: &App, caller: Caller, route: &'static str, kind: ProblemKind) -> Problem {
    let context = caller.operation(route);
    match app.service.note_access_denied(&context, kind.code()).await {
        Ok(()) => Problem::of(kind).on_record(),
        Err(error) => Problem::from(error),
    }
}

/// A caller's own id is kept when it is a UUID in canonical form; anything else gets a new one.
fn request_id(app: &App, headers: &HeaderMap) -> Result<RequestId, Problem> {
    let sent = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok()).and_then(RequestId::parse);
    match sent {
        Some(id) => Ok(id),
        None => uuid_v7(app.service.clock(), app.service.random())
            .map(RequestId::from_uuid)
            .map_err(|error| Problem::from(Error::from(error))),
    }
}

fn purpose(headers: &HeaderMap) -> Result<Option<Purpose>, ProblemKind> {
    let mut sent = headers.get_all(&PURPOSE).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    let known = first.to_str().ok().and_then(Purpose::parse).filter(|_| sent.next().is_none());
    known.map(Some).ok_or(ProblemKind::PurposeUnknown)
}

/// Who sent a request on, by a `traceparent` of W3C Trace Context (section 3.2.2): 2 hex, 32 hex, 16 hex, 2 hex.
fn parse_trace(value: &HeaderValue) -> Option<TraceLabels> {
    let mut parts = value.to_str().ok()?.split('-');
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let version = parts.next().filter(|part| is_hex(part, 2) && *part != "ff")?;
    let trace = parts.next().filter(|part| is_hex(part, 32) && part.bytes().any(|b| b != b'0'))?;
    let parent = parts.next().filter(|part| is_hex(part, 16) && part.bytes().any(|b| b != b'0'))?;
    parts.next().filter(|part| is_hex(part, 2))?;
    (version != "00" || parts.next().is_none())
        .then(|| TraceLabels { trace: trace.to_owned(), parent: parent.to_owned() })
}

/// The door gives each request its certificate's facts and its address; one without them is refused.
fn not_through_the_door() -> Problem {
    Problem::from(Error::Internal("a request did not come through the door")).closing()
}

const fn kind_of(refusal: Refusal) -> ProblemKind {
    match refusal {
        Refusal::Unlisted => ProblemKind::IdentityUnlisted,
        Refusal::Revoked => ProblemKind::CertificateRevoked,
        Refusal::Expired => ProblemKind::CertificateExpired,
        Refusal::CrlExpired => ProblemKind::RevocationUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_traceparents_count() {
        let trace = |text: &str| parse_trace(&HeaderValue::from_str(text).unwrap());
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = trace(good).unwrap();
        assert_eq!((&*read.trace, &*read.parent), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            assert!(trace(bad).is_none(), "{bad}");
        }
    }
}
