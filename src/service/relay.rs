//! Relay: a caller's request goes on to an outside service with values of records put where the caller named the records. The
//! caller never sees them; who was sent what is on record before anything is sent.
//!
//! Not here: what a placeholder and an answer are, and how a request is sent (`relay`); who may have what sent where (`policy`).

use std::sync::Arc;

use http::HeaderMap;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::authorise::object;
use super::break_glass::announce_break_glass;
use super::create_many::count;
use super::export::most_telling;
use super::limits::Charge;
use super::open::wanted;
use super::relate::{relationship_to, who_broke_glass};
use super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject, Withheld};
use crate::crypto::{OpenedField, WantedField};
use crate::domain::context::OperationContext;
use crate::domain::id::{BreakGlassId, FieldName, RecordId};
use crate::domain::value::render_value;
use crate::policy::{
    Authoriser, Collection, DenialCode, Destination, Field, Permit, Prospect, RelayedField, View,
};
use crate::relay::{
    Answer, Filled, Pointer, RelayClient, RevealedValue, SendFailure, Target, Template, credential_header,
};
use crate::storage::FoundRecord;
use crate::telemetry::metrics;

/// What a caller has sent on.
pub struct RelayRequest<'a> {
    /// One JSON object, with placeholders.
    pub body: &'a [u8],
    /// The caller's; those that the destination's file names go on.
    pub headers: &'a HeaderMap,
}

/// What the destination answered, as far as its file gives it back.
#[derive(Serialize)]
pub struct RelayAnswer {
    /// The destination's own.
    status: u16,
    answer: Box<RawValue>,
    /// Pointers to what is left out because it repeats what was sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withheld: Vec<String>,
}

/// A record that placeholders name, and the fields of it that they stand for.
struct Named<'d> {
    collection: &'d Arc<Collection>,
    record: RecordId,
    /// Each once.
    fields: Vec<&'d Field>,
}

/// The same, once policy lets it be sent.
struct Permitted<'d> {
    named: Named<'d>,
    permit: Permit,
    break_glass: Option<BreakGlassId>,
}

/// The same, opened.
struct Ready<'d> {
    permitted: Permitted<'d>,
    found: FoundRecord,
    opened: Vec<OpenedField>,
}

/// Who asks, of which destination.
#[derive(Clone, Copy)]
struct Asked<'a> {
    context: &'a OperationContext,
    destination: &'a Destination,
}

impl Asked<'_> {
    fn draft(self, outcome: Outcome) -> EntryDraft {
        let draft = EntryDraft::of_request(self.context, Act::RecordRelay, outcome);
        draft.recipient(self.destination.name().clone())
    }

    fn about(self, named: &Named<'_>, outcome: Outcome) -> EntryDraft {
        self.draft(outcome).record(object(named.collection, Some(&named.record)))
    }
}

impl Service {
    /// The destination of this name in the policy in force.
    pub fn destination(&self, name: &str) -> Option<Arc<Destination>> {
        self.policy.load().policy_set().destination(name).cloned()
    }

    /// Whether the caller may have anything sent to the destination, of whomever; asked before the body is read. A denial is in
    /// the log before this returns it.
    pub async fn authorise_relay(
        &self,
        context: &OperationContext,
        destination: &Destination,
    ) -> Result<(), Error> {
        self.gate.pass()?;
        let policy = self.policy.load_full();
        let mut denials = Vec::new();
        for collection in destination.collections() {
            match policy.relay_prospect(context, destination, collection) {
                Ok(_) => return Ok(()),
                Err(denial) => denials.push(denial),
            }
        }
        let denial = most_telling(denials);
        let outcome = Outcome::refused(denial.code.as_str());
        let draft = Asked { context, destination }.draft(outcome).policies(&denial.policies);
        self.put_on_record(draft).await?;
        Err(Error::Denied(denial))
    }

