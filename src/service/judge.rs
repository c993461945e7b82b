//! What policy says of each record of a batch, read or made. Whose the records are is looked up once for all of them, and only where policy
//! cannot decide without.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::authorise::{act_of, object};
use super::break_glass::announce_break_glass;
use super::read_many::Each;
use super::relate::{refused, relationship, relationship_to, who_broke_glass};
use super::{Error, Service};
use crate::audit::{EntryDraft, Outcome};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{BreakGlassId, RecordId, SubjectId};
use crate::domain::relationship::Relationship;
use crate::policy::{Authoriser, Collection, Denial, Permit, Prospect};

/// What becomes of a batch before it is known whose records it is about.
pub struct ManyProspect {
    /// That many are read in one request.
    pub(super) together: Prospect,
    /// That each is read.
    pub(super) read: Prospect,
}

/// The verdicts on a batch.
pub(super) struct Judged {
    pub collection: Arc<Collection>,
    /// One for each relationship that was met and permits it.
    pub permits: Vec<Permit>,
    /// Without the records that are not there.
    pub of: HashMap<RecordId, Verdict>,
    /// That permit something of it, or would.
    pub policies: Vec<Arc<str>>,
}

pub(super) enum Verdict {
    Permitted {
        /// Among the permits.
        place: usize,
        break_glass: Option<BreakGlassId>,
    },
    Refused {
        policies: Arc<[Arc<str>]>,
        subject: Option<SubjectId>,
    },
}

impl Judged {
    /// Everything by one permit.
    fn alike(permit: Permit, records: &[Option<RecordId>]) -> Self {
        let policies = permit.policies().to_vec();
        let permitted = || Verdict::Permitted { place: 0, break_glass: None };
        let of = records.iter().flatten().map(|record| (record.clone(), permitted())).collect();
        Self { collection: Arc::clone(permit.collection()), permits: vec![permit], of, policies }
    }

    fn verdict(&self, record: Option<&RecordId>) -> Option<&Verdict> {
        record.and_then(|record| self.of.get(record))
    }

    /// The policies that decided about a record; about one that is not there those that would permit it.
    pub fn policies_of(&self, record: Option<&RecordId>) -> &[Arc<str>] {
        match self.verdict(record) {
            Some(Verdict::Permitted { place, .. }) => self.permits.get(*place).map_or(&[], Permit::policies),
            Some(Verdict::Refused { policies, .. }) => policies,
            None => &self.policies,
        }
    }

    pub fn subject_of(&self, record: Option<&RecordId>) -> Option<SubjectId> {
        match self.verdict(record) {
            Some(Verdict::Refused { subject, .. }) => *subject,
            _ => None,
        }
    }

    pub fn break_glass_of(&self, record: Option<&RecordId>) -> Option<BreakGlassId> {
        match self.verdict(record) {
            Some(Verdict::Permitted { break_glass, .. }) => *break_glass,
            _ => None,
        }
    }

    /// Announces what is about to be seen under broken glass.
    pub fn announce(&self, context: &OperationContext, records: &[Option<RecordId>], each: &[Each]) {
        let shown = records.iter().zip(each).filter(|(_, each)| matches!(each, Each::Shown(..)));
        let used: BTreeSet<BreakGlassId> =
            shown.filter_map(|(record, _)| self.break_glass_of(record.as_ref())).collect();
        for id in used {
            announce_break_glass(context, id);
        }
    }
}

impl Service {
    /// Decides about each record of a batch.
    pub(super) async fn judge_each(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        prospect: ManyProspect,
        records: &[Option<RecordId>],
    ) -> Result<Judged, Error> {
        let would = match prospect {
            ManyProspect { together: Prospect::Permit(_), read: Prospect::Permit(permit) } => {
                return Ok(Judged::alike(permit, records));
            }
            ManyProspect { read, .. } => read.policies().to_vec(),
        };
        let ids: Vec<&RecordId> = records.iter().flatten().collect();
        let (tenant, person) = (context.actor.identity.tenant, who_broke_glass(context));
        let found = self.records.concerned(tenant, collection.name(), &ids, person.as_ref()).await?;
        let policy = self.policy.load_full();
        let mut kinds = Kinds { permits: Vec::new(), known: HashMap::new() };
        let mut of = HashMap::with_capacity(found.len());
        for (record, concerned) in found {
            let kind = relationship_to(context, &concerned);
            let verdict = match kinds.judge(kind, || judge(&policy, context, collection, kind)) {
                Ok(place) => Verdict::Permitted { place, break_glass: concerned.break_glass },
                Err(policies) => Verdict::Refused { policies, subject: concerned.subject },
            };
            of.insert(record, verdict);
        }
        let permits = kinds.permits;
        let policies: BTreeSet<&Arc<str>> = permits.iter().flat_map(Permit::policies).collect();
        let policies = if permits.is_empty() { would } else { policies.into_iter().cloned().collect() };
        Ok(Judged { collection: Arc::clone(collection), permits, of, policies })
    }
}

