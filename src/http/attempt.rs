//! What a known caller tried, so that a request that is refused for its input leaves an entry like any other refusal. This is
//! the one place: handlers return problems, and those that are not on record yet are put there before they are told.

use axum::RequestExt;
use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::http::header;
use axum::response::{IntoResponse, Response};

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
    /// `None` for a path that does not decode, which names nothing.
    names: Option<RawPathParams>,
}

impl Attempt {
    pub async fn of(request: &mut Request, caller: Caller) -> Self {
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let operation = Operation::of(request.method(), matched);
        let names = request.extract_parts::<RawPathParams>().await.ok();
        Self { caller, operation, names }
    }

    /// The answer as it may leave. A refusal that is not on record is put there first; if it cannot be, or policy would not
    /// have let the caller come as far, the answer says that instead.
    pub async fn settle(self, app: &App, response: Response) -> Response {
        let told = response.extensions().get::<Told>().copied();
        match told {
            Some(Told { code, is_on_record: false }) if response.status().is_client_error() => {
                match self.put_on_record(app, code).await {
                    Ok(()) => response,
                    Err(error) => instead_of(&response, error),
                }
            }
            _ => response,
        }
    }

    async fn put_on_record(self, app: &App, code: &'static str) -> Result<(), Error> {
        let Self { caller, operation, names } = self;
        let name =
            |wanted: &str| names.iter().flatten().find(|(name, _)| *name == wanted).map(|(_, text)| text);
        let collection = name("collection").and_then(|text| app.service.collection(text));
        let record = name("id").and_then(RecordId::parse).filter(RecordId::is_ours);
        let destination = name("destination").and_then(|text| app.service.destination(text));
        let context = caller.operation(template(operation.map(Operation::route)));
        let attempted = match (operation.and_then(Operation::attempt), &collection) {
            (Some((Action::ReadAudit, _)), _) => Attempted::ReadLog,
            (Some((action, act)), _) if action.is_of_keys() => Attempted::Keys { action, act },
            (Some((Action::Export, _)), _) => {
                Attempted::Export { subject: name("id").and_then(SubjectId::parse) }
            }
            (Some((Action::Relay, _)), _) => match &destination {
                Some(destination) => Attempted::Relay { destination },
                None => return app.service.note_access_denied(&context, code).await,
            },
            (Some((action, act)), _) if action.is_of_a_subject() => {
                let subject = name("id").filter(|_| action.is_of_one_subject()).and_then(SubjectId::parse);
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

/// What is left of the body is as unread as before.
fn instead_of(response: &Response, error: Error) -> Response {
    let mut instead = Problem::from(error).into_response();
    if let Some(close) = response.headers().get(header::CONNECTION) {
        instead.headers_mut().insert(header::CONNECTION, close.clone());
    }
    instead
}
