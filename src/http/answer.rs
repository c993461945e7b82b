//! Answers that are a document, which nobody keeps on the way.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::records::mark_repeated;
use crate::service::Opened;

pub(super) fn answer(status: StatusCode, document: impl Serialize) -> Response {
    let mut response = (status, Json(document)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Of what was opened, placed or asked for, now or under the same key before.
pub(super) fn answer_opened(status: StatusCode, opened: Opened) -> Response {
    let mut response = answer(status, opened.answer);
    mark_repeated(&mut response, opened.is_repeated);
    response
}
