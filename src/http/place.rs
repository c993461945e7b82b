//! The collection and the record that a path names.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;

use super::App;
use super::caller::{Caller, deny};
use super::operation::Operation;
use super::problem::Problem;
use super::problem_kind::ProblemKind;
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::RecordId;
use crate::policy::Collection;

/// What the path names, and who asks for it.
pub(super) struct Place {
    pub context: OperationContext,
    pub collection: Arc<Collection>,
    id: String,
}

impl Place {
    /// A path that does not decode names nothing, so it has no collection either.
    pub async fn find(
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
    pub async fn record(&self, app: &App, action: Action) -> Result<RecordId, Problem> {
        match RecordId::parse(&self.id).filter(RecordId::is_ours) {
            Some(record) => Ok(record),
            None => Err(app.service.impossible_record(&self.context, &self.collection, action).await.into()),
        }
    }
}
