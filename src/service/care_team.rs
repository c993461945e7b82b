//! Who looks after a subject: asked, and set.

use super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, Outcome, Withheld};
use crate::domain::action::Action;
use crate::domain::care_team::CareTeams;
use crate::domain::context::OperationContext;
use crate::domain::id::{RecordVersion, SubjectId};
use crate::policy::SubjectPermit;
use crate::storage::{FoundCareTeam, StorageError};

/// The teams as they are now.
pub struct CareTeamAnswer {
    pub version: RecordVersion,
    pub teams: CareTeams,
}

impl Service {
    /// Who looks after a subject. The entry is durable before this returns. An id that no subject can have is `None`.
    pub async fn read_care_team(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<CareTeamAnswer, Error> {
        let permit = self.authorise_subject(context, Action::ReadCareTeam, subject).await?;
        let (subject, found) = self.find_care_team(context, &permit, subject).await?;
        let draft = about(context, &permit, Some(subject), Outcome::SUCCESS);
        let answer = Withheld::new(CareTeamAnswer { version: found.version, teams: found.teams });
        let receipt = self.commit(draft).await?;
        Ok(answer.release(&receipt))
    }

    /// Whether the caller may set who looks after the subject; asked before the body is read.
    pub async fn authorise_care_team_update(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<SubjectPermit, Error> {
        self.authorise_subject(context, Action::UpdateCareTeam, subject).await
    }

    /// Sets who looks after a subject, as version `expected + 1`. [`Error::Stale`] when `expected` is not current. Durable on
    /// return; decisions of every instance are by it from then on.
    pub async fn update_care_team(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        subject: Option<SubjectId>,
        expected: RecordVersion,
        teams: CareTeams,
    ) -> Result<CareTeamAnswer, Error> {
        let (subject, found) = self.find_care_team(context, permit, subject).await?;
        if found.version != expected {
            return Err(self.note_stale_team(context, permit, subject).await);
        }
        let version = expected.next().ok_or(Error::Internal("a care team has no versions left"))?;
        let draft = about(context, permit, Some(subject), Outcome::SUCCESS);
        let entry = self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))?;
        let of = (permit.tenant(), subject);
        let stored = entry
            .commit_with(async |bytes| self.records.replace_care_team(of, expected, &teams, bytes).await);
        match stored.await {
            Ok(_) => Ok(CareTeamAnswer { version, teams }),
            Err(StorageError::Stale) => Err(self.note_stale_team(context, permit, subject).await),
            Err(error) => Err(error.into()),
        }
    }

    async fn find_care_team(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        subject: Option<SubjectId>,
    ) -> Result<(SubjectId, FoundCareTeam), Error> {
        if let Some(subject) = subject
            && let Some(found) = self.records.care_team(permit.tenant(), subject).await?
        {
            return Ok((subject, found));
        }
        let draft = about(context, permit, subject, Outcome::failed("record_not_found"));
        self.put_on_record(draft).await?;
        Err(Error::NotFound)
    }

    async fn note_stale_team(
        &self,
        context: &OperationContext,
        permit: &SubjectPermit,
        subject: SubjectId,
    ) -> Error {
        let draft = about(context, permit, Some(subject), Outcome::failed("version_stale"));
        match self.put_on_record(draft).await {
            Ok(()) => Error::Stale,
            Err(error) => error,
        }
    }
}

fn about(
    context: &OperationContext,
    permit: &SubjectPermit,
    subject: Option<SubjectId>,
    outcome: Outcome,
) -> EntryDraft {
    let act = match permit.action() {
        Action::UpdateCareTeam => Act::CareTeamUpdate,
        _ => Act::CareTeamRead,
    };
    let draft = EntryDraft::of_request(context, act, outcome).policies(permit.policies());
    subject.into_iter().fold(draft, EntryDraft::subject)
}
