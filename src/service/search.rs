//! Search: records whose fields are what the caller says, found by blind terms, opened, and looked at once more. What only
//! shares a term goes no further than that look.

mod answer;
mod query;

use std::sync::Arc;

use super::index::terms_of;
use super::open::{key_owner, wanted};
use super::read::{Disclosure, Selection, render, select};
use super::relate::relationship_to;
use super::{Error, ReadRequest, Service};
use crate::crypto::index::index_state;
use crate::crypto::{OpenedField, TenantKey, WantedField};
use crate::domain::action::Action;
use crate::domain::class::DataClass;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldName, KeyId, KeyOwner, RecordId};
use crate::domain::relationship::Relationship;
use crate::policy::{Collection, Permit, Prospect, View};
use crate::storage::{Candidate, Concerned, ListedFor, MOST_BYTES, TermsOf};
use answer::Matched;
pub use answer::SearchAnswer;
pub use query::{Condition, ConditionFault, ConditionFaultCode, MOST_CONDITIONS, Query, Test};

/// The most records of one page.
pub const LARGEST_PAGE: u16 = 100;
/// Records that are opened for one page, at most: what more there are share terms by chance, or the page is not worth it.
const MOST_LOOKED_AT: usize = 2_000;
/// Read at a time beyond what the page still needs: a few share a term by chance.
const SPARE: usize = 16;

/// What becomes of a search before it is known what it finds.
pub struct SearchProspect {
    /// That is searched.
    search: Prospect,
    /// That each is read.
    read: Prospect,
}

/// What is asked for.
pub struct SearchRequest {
    pub query: Query,
    /// What is shown of each record.
    pub shown: ReadRequest,
    pub after: Option<RecordId>,
    pub limit: u16,
}

/// Whose records are found, and what is shown of them.
struct Reach<'p> {
    /// `None`: of everybody.
    listed_for: Option<ListedFor>,
    views: Vec<(Relationship, ViewOf<'p>)>,
}

/// What one permit shows.
struct ViewOf<'p> {
    permit: &'p Permit,
    selection: Selection<'p>,
    /// What is shown, and what is looked at.
    opened: Vec<WantedField>,
}

/// What was found so far.
struct Page<'p> {
    matched: Vec<Matched<'p>>,
    unreadable: Vec<(RecordId, &'p Permit)>,
    /// Of what matched, as it is stored.
    sealed_bytes: u64,
    has_more: bool,
    /// All records are indexed.
    is_complete: bool,
}

impl Page<'_> {
    const fn empty() -> Self {
        Self {
            matched: Vec::new(),
            unreadable: Vec::new(),
            sealed_bytes: 0,
            has_more: false,
            is_complete: true,
        }
    }

    /// By its records, or by their bytes: then it ends with the one that reached them.
    const fn is_full(&self, most: usize) -> bool {
        self.matched.len() >= most || self.sealed_bytes >= MOST_BYTES.unsigned_abs()
    }
}

impl Service {
    /// Whether the caller may search in this collection, as far as that can be said before it is known whose records are
    /// found; asked before the body is read.
    pub async fn authorise_search(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
    ) -> Result<SearchProspect, Error> {
        let search = self.prospect(context, collection, Action::Search, None).await?;
        let read = self.prospect(context, collection, Action::Read, None).await?;
        Ok(SearchProspect { search, read })
    }

    /// A page of the records that meet every condition, after `after` and in the order of their ids, as far as the caller
    /// may read them. The entries, one for each record and one for the search, are durable before this returns.
    pub async fn search(
        &self,
        context: &OperationContext,
        (collection, prospect): (&Arc<Collection>, SearchProspect),
        request: SearchRequest,
    ) -> Result<SearchAnswer, Error> {
        let permits = self.search_permits(context, collection, prospect).await?;
        let reach = match reach(context, &permits, &request) {
            Ok(reach) => reach,
            Err(refused) => return Err(self.refuse_search(context, &permits, refused).await),
        };
        // A whole page, before it is known whether anything is found: a refusal tells nothing of that.
        let most = usize::from(request.limit).min(self.most_records());
        let charge = self.charge_records(context, (collection, Action::Search), None, most).await?;
        let answered = async {
            // Asked first: what is indexed meanwhile may have been passed over.
            let is_complete = self.is_complete(context, collection).await?;
            let page = self.look(context, collection, &reach, &request).await?;
            let page = Page { is_complete, ..page };
            let found = page.matched.len();
            let answer = self.answer_search(context, (collection, &permits), page, &request).await?;
            Ok((answer, found))
        };
        let answered = answered.await;
        match answered {
            // One at least: looking for somebody in vain is what the limit is about.
            Ok((answer, found)) => {
                charge.give_back_but(found.max(1));
                Ok(answer)
            }
            Err(error) => charge.settle(Err(error)),
        }
    }

