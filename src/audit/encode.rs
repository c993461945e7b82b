//! An entry's bytes: canonical JSON (RFC 8785), written directly with the members in order, since the stored bytes are
//! the hashed bytes and a detour through a tree costs ten times as much.
//!
//! Every number is an integer within ±(2^53 − 1) (RFC 8785 section 3.2.2.3; RFC 7493 section 2.2), so no float ever
//! has to be printed. The `chain` member is spliced in by the committer at [`Encoded::split`].

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::event::{
    EntryDraft, ExpiredObject, HoldObject, KeyObject, Object, PrunedObject, RecordObject, Who,
};
use super::instance::{InstanceKey, InstanceKeyId};
use super::json::{Comma, Json};
use crate::domain::actor::Acting;
use crate::domain::break_glass::Reference;
use crate::domain::class::DataClass;
use crate::domain::clock::Timestamp;
use crate::domain::id::{EntryId, TenantId};

/// Version of the entry's form.
const FORM: u64 = 1;
const SERVICE: &str = "strongroom";

/// Where entries are made.
#[derive(Clone)]
pub(super) struct Place {
    pub instance: Arc<str>,
    pub build: &'static str,
}

/// An entry's bytes, complete but for its place in a chain.
pub(super) struct Encoded {
    pub id: EntryId,
    pub tenant: Option<TenantId>,
    bytes: Vec<u8>,
    split: usize,
}

