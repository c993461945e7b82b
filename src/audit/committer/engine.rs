//! The task that commits: collect, number, store, confirm; and what to do when storing fails.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::chain::Chain;
use super::queue::{Job, Work};
use super::sink::{Batch, ChainedEntry, EntrySink, Settled};
use super::{CommitError, CommittedId, Shared};
use crate::audit::act::{Act, Outcome};
use crate::audit::event::EntryDraft;
use crate::audit::receipt::Receipt;
use crate::domain::id::TenantId;
use crate::telemetry::metrics;

/// How often the others get to run, at most, before a batch is closed.
const YIELDS: u32 = 8;
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One chain and the batch that is in flight on it.
pub(super) struct Engine<S> {
    sink: Arc<S>,
    shared: Arc<Shared>,
    chain: Chain,
    /// Which of the process's chains it is.
    place: usize,
    /// The chain says who vouches for the key that signs it.
    is_attested: bool,
}

impl<S: EntrySink> Engine<S> {
    pub const fn new(sink: Arc<S>, shared: Arc<Shared>, chain: Chain, place: usize) -> Self {
        Self { sink, shared, chain, place, is_attested: false }
    }

    /// Ends when it was told to stop and everything accepted is confirmed or another engine's.
    pub async fn run(mut self) {
        while self.wait_for_work().await {
            self.let_others_in().await;
            let batch = self.shared.queue().take(self.shared.batch_entries);
            if !batch.is_empty() {
                self.commit(batch).await;
            }
        }
        self.end().await;
    }

    /// `false` at the end.
    async fn wait_for_work(&self) -> bool {
        loop {
            let woken = self.shared.wake.notified();
            tokio::pin!(woken);
            // From here on no wake is missed, whatever the queue says.
            woken.as_mut().enable();
            let work = self.shared.queue().work();
            match work {
                Work::Now => return true,
                Work::NoMore => return false,
                Work::Later => woken.await,
            }
        }
    }

