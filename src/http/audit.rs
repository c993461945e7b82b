//! The audit log for auditors: entries as they are stored, never a value.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::caller::Caller;
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::audit::{Act, Cursor, Filter, Order, PageSize, Status};
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, RecordId, SubjectId};
use crate::domain::purpose::Purpose;
use crate::service::EventsRequest;

/// Every parameter is optional and given at most once; all that are given must hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    from: Option<String>,
    until: Option<String>,
    act: Option<String>,
    status: Option<String>,
    actor: Option<String>,
    person: Option<String>,
    subject: Option<String>,
    collection: Option<String>,
    record: Option<String>,
    purpose: Option<String>,
    order: Option<String>,
    cursor: Option<String>,
    limit: Option<u16>,
}

/// `GET /api/v1/audit/events`: a page of entries of the caller's tenant, newest first unless `order=oldest`.
pub async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let request = query
        .ok()
        .and_then(|Query(query)| parse(query).ok())
        .ok_or(Problem::of(ProblemKind::EventsQueryInvalid))?;
    let context = caller.operation(Operation::ReadEvents.route());
    let answer = app.service.events(&context, request).await?;
    let mut response = Body::from(answer.into_body()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn parse(query: EventsQuery) -> Result<EventsRequest, Unreadable> {
    let filter = Filter {
        act: optional(query.act, Act::parse)?,
        status: optional(query.status, Status::parse)?,
        actor: optional(query.actor, |name| (name.len() <= 64).then(|| Arc::from(name)))?,
        person: optional(query.person, |id| (1..=255).contains(&id.len()).then(|| Arc::from(id)))?,
        subject: optional(query.subject, SubjectId::parse)?,
        collection: optional(query.collection, CollectionName::parse)?,
        record: optional(query.record, |id| RecordId::parse(id).filter(RecordId::is_ours))?,
        purpose: optional(query.purpose, Purpose::parse)?,
    };
    let order = |word: &str| match word {
        "newest" => Some(Order::NewestFirst),
        "oldest" => Some(Order::OldestFirst),
        _ => None,
    };
    Ok(EventsRequest {
        filter,
        from: optional(query.from, Timestamp::parse_rfc3339)?,
        until: optional(query.until, Timestamp::parse_rfc3339)?,
        order: optional(query.order, order)?.unwrap_or_default(),
        after: optional(query.cursor, Cursor::parse)?,
        size: match query.limit {
            Some(limit) => PageSize::new(limit).ok_or(Unreadable)?,
            None => PageSize::default(),
        },
    })
}

/// An error when it was sent and does not parse.
fn optional<T>(sent: Option<String>, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Unreadable> {
    sent.map(|text| parse(&text).ok_or(Unreadable)).transpose()
}

struct Unreadable;
