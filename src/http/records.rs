//! Record routes: create, read, change, delete.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::body::{self, CreateBody, PatchBody};
use super::caller::Caller;
use super::idempotency::idempotency_key;
use super::operation::Operation;
use super::place::Place;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::domain::action::Action;
use crate::domain::id::{FieldName, RecordVersion, SubjectId};
use crate::policy::Collection;
use crate::service::{ReadRequest, RecordAnswer, RequestedView, Written};

/// `?fields=a,b&view=plain|masked&version=3`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadQuery {
    fields: Option<String>,
    view: Option<String>,
    version: Option<String>,
}

/// `POST /api/v1/{collection}`: 201 with the id, the version as `ETag` and `Location`.
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let place =
        Place::find(&app, caller, Operation::Create, path.map(|Path(name)| (name, String::new()))).await?;
    let prospect = app.service.authorise_create(&place.context, &place.collection).await?;
    let key = idempotency_key(&headers)?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let parsed: CreateBody<'_> = body::parse(&bytes)?;
    let subject = parsed.subject.as_deref().map(parse_subject).transpose()?;
    let what = (&place.collection, prospect);
    let created = app.service.create(&place.context, what, subject, parsed.fields, key.as_ref()).await?;
    let written = created.records.first().ok_or(Problem::of(ProblemKind::Internal))?;
    let location = format!("/api/v1/{}/{}", place.collection.name().as_str(), written.record.as_str());
    let mut response = answer_written(StatusCode::CREATED, written);
    mark_repeated(&mut response, created.is_repeated);
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

/// `GET /api/v1/{collection}/{id}`: the fields that policy gives for this purpose; what it withholds is listed.
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let place = Place::find(&app, caller, Operation::Read, path.map(|Path(names)| names)).await?;
    let Query(query) = query.map_err(|_| bad_query())?;
    let request = read_request(&place.collection, &query)?;
    let record = place.record(&app, Action::Read).await?;
    let answer = app.service.read(&place.context, &place.collection, record, request).await?;
    Ok(answer_record(answer))
}

/// `PATCH /api/v1/{collection}/{id}` with `If-Match`: a new version with the given fields set, or removed by `null`.
pub async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let place = Place::find(&app, caller, Operation::Update, path.map(|Path(names)| names)).await?;
    let expected = if_match(&headers)?.ok_or(Problem::of(ProblemKind::IfMatchRequired))?;
    let record = place.record(&app, Action::Update).await?;
    let permit = app.service.authorise_update(&place.context, &place.collection, &record).await?;
    let media_types = ["application/json", "application/merge-patch+json"];
    let bytes = body::read_json(&headers, body, app.body_bytes, &media_types).await?;
    let parsed: PatchBody<'_> = body::parse(&bytes)?;
    let written = app.service.update(&place.context, &permit, record, expected, parsed.fields).await?;
    Ok(answer_written(StatusCode::OK, &written))
}

/// `DELETE /api/v1/{collection}/{id}`, with or without `If-Match`: 204.
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = Place::find(&app, caller, Operation::Delete, path.map(|Path(names)| names)).await?;
    let expected = if_match(&headers)?;
    let record = place.record(&app, Action::Delete).await?;
    app.service.delete(&place.context, &place.collection, record, expected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Tells that the answer is that of an earlier request under the same `Idempotency-Key`.
pub(super) fn mark_repeated(response: &mut Response, is_repeated: bool) {
    if is_repeated {
        response.headers_mut().insert(&IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
}

static IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) fn parse_subject(text: &str) -> Result<SubjectId, Problem> {
    SubjectId::parse(text).ok_or(Problem::of(ProblemKind::BodyShape))
}

const fn bad_query() -> Problem {
    Problem::of(ProblemKind::RecordQueryInvalid)
}

fn read_request(collection: &Collection, query: &ReadQuery) -> Result<ReadRequest, Problem> {
    let view = requested_view(query.view.as_deref()).ok_or(bad_query())?;
    let names = query.fields.as_deref().map(|list| list.split(','));
    let fields = names.map(|names| named_fields(collection, names).ok_or(bad_query())).transpose()?;
    let version = query.version.as_deref().map(|text| parse_version(text).ok_or(bad_query())).transpose()?;
    Ok(ReadRequest { fields, view, version })
}

pub(super) fn requested_view(word: Option<&str>) -> Option<RequestedView> {
    match word {
        None => Some(RequestedView::Most),
        Some("plain") => Some(RequestedView::Plain),
        Some("masked") => Some(RequestedView::Masked),
        Some(_) => None,
    }
}

/// A version's number in its one spelling: no sign, no leading zero.
pub(super) fn parse_version(digits: &str) -> Option<RecordVersion> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse::<u32>().ok().filter(|_| is_plain).and_then(RecordVersion::new)
}

/// Names of the collection, each once: the list goes into the audit log as it is.
pub(super) fn named_fields<'n>(
    collection: &Collection,
    list: impl Iterator<Item = &'n str>,
) -> Option<Vec<FieldName>> {
    let mut names: Vec<FieldName> = Vec::new();
    for name in list {
        let field = collection.field(name)?;
        if names.contains(&field.name) {
            return None;
        }
        names.push(field.name.clone());
    }
    Some(names)
}

/// RFC 9110 section 13.1.1, for the one form of entity tag that this service makes: `"7"`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<RecordVersion>, Problem> {
    let mut sent = headers.get_all(header::IF_MATCH).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    let version = first
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix('"')?.strip_suffix('"'))
        .and_then(parse_version)
        .filter(|_| sent.next().is_none());
    version.map(Some).ok_or(Problem::of(ProblemKind::IfMatchInvalid))
}

pub(super) fn etag(version: RecordVersion) -> HeaderValue {
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
            if_match(&headers)
                .map(|version| version.map(RecordVersion::get))
                .map_err(|problem| problem.code())
        };
        assert_eq!(read("\"7\""), Ok(Some(7)));
        for bad in ["7", "W/\"7\"", "\"07\"", "\"\"", "*", "\"7\", \"8\"", "\"-1\"", "\"4294967296\""] {
            assert_eq!(read(bad), Err("if_match_invalid"), "{bad}");
        }
        assert!(matches!(if_match(&HeaderMap::new()), Ok(None)));
    }

    proptest::proptest! {
        #[test]
        fn an_entity_tag_is_read_back_and_has_one_spelling(number in 1..=u32::MAX, text in "\"?[0-9W/*+ ]{0,12}\"?") {
            let read = |value: HeaderValue| {
                if_match(&HeaderMap::from_iter([(header::IF_MATCH, value)])).ok().flatten()
            };
            let version = RecordVersion::new(number).unwrap();
            proptest::prop_assert_eq!(read(etag(version)), Some(version));
            let sent = HeaderValue::from_str(&text).unwrap();
            if let Some(version) = read(sent.clone()) {
                proptest::prop_assert_eq!(etag(version), sent);
            }
        }
    }
}