    /// Sends a request on, with the values in it that its placeholders stand for. An entry for each record is durable before
    /// anything is sent. Dropping the future ends it wherever it is; what was sent by then may be done.
    pub async fn relay(
        &self,
        context: &OperationContext,
        destination: &Destination,
        request: RelayRequest<'_>,
    ) -> Result<RelayAnswer, Error> {
        let client = self.relay.as_ref().ok_or(Error::Unavailable(Part::RelayRoots))?;
        let asked = Asked { context, destination };
        let slots: Vec<&Pointer> = destination.fields().iter().map(|field| &field.pointer).collect();
        let template = Template::parse(request.body, &slots).map_err(Error::RelayBody)?;
        let permitted = self.permit_all(asked, named(destination, template.placeholders())).await?;
        let refused = || asked.draft(Outcome::refused("volume_limited"));
        let charge = self.charge_amount(context, permitted.len(), refused).await?;
        let sent = async {
            // Before it is on record, since what could not be sent is not on record as sent; and before anything is opened, since it
            // may take a while, in which a person may be erased.
            let headers = self.headers(destination, request.headers).await?;
            let ready = self.open_all(asked, permitted, &charge).await?;
            let filled = Withheld::new(fill(destination, template, &ready)?);
            self.send(asked, (client, headers), ready, filled).await
        };
        let sent = sent.await;
        charge.settle(sent)
    }

