//! The group committer: every read, refusal and system event of this process goes into the log through here.
//!
//! No timer: the next batch is whatever queued while the last commit was in flight, a request's entries always together. A
//! process has a few chains (`audit.chains`), each with one batch in flight, over one queue: while one waits for the disk,
//! the next is made. An accepted entry is never dropped while the process lives: not when its caller hung up or
//! was told 503, not when the database is away. The log may therefore say that a record was read whose answer was
//! withheld in the end; it never lacks one that was given.
//!
//! Not here: SQL (`storage::audit` implements [`EntrySink`]), the tree and its signatures.

mod chain;
mod committed;
mod engine;
mod queue;
mod seen;
mod sink;

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::act::{Act, Outcome};
use super::event::EntryDraft;
use super::instance::InstanceKey;
use super::receipt::{Noted, OutboxEntry, Receipt};
use super::scribe::Scribe;
use crate::config::AuditConfig;
use crate::domain::clock::Timestamp;
use crate::domain::id::{EntryId, TenantId};
use crate::domain::random::NoRandomness;

use chain::Chain;
pub use committed::{Committed, CommittedBefore, CommittedId};
use engine::Engine;
use queue::{Job, Queue};
pub(in crate::audit) use seen::Seen;
pub use sink::{Batch, ChainedEntry, EntrySink, Settled, SinkFailure};

/// Between two flushes that list writes where no other entry comes.
const LIST_EVERY: Duration = Duration::from_secs(1);

/// Why there is no receipt; each is a 503 to the caller. Whether the entry is in the log by now is left open, except
/// where it was never accepted (`Full`, `Stopped`, `NoRandomness`, `Empty`, `TooMany`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("the audit queue is full; try again later")]
    Full,
    #[error("the audit log did not confirm in time; try again later")]
    Late,
    #[error("the audit log cannot be written; try again later")]
    Unavailable,
    #[error("the service is stopping")]
    Stopped,
    #[error("the system's random source failed")]
    NoRandomness,
    #[error("an answer needs at least one audit entry")]
    Empty,
    #[error("more audit entries for one request than a batch holds; split the request")]
    TooMany,
}

impl From<NoRandomness> for CommitError {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

/// The handle that use cases hold; cheap to clone.
#[derive(Clone)]
pub struct Committer {
    handle: Arc<Handle>,
}

/// What all clones of a [`Committer`] hold together; with the last of them no more entries come.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What handle and engine both see.
struct Shared {
    scribe: Scribe,
    queue_entries: usize,
    batch_entries: usize,
    deadline: Duration,
    /// Accepted and not yet confirmed.
    waiting: AtomicUsize,
    committed: AtomicU64,
    batches: AtomicU64,
    /// Microseconds since the epoch since when nothing could be committed; 0 when all is well.
    failing_since: AtomicI64,
    queue: Mutex<Queue>,
    /// Something was put into the queue, a batch has ended, or no more comes.
    wake: Notify,
    /// Signs every flush.
    key: InstanceKey,
    /// The word of the log's key for it.
    attestation: OnceLock<[u8; 64]>,
    seen: Arc<Seen>,
    kept: Arc<Committed>,
    /// How far each chain is confirmed.
    ends: Mutex<Vec<Option<ChainEnd>>>,
}

/// The last entry of a chain that this process had confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    pub src: Uuid,
    pub seq: i64,
    pub sha256: [u8; 32],
    pub id: EntryId,
}

/// For `/readyz` and metrics.
#[derive(Clone, Copy, Debug)]
pub struct CommitterStatus {
    pub waiting_entries: usize,
    pub committed_entries: u64,
    pub committed_batches: u64,
    pub failing_since: Option<Timestamp>,
}

