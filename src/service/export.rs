//! Export: everything that is kept of one person and that policy gives, a page at a time, each record with an entry of its own
//! before the first byte leaves.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::create_many::count;
use super::limits::Charge;
use super::open::{key_owner, wanted};
use super::read::{Disclosure, Selection, render, select};
use super::relate::relationship;
use super::{Error, ReadRequest, RequestedView, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject};
use crate::crypto::WantedField;
use crate::domain::action::Action;
use crate::domain::class::DataClass;
use crate::domain::context::OperationContext;
use crate::domain::id::{CollectionName, KeyId, KeyOwner, RecordId, SubjectId, TenantId};
use crate::domain::relationship::Relationship;
use crate::policy::{Collection, Denial, DenialCode, Permit};
use crate::storage::{StorageError, SubjectRecord};

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportCursor(CollectionName, RecordId);

impl ExportCursor {
    /// `collection.record`, as `next` said.
    pub fn parse(text: &str) -> Option<Self> {
        let (collection, record) = text.split_once('.')?;
        let record = RecordId::parse(record).filter(RecordId::is_ours)?;
        Some(Self(CollectionName::parse(collection)?, record))
    }
}

/// A page as it leaves: only this file makes one, and only with an audit receipt.
pub struct ExportAnswer {
    body: Zeroizing<Vec<u8>>,
}

impl ExportAnswer {
    /// `{"subject","records":[…],"unreadable":[{"collection","id"}],"withheld":[…],"next"}`: the records by collection and id,
    /// each as a read shows it; those that failed their integrity check; the collections of which policy gives nothing, whether
    /// or not there are records; and the cursor of the next page, absent on the last. The memory is wiped when the last
    /// reference to it is gone.
    pub fn into_body(self) -> Bytes {
        Bytes::from_owner(self.body)
    }
}

/// What policy gives of one collection.
struct View<'p> {
    permit: &'p Permit,
    selection: Selection<'p>,
    fields: Vec<WantedField>,
}

/// What became of one record.
enum Each {
    Shown(Disclosure),
    Unreadable,
}

impl Service {
    /// A page of all that is kept of a subject. The entries are durable before this returns. An id that no subject can have is
    /// `None`.
    pub async fn export(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
        after: Option<ExportCursor>,
        limit: u16,
    ) -> Result<ExportAnswer, Error> {
        self.authorise_export(context, subject).await?;
        let (subject, permits) = self.permit_export(context, subject).await?;
        let mut views: HashMap<&str, View<'_>> = HashMap::with_capacity(permits.len());
        for permit in &permits {
            views.insert(permit.collection().name().as_str(), View::of(permit)?);
        }
        let names: Vec<&str> = permits.iter().map(|permit| permit.collection().name().as_str()).collect();
        let tenant = context.actor.identity.tenant;
        let after = after.map(|ExportCursor(collection, record)| (collection, record));
        let (found, has_more) =
            self.records.records_of_subject(tenant, subject, &names, after.as_ref(), limit.into()).await?;
        let next =
            found.last().filter(|_| has_more).map(|last| (last.collection.clone(), last.record.clone()));
        let draft = || about(context, subject, Outcome::refused("volume_limited"));
        let charge = self.charge_amount(context, found.len(), draft).await?;
        let shown = self.disclose_all((tenant, subject), &views, found, &charge).await;
        let shown = match charge.settle(shown) {
            Err(Error::NotFound) => {
                self.put_on_record(about(context, subject, Outcome::failed("record_not_found"))).await?;
                return Err(Error::NotFound);
            }
            shown => shown?,
        };
        let policies: Vec<Arc<str>> = permits.iter().flat_map(Permit::policies).cloned().collect();
        let drafts = entries(context, (subject, &views), &shown, policies);
        let rest = rest(&shown, &self.collections_without(&names), next.as_ref());
        let mut answer = Answer::begin(subject, &shown, &rest);
        let receipt = self.commit_all(drafts).await?;
        for (_, _, each) in shown {
            if let Each::Shown(disclosure) = each {
                answer.record(&disclosure.body.release(&receipt));
            }
        }
        Ok(ExportAnswer { body: answer.finish(&rest) })
    }