    /// All of it by one policy, or none.
    async fn permit_all<'d>(
        &self,
        asked: Asked<'_>,
        named: Vec<Named<'d>>,
    ) -> Result<Vec<Permitted<'d>>, Error> {
        let policy = self.policy.load_full();
        let mut permitted = Vec::with_capacity(named.len());
        for named in named {
            let (permit, break_glass) = self.permit_one(asked, &policy, &named).await?;
            let is_refused = |field: &&&Field| permit.view_of(field.id) != View::Plain;
            let refused: Vec<FieldName> =
                named.fields.iter().filter(is_refused).map(|field| field.name.clone()).collect();
            if !refused.is_empty() {
                let draft = asked.about(&named, Outcome::refused("field_not_allowed"));
                self.put_on_record(draft.policies(permit.policies()).asked(refused.as_slice())).await?;
                return Err(Error::FieldsRefused(refused));
            }
            permitted.push(Permitted { named, permit, break_glass });
        }
        Ok(permitted)
    }

    /// By whose record it is, where policy cannot decide without.
    async fn permit_one(
        &self,
        asked: Asked<'_>,
        policy: &Authoriser,
        named: &Named<'_>,
    ) -> Result<(Permit, Option<BreakGlassId>), Error> {
        let Asked { context, destination } = asked;
        let dependent = match policy.relay_prospect(context, destination, named.collection) {
            Ok(Prospect::Permit(permit)) => return Ok((permit, None)),
            Ok(Prospect::Depends(dependent)) => dependent,
            Err(denial) => {
                let draft = asked.about(named, Outcome::refused(denial.code.as_str()));
                self.put_on_record(draft.policies(&denial.policies)).await?;
                return Err(Error::Denied(denial));
            }
        };
        let (tenant, person) = (context.actor.identity.tenant, who_broke_glass(context));
        let (name, records) = (named.collection.name(), [&named.record]);
        let mut found = self.records.concerned(tenant, name, &records, person.as_ref()).await?;
        let Some(concerned) = found.remove(&named.record) else {
            let draft = asked.about(named, Outcome::failed("record_not_found"));
            self.put_on_record(draft.policies(dependent.policies())).await?;
            return Err(Error::NotFound);
        };
        let relationship = relationship_to(context, &concerned);
        match policy.relay_permit(context, destination, named.collection, relationship) {
            Ok(permit) => Ok((permit, concerned.break_glass)),
            Err(denial) => {
                let outcome = Outcome::refused(DenialCode::RelationshipRequired.as_str());
                let draft = asked.about(named, outcome).policies(&denial.policies);
                self.put_on_record(concerned.subject.into_iter().fold(draft, EntryDraft::subject)).await?;
                Err(Error::NotFound)
            }
        }
    }

    /// What goes beside the body.
    async fn headers(&self, destination: &Destination, callers: &HeaderMap) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for name in destination.forward_headers() {
            for value in callers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if let Some(credential) = destination.credential() {
            let secret = self.transit.relay_credential(&credential.place).await.map_err(|error| {
                tracing::warn!(destination = destination.name().as_str(), %error, "relay.no_credential");
                Error::Unavailable(Part::RelayCredential)
            })?;
            let value = credential_header(&credential.prefix, &secret)
                .ok_or(Error::Unavailable(Part::RelayCredential))?;
            headers.insert(credential.header.clone(), value);
        }
        Ok(headers)
    }

    /// Opens what was counted, all or nothing.
    async fn open_all<'d>(
        &self,
        asked: Asked<'_>,
        permitted: Vec<Permitted<'d>>,
        _charge: &Charge,
    ) -> Result<Vec<Ready<'d>>, Error> {
        let mut ready = Vec::with_capacity(permitted.len());
        for permitted in permitted {
            let opened = self.open_one(&permitted).await;
            let (code, error) = match opened {
                Ok(Some((found, opened))) => {
                    let missing = missing(&permitted.named, &opened);
                    if missing.is_empty() {
                        ready.push(Ready { permitted, found, opened });
                        continue;
                    }
                    let draft = asked.about(&permitted.named, Outcome::failed("relay_value_missing"));
                    let draft = draft.policies(permitted.permit.policies()).asked(missing.as_slice());
                    self.put_on_record(draft).await?;
                    return Err(Error::RelayValueMissing);
                }
                Ok(None) => ("record_not_found", Error::NotFound),
                Err(Error::Tampered) => ("record_unreadable", Error::Tampered),
                Err(error) => return Err(error),
            };
            let draft = asked.about(&permitted.named, Outcome::failed(code));
            self.put_on_record(draft.policies(permitted.permit.policies())).await?;
            return Err(error);
        }
        Ok(ready)
    }

    /// `None` where there is no such record.
    async fn open_one(
        &self,
        permitted: &Permitted<'_>,
    ) -> Result<Option<(FoundRecord, Vec<OpenedField>)>, Error> {
        let Permitted { named, permit, .. } = permitted;
        let Some(found) = self.find_stored(permit, &named.record, None).await? else { return Ok(None) };
        let fields: Vec<WantedField> = named.fields.iter().map(|field| wanted(field)).collect();
        match self.open_stored(permit, &found, &fields).await {
            Ok(opened) => Ok(Some((found, opened))),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts on record what is about to be sent, and sends it.
    async fn send(
        &self,
        asked: Asked<'_>,
        (client, headers): (&RelayClient, HeaderMap),
        ready: Vec<Ready<'_>>,
        filled: Withheld<Filled>,
    ) -> Result<RelayAnswer, Error> {
        let destination = asked.destination;
        let receipt = self.commit_all(ready.iter().map(|ready| entry(asked, ready)).collect()).await?;
        for id in ready.iter().filter_map(|ready| ready.permitted.break_glass) {
            announce_break_glass(asked.context, id);
        }
        let records = ready.len();
        drop(ready);
        let target = Target {
            url: destination.url(),
            method: destination.method().clone(),
            timeout: destination.timeout(),
            headers,
            answer: destination.answer(),
        };
        match client.send(target, filled.release(&receipt)).await {
            Ok(answer) => {
                metrics::relayed("answered");
                Ok(told(destination, answer))
            }
            Err(failure) => {
                let (outcome, code) = words(failure);
                metrics::relayed(outcome);
                let name = destination.name().as_str();
                tracing::warn!(destination = name, error = %failure, "relay.failed");
                // Whether or not the log can be written by now, the caller hears what became of it.
                let draft = asked.draft(Outcome::failed(code)).count(count(records));
                if self.put_on_record(draft).await.is_err() {
                    tracing::error!(destination = name, code, request = %asked.context.request.id, "relay.not_on_record");
                }
                Err(Error::Relay(failure))
            }
        }
    }
}

/// The word of the metrics, and the code of the entry.
const fn words(failure: SendFailure) -> (&'static str, &'static str) {
    match failure {
        SendFailure::Unreachable => ("unreachable", "relay_unreachable"),
        SendFailure::AnswerInvalid => ("answer_invalid", "relay_answer_invalid"),
        SendFailure::TimedOut => ("timed_out", "relay_timeout"),
    }
}

fn told(destination: &Destination, answer: Answer) -> RelayAnswer {
    let pointers = answer.withheld.iter().filter_map(|place| destination.answer().get(*place));
    let withheld = pointers.map(|pointer| pointer.as_str().to_owned()).collect();
    RelayAnswer { status: answer.status, answer: answer.body, withheld }
}

/// Each record once, however many placeholders name it, in the order of the first.
fn named<'d>(destination: &'d Destination, placeholders: &[(usize, RecordId)]) -> Vec<Named<'d>> {
    let mut all: Vec<Named<'d>> = Vec::new();
    for (slot, record) in placeholders {
        let Some(RelayedField { collection, field, .. }) = destination.fields().get(*slot) else { continue };
        let known = all.iter_mut().find(|named| is_it(named, collection, record));
        match known {
            Some(named) if named.fields.iter().any(|known| known.id == field.id) => {}
            Some(named) => named.fields.push(field),
            None => all.push(Named { collection, record: record.clone(), fields: vec![field] }),
        }
    }
    all
}

