//! Record routes: create, read, change, delete.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::body::{self, CreateBody, PatchBody};
use super::caller::{Caller, deny};
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldName, RecordId, RecordVersion, SubjectId};
use crate::policy::Collection;
use crate::service::{ReadRequest, RecordAnswer, RequestedView, Written};

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
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let place =
        Place::find(&app, caller, Operation::Create, path.map(|Path(name)| (name, String::new()))).await?;
    let permit = app.service.authorise_create(&place.context, &place.collection).await?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let parsed: CreateBody<'_> = body::parse(&bytes)?;
    let subject = parsed.subject.as_deref().map(parse_subject).transpose()?;
    let written = app.service.create(&place.context, &permit, subject, parsed.fields).await?;
    let location = format!("/api/v1/{}/{}", place.collection.name().as_str(), written.record.as_str());
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

/// What the path names, and who asks for it.
struct Place {
    context: OperationContext,
    collection: Arc<Collection>,
    id: String,
}

impl Place {
    /// A path that does not decode names nothing, so it has no collection either.
    async fn find(
        app: &App,
        caller: Caller,
        operation: Operation,
        path: Result<(String, String), PathRejection>,
    ) -> Result<Self, Problem> {
        let (name, id) = path.unwrap_or_default();
        match app.service.collection(&name) {
            Some(collection) => Ok(Self { context: caller.operation(operation.route()), collection, id }),
            None => Err(deny(app, caller, operation.route(), ProblemKind::CollectionUnknown).await),
        }
    }

    /// An id that cannot exist gets the answer, and the entry, of one that does not.
    async fn record(&self, app: &App, action: Action) -> Result<RecordId, Problem> {
        match RecordId::parse(&self.id).filter(RecordId::is_ours) {
            Some(record) => Ok(record),
            None => Err(app.service.impossible_record(&self.context, &self.collection, action).await.into()),
        }
    }
}

fn parse_subject(text: &str) -> Result<SubjectId, Problem> {
    SubjectId::parse(text).ok_or(Problem::of(ProblemKind::BodyShape))
}

const fn bad_query() -> Problem {
    Problem::of(ProblemKind::RecordQueryInvalid)
}

fn read_request(collection: &Collection, query: &ReadQuery) -> Result<ReadRequest, Problem> {
    let view = match query.view.as_deref() {
        None => RequestedView::Most,
        Some("plain") => RequestedView::Plain,
        Some("masked") => RequestedView::Masked,
        Some(_) => return Err(bad_query()),
    };
    let fields = query.fields.as_deref().map(|list| named_fields(collection, list)).transpose()?;
    Ok(ReadRequest { fields, view })
}

/// Names of the collection, each once: the list goes into the audit log as it is.
fn named_fields(collection: &Collection, list: &str) -> Result<Vec<FieldName>, Problem> {
    let mut names: Vec<FieldName> = Vec::new();
    for name in list.split(',') {
        let field = collection.field(name).ok_or_else(bad_query)?;
        if names.contains(&field.name) {
            return Err(bad_query());
        }
        names.push(field.name.clone());
    }
    Ok(names)
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
    version.map(Some).ok_or(Problem::of(ProblemKind::IfMatchInvalid))
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
