//! What follows when a tenant key is to be replaced, step by step, whatever is killed on the way.
//!
//! The successor is made and put in force in one transaction of the key database, after which nothing new can come under the
//! old key. Then everything that this wraps is wrapped again, in batches, each only where it is still what was read, while reads
//! and writes go on. When nothing is left, and somebody else has approved it, the old key is deleted by a statement that looks
//! once more. What is to be done next is in the rows: a restart, or another instance, goes on from there.

use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Alarm, Error, Part, Service};
use crate::audit::{Act, EntryDraft, KeyLevel, KeyObject, OutboxEntry, Outcome};
use crate::domain::id::KeyId;
use crate::storage::{FoundRotation, StorageError, Turn};
use crate::telemetry::metrics;

/// Keys that are looked at in one step, of whatever class.
const KEYS: i64 = 512;
/// Standing still for so long is an alarm.
const STALLED_AFTER: Duration = Duration::from_mins(5);
/// How often it is noted that it goes on.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// Wakes the worker when there is something to do.
#[derive(Debug, Default)]
pub(super) struct Wanted(Notify);

impl Wanted {
    pub fn asked(&self) {
        self.0.notify_one();
    }
}

/// What was met under the old key and its successor, from the first key of a tenant to the last.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// Wrapped again, now or before.
    rewrapped: u64,
    /// Not under the successor.
    left: u64,
    /// Wrapped again now.
    done: u64,
}

impl Passed {
    const fn add(&mut self, rewrapped: u64, left: u64, done: u64) {
        self.rewrapped += rewrapped;
        self.left += left;
        self.done += done;
    }
}

/// How a round went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotating {
    /// There is nothing to do before somebody asks.
    Idle,
    /// Another round may bring it on.
    Moving,
    /// What is left cannot be done, or is another instance's.
    Waiting,
}

impl Service {
    /// Returns when a rotation was asked for or approved.
    pub async fn rotation_wanted(&self) {
        self.rotating.0.notified().await;
    }