fn is_it(named: &Named<'_>, collection: &Collection, record: &RecordId) -> bool {
    named.record == *record && named.collection.name() == collection.name()
}

/// The fields that the record has nothing in.
fn missing(named: &Named<'_>, opened: &[OpenedField]) -> Vec<FieldName> {
    let is_there = |field: &Field| opened.iter().any(|opened| opened.id == field.id);
    named.fields.iter().filter(|field| !is_there(field)).map(|field| field.name.clone()).collect()
}

/// The body with a value in each place.
fn fill(destination: &Destination, template: Template, ready: &[Ready<'_>]) -> Result<Filled, Error> {
    let lost = || Error::Internal("a relayed value does not fit its place");
    let mut values = Vec::with_capacity(template.placeholders().len());
    for (slot, record) in template.placeholders() {
        let RelayedField { collection, field, .. } = destination.fields().get(*slot).ok_or_else(lost)?;
        let its = ready.iter().find(|ready| is_it(&ready.permitted.named, collection, record));
        let opened = its.and_then(|ready| ready.opened.iter().find(|opened| opened.id == field.id));
        values.push(value(field, opened.ok_or_else(lost)?).ok_or_else(lost)?);
    }
    template.fill(values).ok_or_else(lost)
}

fn value(field: &Field, opened: &OpenedField) -> Option<RevealedValue> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where a stored value goes into what is sent on"
    )]
    let bytes = opened.value.expose();
    // A byte of UTF-8 becomes at most six of JSON.
    let mut json = Zeroizing::new(Vec::with_capacity(bytes.len() * 6 + 2));
    render_value(field.field_type, bytes, &mut json).ok()?;
    RevealedValue::of_json(&json)
}

fn entry(asked: Asked<'_>, ready: &Ready<'_>) -> EntryDraft {
    let Permitted { named, permit, break_glass } = &ready.permitted;
    let place = &ready.found.stored.place;
    let object = RecordObject::new(place.collection.clone()).id(place.record.clone()).version(place.version);
    let names: Vec<FieldName> = named.fields.iter().map(|field| field.name.clone()).collect();
    let object = named.fields.iter().fold(object, |object, field| object.class(field.class));
    let draft = asked.draft(Outcome::SUCCESS).policies(permit.policies()).record(object.fields(names));
    let draft = place.subject.into_iter().fold(draft, EntryDraft::subject);
    break_glass.iter().copied().fold(draft, EntryDraft::break_glass)
}
