//! The task that commits: collect, number, store, confirm; and what to do when storing fails.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::chain::Chain;
use super::sink::{Batch, EntrySink, Settled};
use super::{CommitError, Job, Shared};
use crate::audit::act::{Act, Outcome};
use crate::audit::event::EntryDraft;
use crate::audit::receipt::Receipt;
use crate::telemetry::metrics;

/// How often the others get to run, at most, before a batch is closed.
const YIELDS: u32 = 8;
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Engine<S> {
    sink: S,
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedReceiver<Job>,
    /// Taken from the channel, in order, not yet in a batch.
    waiting: VecDeque<Job>,
    chain: Chain,
    stopping: bool,
}

impl<S: EntrySink> Engine<S> {
    pub fn new(sink: S, shared: Arc<Shared>, jobs: mpsc::UnboundedReceiver<Job>, chain: Chain) -> Self {
        Self { sink, shared, jobs, waiting: VecDeque::new(), chain, stopping: false }
    }

    /// Ends when it was told to stop (or every handle is gone) and everything accepted is confirmed.
    pub async fn run(mut self) {
        while self.wait_for_work().await {
            self.let_others_in().await;
            let batch = self.collect();
            self.commit(batch).await;
        }
    }

    async fn wait_for_work(&mut self) -> bool {
        if !self.waiting.is_empty() {
            return true;
        }
        let shared = Arc::clone(&self.shared);
        let job = tokio::select! {
            // The stop first: under load there is always a job ready.
            biased;
            () = shared.stop.notified(), if !self.stopping => {
                // What is in the channel by now was accepted; whoever sends from now on is told.
                self.stopping = true;
                self.jobs.close();
                self.jobs.recv().await
            }
            job = self.jobs.recv() => job,
        };
        self.waiting.extend(job);
        !self.waiting.is_empty()
    }

    /// Callers that were answered together come back together. Whoever is ready to run now gets to run, for as long as
    /// that brings entries; else the first of them would cost a commit alone, and all others wait for it. Not a timer:
    /// on an idle machine it costs nothing.
    async fn let_others_in(&mut self) {
        for _ in 0..YIELDS {
            let before = self.waiting.len();
            tokio::task::yield_now().await;
            while let Ok(job) = self.jobs.try_recv() {
                self.waiting.push_back(job);
            }
            if self.waiting.len() == before {
                return;
            }
        }
    }

    /// Whole requests, in order, as many as fit.
    fn collect(&mut self) -> Vec<Job> {
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push_back(job);
        }
        let mut batch = Vec::new();
        let mut room = self.shared.batch_entries;
        while let Some(job) = self.waiting.pop_front() {
            match room.checked_sub(job.entries.len()) {
                Some(left) => {
                    room = left;
                    batch.push(job);
                }
                None => {
                    self.waiting.push_front(job);
                    break;
                }
            }
        }
        batch
    }

    /// Returns when the batch is confirmed, however long that takes.
    async fn commit(&mut self, mut batch: Vec<Job>) {
        let started = Instant::now();
        loop {
            let entries = batch.iter().flat_map(|job| &job.entries);
            let (numbered, end) = self.chain.extend(entries);
            match self.store(&numbered, &mut batch).await {
                Settled::Stored => {
                    self.chain = end;
                    metrics::audit_commit(numbered.entries.len(), started.elapsed());
                    return self.confirm(batch);
                }
                Settled::Forked => self.begin_anew(&mut batch).await,
            }
        }
    }

    fn confirm(&self, batch: Vec<Job>) {
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
    async fn store(&mut self, numbered: &Batch, batch: &mut [Job]) -> Settled {
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
    async fn wait_refusing(&mut self, pause: Duration) {
        self.waiting.iter_mut().for_each(refuse);
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = shared.stop.notified(), if !self.stopping => {
                    self.stopping = true;
                    self.jobs.close();
                }
                job = self.jobs.recv() => match job {
                    Some(mut job) => {
                        refuse(&mut job);
                        self.waiting.push_back(job);
                    }
                    None => return over.await,
                },
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
                    self.shared.waiting.fetch_add(1, Ordering::Relaxed);
                    self.chain = Chain::begin(src);
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
