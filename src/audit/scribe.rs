//! Gives drafts their id, time and bytes.

use std::sync::Arc;

use uuid::Uuid;

use super::encode::{Encoded, Place, encode};
use super::event::EntryDraft;
use crate::domain::clock::{Clock, SharedClock, Timestamp};
use crate::domain::id::{EntryId, uuid_v7};
use crate::domain::random::{NoRandomness, SharedRandom};

/// Knows where entries are made (service, instance, build) and what time it is.
#[derive(Clone)]
pub struct Scribe {
    pub(super) clock: SharedClock,
    pub(super) random: SharedRandom,
    pub(super) place: Place,
}

impl Scribe {
    /// `instance` is `server.instance` of the configuration.
    pub fn new(clock: SharedClock, random: SharedRandom, instance: &str) -> Self {
        let place = Place { instance: Arc::from(instance), build: env!("CARGO_PKG_VERSION") };
        Self { clock, random, place }
    }

    pub(super) fn write(&self, draft: &EntryDraft) -> Result<Encoded, NoRandomness> {
        let at = self.clock.now();
        let id = EntryId::from_uuid(uuid_v7(&Instant(at), self.random.as_ref())?);
        Ok(encode(draft, id, at, &self.place))
    }

    /// A random id for an instance run's chain.
    pub(super) fn chain_id(&self) -> Result<Uuid, NoRandomness> {
        let mut bytes = [0_u8; 16];
        self.random.fill(&mut bytes)?;
        Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// One reading of the clock for both `ts` and `id`, so that a range of ids is a range of times.
struct Instant(Timestamp);

impl Clock for Instant {
    fn now(&self) -> Timestamp {
        self.0
    }
}
