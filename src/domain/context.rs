//! What every operation that touches data carries: who, which request, and why.

use std::sync::OnceLock;

use super::actor::Actor;
use super::clock::Timestamp;
use super::id::{BreakGlassId, RequestId};
use super::purpose::Purpose;

/// The request as the audit entry names it.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    pub id: RequestId,
    /// W3C trace id, 32 lower-case hexadecimal digits, when the caller sent a valid `traceparent`.
    pub trace: Option<String>,
    /// The route template, never the raw path.
    pub route: &'static str,
}

/// Carried by every use case; made once, at the door.
#[derive(Clone, Debug)]
pub struct OperationContext {
    pub actor: Actor,
    pub request: RequestFacts,
    pub purpose: Option<Purpose>,
    /// When the request came in.
    pub at: Timestamp,
    /// The broken glass under which the request sees what it sees, once that is known. Every entry made from then on names it.
    pub break_glass: OnceLock<BreakGlassId>,
}
