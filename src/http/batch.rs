//! Batches: up to 500 records of one collection in one request.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::App;
use super::body::{self, Bounded, CreateBody};
use super::caller::Caller;
use super::idempotency::idempotency_key;
use super::operation::Operation;
use super::place::Place;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use super::records::{mark_repeated, named_fields, parse_subject, requested_view};
use crate::domain::id::RecordId;
use crate::service::{NewItem, ReadRequest, Written};

/// `{"records":[{"subject":…,"fields":{…}},…]}`, each as in a single create.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateManyBody<'a> {
    #[serde(borrow)]
    records: Bounded<&'a RawValue>,
}

/// `{"ids":[…],"fields":[…],"view":"plain"}`; the last two are optional and mean what they mean in a single read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadManyBody {
    ids: Bounded<String>,
    fields: Option<Bounded<String>>,
    view: Option<String>,
}

/// `POST /api/v1/{collection}/batch`: 201 when all records were stored; else none was.
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let path = path.map(|Path(name)| (name, String::new()));
    let place = Place::find(&app, caller, Operation::CreateMany, path).await?;
    let prospect = app.service.authorise_create(&place.context, &place.collection).await?;
    let key = idempotency_key(&headers)?;
    let bytes = body::read_json(&headers, body, app.batch_body_bytes, &["application/json"]).await?;
    let parsed: CreateManyBody<'_> = body::parse(&bytes)?;
    let records = parsed.records.whole().ok_or_else(|| Problem::of(ProblemKind::BatchSize))?;
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        let CreateBody { subject, fields } = body::parse(record.get().as_bytes())?;
        items.push(NewItem { subject: subject.as_deref().map(parse_subject).transpose()?, fields });
    }
    let what = (&place.collection, prospect);
    let created = app.service.create_many(&place.context, what, &items, key.as_ref()).await?;
    let records: Vec<_> = created.records.iter().map(Written::to_json).collect();
    let mut response = (StatusCode::CREATED, Json(json!({ "records": records }))).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    mark_repeated(&mut response, created.is_repeated);
    Ok(response)
}

/// `POST /api/v1/{collection}/batch/read`: the records that there are, and the places of those that there are not.
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let path = path.map(|Path(name)| (name, String::new()));
    let place = Place::find(&app, caller, Operation::ReadMany, path).await?;
    let prospect = app.service.authorise_read_many(&place.context, &place.collection).await?;
    let bytes = body::read_json(&headers, body, app.batch_body_bytes, &["application/json"]).await?;
    let parsed: ReadManyBody = body::parse(&bytes)?;
    let refused = || Problem::of(ProblemKind::BodyShape);
    let view = requested_view(parsed.view.as_deref()).ok_or_else(refused)?;
    let names = parsed.fields.map(|names| names.whole().ok_or_else(refused)).transpose()?;
    let names = names.as_ref().map(|names| names.iter().map(String::as_str));
    let fields = names.map(|names| named_fields(&place.collection, names).ok_or_else(refused)).transpose()?;
    // An id twice would be two entries for one look.
    let ids = parsed.ids.whole().ok_or_else(|| Problem::of(ProblemKind::BatchSize))?;
    let distinct: HashSet<&str> = ids.iter().map(String::as_str).collect();
    if distinct.len() != ids.len() {
        return Err(Problem::of(ProblemKind::BatchSize));
    }
    let records = ids.iter().map(|id| RecordId::parse(id).filter(RecordId::is_ours)).collect();
    let request = ReadRequest { fields, view, version: None };
    let answer =
        app.service.read_many(&place.context, (&place.collection, prospect), records, request).await?;
    let mut response = Body::from(answer.into_body()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
