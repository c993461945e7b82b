//! What a known caller tried, so that a request that is refused for its input leaves an entry like any other refusal. This is
//! the one place: handlers return problems, and those that are not on record yet are put there before they are told.

use std::borrow::Cow;

use axum::extract::{MatchedPath, Request};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::App;
use super::caller::Caller;
use super::operation::{Operation, template};
use super::problem::Problem;
use super::watch::Told;
use crate::domain::action::Action;
use crate::domain::id::{RecordId, SubjectId};
use crate::service::{Attempted, Error};

/// Kept aside while the request is worked on.
pub(super) struct Attempt {
    caller: Caller,
    operation: Option<Operation>,
    uri: Uri,
}

impl Attempt {
    pub fn of(request: &Request, caller: Caller) -> Self {
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let operation = Operation::of(request.method(), matched);
        Self { caller, operation, uri: request.uri().clone() }
    }

    /// The answer as it may leave. A refusal that is not on record is put there first; if it cannot be, or policy would not
    /// have let the caller come as far, the answer says that instead.
    pub async fn settle(self, app: &App, response: Response) -> Response {
        let told = response.extensions().get::<Told>().copied();
        match told {
            Some(Told { code, is_on_record: false }) if response.status().is_client_error() => {
                // Boxed: few requests come here, and all would make room for it.
                match Box::pin(self.put_on_record(app, code)).await {
                    Ok(()) => response,
                    Err(error) => instead_of(&response, error),
                }
            }
            _ => response,
        }
    }

    async fn put_on_record(self, app: &App, code: &'static str) -> Result<(), Error> {
        let Self { caller, operation, uri } = self;
        let name = |wanted: &str| named(operation?.route(), uri.path(), wanted);
        let collection = name("collection").and_then(|text| app.service.collection(&text));
        let record = name("id").and_then(|text| RecordId::parse(&text)).filter(RecordId::is_ours);
        let destination = name("destination").and_then(|text| app.service.destination(&text));
        let context = caller.operation(template(operation.map(Operation::route)));
        let attempted = match (operation.and_then(Operation::attempt), &collection) {
            (Some((Action::ReadAudit, _)), _) => Attempted::ReadLog,
            (Some((action, act)), _) if action.is_of_keys() => Attempted::Keys { action, act },
            (Some((Action::Export, _)), _) => {
                Attempted::Export { subject: name("id").and_then(|text| SubjectId::parse(&text)) }
            }
            (Some((Action::Relay, _)), _) => match &destination {
                Some(destination) => Attempted::Relay { destination },
                None => return app.service.note_access_denied(&context, code).await,
            },
            (Some((action, act)), _) if action.is_of_a_subject() => {
                let subject = name("id").filter(|_| action.is_of_one_subject());
                let subject = subject.and_then(|text| SubjectId::parse(&text));
                Attempted::Subject { action, act, subject }
            }
            (Some((action, act)), Some(collection)) => {
                Attempted::Touch { action, act, collection, record: record.as_ref() }
            }
            _ => return app.service.note_access_denied(&context, code).await,
        };
        app.service.refuse_input(&context, attempted, code).await
    }
}

/// What the path has where the route's template has this name. A path that does not decode names nothing.
fn named<'p>(route: &str, path: &'p str, wanted: &str) -> Option<Cow<'p, str>> {
    percent_decode_str(path).decode_utf8().ok()?;
    let is_it = |part: &str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) == Some(wanted);
    let place = route.split('/').position(is_it)?;
    percent_decode_str(path.split('/').nth(place)?).decode_utf8().ok()
}

/// What is left of the body is as unread as before.
fn instead_of(response: &Response, error: Error) -> Response {
    let mut instead = Problem::from(error).into_response();
    if let Some(close) = response.headers().get(header::CONNECTION) {
        instead.headers_mut().insert(header::CONNECTION, close.clone());
    }
    instead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_what_its_route_does() {
        let route = "/api/v1/{collection}/{id}/files/{field}";
        let name = |path, wanted| named(route, path, wanted).map(Cow::into_owned);
        let path = "/api/v1/patients/a%2Fb/files/scan";
        assert_eq!(name(path, "collection").as_deref(), Some("patients"));
        assert_eq!(name(path, "id").as_deref(), Some("a/b"));
        assert_eq!(name(path, "field").as_deref(), Some("scan"));
        assert_eq!(name(path, "upload"), None);
        assert_eq!(name("/api/v1/patients/%ff/files/scan", "collection"), None, "it does not decode");
        assert_eq!(name("/api/v1", "id"), None);
    }
}
