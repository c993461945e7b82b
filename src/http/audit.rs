//! The audit log for auditors: entries as they are stored, never a value.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::caller::Caller;
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::audit::render::Format;
use crate::audit::{Act, Cursor, Filter, Order, PageSize, Status};
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, EntryId, RecordId, SubjectId};
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

/// Where the cursor of the next page is told beside a form that has no place for it.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("next-cursor");
/// The same for the time before which entries are in the exported files only.
const PRUNED_UNTIL: HeaderName = HeaderName::from_static("pruned-until");

/// `GET /api/v1/audit/events`: a page of entries of the caller's tenant, newest first unless `order=oldest`, in the form that
/// `Accept` names.
pub async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    sent: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let form = accepted(&sent).map_err(|Unreadable| Problem::of(ProblemKind::NotAcceptable))?;
    let request = query
        .ok()
        .and_then(|Query(query)| parse(query).ok())
        .ok_or(Problem::of(ProblemKind::EventsQueryInvalid))?;
    let context = caller.operation(Operation::ReadEvents.route());
    let answer = app.service.events(&context, EventsRequest { form, ..request }).await?;
    let told = [(NEXT_CURSOR, answer.next()), (PRUNED_UNTIL, answer.pruned_until())];
    let told = told
        .map(|(name, value)| Some((name, HeaderValue::from_str(value?).ok()?)).filter(|_| form.is_some()));
    let mut response = as_is(answer.into_body(), form.map_or("application/json", Format::media_type));
    response.headers_mut().extend(told.into_iter().flatten());
    Ok(response)
}

/// `GET /api/v1/audit/checkpoint`: the newest published checkpoint (C2SP tlog-checkpoint).
pub async fn checkpoint(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReadCheckpoint.route());
    let answer = app.service.log_checkpoint(&context).await?;
    Ok(as_is(answer.into_text(), "text/plain; charset=utf-8"))
}

/// `GET /api/v1/audit/proof/{entry}`: that an entry is in the log that the newest checkpoint signs (C2SP tlog-proof).
pub async fn proof(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let context = caller.operation(Operation::ReadProof.route());
    // What is no id names no entry, and is answered as one that there is not.
    let entry = path.ok().and_then(|Path(text)| EntryId::parse(&text));
    let answer = app.service.entry_proof(&context, entry).await?;
    Ok(as_is(answer.into_text(), "text/plain; charset=utf-8"))
}

fn as_is(body: impl Into<Body>, media_type: &'static str) -> Response {
    let mut response = body.into().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The form that the caller likes best (RFC 9110 section 12.5.1), `None` for entries as they are stored; an error where none of
/// those that there are is wanted.
fn accepted(sent: &HeaderMap) -> Result<Option<Format>, Unreadable> {
    let mut ranges = Vec::new();
    for value in sent.get_all(header::ACCEPT) {
        let text = value.to_str().map_err(|_| Unreadable)?;
        ranges.extend(text.split(',').map(str::trim).filter(|range| !range.is_empty()));
    }
    if ranges.is_empty() {
        return Ok(None);
    }
    let weight = |parameters: &str| {
        let q = parameters.split(';').find_map(|each| each.trim().strip_prefix("q="));
        q.map_or(Some(1.0_f32), |q| q.parse().ok().filter(|q| (0.0..=1.0).contains(q)))
    };
    let mut best: Option<(f32, Option<Format>)> = None;
    for range in ranges {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let form = match name.trim().to_ascii_lowercase().as_str() {
            "*/*" | "application/*" | "application/json" => Some(None),
            other => Format::ALL.into_iter().find(|form| form.media_type() == other).map(Some),
        };
        let (Some(form), Some(weight)) = (form, weight(parameters)) else { continue };
        if weight > best.map_or(0.0, |(best, _)| best) {
            best = Some((weight, form));
        }
    }
    best.map(|(_, form)| form).ok_or(Unreadable)
}

/// A client's name, or an administrator's.
fn actor(name: &str) -> Option<Arc<str>> {
    let is_one = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then(|| Arc::from(name))
}

fn parse(query: EventsQuery) -> Result<EventsRequest, Unreadable> {
    let filter = Filter {
        act: optional(query.act, Act::parse)?,
        status: optional(query.status, Status::parse)?,
        actor: optional(query.actor, actor)?,
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
        form: None,
    })
}

/// An error when it was sent and does not parse.
fn optional<T>(sent: Option<String>, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Unreadable> {
    sent.map(|text| parse(&text).ok_or(Unreadable)).transpose()
}

#[derive(Debug, PartialEq)]
struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_form_is_taken() {
        let asked = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            accepted(&headers)
        };
        assert_eq!(accepted(&HeaderMap::new()), Ok(None));
        assert_eq!(asked("*/*"), Ok(None));
        assert_eq!(asked("text/html, application/json;q=0.1"), Ok(None));
        assert_eq!(asked("application/json;q=0.1, TEXT/CSV; q=0.2"), Ok(Some(Format::Csv)));
        assert_eq!(asked("application/fhir+json; fhirVersion=4.0"), Ok(Some(Format::Fhir)));
        assert_eq!(asked("application/ocsf+json, application/jsonl"), Ok(Some(Format::Ocsf)));
        for unknown in ["text/html", "text/csv;q=0", "text/csv;q=7", "application/xml, image/*"] {
            assert_eq!(asked(unknown), Err(Unreadable), "{unknown}");
        }
    }
}
