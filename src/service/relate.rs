//! How the person behind a request stands to whose record it is, for the requests that policy cannot decide without. A record
//! that it refuses for that is answered as one that is not there, and is in the log as refused.

use std::sync::Arc;

use super::authorise::{act_of, object};
use super::break_glass::{digest, note_break_glass};
use super::{Error, Service};
use crate::audit::{EntryDraft, Outcome};
use crate::domain::action::Action;
use crate::domain::care_team::CareTeams;
use crate::domain::context::OperationContext;
use crate::domain::id::{RecordId, SubjectId};
use crate::domain::purpose::Purpose;
use crate::domain::relationship::Relationship;
use crate::policy::{Collection, DenialCode, Dependent, Permit, Prospect};
use crate::storage::Concerned;

impl Service {
    /// Decides about a record by whose it is. About no single record nobody has a relationship that counts.
    pub(super) async fn relate(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        (action, dependent): (Action, &Dependent),
        record: Option<&RecordId>,
    ) -> Result<Permit, Error> {
        let Some(record) = record else { return self.permit_unrelated(context, collection, action).await };
        let tenant = context.actor.identity.tenant;
        let person = who_broke_glass(context);
        let mut found = self.records.concerned(tenant, collection.name(), &[record], person.as_ref()).await?;
        let Some(concerned) = found.remove(record) else {
            let draft = EntryDraft::of_request(context, act_of(action), Outcome::failed("record_not_found"))
                .policies(dependent.policies())
                .record(object(collection, Some(record)));
            self.put_on_record(draft).await?;
            return Err(Error::NotFound);
        };
        let relationship = relationship_to(context, &concerned);
        let decision = self.policy.load().permit(context, collection, action, relationship);
        match decision {
            Ok(permit) => {
                if let Some(id) = concerned.break_glass {
                    note_break_glass(context, id);
                }
                Ok(permit)
            }
            Err(denial) => {
                let draft =
                    refused(context, action, &denial.policies).record(object(collection, Some(record)));
                self.put_on_record(concerned.subject.into_iter().fold(draft, EntryDraft::subject)).await?;
                Err(Error::NotFound)
            }
        }
    }

    /// Decides about a record that is to be made, by whom it will be about.
    pub(super) async fn permit_for(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        prospect: Prospect,
        subject: Option<SubjectId>,
    ) -> Result<Permit, Error> {
        match prospect {
            Prospect::Permit(permit) => Ok(permit),
            // Boxed: few requests come there, and all would make room for it.
            Prospect::Depends(dependent) => {
                Box::pin(self.permit_by_care_team(context, collection, &dependent, subject)).await
            }
        }
    }

    async fn permit_by_care_team(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        dependent: &Dependent,
        subject: Option<SubjectId>,
    ) -> Result<Permit, Error> {
        let action = Action::Create;
        let Some(subject) = subject else { return self.permit_unrelated(context, collection, action).await };
        let found = self.records.care_team(context.actor.identity.tenant, subject).await?;
        let draft = match found {
            None => EntryDraft::of_request(context, act_of(action), Outcome::failed("subject_unknown"))
                .policies(dependent.policies()),
            Some(found) => {
                let relationship = relationship(context, subject, &found.teams);
                let decision = self.policy.load().permit(context, collection, action, relationship);
                match decision {
                    Ok(permit) => return Ok(permit),
                    Err(denial) => refused(context, action, &denial.policies).subject(subject),
                }
            }
        };
        self.put_on_record(draft.record(object(collection, None))).await?;
        Err(Error::SubjectUnknown)
    }

    pub(super) async fn permit_unrelated(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
    ) -> Result<Permit, Error> {
        let decision = self.policy.load().permit(context, collection, action, Relationship::NONE);
        match decision {
            Ok(permit) => Ok(permit),
            Err(denial) => Err(self.deny(context, collection, (action, None), denial).await),
        }
    }
}

/// By whose name broken glass is looked for: only where policy was told that it might be there.
pub(super) fn who_broke_glass(context: &OperationContext) -> Option<[u8; 32]> {
    let person = context.actor.person().filter(|_| context.purpose == Some(Purpose::Btg));
    person.map(|person| digest(person))
}

/// To whom a record is about.
pub(super) fn relationship_to(context: &OperationContext, concerned: &Concerned) -> Relationship {
    let related = concerned.subject.map(|subject| relationship(context, subject, &concerned.teams));
    Relationship { break_glass: concerned.break_glass.is_some(), ..related.unwrap_or(Relationship::NONE) }
}

pub(super) fn relationship(
    context: &OperationContext,
    subject: SubjectId,
    teams: &CareTeams,
) -> Relationship {
    let teams = teams.names().iter().map(String::as_str);
    let person = context.actor.person();
    person.map_or(Relationship::NONE, |person| Relationship::of(person, subject, teams))
}

/// Another relationship would do, whatever the rules are that say so.
pub(super) fn refused(context: &OperationContext, action: Action, policies: &[Arc<str>]) -> EntryDraft {
    let outcome = Outcome::refused(DenialCode::RelationshipRequired.as_str());
    EntryDraft::of_request(context, act_of(action), outcome).policies(policies)
}
