//! The content of an entry. Setters take ids, enums and names from the schema, never text: what must not be in the log
//! has no way in.

use std::net::SocketAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::act::{Act, Outcome};
use crate::domain::actor::{Acting, CertificateFacts, Identity};
use crate::domain::break_glass::Reference;
use crate::domain::class::DataClass;
use crate::domain::context::{OperationContext, RequestFacts};
use crate::domain::id::{
    BreakGlassId, CollectionName, DestinationName, ErasureId, FieldName, HoldId, KeyId, RecordId,
    RecordVersion, RotationId, SubjectId, TenantId,
};
use crate::domain::month::Month;
use crate::domain::purpose::Purpose;

/// One entry before it has an id, a time and its bytes.
#[derive(Clone, Debug)]
#[must_use]
pub struct EntryDraft {
    pub(super) act: Act,
    pub(super) outcome: Outcome,
    pub(super) who: Who,
    pub(super) certificate: Option<Arc<CertificateFacts>>,
    pub(super) source: Option<SocketAddr>,
    pub(super) tenant: Option<TenantId>,
    pub(super) request: Option<RequestFacts>,
    pub(super) purpose: Option<Purpose>,
    pub(super) subject: Option<SubjectId>,
    pub(super) asked: Option<Arc<[FieldName]>>,
    pub(super) objects: Vec<Object>,
    pub(super) count: Option<u32>,
    pub(super) policies: Vec<Arc<str>>,
    pub(super) policy_set: Option<[u8; 32]>,
    pub(super) seals: Option<[u8; 32]>,
    pub(super) break_glass: Option<BreakGlassId>,
    pub(super) recipient: Option<DestinationName>,
}

/// Who acted.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// A client, and for whom it acted.
    Client(Arc<Identity>, Option<Acting>),
    /// Strongroom itself.
    Service,
    /// Nobody that could be named: authentication failed.
    Unknown,
}

/// One thing that was touched.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Record(RecordObject),
    Key(KeyObject),
    Chain { src: Uuid, seq: u64, sha256: Option<[u8; 32]> },
    InstanceKey { public: [u8; 32], attestation: [u8; 64] },
    Pruned(PrunedObject),
    Expired(ExpiredObject),
    Hold(HoldObject),
    SubjectHold { id: HoldId, reference: Reference },
    Erasure { id: ErasureId, reference: Reference },
    Rotation { id: RotationId, reference: Reference },
}

impl EntryDraft {
    /// An entry about a request of an authenticated client: the actor and for whom it acts, its tenant, the request and
    /// the purpose are taken from the context.
    pub fn of_request(context: &OperationContext, act: Act, outcome: Outcome) -> Self {
        Self {
            who: Who::Client(Arc::clone(&context.actor.identity), context.actor.acting().cloned()),
            certificate: Some(Arc::clone(&context.actor.certificate)),
            source: Some(context.actor.source),
            tenant: Some(context.actor.identity.tenant),
            request: Some(context.request.clone()),
            purpose: context.purpose,
            break_glass: context.break_glass.get().copied(),
            ..Self::of_service(act, outcome)
        }
    }

    /// An entry about something the service did by itself: start, stop, loading policy, making a key.
    pub fn of_service(act: Act, outcome: Outcome) -> Self {
        Self {
            act,
            outcome,
            who: Who::Service,
            certificate: None,
            source: None,
            tenant: None,
            request: None,
            purpose: None,
            subject: None,
            asked: None,
            objects: Vec::new(),
            count: None,
            policies: Vec::new(),
            policy_set: None,
            seals: None,
            break_glass: None,
            recipient: None,
        }
    }

    /// An entry about somebody who did not get past the door. Nothing but the address is on record: what a stranger
    /// presents may be anything. `certificate` only when it chained to our roots (then its digest is kept).
    pub fn of_stranger(
        source: SocketAddr,
        certificate: Option<&Arc<CertificateFacts>>,
        outcome: Outcome,
    ) -> Self {
        Self {
            who: Who::Unknown,
            source: Some(source),
            certificate: certificate.cloned(),
            ..Self::of_service(Act::AuthenticationFailed, outcome)
        }
    }

    /// The tenant of a system entry that concerns one tenant (a key made for it).
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The person concerned.
    pub fn subject(mut self, subject: SubjectId) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Fields that the caller named. Leave it out for a default read. Names that the schema does not know must not be
    /// passed: they are the caller's text.
    pub fn asked(mut self, fields: impl Into<Arc<[FieldName]>>) -> Self {
        self.asked = Some(fields.into());
        self
    }

    /// A record touched, with what was revealed of it or written to it.
    pub fn record(mut self, object: RecordObject) -> Self {
        self.objects.push(Object::Record(object));
        self
    }

    /// A key made, rotated or destroyed.
    pub fn key(mut self, object: KeyObject) -> Self {
        self.objects.push(Object::Key(object));
        self
    }

    /// A month that left the database.
    pub fn pruned(mut self, object: PrunedObject) -> Self {
        self.objects.push(Object::Pruned(object));
        self
    }

    /// What the exported files no longer keep.
    pub fn expired(mut self, object: ExpiredObject) -> Self {
        self.objects.push(Object::Expired(object));
        self
    }

    /// A hold on a subject that was placed or released, and the number of its case.
    pub fn subject_hold(mut self, id: HoldId, reference: Reference) -> Self {
        self.objects.push(Object::SubjectHold { id, reference });
        self
    }

    /// An erasure of a subject, and the number of its case.
    pub fn erasure(mut self, id: ErasureId, reference: Reference) -> Self {
        self.objects.push(Object::Erasure { id, reference });
        self
    }

