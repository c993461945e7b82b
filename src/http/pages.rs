//! Pages: which records a collection holds, and which versions a record has had.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::App;
use super::answer::answer;
use super::caller::Caller;
use super::operation::Operation;
use super::place::Place;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use super::records::parse_version;
use crate::domain::action::Action;
use crate::domain::id::RecordId;

const PAGE: u16 = 100;
const LARGEST_PAGE: u16 = 500;

/// `?cursor=…&limit=…`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    cursor: Option<String>,
    limit: Option<u16>,
}

pub(super) type Asked = Result<Query<PageQuery>, QueryRejection>;

/// `GET /api/v1/{collection}`: ids, versions and times of its records, in the order of their making.
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    query: Asked,
) -> Result<Response, Problem> {
    let path = path.map(|Path(name)| (name, String::new()));
    let place = Place::find(&app, caller, Operation::List, path).await?;
    let (after, limit) = page(query, |text| RecordId::parse(text).filter(RecordId::is_ours))?;
    Ok(answer(StatusCode::OK, app.service.list(&place.context, &place.collection, after, limit).await?))
}

/// `GET /api/v1/{collection}/{id}/history`: the versions of a record, newest first, with the ids of their audit entries.
pub async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Asked,
) -> Result<Response, Problem> {
    let place = Place::find(&app, caller, Operation::History, path.map(|Path(names)| names)).await?;
    let (before, limit) = page(query, parse_version)?;
    let record = place.record(&app, Action::History).await?;
    Ok(answer(
        StatusCode::OK,
        app.service.history(&place.context, &place.collection, record, before, limit).await?,
    ))
}

pub(super) fn page<C>(
    query: Asked,
    cursor: impl FnOnce(&str) -> Option<C>,
) -> Result<(Option<C>, u16), Problem> {
    let refused = || Problem::of(ProblemKind::PageQueryInvalid);
    let Query(query) = query.map_err(|_| refused())?;
    let cursor = query.cursor.map(|text| cursor(&text).ok_or_else(refused)).transpose()?;
    let limit = query.limit.unwrap_or(PAGE);
    if (1..=LARGEST_PAGE).contains(&limit) { Ok((cursor, limit)) } else { Err(refused()) }
}
