//! Search: records of one collection by what is in them. What is looked for comes in the body, never in the path.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::App;
use super::body::{self, Bounded};
use super::caller::Caller;
use super::operation::Operation;
use super::place::Place;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use super::records::{named_fields, requested_view};
use crate::domain::id::RecordId;
use crate::service::{Condition, LARGEST_PAGE, Query, ReadRequest, SearchRequest, Test};

const PAGE: u16 = 20;

/// `{"where":[…],"fields":[…],"view":"plain","limit":20,"cursor":"…"}`; all but the first are optional, and fields and view
/// mean what they mean in a single read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchBody<'a> {
    #[serde(borrow)]
    r#where: Bounded<&'a RawValue>,
    fields: Option<Bounded<String>>,
    view: Option<String>,
    limit: Option<u16>,
    cursor: Option<String>,
}

/// `{"field":"family_name","match":"exact","value":"Smith"}`, or a range of days:
/// `{"field":"started_at","match":"between","from":"2026-01-01","until":"2026-01-31"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionBody<'a> {
    field: String,
    r#match: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    from: Option<&'a RawValue>,
    #[serde(borrow)]
    until: Option<&'a RawValue>,
}

impl<'a> ConditionBody<'a> {
    fn test(&self) -> Option<Test<'a>> {
        match (self.r#match.as_str(), self.value, self.from, self.until) {
            ("exact", Some(value), None, None) => Some(Test::Exact(value)),
            ("prefix", Some(value), None, None) => Some(Test::Prefix(value)),
            ("on", Some(day), None, None) => Some(Test::On(day)),
            ("between", None, Some(first), Some(last)) => Some(Test::Between(first, last)),
            _ => None,
        }
    }
}

/// `POST /api/v1/{collection}/search`: the records that meet every condition, as far as the caller may read them.
pub async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let path = path.map(|Path(name)| (name, String::new()));
    let place = Place::find(&app, caller, Operation::Search, path).await?;
    let prospect = app.service.authorise_search(&place.context, &place.collection).await?;
    let bytes = body::read_json(&headers, body, app.body_bytes, &["application/json"]).await?;
    let request = request(&place, body::parse(&bytes)?)?;
    let answer = app.service.search(&place.context, (&place.collection, prospect), request).await?;
    let mut response = Body::from(answer.into_body()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn request(place: &Place, parsed: SearchBody<'_>) -> Result<SearchRequest, Problem> {
    let refused = || Problem::of(ProblemKind::BodyShape);
    let view = requested_view(parsed.view.as_deref()).ok_or_else(refused)?;
    let names = parsed.fields.map(|names| names.whole().ok_or_else(refused)).transpose()?;
    let names = names.as_ref().map(|names| names.iter().map(String::as_str));
    let fields = names.map(|names| named_fields(&place.collection, names).ok_or_else(refused)).transpose()?;
    let cursor = |text: &String| RecordId::parse(text).filter(RecordId::is_ours).ok_or_else(refused);
    let after = parsed.cursor.as_ref().map(cursor).transpose()?;
    let limit = parsed.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(refused());
    }
    let conditions = parsed.r#where.whole().ok_or_else(refused)?;
    let mut bodies: Vec<ConditionBody<'_>> = Vec::with_capacity(conditions.len());
    for condition in conditions {
        bodies.push(body::parse(condition.get().as_bytes())?);
    }
    let tests = bodies.iter().map(ConditionBody::test).collect::<Option<Vec<_>>>().ok_or_else(refused)?;
    let conditions: Vec<Condition<'_>> =
        bodies.iter().zip(tests).map(|(body, test)| Condition { field: &body.field, test }).collect();
    let query = Query::parse(&place.collection, &conditions)?;
    Ok(SearchRequest { query, shown: ReadRequest { fields, view, version: None }, after, limit })
}
