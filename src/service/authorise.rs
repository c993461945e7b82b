//! The one way to a permit, and the one way to a receipt. A refusal is on record before the caller hears of it.

use std::pin::Pin;
use std::sync::Arc;

use super::{Error, Part, Service};
use crate::audit::{Act, CommitError, EntryDraft, Outcome, Receipt, RecordObject};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldName, RecordId, SubjectId};
use crate::policy::{
    AuditPermit, Collection, Denial, Destination, KeysPermit, Permit, Prospect, SubjectPermit,
};

/// What a request would have done, had its input been good.
#[derive(Clone, Copy)]
pub enum Attempted<'a> {
    ReadLog,
    Keys {
        action: Action,
        act: Act,
    },
    Subject {
        action: Action,
        act: Act,
        /// As far as the path names one that can exist.
        subject: Option<SubjectId>,
    },
    /// Of all that is kept of a subject.
    Export {
        /// As far as the path names one that can exist.
        subject: Option<SubjectId>,
    },
    Relay {
        destination: &'a Destination,
    },
    Touch {
        action: Action,
        act: Act,
        collection: &'a Arc<Collection>,
        /// As far as the path names one that can exist.
        record: Option<&'a RecordId>,
    },
}

impl Service {
    /// Asks policy, and where it depends on whose record it is, whose that is. A denial is in the log before this returns it.
    pub(super) async fn authorise(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
        record: Option<&RecordId>,
    ) -> Result<Permit, Error> {
        match self.prospect(context, collection, action, record).await? {
            Prospect::Permit(permit) => Ok(permit),
            // Boxed: few requests come there, and all would make room for it.
            Prospect::Depends(dependent) => {
                Box::pin(self.relate(context, collection, (action, &dependent), record)).await
            }
        }
    }

    /// Asks policy before anything is looked for. A denial is in the log before this returns it.
    pub(super) async fn prospect(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
        record: Option<&RecordId>,
    ) -> Result<Prospect, Error> {
        self.gate.pass()?;
        let decision = self.policy.load().prospect(context, collection, action);
        match decision {
            Ok(prospect) => Ok(prospect),
            Err(denial) => Err(self.deny(context, collection, (action, record), denial).await),
        }
    }

    /// Puts a denial on record.
    pub(super) async fn deny(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        (action, record): (Action, Option<&RecordId>),
        denial: Denial,
    ) -> Error {
        let draft = EntryDraft::of_request(context, act_of(action), Outcome::refused(denial.code.as_str()))
            .policies(&denial.policies)
            .record(object(collection, record));
        match self.put_on_record(draft).await {
            Ok(()) => Error::Denied(denial),
            Err(error) => error,
        }
    }

