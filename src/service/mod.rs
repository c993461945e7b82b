//! Use cases, one file each. Every one takes an [`OperationContext`] and leaves an audit entry before it answers.
//!
//! Not here: HTTP, SQL, and who may do what (that is `policy`).

mod alarms;
mod answer;
mod attest;
mod audit_proof;
mod audit_read;
mod authorise;
mod break_glass;
mod care_team;
mod claim;
mod clients;
mod create;
mod create_many;
mod delete;
mod documents;
mod erase;
mod erasing;
mod error;
mod export;
mod gate;
mod history;
mod hold;
mod index;
mod judge;
mod key_destruction;
mod limits;
mod list;
mod metrics;
mod open;
mod parts;
mod read;
mod read_many;
mod reindex;
mod relate;
mod relay;
mod rotate;
mod rotating;
mod seal;
mod search;
mod system;
mod update;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;

pub use alarms::{Alarm, Raised};
pub use answer::{Created, RecordAnswer, Written};
pub use attest::attest;
pub use audit_proof::ProofAnswer;
pub use audit_read::{EventsAnswer, EventsRequest};
pub use authorise::Attempted;
pub use break_glass::BreakGlassRequest;
pub use care_team::CareTeamAnswer;
pub use claim::Opened;
pub use clients::{check_clients, with_known};
pub use create_many::{MOST_RECORDS, NewItem};
pub use documents::{Append, DocumentAnswer, DocumentField, DocumentStream, UploadState};
pub use erase::ErasureRequest;
pub use error::{Error, Part};
pub use export::{ExportAnswer, ExportCursor};
pub use hold::HoldRequest;
pub use judge::ManyProspect;
pub use limits::Limit;
pub use parts::PartDown;
pub use read::{ReadRequest, RequestedView};
pub use read_many::ManyAnswer;
pub use relay::{RelayAnswer, RelayRequest};
pub use rotate::RotationRequest;
pub use rotating::Rotating;
pub use search::{
    Condition, ConditionFault, ConditionFaultCode, LARGEST_PAGE, MOST_CONDITIONS, Query, SearchAnswer,
    SearchProspect, SearchRequest, Test,
};
pub use system::FitnessCheck;

use crate::audit::checkpoint::KeyName;
use crate::audit::{Committed, Committer};
use crate::config::ErasureConfig;
use crate::domain::clock::{Clock, SharedClock};
use crate::domain::random::{Random, SharedRandom};
use crate::keys::{KeyRing, Transit};
use crate::policy::{Authoriser, Collection, PolicySet};
use crate::relay::RelayClient;
pub use crate::relay::{SendFailure, TemplateFault};
use crate::storage::{AuditReader, KeyEraser, KeyRotator, RecordStore, SequenceStore};

/// What use cases work with. Made once at start; only the policy is ever swapped, whole.
pub struct Service {
    policy: ArcSwap<Authoriser>,
    keys: KeyRing,
    eraser: KeyEraser,
    erasures: ErasureConfig,
    rotator: KeyRotator,
    /// How long after nothing needs it a tenant key may be destroyed.
    rotated_key_backup_days: u32,
    transit: Transit,
    /// `None` where nothing is configured by which outside services are known.
    relay: Option<RelayClient>,
    records: RecordStore,
    audit: Committer,
    audit_reader: AuditReader,
    clock: SharedClock,
    random: SharedRandom,
    gate: gate::Gate,
    uses: limits::Uses,
    is_draining: AtomicBool,
    parts_seen: parts::Seen,
    look: parts::SharedLook,
    key_destruction: key_destruction::Wanted,
    erasing: erasing::Approved,
    rotating: rotating::Wanted,
    uploads_ended: documents::Ended,
    sequence: SequenceStore,
    alarms: alarms::Alarms,
    /// The log's name.
    origin: KeyName,
}

/// The parts of a [`Service`].
pub struct Parts {
    pub policy: Arc<Authoriser>,
    pub keys: KeyRing,
    pub eraser: KeyEraser,
    pub erasures: ErasureConfig,
    pub rotator: KeyRotator,
    /// `rotation.key_backup_days`.
    pub rotated_key_backup_days: u32,
    pub transit: Transit,
    pub relay: Option<RelayClient>,
    pub records: RecordStore,
    pub audit: Committer,
    pub audit_reader: AuditReader,
    pub sequence: SequenceStore,
    pub clock: SharedClock,
    pub random: SharedRandom,
    /// The log's name, `audit.origin`.
    pub origin: KeyName,
}

impl Service {
    pub fn new(parts: Parts) -> Self {
        Self {
            policy: ArcSwap::new(parts.policy),
            keys: parts.keys,
            eraser: parts.eraser,
            erasures: parts.erasures,
            rotator: parts.rotator,
            rotated_key_backup_days: parts.rotated_key_backup_days,
            transit: parts.transit,
            relay: parts.relay,
            records: parts.records,
            audit: parts.audit,
            audit_reader: parts.audit_reader,
            clock: parts.clock,
            random: parts.random,
            gate: gate::Gate::default(),
            uses: limits::Uses::default(),
            is_draining: AtomicBool::new(false),
            parts_seen: parts::Seen::default(),
            look: parts::SharedLook::default(),
            key_destruction: key_destruction::Wanted::default(),
            erasing: erasing::Approved::default(),
            rotating: rotating::Wanted::default(),
            uploads_ended: documents::Ended::default(),
            sequence: parts.sequence,
            alarms: alarms::Alarms::default(),
            origin: parts.origin,
        }
    }

    /// The collection of this name in the policy in force.
    pub fn collection(&self, name: &str) -> Option<Arc<Collection>> {
        self.policy.load().policy_set().collection(name).cloned()
    }

    /// The policy in force.
    pub fn policy_set(&self) -> Arc<PolicySet> {
        Arc::clone(self.policy.load().policy_set())
    }

    /// The log in its order, for the worker that keeps it so.
    pub const fn sequence(&self) -> &SequenceStore {
        &self.sequence
    }

    /// What this process commits to the log.
    pub fn committed(&self) -> &Arc<Committed> {
        self.audit.committed()
    }

    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub fn random(&self) -> &dyn Random {
        &*self.random
    }
}