    /// The permits to read for each relationship in which the caller may search, in one where that makes no difference.
    async fn search_permits(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        prospect: SearchProspect,
    ) -> Result<SearchPermits, Error> {
        let SearchProspect { search, read } = prospect;
        match (search, read) {
            (Prospect::Permit(search), Prospect::Permit(read)) => {
                let policies = search.policies().to_vec();
                Ok(SearchPermits { policies, of_everybody: true, each: vec![(Relationship::NONE, read)] })
            }
            _ => self.related_permits(context, collection).await,
        }
    }

    async fn related_permits(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
    ) -> Result<SearchPermits, Error> {
        let policy = self.policy.load_full();
        let mut permits = SearchPermits { policies: Vec::new(), of_everybody: false, each: Vec::new() };
        // Who broke the glass knows for whom, and finds nobody by it.
        let searched = policy.permits(context, collection, Action::Search);
        for (kind, search) in searched.into_iter().filter(|(kind, _)| !kind.break_glass) {
            if let Ok(read) = policy.permit(context, collection, Action::Read, kind) {
                permits.policies.extend(search.policies().iter().cloned());
                permits.each.push((kind, read));
            }
        }
        permits.policies.sort();
        permits.policies.dedup();
        if permits.each.is_empty() {
            for action in [Action::Search, Action::Read] {
                drop(self.permit_unrelated(context, collection, action).await?);
            }
            return Err(Error::Internal("nobody is related to somebody"));
        }
        Ok(permits)
    }

    async fn refuse_search(
        &self,
        context: &OperationContext,
        permits: &SearchPermits,
        refused: Vec<FieldName>,
    ) -> Error {
        match permits.each.first() {
            Some((_, permit)) => {
                self.refuse_fields_of(context, (Action::Search, permit), None, refused).await
            }
            None => Error::Internal("a search without a permit"),
        }
    }

