//! Reveal: one record's fields, as far as policy goes, after the log durably says so.

use std::sync::Arc;

use super::answer::{BodyWriter, RecordAnswer};
use super::limits::Charge;
use super::open::wanted;
use super::{Error, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject, Withheld};
use crate::crypto::{OpenedField, WantedField};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldName, RecordId, RecordVersion};
use crate::domain::value::{mask_value, render_value};
use crate::policy::{Collection, Field, Permit, View};
use crate::storage::FoundRecord;

/// What the caller asks for: fields by name, or all that it may have.
pub struct ReadRequest {
    pub fields: Option<Vec<FieldName>>,
    pub view: RequestedView,
    /// An older version, or the current one by its number; `None` is whatever is current. Not for many at once.
    pub version: Option<RecordVersion>,
}

/// How much of each field the caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedView {
    /// Plain where policy allows it, masked where only that is allowed.
    Most,
    /// Plain or nothing.
    Plain,
    /// Masked, even where plain would be allowed.
    Masked,
}

/// What will be shown of a record, decided before anything is opened.
pub(super) struct Selection<'c> {
    pub shown: Vec<(&'c Field, View)>,
    withheld: Vec<&'c FieldName>,
}

/// What a record showed: names for the log, and the body that waits for it.
pub(super) struct Disclosure {
    pub object: RecordObject,
    pub body_bytes: usize,
    pub body: Withheld<zeroize::Zeroizing<Vec<u8>>>,
}

impl Service {
    /// Reads a record. The entry in the log is durable before this returns; if it can't be, nothing is revealed.
    pub async fn read(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        record: RecordId,
        request: ReadRequest,
    ) -> Result<RecordAnswer, Error> {
        if request.version.is_some() {
            self.authorise(context, collection, Action::History, Some(&record)).await?;
        }
        let permit = self.authorise(context, collection, Action::Read, Some(&record)).await?;
        let selection = match select(permit.collection(), &permit, &request) {
            Ok(selection) => selection,
            Err(refused) => return Err(self.refuse_fields(context, &permit, Some(&record), refused).await),
        };
        let charge = self.charge_records(context, (collection, Action::Read), Some(&record), 1).await?;
        let revealed = self.reveal(context, &permit, record, request, (&selection, &charge)).await;
        charge.settle(revealed)
    }

    async fn reveal(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: RecordId,
        request: ReadRequest,
        (selection, charge): (&Selection<'_>, &Charge),
    ) -> Result<RecordAnswer, Error> {
        let found = self.find_or_note(context, permit, &record, request.version).await?;
        let disclosure = match self.disclose(permit, &found, selection, charge).await {
            Ok(disclosure) => disclosure,
            Err(error) => return Err(self.note_unopened(context, permit, &record, error).await),
        };
        let place = &found.stored.place;
        let mut draft = EntryDraft::of_request(context, Act::RecordRead, Outcome::SUCCESS)
            .policies(permit.policies())
            .record(disclosure.object);
        if let Some(subject) = place.subject {
            draft = draft.subject(subject);
        }
        if let Some(names) = request.fields {
            draft = draft.asked(names);
        }
        let receipt = self.commit(draft).await?;
        Ok(RecordAnswer { version: place.version, body: disclosure.body.release(&receipt) })
    }

    /// Opens what the selection shows of a record that is counted. The plaintext stays withheld until the receipt of its
    /// entry unlocks it.
    async fn disclose(
        &self,
        permit: &Permit,
        found: &FoundRecord,
        selection: &Selection<'_>,
        _charge: &Charge,
    ) -> Result<Disclosure, Error> {
        let fields: Vec<WantedField> = selection.shown.iter().map(|(field, _)| wanted(field)).collect();
        let opened = self.open_stored(permit, found, &fields).await?;
        render(found, selection, &opened)
    }

    /// A record's current version, or the one that is named; that there is none, or none that is sound, is on record.
    pub(super) async fn find_or_note(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: &RecordId,
        version: Option<RecordVersion>,
    ) -> Result<FoundRecord, Error> {
        match self.find_stored(permit, record, version).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.note_unopened(context, permit, record, Error::NotFound).await),
            Err(error) => Err(self.note_unopened(context, permit, record, error).await),
        }
    }

    /// Puts on record that a record is not there, or is not what was sealed; of the failure of a part nothing is.
    pub(super) async fn note_unopened(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: &RecordId,
        error: Error,
    ) -> Error {
        let code = match error {
            Error::NotFound => "record_not_found",
            Error::Tampered => "record_unreadable",
            error => return error,
        };
        self.note_failure(context, permit, Some(record), code, error).await
    }
}