    /// Callers that were answered together come back together. Whoever is ready to run now gets to run, for as long as
    /// that brings entries; else the first of them would cost a commit alone, and all others wait for it. Not a timer:
    /// on an idle machine it costs nothing.
    async fn let_others_in(&self) {
        let mut before = self.shared.queue().waiting.len();
        for _ in 0..YIELDS {
            tokio::task::yield_now().await;
            let now = self.shared.queue().waiting.len();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Returns when the batch is confirmed, however long that takes.
    async fn commit(&mut self, mut batch: Vec<Job>) {
        let started = Instant::now();
        let writes = self.shared.seen.take();
        loop {
            self.attest(&mut batch);
            let entries = batch.iter().flat_map(|job| &job.entries);
            let (numbered, end) = self.chain.extend(entries, &self.shared.key, &writes);
            match self.store(&numbered, &mut batch).await {
                Settled::Stored => {
                    self.chain = end;
                    self.shared.keep_end(self.place, &self.chain);
                    metrics::audit_commit(numbered.entries.len(), started.elapsed());
                    self.keep(numbered);
                    return self.confirm(batch);
                }
                Settled::Forked => self.begin_anew(&mut batch).await,
            }
        }
    }

    /// For whoever numbers them, who may be in this process.
    fn keep(&self, committed: Batch) {
        let entries = committed.entries.into_iter().map(|ChainedEntry { id, tenant, bytes, .. }| {
            let tenant = tenant.unwrap_or(TenantId::from_uuid(Uuid::nil()));
            (CommittedId { tenant, entry: id, is_write: false }, bytes)
        });
        self.shared.kept.keep(entries);
    }

    /// A chain begins with the word of the log's key for the one that signs it, as soon as there is one.
    fn attest(&mut self, batch: &mut Vec<Job>) {
        let Some(attestation) = self.shared.attestation.get().filter(|_| !self.is_attested) else { return };
        let draft = EntryDraft::of_service(Act::InstanceAttest, Outcome::SUCCESS)
            .instance_key(*self.shared.key.public(), *attestation);
        // Without randomness now, it comes with the next batch.
        if let Ok(encoded) = self.shared.scribe.write(&draft) {
            self.shared.take_in_flight();
            batch.insert(0, Job { entries: vec![encoded], reply: None });
            self.is_attested = true;
        }
    }

    /// In an orderly stop each chain has an end that is signed. Writes that no entry came to list are listed by an end as well,
    /// of a chain that has nothing else.
    async fn end(&mut self) {
        let draft = EntryDraft::of_service(Act::ChainEnd, Outcome::SUCCESS);
        let has_one = self.is_attested || !self.shared.seen.is_empty();
        if let Some(encoded) = self.shared.scribe.write(&draft).ok().filter(|_| has_one) {
            self.shared.take_in_flight();
            self.commit(vec![Job { entries: vec![encoded], reply: None }]).await;
        }
    }

    fn confirm(&self, batch: Vec<Job>) {
        self.shared.queue().in_flight -= batch.len();
        // Whether a batch may go out depends on what is in flight.
        self.shared.wake.notify_one();
        self.shared.batches.fetch_add(1, Ordering::Relaxed);
        for job in batch {
            let entries = job.entries.len();
            self.shared.free(entries);
            self.shared.committed.fetch_add(u64::try_from(entries).unwrap_or(0), Ordering::Relaxed);
            // Nobody there any more: the deadline passed or the client hung up. The entry stands.
            if let Some(reply) = job.reply {
                let _ = reply.send(Ok(Receipt::confirmed(entries)));
            }
        }
    }

    /// The same bytes until it is known what became of them. A first failure may be no more than a lost connection, so
    /// callers are refused only after a second one.
    async fn store(&self, numbered: &Batch, batch: &mut [Job]) -> Settled {
        if self.sink.append(numbered).await.is_ok() {
            self.note_recovery();
            return Settled::Stored;
        }
        let mut pause = SHORTEST_PAUSE;
        loop {
            if let Ok(settled) = self.sink.settle(numbered).await {
                self.note_recovery();
                return settled;
            }
            self.note_failure();
            batch.iter_mut().for_each(refuse);
            self.wait_refusing(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// While nothing can be committed, callers hear so at once; their entries are kept.
    async fn wait_refusing(&self, pause: Duration) {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            self.shared.queue().waiting.iter_mut().for_each(refuse);
            tokio::select! {
                () = &mut over => return,
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// Our places in the chain hold other bytes: the chain is not ours alone. It is left as it is, and a new one
    /// begins with an entry that names the old one's confirmed end.
    async fn begin_anew(&mut self, batch: &mut Vec<Job>) {
        tracing::error!(audit.chain = %self.chain.src, audit.seq = self.chain.seq, "audit.chain.forked");
        let old = &self.chain;
        let draft = EntryDraft::of_service(Act::ChainRestart, Outcome::failed("chain_forked")).ended_chain(
            old.src,
            old.seq.unsigned_abs(),
            old.head,
        );
        loop {
            let made = self
                .shared
                .scribe
                .chain_id()
                .and_then(|src| self.shared.scribe.write(&draft).map(|encoded| (src, encoded)));
            match made {
                Ok((src, encoded)) => {
                    self.shared.take_in_flight();
                    (self.chain, self.is_attested) = (Chain::begin(src), false);
                    batch.insert(0, Job { entries: vec![encoded], reply: None });
                    return;
                }
                Err(_) => self.wait_refusing(LONGEST_PAUSE).await,
            }
        }
    }

    fn note_failure(&self) {
        let now = self.shared.scribe.now().as_micros();
        let first = self.shared.failing_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            tracing::error!(
                audit.waiting_entries = self.shared.waiting.load(Ordering::Relaxed),
                "audit.commit.failing"
            );
        }
    }

    fn note_recovery(&self) {
        let since = self.shared.failing_since.swap(0, Ordering::Relaxed);
        if since != 0 {
            let failing_ms = self.shared.scribe.now().as_micros().saturating_sub(since) / 1_000;
            tracing::warn!(audit.failing_ms = failing_ms, "audit.commit.recovered");
        }
    }
}

fn refuse(job: &mut Job) {
    if let Some(reply) = mem::take(&mut job.reply) {
        let _ = reply.send(Err(CommitError::Unavailable));
    }
}
