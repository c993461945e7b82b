//! Read many: records of one collection in one request, each with an entry of its own before the first byte leaves.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::create_many::count;
use super::judge::{Judged, ManyProspect, Verdict};
use super::limits::Charge;
use super::open::{key_owner, wanted};
use super::read::{Disclosure, Selection, render, select};
use super::{Error, ReadRequest, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject};
use crate::crypto::WantedField;
use crate::domain::action::Action;
use crate::domain::class::DataClass;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldName, KeyId, KeyOwner, RecordId};
use crate::policy::{Collection, DenialCode, Permit, Prospect};
use crate::storage::{FoundRecord, StorageError};

/// Records as they leave: only this file makes one, and only with an audit receipt.
pub struct ManyAnswer {
    body: Zeroizing<Vec<u8>>,
}

impl ManyAnswer {
    /// `{"records":[…],"missing":[…],"unreadable":[…]}`: the records that there are, in the order of the request; the
    /// places, from 0, of ids that are no record for this caller; the places of records that failed their integrity
    /// check. The memory is wiped when the last reference to it is gone.
    pub fn into_body(self) -> Bytes {
        Bytes::from_owner(self.body)
    }
}

/// What became of one id of the request.
pub(super) enum Each {
    Shown(Box<Disclosure>, FoundRecord),
    Missing,
    /// There is such a record, and the caller hears of none.
    Refused,
    Unreadable,
}

/// What one permit shows.
struct ViewOf<'j> {
    permit: &'j Permit,
    selection: Selection<'j>,
    fields: Vec<WantedField>,
}

impl<'j> ViewOf<'j> {
    fn new(permit: &'j Permit, selection: Selection<'j>) -> Self {
        let fields = selection.shown.iter().map(|(field, _)| wanted(field)).collect();
        Self { permit, selection, fields }
    }
}

impl Service {
    /// Whether the caller may read many records of this collection at once, as far as that can be said before it is known
    /// whose they are; asked before the body is read.
    pub async fn authorise_read_many(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
    ) -> Result<ManyProspect, Error> {
        let together = self.prospect(context, collection, Action::ReadMany, None).await?;
        let read = self.prospect(context, collection, Action::Read, None).await?;
        Ok(ManyProspect { together, read })
    }

    /// Reads the current versions of `records`. An id that no record can have is `None` and counts as missing; so does a
    /// record that policy gives in another relationship only. The entries, one for each record and one for the batch, are
    /// durable before this returns.
    pub async fn read_many(
        &self,
        context: &OperationContext,
        (collection, prospect): (&Arc<Collection>, ManyProspect),
        records: Vec<Option<RecordId>>,
        request: ReadRequest,
    ) -> Result<ManyAnswer, Error> {
        if !(1..=self.most_records()).contains(&records.len()) {
            return Err(Error::BatchSize);
        }
        // A field that is refused whoever it is about is refused before anything is counted.
        if let (Prospect::Permit(_), Prospect::Permit(permit)) = (&prospect.together, &prospect.read)
            && let Err(refused) = select(permit.collection(), permit, &request)
        {
            return Err(self.refuse_fields(context, permit, None, refused).await);
        }
        let charge = self.charge_records(context, (collection, Action::Read), None, records.len()).await?;
        let revealed = async {
            let judged = self.judge_each(context, collection, prospect, &records).await?;
            self.reveal_many(context, &judged, &records, request, &charge).await
        };
        let revealed = revealed.await;
        charge.settle(revealed)
    }

    async fn reveal_many(
        &self,
        context: &OperationContext,
        judged: &Judged,
        records: &[Option<RecordId>],
        request: ReadRequest,
        charge: &Charge,
    ) -> Result<ManyAnswer, Error> {
        let mut views = Vec::with_capacity(judged.permits.len());
        for permit in &judged.permits {
            match select(permit.collection(), permit, &request) {
                Ok(selection) => views.push(ViewOf::new(permit, selection)),
                Err(refused) => return Err(self.refuse_fields(context, permit, None, refused).await),
            }
        }
        let mut found = self.find_all(judged, records).await?;
        self.warm_keys(&views, judged, &found).await?;
        let mut each = Vec::with_capacity(records.len());
        for record in records {
            let permitted = record.as_ref().and_then(|record| judged.of.get(record));
            each.push(match (record, permitted) {
                (Some(record), Some(Verdict::Permitted { place, .. })) => {
                    let view = views.get(*place).ok_or(Error::Internal("a batch lost a permit"))?;
                    self.disclose_each(view, found.remove(record), charge).await?
                }
                (_, Some(Verdict::Refused { .. })) => Each::Refused,
                _ => Each::Missing,
            });
        }
        let asked: Option<Arc<[FieldName]>> = request.fields.map(Into::into);
        judged.announce(context, records, &each);
        let receipt = self.commit_all(entries(context, judged, records, &each, asked.as_ref())).await?;
        let mut answer = Answer::new(&each);
        for (place, each) in each.into_iter().enumerate() {
            match each {
                Each::Shown(disclosure, _) => answer.record(&disclosure.body.release(&receipt)),
                Each::Missing | Each::Refused => answer.missing.push(place),
                Each::Unreadable => answer.unreadable.push(place),
            }
        }
        Ok(ManyAnswer { body: answer.finish() })
    }