/// Decides what is shown of each field; the names that were asked for and may not be shown as asked, otherwise.
pub(super) fn select<'c>(
    collection: &'c Collection,
    permit: &Permit,
    request: &ReadRequest,
) -> Result<Selection<'c>, Vec<FieldName>> {
    let shown = Vec::with_capacity(collection.fields().len());
    let mut selection = Selection { shown, withheld: Vec::new() };
    let mut refused = Vec::new();
    for field in collection.fields() {
        let is_named = match &request.fields {
            Some(names) if !names.contains(&field.name) => continue,
            named => named.is_some(),
        };
        let shown = match (request.view, permit.view_of(field.id)) {
            (_, View::Absent) | (RequestedView::Plain, View::Masked) => None,
            (RequestedView::Masked, View::Plain | View::Masked) | (RequestedView::Most, View::Masked) => {
                Some(View::Masked)
            }
            (RequestedView::Most | RequestedView::Plain, View::Plain) => Some(View::Plain),
        };
        match shown {
            Some(view) => selection.shown.push((field, view)),
            None if is_named => refused.push(field.name.clone()),
            None => selection.withheld.push(&field.name),
        }
    }
    if refused.is_empty() { Ok(selection) } else { Err(refused) }
}

pub(super) fn render(
    found: &FoundRecord,
    selection: &Selection<'_>,
    opened: &[OpenedField],
) -> Result<Disclosure, Error> {
    let place = &found.stored.place;
    let mut body = BodyWriter::new(place, found.created_at, found.updated_at, room_for(selection, opened));
    let mut object =
        RecordObject::new(place.collection.clone()).id(place.record.clone()).version(place.version);
    let (mut plain, mut masked) = (Vec::with_capacity(opened.len()), Vec::new());
    for (field, view) in &selection.shown {
        let Some(value) = opened.iter().find(|opened| opened.id == field.id).map(|opened| &opened.value)
        else {
            continue;
        };
        object = object.class(field.class);
        #[expect(clippy::disallowed_methods, reason = "the one place where a stored value becomes an answer")]
        let bytes = value.expose();
        match view {
            View::Plain => {
                plain.push(field.name.clone());
                body.field(&field.name, |out| render_value(field.field_type, bytes, out))
                    .map_err(|_| Error::Internal("a value does not render as its type"))?;
            }
            View::Masked | View::Absent => {
                masked.push(field.name.clone());
                body.field(&field.name, |out| {
                    mask_value(field.field_type, field.mask, bytes, out);
                    Ok::<_, Error>(())
                })?;
            }
        }
    }
    let body = body.finish(&masked, &selection.withheld);
    if !plain.is_empty() {
        object = object.fields(plain);
    }
    if !masked.is_empty() {
        object = object.masked(masked);
    }
    Ok(Disclosure { object, body_bytes: body.len(), body: Withheld::new(body) })
}

/// What the fields take where nothing has to be escaped; each name is written at most twice.
fn room_for(selection: &Selection<'_>, opened: &[OpenedField]) -> usize {
    let values: usize = opened.iter().map(|field| field.value.len() + 3).sum();
    let shown: usize = selection.shown.iter().map(|(field, _)| field.name.as_str().len() * 2 + 8).sum();
    let withheld: usize = selection.withheld.iter().map(|name| name.as_str().len() + 3).sum();
    values + shown + withheld
}
