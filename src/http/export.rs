//! Everything that is kept of a person, a page at a time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::caller::Caller;
use super::operation::Operation;
use super::pages::{Asked, page};
use super::problem::Problem;
use super::subjects::subject;
use crate::service::ExportCursor;

/// `GET /api/v1/subjects/{id}/export`: their records by collection and id, with `?cursor=…&limit=…`.
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Asked,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ExportSubject.route());
    let (after, limit) = page(query, ExportCursor::parse)?;
    let answer = app.service.export(&context, subject(path), after, limit).await?;
    let mut response = Body::from(answer.into_body()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