    /// Asks policy about a subject. A denial is in the log before this returns it.
    pub(super) async fn authorise_subject(
        &self,
        context: &OperationContext,
        action: Action,
        subject: Option<SubjectId>,
    ) -> Result<SubjectPermit, Error> {
        self.gate.pass()?;
        let decision = self.policy.load().permit_subject(context, action);
        match decision {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                let outcome = Outcome::refused(denial.code.as_str());
                let draft =
                    EntryDraft::of_request(context, act_of(action), outcome).policies(&denial.policies);
                self.put_on_record(subject.into_iter().fold(draft, EntryDraft::subject)).await?;
                Err(Error::Denied(denial))
            }
        }
    }

    /// Asks policy whether the caller may read the log. A denial is in the log before this returns it.
    pub(super) async fn authorise_audit(&self, context: &OperationContext) -> Result<AuditPermit, Error> {
        self.gate.pass()?;
        let decision = self.policy.load().permit_audit(context);
        match decision {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                let outcome = Outcome::refused(denial.code.as_str());
                let draft =
                    EntryDraft::of_request(context, Act::AuditRead, outcome).policies(&denial.policies);
                self.put_on_record(draft).await?;
                Err(Error::Denied(denial))
            }
        }
    }

    /// Asks policy about the tenant's keys. A denial is in the log before this returns it.
    pub(super) async fn authorise_keys(
        &self,
        context: &OperationContext,
        action: Action,
    ) -> Result<KeysPermit, Error> {
        self.gate.pass()?;
        let decision = self.policy.load().permit_keys(context, action);
        match decision {
            Ok(permit) => Ok(permit),
            Err(denial) => {
                let outcome = Outcome::refused(denial.code.as_str());
                let draft =
                    EntryDraft::of_request(context, act_of(action), outcome).policies(&denial.policies);
                self.put_on_record(draft).await?;
                Err(Error::Denied(denial))
            }
        }
    }

    /// Puts on record that a request was refused for what stood in it, with the problem's code and nothing of the request.
    /// Policy is asked first: whoever may not do this at all hears that instead, whatever else is wrong.
    pub async fn refuse_input(
        &self,
        context: &OperationContext,
        attempt: Attempted<'_>,
        code: &'static str,
    ) -> Result<(), Error> {
        let draft = |act| EntryDraft::of_request(context, act, Outcome::refused(code));
        let draft = match attempt {
            Attempted::ReadLog => {
                let permit = self.authorise_audit(context).await?;
                draft(Act::AuditRead).policies(permit.policies())
            }
            Attempted::Keys { action, act } => {
                let permit = self.authorise_keys(context, action).await?;
                draft(act).policies(permit.policies())
            }
            Attempted::Subject { action, act, subject } => {
                let permit = self.authorise_subject(context, action, subject).await?;
                let draft = draft(act).policies(permit.policies());
                subject.into_iter().fold(draft, EntryDraft::subject)
            }
            Attempted::Export { subject } => {
                self.authorise_export(context, subject).await?;
                subject.into_iter().fold(draft(Act::SubjectExport), EntryDraft::subject)
            }
            Attempted::Relay { destination } => {
                self.authorise_relay(context, destination).await?;
                draft(Act::RecordRelay).recipient(destination.name().clone())
            }
            Attempted::Touch { action, act, collection, record } => {
                let prospect = self.prospect(context, collection, action, record).await?;
                draft(act).policies(prospect.policies()).record(object(collection, record))
            }
        };
        self.put_on_record(draft).await
    }

    /// Refuses fields that the caller named and policy does not give; in the log before this returns the error.
    pub(super) async fn refuse_fields(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: Option<&RecordId>,
        refused: Vec<FieldName>,
    ) -> Error {
        self.refuse_fields_of(context, (permit.action(), permit), record, refused).await
    }

    /// The same of an action that the permit is only a part of.
    pub(super) async fn refuse_fields_of(
        &self,
        context: &OperationContext,
        (action, permit): (Action, &Permit),
        record: Option<&RecordId>,
        refused: Vec<FieldName>,
    ) -> Error {
        let draft = EntryDraft::of_request(context, act_of(action), Outcome::refused("field_not_allowed"))
            .policies(permit.policies())
            .asked(refused.as_slice())
            .record(object(permit.collection(), record));
        match self.put_on_record(draft).await {
            Ok(()) => Error::FieldsRefused(refused),
            Err(error) => error,
        }
    }

    /// Puts the refusal of a known caller on record who was refused before it was clear what it wanted.
    pub async fn note_access_denied(
        &self,
        context: &OperationContext,
        code: &'static str,
    ) -> Result<(), Error> {
        self.put_on_record(EntryDraft::of_request(context, Act::AccessDenied, Outcome::refused(code))).await
    }

    /// The answer for an id that no record can have. Policy is asked first and the log is told, as for every other id.
    pub async fn impossible_record(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
    ) -> Error {
        let draft = match self.prospect(context, collection, action, None).await {
            Ok(prospect) => {
                EntryDraft::of_request(context, act_of(action), Outcome::failed("record_not_found"))
                    .policies(prospect.policies())
                    .record(object(collection, None))
            }
            Err(error) => return error,
        };
        match self.put_on_record(draft).await {
            Ok(()) => Error::NotFound,
            Err(error) => error,
        }
    }

    /// Puts an entry about an allowed operation that did not find or could not use its record into the log, and
    /// returns `error` for the caller, or the log's own failure.
    pub(super) async fn note_failure(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: Option<&RecordId>,
        code: &'static str,
        error: Error,
    ) -> Error {
        let draft = EntryDraft::of_request(context, act_of(permit.action()), Outcome::failed(code))
            .policies(permit.policies())
            .record(object(permit.collection(), record));
        match self.put_on_record(draft).await {
            Ok(()) => error,
            Err(unavailable) => unavailable,
        }
    }

    /// Commits one entry that nothing is withheld for. Boxed, with the entry: few requests come here, and all would make room
    /// for it.
    pub(super) fn put_on_record(
        &self,
        draft: EntryDraft,
    ) -> Pin<Box<impl Future<Output = Result<(), Error>> + Send>> {
        Box::pin(async move { self.commit(draft).await.map(drop) })
    }

    /// Commits one entry through the group committer.
    pub(super) fn commit(&self, draft: EntryDraft) -> impl Future<Output = Result<Receipt, Error>> + Send {
        self.commit_all(vec![draft])
    }

    /// Commits the entries of one request, together and in order.
    pub(super) async fn commit_all(&self, drafts: Vec<EntryDraft>) -> Result<Receipt, Error> {
        self.audit.submit(drafts).await.map_err(|error| {
            tracing::warn!(error = %error, "audit.commit_failed");
            Error::Unavailable(match error {
                CommitError::NoRandomness => Part::Randomness,
                _ => Part::Audit,
            })
        })
    }
}

pub(super) const fn act_of(action: Action) -> Act {
    match action {
        Action::Create => Act::RecordCreate,
        // An older version or a batch is a read; that policy refused it is the read's refusal.
        Action::Read | Action::ReadMany => Act::RecordRead,
        Action::History => Act::RecordHistory,
        Action::List => Act::RecordList,
        Action::Search => Act::RecordSearch,
        Action::Update => Act::RecordUpdate,
        Action::Delete => Act::RecordDelete,
        Action::ReadAudit => Act::AuditRead,
        Action::ReadMetrics => Act::AccessDenied,
        Action::ReadCareTeam => Act::CareTeamRead,
        Action::UpdateCareTeam => Act::CareTeamUpdate,
        Action::OpenBreakGlass => Act::BreakGlassOpen,
        Action::ReviewBreakGlass => Act::BreakGlassReview,
        Action::ReadHold => Act::HoldRead,
        Action::Hold => Act::HoldPlace,
        Action::Export => Act::SubjectExport,
        Action::Relay => Act::RecordRelay,
        Action::ReadErasure => Act::ErasureRead,
        Action::Erase => Act::ErasureRequest,
        Action::Approve => Act::ErasureApprove,
        Action::ReadKeys => Act::KeyRead,
        Action::Rotate => Act::KeyRotate,
        Action::ApproveDestruction => Act::KeyApprove,
    }
}

pub(super) fn object(collection: &Collection, record: Option<&RecordId>) -> RecordObject {
    let object = RecordObject::new(collection.name().clone());
    match record {
        Some(record) => object.id(record.clone()),
        None => object,
    }
}