    /// A rotation of a tenant key, and the number of its case; the keys themselves are objects of their own.
    pub fn rotation(mut self, id: RotationId, reference: Reference) -> Self {
        self.objects.push(Object::Rotation { id, reference });
        self
    }

    /// A hold on the log that was placed or released.
    pub fn hold(mut self, object: HoldObject) -> Self {
        self.objects.push(Object::Hold(object));
        self
    }

    pub(super) fn ended_chain(mut self, src: Uuid, seq: u64, sha256: Option<[u8; 32]>) -> Self {
        self.objects.push(Object::Chain { src, seq, sha256 });
        self
    }

    pub(super) fn instance_key(mut self, public: [u8; 32], attestation: [u8; 64]) -> Self {
        self.objects.push(Object::InstanceKey { public, attestation });
        self
    }

    /// How many records or entries a list, search or batch answered.
    pub fn count(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Ids of the policies that decided, from `Permit::policies` or `Denial::policies`.
    pub fn policies(mut self, ids: &[Arc<str>]) -> Self {
        self.policies = ids.to_vec();
        self
    }

    /// SHA-256 of the policy set (or identity table, or CRL) that was loaded.
    pub fn loaded(mut self, sha256: [u8; 32]) -> Self {
        self.policy_set = Some(sha256);
        self
    }

    /// The broken glass that it is about.
    pub fn break_glass(mut self, id: BreakGlassId) -> Self {
        self.break_glass = Some(id);
        self
    }

    /// The outside service that is sent what was touched.
    pub fn recipient(mut self, destination: DestinationName) -> Self {
        self.recipient = Some(destination);
        self
    }

    /// SHA-256 of the version's seal headers, on every write and reseal.
    pub fn seals(mut self, headers_sha256: [u8; 32]) -> Self {
        self.seals = Some(headers_sha256);
        self
    }
}

/// A record in the `obj` member.
#[derive(Clone, Debug)]
#[must_use]
pub struct RecordObject {
    pub(super) collection: CollectionName,
    pub(super) record: Option<RecordId>,
    pub(super) version: Option<RecordVersion>,
    pub(super) fields: Option<Arc<[FieldName]>>,
    pub(super) masked: Option<Arc<[FieldName]>>,
    /// One bit for each of `DataClass::ALL`.
    pub(super) classes: [bool; 3],
}

impl RecordObject {
    pub fn new(collection: CollectionName) -> Self {
        Self { collection, record: None, version: None, fields: None, masked: None, classes: [false; 3] }
    }

    /// The record's id. An id that is neither a UUID nor a token is left out of the entry: a caller may have put a
    /// card number where an id belongs.
    pub fn id(mut self, record: RecordId) -> Self {
        self.record = Some(record);
        self
    }

    pub fn version(mut self, version: RecordVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Fields revealed in plain, or written.
    pub fn fields(mut self, fields: impl Into<Arc<[FieldName]>>) -> Self {
        self.fields = Some(fields.into());
        self
    }

    /// Fields revealed masked.
    pub fn masked(mut self, fields: impl Into<Arc<[FieldName]>>) -> Self {
        self.masked = Some(fields.into());
        self
    }

    /// Adds the class of a revealed or written field.
    pub fn class(mut self, class: DataClass) -> Self {
        for (bit, each) in self.classes.iter_mut().zip(DataClass::ALL) {
            *bit |= each == class;
        }
        self
    }
}

/// Which level of the key hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyLevel {
    Tenant,
    Subject,
    Record,
    Index,
}

impl KeyLevel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Subject => "subject",
            Self::Record => "record",
            Self::Index => "index",
        }
    }
}

/// A key in the `obj` member; whose it is follows from the entry's tenant and subject.
#[derive(Clone, Debug)]
#[must_use]
pub struct KeyObject {
    pub(super) level: KeyLevel,
    pub(super) class: DataClass,
    pub(super) id: KeyId,
    pub(super) record: Option<RecordId>,
}

impl KeyObject {
    pub const fn new(level: KeyLevel, class: DataClass, id: KeyId) -> Self {
        Self { level, class, id, record: None }
    }

    /// The record that a record key belongs to.
    pub fn record(mut self, record: RecordId) -> Self {
        self.record = Some(record);
        self
    }
}

/// A month of the log in the `obj` member: what left the database, and what the tree over it is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunedObject {
    pub month: Month,
    /// The database role that did it.
    pub by: Arc<str>,
    /// The lowest number in it, and one more than the highest.
    pub first: u64,
    pub end: u64,
    pub entries: u64,
    /// What the database goes on from, and the root of the tree before that.
    pub kept_from: u64,
    pub kept_root: [u8; 32],
    /// The checkpoint that the files were verified against.
    pub checkpoint_size: u64,
    pub checkpoint_root: [u8; 32],
}

/// Entries that leave the exported files, in the `obj` member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredObject {
    /// The database role that asked for it.
    pub by: Arc<str>,
    /// The first of them, and one more than the last: the minimum index from then on.
    pub first: u64,
    pub end: u64,
    /// The checkpoint that the files were verified against.
    pub checkpoint_size: u64,
    pub checkpoint_root: [u8; 32],
}

/// A hold on months of the log in the `obj` member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldObject {
    pub id: Uuid,
    /// The database role that placed or released it.
    pub by: Arc<str>,
    pub from: Month,
    /// The last month; without one it has no end.
    pub until: Option<Month>,
    pub reason: Reference,
}