/// The permits for records that are to be made together.
pub(super) struct NewPermits {
    permits: Vec<Permit>,
    /// Of each record, the place of its permit.
    of: Vec<usize>,
}

impl NewPermits {
    /// All by one.
    pub fn alike(permit: Permit, records: usize) -> Self {
        Self { permits: vec![permit], of: vec![0; records] }
    }

    /// For what is the same of all of them.
    pub fn any(&self) -> Result<&Permit, Error> {
        self.permits.first().ok_or(Error::Internal("a batch without a permit"))
    }

    pub fn of(&self, record: usize) -> Result<&Permit, Error> {
        let permit = self.of.get(record).and_then(|place| self.permits.get(*place));
        permit.ok_or(Error::Internal("a record without a permit"))
    }
}

impl Service {
    /// Decides about records that are to be made together, by whom each will be about: all of them, or none. Each person that
    /// stands in the way has an entry.
    pub(super) async fn judge_new(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        prospect: Prospect,
        subjects: &[Option<SubjectId>],
    ) -> Result<NewPermits, Error> {
        let action = Action::Create;
        let dependent = match prospect {
            Prospect::Permit(permit) => return Ok(NewPermits::alike(permit, subjects.len())),
            Prospect::Depends(dependent) => dependent,
        };
        let Some(named) = subjects.iter().copied().collect::<Option<Vec<SubjectId>>>() else {
            let permit = self.permit_unrelated(context, collection, action).await?;
            return Ok(NewPermits::alike(permit, subjects.len()));
        };
        let distinct: Vec<SubjectId> = named.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let found = self.records.care_teams(context.actor.identity.tenant, &distinct).await?;
        let policy = self.policy.load_full();
        let mut kinds = Kinds { permits: Vec::new(), known: HashMap::new() };
        let (mut places, mut refusals) = (HashMap::with_capacity(distinct.len()), Vec::new());
        for subject in distinct {
            let Some(teams) = found.get(&subject) else {
                let outcome = Outcome::failed("subject_unknown");
                let draft = EntryDraft::of_request(context, act_of(action), outcome);
                refusals.push(draft.policies(dependent.policies()).record(object(collection, None)));
                continue;
            };
            let kind = relationship(context, subject, teams);
            match kinds.judge(kind, || policy.permit(context, collection, action, kind)) {
                Ok(place) => drop(places.insert(subject, place)),
                Err(policies) => {
                    let draft = refused(context, action, &policies).subject(subject);
                    refusals.push(draft.record(object(collection, None)));
                }
            }
        }
        if !refusals.is_empty() {
            self.commit_all(refusals).await?;
            return Err(Error::SubjectUnknown);
        }
        let of = named.iter().filter_map(|subject| places.get(subject).copied()).collect();
        Ok(NewPermits { permits: kinds.permits, of })
    }
}

/// That many are read, and that it is.
fn judge(
    policy: &Authoriser,
    context: &OperationContext,
    collection: &Arc<Collection>,
    kind: Relationship,
) -> Result<Permit, Denial> {
    policy.permit(context, collection, Action::ReadMany, kind)?;
    policy.permit(context, collection, Action::Read, kind)
}

/// What was decided of each relationship that was met: there are eight at most.
struct Kinds {
    permits: Vec<Permit>,
    known: HashMap<Relationship, Judgement>,
}

/// The place of the permit, or the policies that forbid it.
type Judgement = Result<usize, Arc<[Arc<str>]>>;

impl Kinds {
    fn judge(&mut self, kind: Relationship, decide: impl FnOnce() -> Result<Permit, Denial>) -> Judgement {
        let permits = &mut self.permits;
        let verdict = self.known.entry(kind).or_insert_with(|| {
            let permit = decide().map_err(|denial| denial.policies)?;
            permits.push(permit);
            Ok(permits.len() - 1)
        });
        verdict.clone()
    }
}