    /// Whether the caller may export anything, of whomever. A denial is in the log before this returns it.
    pub(super) async fn authorise_export(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<(), Error> {
        self.gate.pass()?;
        let policy = self.policy.load_full();
        let mut denials = Vec::new();
        for collection in policy.policy_set().collections() {
            match policy.prospect(context, collection, Action::Export) {
                Ok(_) => return Ok(()),
                Err(denial) => denials.push(denial),
            }
        }
        let denial = most_telling(denials);
        let draft =
            EntryDraft::of_request(context, Act::SubjectExport, Outcome::refused(denial.code.as_str()))
                .policies(&denial.policies);
        self.put_on_record(subject.into_iter().fold(draft, EntryDraft::subject)).await?;
        Err(Error::Denied(denial))
    }

    /// What policy gives of a subject who is there; whoever has nothing to do with them hears of none.
    async fn permit_export(
        &self,
        context: &OperationContext,
        subject: Option<SubjectId>,
    ) -> Result<(SubjectId, Vec<Permit>), Error> {
        let found = match subject {
            Some(subject) => self.records.care_team(context.actor.identity.tenant, subject).await?,
            None => None,
        };
        let missing = Outcome::failed("record_not_found");
        let (Some(subject), Some(found)) = (subject, found) else {
            let draft = EntryDraft::of_request(context, Act::SubjectExport, missing);
            self.put_on_record(subject.into_iter().fold(draft, EntryDraft::subject)).await?;
            return Err(Error::NotFound);
        };
        let relationship = relationship(context, subject, &found.teams);
        let permits = self.export_permits(context, relationship);
        if permits.is_empty() {
            let outcome = Outcome::refused(DenialCode::RelationshipRequired.as_str());
            self.put_on_record(about(context, subject, outcome)).await?;
            return Err(Error::NotFound);
        }
        Ok((subject, permits))
    }

    fn export_permits(&self, context: &OperationContext, relationship: Relationship) -> Vec<Permit> {
        let policy = self.policy.load_full();
        let permit = |collection: &Arc<Collection>| {
            policy.permit(context, collection, Action::Export, relationship).ok()
        };
        policy.policy_set().collections().filter_map(permit).collect()
    }

    /// The collections that are not among these.
    fn collections_without(&self, given: &[&str]) -> Vec<CollectionName> {
        let policy = self.policy.load_full();
        let all = policy.policy_set().collections().map(|collection| collection.name());
        all.filter(|name| !given.contains(&name.as_str())).cloned().collect()
    }

    /// Opens what the views show of records that are counted. [`Error::NotFound`] when the subject is being erased: what opens
    /// still is not all that was kept.
    async fn disclose_all(
        &self,
        (tenant, subject): (TenantId, SubjectId),
        views: &HashMap<&str, View<'_>>,
        found: Vec<SubjectRecord>,
        _charge: &Charge,
    ) -> Result<Vec<(CollectionName, RecordId, Each)>, Error> {
        self.warm_all(tenant, views, &found).await?;
        let mut all = Vec::with_capacity(found.len());
        for SubjectRecord { collection, record, found } in found {
            let lost = Error::Internal("an export lost a permit");
            let view = views.get(collection.as_str()).ok_or(lost)?;
            let each = match self.disclose_one(view, found).await {
                Ok(disclosure) => Each::Shown(disclosure),
                Err(Error::NotFound) if self.records.subject_is_active(tenant, subject).await? => continue,
                Err(Error::Tampered) => Each::Unreadable,
                Err(error) => return Err(error),
            };
            all.push((collection, record, each));
        }
        Ok(all)
    }

    async fn disclose_one(
        &self,
        view: &View<'_>,
        found: Result<crate::storage::FoundRecord, StorageError>,
    ) -> Result<Disclosure, Error> {
        let found = found?;
        let opened = self.open_stored(view.permit, &found, &view.fields).await?;
        render(&found, &view.selection, &opened)
    }

    /// All keys that are not in memory, in one round trip.
    async fn warm_all(
        &self,
        tenant: TenantId,
        views: &HashMap<&str, View<'_>>,
        found: &[SubjectRecord],
    ) -> Result<(), Error> {
        let mut wanted: Vec<(KeyOwner, DataClass, KeyId)> = Vec::new();
        for SubjectRecord { collection, record, found } in found {
            let (Some(view), Ok(found)) = (views.get(collection.as_str()), found) else { continue };
            let Ok(owner) = key_owner(view.permit.collection(), record, found.stored.place.subject) else {
                continue;
            };
            let is_shown = |class| view.fields.iter().any(|field| field.class == class);
            let seals = found.stored.seals.iter().filter(|seal| is_shown(seal.class));
            wanted.extend(seals.filter_map(|seal| Some((owner.clone(), seal.class, seal.key_id()?))));
        }
        Ok(self.keys.warm(tenant, &wanted).await?)
    }
}

impl<'p> View<'p> {
    fn of(permit: &'p Permit) -> Result<Self, Error> {
        let request = ReadRequest { fields: None, view: RequestedView::Plain, version: None };
        // No field is named, so none is refused.
        let selection = select(permit.collection(), permit, &request);
        let selection = selection.map_err(|_| Error::Internal("an export refused a field"))?;
        let fields = selection.shown.iter().map(|(field, _)| wanted(field)).collect();
        Ok(Self { permit, selection, fields })
    }
}

/// What the caller could do about it, if there is something in any collection.
pub(super) fn most_telling(denials: Vec<Denial>) -> Denial {
    let none = Denial { code: DenialCode::ActionNotAllowed, policies: Arc::from([]) };
    let tells = |denial: &Denial| denial.code != DenialCode::ActionNotAllowed;
    let place = denials.iter().position(tells).unwrap_or_default();
    denials.into_iter().nth(place).unwrap_or(none)
}

fn about(context: &OperationContext, subject: SubjectId, outcome: Outcome) -> EntryDraft {
    EntryDraft::of_request(context, Act::SubjectExport, outcome).subject(subject)
}

/// One entry for each record and one for the page, in this order.
fn entries(
    context: &OperationContext,
    (subject, views): (SubjectId, &HashMap<&str, View<'_>>),
    shown: &[(CollectionName, RecordId, Each)],
    mut policies: Vec<Arc<str>>,
) -> Vec<EntryDraft> {
    let mut entries = Vec::with_capacity(shown.len() + 1);
    let mut revealed = 0;
    for (collection, record, each) in shown {
        let (outcome, object) = match each {
            Each::Shown(disclosure) => {
                revealed += 1;
                (Outcome::SUCCESS, disclosure.object.clone())
            }
            Each::Unreadable => {
                let object = RecordObject::new(collection.clone()).id(record.clone());
                (Outcome::failed("record_unreadable"), object)
            }
        };
        let policies = views.get(collection.as_str()).map_or(&[][..], |view| view.permit.policies());
        let entry = EntryDraft::of_request(context, Act::RecordRead, outcome).policies(policies);
        entries.push(entry.record(object).subject(subject));
    }
    policies.sort();
    policies.dedup();
    entries.push(about(context, subject, Outcome::SUCCESS).policies(&policies).count(count(revealed)));
    entries
}

/// What comes after the records: ids and names.
fn rest(
    shown: &[(CollectionName, RecordId, Each)],
    withheld: &[CollectionName],
    next: Option<&(CollectionName, RecordId)>,
) -> String {
    let unreadable: Vec<String> = shown
        .iter()
        .filter(|(_, _, each)| matches!(each, Each::Unreadable))
        .map(|(collection, record, _)| {
            format!("{{\"collection\":\"{}\",\"id\":\"{}\"}}", collection.as_str(), record.as_str())
        })
        .collect();
    let withheld: Vec<String> = withheld.iter().map(|name| format!("\"{}\"", name.as_str())).collect();
    let mut rest = String::from("]");
    for (name, list) in [("unreadable", unreadable), ("withheld", withheld)] {
        if !list.is_empty() {
            rest.extend([",\"", name, "\":[", &list.join(","), "]"]);
        }
    }
    if let Some((collection, record)) = next {
        rest.extend([",\"next\":\"", collection.as_str(), ".", record.as_str(), "\""]);
    }
    rest.push('}');
    rest
}

/// The body, in one buffer that was made large enough.
struct Answer {
    out: Zeroizing<Vec<u8>>,
    is_first: bool,
}

impl Answer {
    fn begin(subject: SubjectId, shown: &[(CollectionName, RecordId, Each)], rest: &str) -> Self {
        let body = |each: &Each| match each {
            Each::Shown(disclosure) => disclosure.body_bytes + 1,
            Each::Unreadable => 0,
        };
        let begin = format!("{{\"subject\":\"{subject}\",\"records\":[");
        let room: usize = shown.iter().map(|(_, _, each)| body(each)).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(begin.len() + room + rest.len()));
        out.extend_from_slice(begin.as_bytes());
        Self { out, is_first: true }
    }

    fn record(&mut self, body: &[u8]) {
        if !self.is_first {
            self.out.push(b',');
        }
        self.is_first = false;
        self.out.extend_from_slice(body);
    }

    fn finish(mut self, rest: &str) -> Zeroizing<Vec<u8>> {
        self.out.extend_from_slice(rest.as_bytes());
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_place() {
        let parse = ExportCursor::parse;
        let id = "019b76da-0000-7000-8000-00000000000c";
        let cursor = parse(&format!("encounters.{id}")).unwrap();
        assert_eq!((cursor.0.as_str(), cursor.1.as_str()), ("encounters", id));
        for bad in ["", ".", id, "encounters.", "encounters.smith", &format!("Encounters.{id}")] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