    /// Goes on with every rotation as far as it goes. One that fails does not hold back the others.
    pub async fn continue_rotations(&self) -> Result<Rotating, Error> {
        let open = self.records.open_rotations(STALLED_AFTER).await?;
        metrics::key_rotations(open.len());
        self.alarm_if(open.iter().any(|open| open.is_stalled), Alarm::RotationStalled).await;
        let is_due = |found: &FoundRotation| found.rewrapped.is_none() || found.approved.is_some();
        let due: Vec<_> = open.into_iter().map(|open| open.rotation).filter(is_due).collect();
        if due.is_empty() {
            return Ok(Rotating::Idle);
        }
        self.gate.pass()?;
        let Some(turn) = self.rotator.turn().await.map_err(|_| Error::Unavailable(Part::Keys))? else {
            return Ok(Rotating::Waiting);
        };
        let (mut ended, mut failed) = (Rotating::Waiting, None);
        for found in &due {
            match self.continue_rotation(&turn, found).await {
                Ok(true) => ended = Rotating::Moving,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(tenant = %found.keys.tenant, id = %found.id, %error, "rotation.not_continued");
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    /// Whether it has come on.
    async fn continue_rotation(&self, turn: &Turn, found: &FoundRotation) -> Result<bool, Error> {
        if found.began_at.is_none() {
            self.put_successor_in_force(turn, found).await?;
        }
        if found.rewrapped.is_none() {
            return self.rewrap_all(turn, found).await;
        }
        self.destroy_old(turn, found).await.map(|()| true)
    }

    async fn put_successor_in_force(&self, turn: &Turn, found: &FoundRotation) -> Result<(), Error> {
        let keys = &found.keys;
        // Where it was stored before, this one is never stored.
        let wrapped = self.keys.new_tenant_key(keys).await?;
        if !turn.replace(keys, &wrapped).await.map_err(|_| Error::Unavailable(Part::Keys))? {
            return Err(Error::Internal("the key to be replaced is not the one in force"));
        }
        self.keys.adopt_successor(keys).await?;
        let entry = self.entry(Act::KeyCreate, found, &[keys.to], None)?;
        let (tenant, id) = (keys.tenant, found.id);
        let stored =
            entry.commit_with(async |bytes| self.records.begin_rotation(tenant, id, bytes).await).await;
        once(stored.map(drop))?;
        tracing::warn!(%tenant, %id, "rotation.began");
        Ok(())
    }

    /// Goes once through all keys of the tenant. Nothing comes under the old key meanwhile: when all that was met under it is
    /// under its successor, nothing is left.
    async fn rewrap_all(&self, turn: &Turn, found: &FoundRotation) -> Result<bool, Error> {
        let keys = &found.keys;
        let (mut after, mut passed) = (None, Passed::default());
        let mut noted = Instant::now();
        loop {
            let started = Instant::now();
            let batch = self.keys.rewrap(keys, after.as_ref(), KEYS).await?;
            let many = u64::try_from(batch.rewrapped.len()).unwrap_or(u64::MAX);
            let mut done = 0;
            if many > 0 {
                done =
                    turn.rewrap(keys, &batch.rewrapped).await.map_err(|_| Error::Unavailable(Part::Keys))?;
                metrics::keys_rewrapped(done);
            } else {
                // What was done before may be long.
                turn.keep().await.map_err(|_| Error::Unavailable(Part::Keys))?;
            }
            passed.add(batch.before + done, many + batch.unopened - done, done);
            if passed.done > 0 && noted.elapsed() >= NOTED_EVERY {
                self.records.advance_rotation(keys.tenant, found.id).await?;
                noted = Instant::now();
            }
            let Some(last) = batch.last else { break };
            after = Some(last);
            // Half of the time is everybody else's.
            tokio::time::sleep(started.elapsed()).await;
        }
        self.note_pass(found, &passed).await
    }

    async fn note_pass(&self, found: &FoundRotation, passed: &Passed) -> Result<bool, Error> {
        let (tenant, id) = (found.keys.tenant, found.id);
        let Passed { rewrapped, left, done } = *passed;
        if left > 0 {
            tracing::warn!(%tenant, %id, left, "rotation.keys_left");
            if done > 0 {
                self.records.advance_rotation(tenant, id).await?;
            }
            return Ok(done > 0);
        }
        let keys = [found.keys.from, found.keys.to];
        let entry = self.entry(Act::KeyRewrap, found, &keys, Some(rewrapped))?;
        let stored = entry
            .commit_with(async |bytes| self.records.rewrapped_rotation(tenant, id, rewrapped, bytes).await);
        once(stored.await.map(drop))?;
        tracing::warn!(%tenant, %id, keys = rewrapped, "rotation.rewrapped");
        Ok(true)
    }

    async fn destroy_old(&self, turn: &Turn, found: &FoundRotation) -> Result<(), Error> {
        let keys = &found.keys;
        turn.destroy(keys).await.map_err(|error| {
            tracing::error!(tenant = %keys.tenant, id = %found.id, %error, "rotation.key_not_destroyed");
            Error::Unavailable(Part::Keys)
        })?;
        self.keys.drop_destroyed(keys).await;
        let rewrapped = found.rewrapped.map(|(_, keys)| keys);
        let entry = self.entry(Act::KeyDestroy, found, &[keys.from], rewrapped)?;
        let (tenant, id) = (keys.tenant, found.id);
        let stored =
            entry.commit_with(async |bytes| self.records.finish_rotation(tenant, id, bytes).await).await;
        once(stored.map(drop))?;
        tracing::warn!(%tenant, %id, "rotation.complete");
        Ok(())
    }

    fn entry(
        &self,
        act: Act,
        found: &FoundRotation,
        keys: &[KeyId],
        count: Option<u64>,
    ) -> Result<OutboxEntry, Error> {
        let class = found.keys.class;
        let draft = EntryDraft::of_service(act, Outcome::SUCCESS).tenant(found.keys.tenant);
        let draft =
            keys.iter().fold(draft, |draft, id| draft.key(KeyObject::new(KeyLevel::Tenant, class, *id)));
        let draft = draft.rotation(found.id, found.reference.clone());
        let draft = count.into_iter().fold(draft, |draft, keys| draft.count(of_many(keys)));
        self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))
    }
}

/// Another instance may have been faster.
fn once(stored: Result<(), StorageError>) -> Result<(), Error> {
    match stored {
        Ok(()) | Err(StorageError::Stale) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As an entry counts.
fn of_many(keys: u64) -> u32 {
    u32::try_from(keys).unwrap_or(u32::MAX)
}