    /// Looks through what may be it, until the page is full and one more is seen.
    async fn look<'p>(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        reach: &'p Reach<'p>,
        request: &SearchRequest,
    ) -> Result<Page<'p>, Error> {
        let tenant = context.actor.identity.tenant;
        let root = self.keys.index_root(tenant).await?;
        let conditions = conditions(&root, collection, &request.query)?;
        let most = usize::from(request.limit).min(self.most_records());
        let mut page = Page::empty();
        let (mut after, mut looked_at) = (request.after.clone(), 0);
        while looked_at < MOST_LOOKED_AT {
            let missing = if page.is_full(most) { 0 } else { most - page.matched.len() };
            let wanted = (missing + 1 + SPARE).min(MOST_LOOKED_AT - looked_at);
            let place = (tenant, collection.name());
            let listed_for = reach.listed_for.as_ref();
            let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
            let (candidates, are_all) =
                self.records.search(place, &conditions, listed_for, after.as_ref(), limit).await?;
            looked_at += candidates.len();
            self.warm_candidates(reach, &candidates).await?;
            for candidate in candidates {
                // A record that somebody gave a term twice is met twice in a row.
                if after.as_ref() == Some(&candidate.record) {
                    continue;
                }
                after = Some(candidate.record.clone());
                if page.is_full(most) {
                    page.has_more |= self.is_match(context, reach, &request.query, candidate).await?;
                } else {
                    self.take_in(context, reach, &request.query, candidate, &mut page).await?;
                }
                if page.has_more {
                    return Ok(page);
                }
            }
            if are_all {
                return Ok(page);
            }
        }
        Err(Error::SearchTooWide)
    }

    async fn is_match(
        &self,
        context: &OperationContext,
        reach: &Reach<'_>,
        query: &Query,
        candidate: Candidate,
    ) -> Result<bool, Error> {
        let mut one = Page::empty();
        self.take_in(context, reach, query, candidate, &mut one).await?;
        Ok(!one.matched.is_empty())
    }

    /// Opens a candidate, and keeps it if it is what was asked for.
    async fn take_in<'p>(
        &self,
        context: &OperationContext,
        reach: &'p Reach<'p>,
        query: &Query,
        candidate: Candidate,
        page: &mut Page<'p>,
    ) -> Result<(), Error> {
        let Candidate { record, found, teams } = candidate;
        let subject = found.as_ref().ok().and_then(|found| found.stored.place.subject);
        let concerned = Concerned { subject, teams, break_glass: None };
        let Some(view) = reach.view(relationship_to(context, &concerned)) else { return Ok(()) };
        let opened = match found.map_err(Error::from) {
            Ok(found) => match self.open_stored(view.permit, &found, &view.opened).await {
                Ok(opened) => Ok((found, opened)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match opened {
            Ok((found, opened)) if query.is_met_by(&opened) => {
                page.sealed_bytes += found.stored.sealed_bytes();
                page.matched.push(Matched { found, opened, view });
            }
            Ok(_) | Err(Error::NotFound) => {}
            Err(Error::Tampered) => page.unreadable.push((record, view.permit)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// All keys that are not in memory, in one round trip.
    async fn warm_candidates(&self, reach: &Reach<'_>, candidates: &[Candidate]) -> Result<(), Error> {
        let Some((_, ViewOf { permit, .. })) = reach.views.first() else { return Ok(()) };
        let mut wanted: Vec<(KeyOwner, DataClass, KeyId)> = Vec::new();
        for found in candidates.iter().filter_map(|candidate| candidate.found.as_ref().ok()) {
            let place = &found.stored.place;
            let Ok(owner) = key_owner(permit.collection(), &place.record, place.subject) else { continue };
            let is_opened = |class: DataClass| {
                reach.views.iter().any(|(_, view)| view.opened.iter().any(|field| field.class == class))
            };
            let seals = found.stored.seals.iter().filter(|seal| is_opened(seal.class));
            wanted.extend(seals.filter_map(|seal| Some((owner.clone(), seal.class, seal.key_id()?))));
        }
        Ok(self.keys.warm(permit.tenant(), &wanted).await?)
    }

    /// Whether a search finds all records that there are.
    async fn is_complete(&self, context: &OperationContext, collection: &Collection) -> Result<bool, Error> {
        let Some(declaration) = collection.index_digest() else { return Ok(true) };
        let tenant = context.actor.identity.tenant;
        let root = self.keys.index_root(tenant).await?;
        let state = Some(index_state(&root, declaration));
        Ok(!self.records.has_unindexed(tenant, collection.name(), state).await?)
    }
}

/// The permits to read what is found.
struct SearchPermits {
    /// That permit the search.
    policies: Vec<Arc<str>>,
    /// One permit, whoever it is about.
    of_everybody: bool,
    each: Vec<(Relationship, Permit)>,
}

impl<'p> Reach<'p> {
    fn view(&'p self, relationship: Relationship) -> Option<&'p ViewOf<'p>> {
        match &self.listed_for {
            None => self.views.first().map(|(_, view)| view),
            Some(_) => self.views.iter().find(|(kind, _)| *kind == relationship).map(|(_, view)| view),
        }
    }
}

/// Those relationships in which the caller may read in plain what it asks by, and as it asks for it what it wants to see. What
/// may not be read is not to be found out by asking either. Of none the fields that are refused in the closest.
fn reach<'p>(
    context: &OperationContext,
    permits: &'p SearchPermits,
    request: &SearchRequest,
) -> Result<Reach<'p>, Vec<FieldName>> {
    let (mut views, mut refused) = (Vec::new(), Vec::new());
    for (kind, permit) in &permits.each {
        let asked_by = request.query.fields();
        let hidden = asked_by.filter(|field| permit.view_of(field.id) != View::Plain);
        let hidden: Vec<FieldName> = hidden.map(|field| field.name.clone()).collect();
        let selected = select(permit.collection(), permit, &request.shown);
        match selected {
            Ok(selection) if hidden.is_empty() => {
                let shown = selection.shown.iter().map(|(field, _)| wanted(field));
                let mut opened: Vec<WantedField> = request.query.fields().map(wanted).chain(shown).collect();
                opened.sort_unstable_by_key(|field| field.id);
                opened.dedup();
                views.push((*kind, ViewOf { permit, selection, opened }));
            }
            selected => {
                refused = hidden;
                refused.extend(selected.err().unwrap_or_default());
                refused.sort();
                refused.dedup();
            }
        }
    }
    if views.is_empty() {
        return Err(refused);
    }
    let listed_for = match (permits.of_everybody, context.actor.person()) {
        (true, _) => None,
        (false, person) => Some(ListedFor {
            subject: person.and_then(|person| person.subject),
            care_teams: person.map_or_else(|| Arc::from([]), |person| Arc::clone(&person.care_teams)),
            relationships: views.iter().map(|(kind, _)| *kind).collect(),
        }),
    };
    Ok(Reach { listed_for, views })
}

/// What is looked up: the condition that leaves the fewest first.
fn conditions(root: &TenantKey, collection: &Collection, query: &Query) -> Result<Vec<TermsOf>, Error> {
    const LOST: Error = Error::Internal("a condition lost its index");
    let terms = query.by_width().map(|condition| {
        let index = condition.field.index.as_ref();
        let (spec, parts) = index.and_then(|index| condition.sought.looked_up(index)).ok_or(LOST)?;
        let terms = terms_of(root, collection, (condition.field.id, spec), &parts)?;
        TermsOf::new(terms).ok_or(LOST)
    });
    terms.collect()
}