impl Encoded {
    /// The bytes of an entry outside any chain (a write's).
    pub fn into_unchained(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes with the `chain` member in its place.
    pub fn chained(&self, src: &Uuid, seq: u64, prev: Option<&[u8; 32]>) -> Vec<u8> {
        self.spliced(src, seq, prev, None).0
    }

    /// The same for the last entry of a flush: signed, and with the writes that were seen committed before it.
    pub fn flushed(
        &self,
        src: &Uuid,
        seq: u64,
        prev: Option<&[u8; 32]>,
        key: &InstanceKey,
        writes: &[EntryId],
    ) -> Vec<u8> {
        let (mut bytes, at) = self.spliced(src, seq, prev, Some((&key.id(), writes)));
        let mut json = Json { out: Vec::with_capacity(140) };
        json.raw("\"sig\":");
        json.hex(&key.sign(&bytes));
        json.raw(",");
        bytes.splice(at..at, json.out);
        bytes
    }

    /// The bytes, and where a signature belongs in them.
    fn spliced(
        &self,
        src: &Uuid,
        seq: u64,
        prev: Option<&[u8; 32]>,
        flush: Option<(&InstanceKeyId, &[EntryId])>,
    ) -> (Vec<u8>, usize) {
        let (before, after) = self.bytes.split_at_checked(self.split).unwrap_or((&self.bytes, &[]));
        let room = flush.map_or(160, |(_, writes)| 340 + 39 * writes.len());
        let mut json = Json { out: Vec::with_capacity(self.bytes.len() + room) };
        json.out.extend_from_slice(before);
        json.raw("\"chain\":{");
        if let Some((key, _)) = flush {
            json.raw("\"key\":");
            json.hex(key);
            json.raw(",");
        }
        if let Some(prev) = prev {
            json.raw("\"prev\":");
            json.hex(prev);
            json.raw(",");
        }
        json.raw("\"seq\":");
        json.number(seq);
        json.raw(",");
        let at = json.out.len();
        json.raw("\"src\":");
        json.uuid(src);
        if let Some((_, writes)) = flush.filter(|(_, writes)| !writes.is_empty()) {
            json.raw(",\"writes\":[");
            let mut comma = Comma::default();
            for id in writes {
                comma.next(&mut json);
                json.uuid(id.as_uuid());
            }
            json.raw("]");
        }
        json.raw("},");
        json.out.extend_from_slice(after);
        (json.out, at)
    }
}

/// Members in the order of RFC 8785 section 3.2.3: act asked basis bg | chain | client disc dst id n obj out purpose req seals
/// src subj tenant ts v who.
pub(super) fn encode(draft: &EntryDraft, id: EntryId, at: Timestamp, place: &Place) -> Encoded {
    let mut json = Json { out: Vec::with_capacity(1_024) };
    json.raw("{\"act\":");
    json.string(draft.act.as_str());
    if let Some(asked) = &draft.asked {
        json.raw(",\"asked\":");
        json.names(asked);
    }
    basis(&mut json, draft);
    if let Some(id) = &draft.break_glass {
        json.raw(",\"bg\":");
        json.uuid(id.as_uuid());
    }
    json.raw(",");
    let split = json.out.len();
    let mut comma = client(&mut json, draft);
    if let Some(recipient) = &draft.recipient {
        comma.next(&mut json);
        json.raw("\"disc\":{\"recipient\":");
        json.string(recipient.as_str());
        json.raw("}");
    }
    comma.next(&mut json);
    json.raw("\"dst\":{\"build\":");
    json.label(place.build);
    json.raw(",\"instance\":");
    json.label(&place.instance);
    json.raw(",\"service\":");
    json.string(SERVICE);
    json.raw("},\"id\":");
    json.uuid(id.as_uuid());
    if let Some(count) = draft.count {
        json.raw(",\"n\":");
        json.number(u64::from(count));
    }
    objects(&mut json, &draft.objects);
    outcome(&mut json, draft);
    request(&mut json, draft);
    if let Some(sha256) = &draft.seals {
        json.raw(",\"seals\":");
        json.hex(sha256);
    }
    source(&mut json, draft);
    if let Some(subject) = &draft.subject {
        json.raw(",\"subj\":");
        json.uuid(subject.as_uuid());
    }
    if let Some(tenant) = &draft.tenant {
        json.raw(",\"tenant\":");
        json.uuid(tenant.as_uuid());
    }
    json.raw(",\"ts\":");
    json.string(&at.to_rfc3339());
    json.raw(",\"v\":");
    json.number(FORM);
    who(&mut json, &draft.who);
    json.raw("}");
    Encoded { id, tenant: draft.tenant, bytes: json.out, split }
}

fn basis(json: &mut Json, draft: &EntryDraft) {
    if draft.policies.is_empty() && draft.policy_set.is_none() {
        return;
    }
    json.raw(",\"basis\":{");
    let mut comma = Comma::default();
    if let Some(sha256) = &draft.policy_set {
        comma.next(json);
        json.raw("\"loaded\":");
        json.hex(sha256);
    }
    if !draft.policies.is_empty() {
        comma.next(json);
        json.raw("\"policy\":");
        json.labels(&draft.policies);
    }
    json.raw("}");
}

fn client(json: &mut Json, draft: &EntryDraft) -> Comma {
    let mut comma = Comma::default();
    if let Some(certificate) = &draft.certificate {
        comma.next(json);
        json.raw("\"client\":{\"cert_sha256\":");
        json.label(&certificate.sha256);
        // A stranger's name is the stranger's text; the digest leads to the certificate.
        if matches!(draft.who, Who::Client(..)) {
            json.raw(",\"san\":");
            json.label(&certificate.san);
        }
        json.raw("}");
    }
    comma
}

fn objects(json: &mut Json, objects: &[Object]) {
    if objects.is_empty() {
        return;
    }
    json.raw(",\"obj\":[");
    let mut comma = Comma::default();
    for object in objects {
        comma.next(json);
        match object {
            Object::Record(object) => record(json, object),
            Object::Key(object) => key(json, object),
            Object::Chain { src, seq, sha256 } => {
                json.raw("{\"chain\":");
                json.uuid(src);
                json.raw(",\"seq\":");
                json.number(*seq);
                if let Some(sha256) = sha256 {
                    json.raw(",\"sha256\":");
                    json.hex(sha256);
                }
                json.raw("}");
            }
            Object::InstanceKey { public, attestation } => {
                json.raw("{\"attestation\":");
                json.hex(attestation);
                json.raw(",\"instance_key\":");
                json.hex(public);
                json.raw("}");
            }
            Object::Pruned(object) => pruned(json, object),
            Object::Expired(object) => expired(json, object),
            Object::Hold(object) => hold(json, object),
            Object::SubjectHold { id, reference } => case(json, "{\"hold\":", id.as_uuid(), reference),
            Object::Erasure { id, reference } => case(json, "{\"erasure\":", id.as_uuid(), reference),
            Object::Rotation { id, reference } => rotation(json, id.as_uuid(), reference),
        }
    }
    json.raw("]");
}

/// What a privacy officer did, by its id and the number of its case.
fn case(json: &mut Json, begin: &'static str, id: &Uuid, reference: &Reference) {
    json.raw(begin);
    json.uuid(id);
    json.raw(",\"reference\":");
    json.string(reference.as_str());
    json.raw("}");
}

fn rotation(json: &mut Json, id: &Uuid, reference: &Reference) {
    json.raw("{\"reference\":");
    json.string(reference.as_str());
    json.raw(",\"rotation\":");
    json.uuid(id);
    json.raw("}");
}

fn record(json: &mut Json, object: &RecordObject) {
    json.raw("{");
    if object.classes.contains(&true) {
        json.raw("\"class\":[");
        let mut comma = Comma::default();
        let present =
            DataClass::ALL.iter().zip(object.classes).filter_map(|(class, bit)| bit.then_some(class));
        for class in present {
            comma.next(json);
            json.string(class.as_str());
        }
        json.raw("],");
    }
    json.raw("\"collection\":");
    json.string(object.collection.as_str());
    if let Some(fields) = &object.fields {
        json.raw(",\"fields\":");
        json.names(fields);
    }
    if let Some(masked) = &object.masked {
        json.raw(",\"masked\":");
        json.names(masked);
    }
    if let Some(id) = object.record.as_ref().filter(|id| id.is_ours()) {
        json.raw(",\"record\":");
        json.string(id.as_str());
    }
    if let Some(version) = object.version {
        json.raw(",\"version\":");
        json.number(u64::from(version.get()));
    }
    json.raw("}");
}

fn key(json: &mut Json, object: &KeyObject) {
    json.raw("{\"class\":[");
    json.string(object.class.as_str());
    json.raw("],\"key\":");
    json.string(object.level.as_str());
    if let Some(id) = object.record.as_ref().filter(|id| id.is_ours()) {
        json.raw(",\"record\":");
        json.string(id.as_str());
    }
    json.raw(",\"version\":");
    json.number(object.id.as_u64());
    json.raw("}");
}

fn pruned(json: &mut Json, object: &PrunedObject) {
    json.raw("{\"by\":");
    json.label(&object.by);
    json.raw(",\"checkpoint_root\":");
    json.hex(&object.checkpoint_root);
    json.raw(",\"checkpoint_size\":");
    json.number(object.checkpoint_size);
    json.raw(",\"end\":");
    json.number(object.end);
    json.raw(",\"entries\":");
    json.number(object.entries);
    json.raw(",\"first\":");
    json.number(object.first);
    json.raw(",\"kept_from\":");
    json.number(object.kept_from);
    json.raw(",\"kept_root\":");
    json.hex(&object.kept_root);
    json.raw(",\"month\":");
    json.string(&object.month.to_string());
    json.raw("}");
}

fn expired(json: &mut Json, object: &ExpiredObject) {
    json.raw("{\"by\":");
    json.label(&object.by);
    json.raw(",\"checkpoint_root\":");
    json.hex(&object.checkpoint_root);
    json.raw(",\"checkpoint_size\":");
    json.number(object.checkpoint_size);
    json.raw(",\"end\":");
    json.number(object.end);
    json.raw(",\"first\":");
    json.number(object.first);
    json.raw("}");
}

fn hold(json: &mut Json, object: &HoldObject) {
    json.raw("{\"by\":");
    json.label(&object.by);
    json.raw(",\"from\":");
    json.string(&object.from.to_string());
    json.raw(",\"hold\":");
    json.uuid(&object.id);
    json.raw(",\"reason\":");
    json.string(object.reason.as_str());
    if let Some(until) = object.until {
        json.raw(",\"until\":");
        json.string(&until.to_string());
    }
    json.raw("}");
}

fn outcome(json: &mut Json, draft: &EntryDraft) {
    json.raw(",\"out\":{");
    if let Some(code) = draft.outcome.code {
        json.raw("\"code\":");
        json.string(code.as_str());
        json.raw(",");
    }
    json.raw("\"status\":");
    json.string(draft.outcome.status.as_str());
    json.raw("}");
    if let Some(purpose) = draft.purpose {
        json.raw(",\"purpose\":");
        json.string(purpose.as_str());
    }
}

fn request(json: &mut Json, draft: &EntryDraft) {
    let Some(request) = &draft.request else { return };
    json.raw(",\"req\":{\"id\":");
    json.uuid(request.id.as_uuid());
    json.raw(",\"route\":");
    json.string(request.route);
    if let Some(trace) = request.trace.as_ref().filter(|trace| is_trace(trace)) {
        json.raw(",\"trace\":");
        json.string(trace);
    }
    json.raw("}");
}

fn source(json: &mut Json, draft: &EntryDraft) {
    let Some(source) = draft.source else { return };
    json.raw(",\"src\":{\"ip\":\"");
    match source.ip().to_canonical() {
        IpAddr::V4(ip) => json.raw(&ip.to_string()),
        IpAddr::V6(ip) => json.raw(&ip.to_string()),
    }
    json.raw("\",\"port\":");
    json.number(u64::from(source.port()));
    json.raw("}");
}

fn who(json: &mut Json, who: &Who) {
    match who {
        Who::Service => json.raw(",\"who\":{\"kind\":\"service\",\"uid\":\"strongroom\"}"),
        Who::Unknown => json.raw(",\"who\":{\"kind\":\"unknown\"}"),
        Who::Client(identity, acting) => {
            json.raw(",\"who\":{\"kind\":");
            json.string(identity.kind.as_str());
            if let Some(acting) = acting {
                on_behalf_of(json, acting);
            }
            json.raw(",\"roles\":");
            json.labels(&identity.roles);
            json.raw(",\"uid\":");
            json.label(&identity.client);
            json.raw("}");
        }
    }
}

fn on_behalf_of(json: &mut Json, acting: &Acting) {
    let person = acting.person();
    json.raw(",\"on_behalf_of\":{");
    if let Some(department) = &person.department {
        json.raw("\"department\":");
        json.label(department);
        json.raw(",");
    }
    json.raw("\"issuer\":");
    json.label(&person.issuer);
    json.raw(if person.has_second_factor { ",\"mfa\":true,\"roles\":" } else { ",\"mfa\":false,\"roles\":" });
    json.labels(acting.brought());
    json.raw(",\"uid\":");
    json.label(&person.id);
    json.raw("}");
}

/// W3C Trace Context section 3.2.2.3: 32 lower-case hexadecimal digits.
fn is_trace(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
