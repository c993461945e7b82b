//! The `Idempotency-Key` header, on every POST that makes something.

use axum::http::{HeaderMap, HeaderName};

use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::domain::idempotency::IdempotencyKey;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key, if one was sent; two, or one that is none, are refused.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut sent = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    let key = first.to_str().ok().and_then(IdempotencyKey::parse).filter(|_| sent.next().is_none());
    key.map(Some).ok_or(Problem::of(ProblemKind::IdempotencyKeyInvalid))
}