impl Committer {
    /// Starts the engines in tasks of their own, each with a new chain. Nothing is written until the first submission.
    pub fn start<S: EntrySink>(
        sink: S,
        scribe: Scribe,
        limits: &AuditConfig,
    ) -> Result<(Self, Drain), NoRandomness> {
        let chains: Vec<Chain> =
            (0..limits.chains).map(|_| scribe.chain_id().map(Chain::begin)).collect::<Result<_, _>>()?;
        let key = InstanceKey::generate(scribe.random.as_ref())?;
        let shared = Arc::new(Shared {
            scribe,
            queue_entries: limits.queue_entries,
            batch_entries: limits.batch_entries,
            deadline: Duration::from_millis(limits.commit_timeout_ms),
            waiting: AtomicUsize::new(0),
            committed: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            failing_since: AtomicI64::new(0),
            queue: Mutex::default(),
            wake: Notify::new(),
            key,
            attestation: OnceLock::new(),
            seen: Arc::default(),
            kept: Arc::default(),
            ends: Mutex::new(vec![None; limits.chains]),
        });
        let sink = Arc::new(sink);
        let mut engines = JoinSet::new();
        for (place, chain) in chains.into_iter().enumerate() {
            engines.spawn(Engine::new(Arc::clone(&sink), Arc::clone(&shared), chain, place).run());
        }
        engines.spawn(list_writes(Arc::clone(&shared)));
        let handle = Arc::new(Handle { shared: Arc::clone(&shared) });
        Ok((Self { handle }, Drain { shared, engines }))
    }

    /// Puts the entries of one request into the log, together and in order, and waits until they are durable.
    ///
    /// The entries are accepted when this is first polled; from then on they will be committed whether or not anybody
    /// waits. `Err` after acceptance means only that the caller must not answer.
    pub async fn submit(&self, drafts: Vec<EntryDraft>) -> Result<Receipt, CommitError> {
        let reply = self.accept(&drafts)?;
        match tokio::time::timeout(self.handle.shared.deadline, reply).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CommitError::Stopped),
            Err(_) => Err(CommitError::Late),
        }
    }

    /// The entry of a write, to be committed with the data and not through the queue. A draft without a tenant has no
    /// place in the outbox; it is filed under the nil tenant, the service's own.
    pub fn outbox_entry(&self, draft: &EntryDraft) -> Result<OutboxEntry, CommitError> {
        let encoded = self.handle.shared.scribe.write(draft)?;
        let tenant = encoded.tenant.unwrap_or(TenantId::from_uuid(uuid::Uuid::nil()));
        // Before the key is attested a list would be nobody's word.
        let seen = self.handle.shared.attestation.get().map(|_| Arc::clone(&self.handle.shared.seen));
        let noted = Noted { seen, committed: Arc::clone(&self.handle.shared.kept) };
        Ok(OutboxEntry::new(encoded.id, tenant, encoded.into_unchained(), noted))
    }

    /// What this process commits, for whoever numbers it.
    pub fn committed(&self) -> &Arc<Committed> {
        &self.handle.shared.kept
    }

    /// The public key that signs this process's flushes.
    pub fn instance_key(&self) -> &[u8; 32] {
        self.handle.shared.key.public()
    }

    /// From now on chains begin with the word of the log's key for [`Self::instance_key`]. The first one stays.
    pub fn attest(&self, attestation: [u8; 64]) {
        let _ = self.handle.shared.attestation.set(attestation);
    }

    /// How far this process's chains are confirmed: so far the log has them, or somebody has taken something away.
    pub fn ends(&self) -> Vec<ChainEnd> {
        self.handle.shared.ends().iter().flatten().cloned().collect()
    }

    /// The most entries that one request may submit: a request is never split over two batches.
    pub fn largest_request(&self) -> usize {
        self.handle.shared.batch_entries
    }

    pub fn status(&self) -> CommitterStatus {
        let failing = self.handle.shared.failing_since.load(Ordering::Relaxed);
        CommitterStatus {
            waiting_entries: self.handle.shared.waiting.load(Ordering::Relaxed),
            committed_entries: self.handle.shared.committed.load(Ordering::Relaxed),
            committed_batches: self.handle.shared.batches.load(Ordering::Relaxed),
            failing_since: (failing != 0).then(|| Timestamp::from_micros(failing)),
        }
    }

    /// Takes a place in the queue first, so that a flood is refused before it costs any encoding.
    fn accept(
        &self,
        drafts: &[EntryDraft],
    ) -> Result<oneshot::Receiver<Result<Receipt, CommitError>>, CommitError> {
        if drafts.is_empty() {
            return Err(CommitError::Empty);
        }
        if drafts.len() > self.handle.shared.batch_entries {
            return Err(CommitError::TooMany);
        }
        self.handle.shared.reserve(drafts.len())?;
        let encoded =
            drafts.iter().map(|draft| self.handle.shared.scribe.write(draft)).collect::<Result<_, _>>();
        let sent = encoded.map_err(CommitError::from).and_then(|entries| {
            let (reply, answer) = oneshot::channel();
            self.handle.shared.queue().put(Job { entries, reply: Some(reply) })?;
            self.handle.shared.wake.notify_one();
            Ok(answer)
        });
        sent.inspect_err(|_| self.handle.shared.free(drafts.len()))
    }
}

