//! Record routes: create, read, change, delete.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::body::{self, CreateBody, PatchBody};
use super::caller::Caller;
use super::problem::Problem;
use crate::domain::id::{FieldName, RecordId, RecordVersion, SubjectId};
use crate::policy::Collection;
use crate::service::{ReadRequest, RecordAnswer, RequestedView, Service, Written};

pub const COLLECTION: &str = "/api/v1/{collection}";
pub const RECORD: &str = "/api/v1/{collection}/{id}";

/// `?fields=a,b&view=plain|masked`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadQuery {
    fields: Option<String>,
    view: Option<String>,
}

/// `POST /api/v1/{collection}`: 201 with the id, the version as `ETag` and `Location`.
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(collection): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let collection = find_collection(&app.service, &collection)?;
    let context = caller.operation(COLLECTION);
    let permit = app.service.authorise_create(&context, &collection).await?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let parsed: CreateBody<'_> = body::parse(&bytes)?;
    let subject = parsed.subject.as_deref().map(parse_subject).transpose()?;
    let written = app.service.create(&context, &permit, subject, parsed.fields).await?;
    let location = format!("/api/v1/{}/{}", collection.name().as_str(), written.record.as_str());
    let mut response = answer_written(StatusCode::CREATED, &written);
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

/// `GET /api/v1/{collection}/{id}`: the fields that policy gives for this purpose; what it withholds is listed.
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((collection, id)): Path<(String, String)>,
    query: Result<Query<ReadQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let collection = find_collection(&app.service, &collection)?;
    let record = parse_record(&id)?;
    let Query(query) = query.map_err(|_| bad_query())?;
    let request = read_request(&collection, &query)?;
    let context = caller.operation(RECORD);
    let answer = app.service.read(&context, &collection, record, request).await?;
    Ok(answer_record(answer))
}

/// `PATCH /api/v1/{collection}/{id}` with `If-Match`: a new version with the given fields set, or removed by `null`.
pub async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((collection, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let collection = find_collection(&app.service, &collection)?;
    let record = parse_record(&id)?;
    let expected = if_match(&headers)?.ok_or(Problem::new(
        StatusCode::PRECONDITION_REQUIRED,
        "if_match_required",
        "send If-Match with the ETag of the version you changed",
    ))?;
    let context = caller.operation(RECORD);
    let permit = app.service.authorise_update(&context, &collection).await?;
    let media_types = ["application/json", "application/merge-patch+json"];
    let bytes = body::read_json(&headers, body, app.body_bytes, &media_types).await?;
    let parsed: PatchBody<'_> = body::parse(&bytes)?;
    let written = app.service.update(&context, &permit, record, expected, parsed.fields).await?;
    Ok(answer_written(StatusCode::OK, &written))
}

/// `DELETE /api/v1/{collection}/{id}`, with or without `If-Match`: 204.
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((collection, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let collection = find_collection(&app.service, &collection)?;
    let record = parse_record(&id)?;
    let expected = if_match(&headers)?;
    let context = caller.operation(RECORD);
    app.service.delete(&context, &collection, record, expected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn find_collection(service: &Service, name: &str) -> Result<Arc<Collection>, Problem> {
    service.collection(name).ok_or(Problem::new(
        StatusCode::NOT_FOUND,
        "collection_unknown",
        "there is no such collection; GET /api/v1/openapi.json lists them",
    ))
}

fn parse_record(text: &str) -> Result<RecordId, Problem> {
    // An id that cannot exist gets the answer of one that does not.
    RecordId::parse(text).ok_or_else(|| Problem::from(crate::service::Error::NotFound))
}

fn parse_subject(text: &str) -> Result<SubjectId, Problem> {
    SubjectId::parse(text).ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "body_shape",
            "`subject` must be a UUID in lower case with hyphens",
        )
    })
}

fn bad_query() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "query_invalid",
        "the query may hold `fields` (names of this collection, by commas) and `view` (plain or masked), each once",
    )
}

fn read_request(collection: &Collection, query: &ReadQuery) -> Result<ReadRequest, Problem> {
    let view = match query.view.as_deref() {
        None => RequestedView::Most,
        Some("plain") => RequestedView::Plain,
        Some("masked") => RequestedView::Masked,
        Some(_) => return Err(bad_query()),
    };
    let find = |name: &str| FieldName::parse(name).filter(|name| collection.field(name.as_str()).is_some());
    let fields = query
        .fields
        .as_deref()
        .map(|list| {
            list.split(',').map(|name| find(name).ok_or_else(bad_query)).collect::<Result<Vec<_>, _>>()
        })
        .transpose()?;
    Ok(ReadRequest { fields, view })
}

/// RFC 9110 section 13.1.1, for the one form of entity tag that this service makes: `"7"`.
fn if_match(headers: &HeaderMap) -> Result<Option<RecordVersion>, Problem> {
    let mut sent = headers.get_all(header::IF_MATCH).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    let version = first
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix('"')?.strip_suffix('"'))
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'))
        .and_then(|digits| digits.parse::<u32>().ok())
        .and_then(RecordVersion::new)
        .filter(|_| sent.next().is_none());
    version.map(Some).ok_or(Problem::new(
        StatusCode::BAD_REQUEST,
        "if_match_invalid",
        "send one If-Match with the ETag exactly as it was received, quotes included",
    ))
}

fn etag(version: RecordVersion) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{}\"", version.get()))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn answer_written(status: StatusCode, written: &Written) -> Response {
    let mut response = (status, axum::Json(written.to_json())).into_response();
    response.headers_mut().insert(header::ETAG, etag(written.version));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn answer_record(answer: RecordAnswer) -> Response {
    let version = etag(answer.version);
    let mut response = Body::from(answer.into_body()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ETAG, version);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_taken_as_given_out() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_str(text).unwrap())]);
            if_match(&headers).map(|version| version.map(RecordVersion::get)).map_err(|problem| problem.code)
        };
        assert_eq!(read("\"7\""), Ok(Some(7)));
        for bad in ["7", "W/\"7\"", "\"07\"", "\"\"", "*", "\"7\", \"8\"", "\"-1\"", "\"4294967296\""] {
            assert_eq!(read(bad), Err("if_match_invalid"), "{bad}");
        }
        assert!(matches!(if_match(&HeaderMap::new()), Ok(None)));
    }
}