    /// Those that the caller may read, in one statement.
    async fn find_all(
        &self,
        judged: &Judged,
        records: &[Option<RecordId>],
    ) -> Result<HashMap<RecordId, Result<FoundRecord, StorageError>>, Error> {
        let is_permitted =
            |record: &&RecordId| matches!(judged.of.get(record), Some(Verdict::Permitted { .. }));
        let ids: Vec<RecordId> = records.iter().flatten().filter(is_permitted).cloned().collect();
        let Some(permit) = judged.permits.first().filter(|_| !ids.is_empty()) else {
            return Ok(HashMap::new());
        };
        Ok(self.records.find_many(permit.tenant(), permit.collection().name(), &ids).await?)
    }

    /// All keys that are not in memory, in one round trip.
    async fn warm_keys(
        &self,
        views: &[ViewOf<'_>],
        judged: &Judged,
        found: &HashMap<RecordId, Result<FoundRecord, StorageError>>,
    ) -> Result<(), Error> {
        let Some(first) = views.first() else { return Ok(()) };
        let mut wanted: Vec<(KeyOwner, DataClass, KeyId)> = Vec::new();
        for found in found.values().flatten() {
            let place = &found.stored.place;
            let Some(Verdict::Permitted { place: view, .. }) = judged.of.get(&place.record) else { continue };
            let Some(ViewOf { permit, fields, .. }) = views.get(*view) else { continue };
            let Ok(owner) = key_owner(permit.collection(), &place.record, place.subject) else { continue };
            let seals =
                found.stored.seals.iter().filter(|seal| fields.iter().any(|field| field.class == seal.class));
            wanted.extend(seals.filter_map(|seal| Some((owner.clone(), seal.class, seal.key_id()?))));
        }
        Ok(self.keys.warm(first.permit.tenant(), &wanted).await?)
    }

    async fn disclose_each(
        &self,
        view: &ViewOf<'_>,
        stored: Option<Result<FoundRecord, StorageError>>,
        _charge: &Charge,
    ) -> Result<Each, Error> {
        let found = match stored {
            None => return Ok(Each::Missing),
            Some(Ok(found)) => found,
            Some(Err(error)) => match Error::from(error) {
                Error::Tampered => return Ok(Each::Unreadable),
                error => return Err(error),
            },
        };
        match self.open_stored(view.permit, &found, &view.fields).await {
            Ok(opened) => {
                let disclosure = render(&found, &view.selection, &opened)?;
                Ok(Each::Shown(Box::new(disclosure), found))
            }
            Err(Error::NotFound) => Ok(Each::Missing),
            Err(Error::Tampered) => Ok(Each::Unreadable),
            Err(error) => Err(error),
        }
    }
}

/// One entry for each id of the request and one for the batch, in this order.
fn entries(
    context: &OperationContext,
    judged: &Judged,
    records: &[Option<RecordId>],
    each: &[Each],
    asked: Option<&Arc<[FieldName]>>,
) -> Vec<EntryDraft> {
    let name = judged.collection.name();
    let named = |record: &Option<RecordId>| {
        let object = RecordObject::new(name.clone());
        record.iter().fold(object, |object, record| object.id(record.clone()))
    };
    let mut entries = Vec::with_capacity(records.len() + 1);
    let mut shown = 0;
    for (record, each) in records.iter().zip(each) {
        let (outcome, object, subject) = match each {
            Each::Shown(disclosure, found) => {
                shown += 1;
                (Outcome::SUCCESS, disclosure.object.clone(), found.stored.place.subject)
            }
            Each::Missing => (Outcome::failed("record_not_found"), named(record), None),
            Each::Refused => {
                let code = DenialCode::RelationshipRequired.as_str();
                (Outcome::refused(code), named(record), judged.subject_of(record.as_ref()))
            }
            Each::Unreadable => (Outcome::failed("record_unreadable"), named(record), None),
        };
        let mut entry = EntryDraft::of_request(context, Act::RecordRead, outcome)
            .policies(judged.policies_of(record.as_ref()))
            .record(object);
        if let Some(subject) = subject {
            entry = entry.subject(subject);
        }
        if let Some(id) = judged.break_glass_of(record.as_ref()) {
            entry = entry.break_glass(id);
        }
        if let Some(asked) = asked {
            entry = entry.asked(Arc::clone(asked));
        }
        entries.push(entry);
    }
    entries.push(
        EntryDraft::of_request(context, Act::RecordBatch, Outcome::SUCCESS)
            .policies(&judged.policies)
            .record(RecordObject::new(name.clone()))
            .count(count(shown)),
    );
    entries
}

/// The body, in one buffer that was made large enough.
struct Answer {
    out: Zeroizing<Vec<u8>>,
    is_first: bool,
    missing: Vec<usize>,
    unreadable: Vec<usize>,
}

impl Answer {
    fn new(each: &[Each]) -> Self {
        let body = |each: &Each| match each {
            Each::Shown(disclosure, _) => disclosure.body_bytes + 1,
            // A place and its comma.
            Each::Missing | Each::Refused | Each::Unreadable => 8,
        };
        let room: usize = each.iter().map(body).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(room + 64));
        out.extend_from_slice(br#"{"records":["#);
        Self { out, is_first: true, missing: Vec::new(), unreadable: Vec::new() }
    }

    fn record(&mut self, body: &[u8]) {
        if !self.is_first {
            self.out.push(b',');
        }
        self.is_first = false;
        self.out.extend_from_slice(body);
    }

    fn finish(mut self) -> Zeroizing<Vec<u8>> {
        self.out.push(b']');
        for (name, places) in [("missing", &self.missing), ("unreadable", &self.unreadable)] {
            if places.is_empty() {
                continue;
            }
            let places: Vec<String> = places.iter().map(usize::to_string).collect();
            self.out.extend_from_slice(format!(",\"{name}\":[{}]", places.join(",")).as_bytes());
        }
        self.out.push(b'}');
        self.out
    }
}