impl Shared {
    fn reserve(&self, entries: usize) -> Result<(), CommitError> {
        let room = |waiting: usize| waiting.checked_add(entries).filter(|total| *total <= self.queue_entries);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map(|_| ())
            .map_err(|_| CommitError::Full)
    }

    fn free(&self, entries: usize) {
        self.waiting.fetch_sub(entries, Ordering::Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere cannot leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in the queue by now was accepted; whoever comes from now on is told.
    fn close(&self) {
        self.queue().is_closed = true;
        self.wake.notify_waiters();
        self.seen.wake.notify_one();
    }

    /// Counts an entry that nobody asked for and that goes out at once.
    fn take_in_flight(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.queue().in_flight += 1;
    }

    fn ends(&self) -> MutexGuard<'_, Vec<Option<ChainEnd>>> {
        // A panic elsewhere cannot leave an end half changed.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_end(&self, place: usize, chain: &Chain) {
        if let (Some(end), Some(sha256), Some(id)) = (self.ends().get_mut(place), chain.head, chain.last) {
            *end = Some(ChainEnd { src: chain.src, seq: chain.seq, sha256, id });
        }
    }
}

/// Writes are listed by whatever flush comes next; where none does, by one of their own. Ends when the committer stops: the
/// ends of the chains list the rest.
async fn list_writes(shared: Arc<Shared>) {
    loop {
        let _ = tokio::time::timeout(LIST_EVERY, shared.seen.wake.notified()).await;
        if shared.queue().is_closed {
            return;
        }
        if shared.seen.is_empty() {
            continue;
        }
        let draft = EntryDraft::of_service(Act::ChainFlush, Outcome::SUCCESS);
        if let Ok(encoded) = shared.scribe.write(&draft) {
            shared.waiting.fetch_add(1, Ordering::Relaxed);
            if shared.queue().put(Job { entries: vec![encoded], reply: None }).is_err() {
                return shared.free(1);
            }
            shared.wake.notify_one();
        }
    }
}

/// Ends the committer in order. Dropped instead, it goes on until every handle is gone and everything is confirmed.
#[must_use = "without it a stop may lose entries that were accepted"]
pub struct Drain {
    shared: Arc<Shared>,
    engines: JoinSet<()>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.engines.detach_all();
    }
}

impl Drain {
    /// Refuses new entries, commits what was accepted, and returns. `Err` is the number of entries that were not
    /// confirmed by the deadline; none of them was answered with success.
    pub async fn finish(mut self, deadline: Duration) -> Result<(), usize> {
        self.shared.close();
        let all = async { while self.engines.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            self.engines.abort_all();
        }
        match self.shared.waiting.load(Ordering::Relaxed) {
            0 => Ok(()),
            left => Err(left),
        }
    }
}

#[cfg(test)]
mod tests;
