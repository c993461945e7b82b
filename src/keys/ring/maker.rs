//! Commits new subject keys in natural batches: what queued while the last INSERT was in flight goes into the next.
//!
//! A new patient needs one to three new keys, each durable before its first use. One statement and one fsync for all
//! who wait costs no timer and no latency when there is one of them.
//!
//! Not here: making and wrapping keys, and what to do with those that another instance made first.

use tokio::sync::{mpsc, oneshot};

use crate::keys::KeyError;
use crate::storage::key_store::{KeyDatabase, NewSubjectKey};

const QUEUE_JOBS: usize = 1_024;
const BATCH_KEYS: usize = 768;

/// The keys of one caller, committed together or not at all, and who wants to know.
struct Job {
    keys: Vec<NewSubjectKey>,
    done: oneshot::Sender<Result<Vec<bool>, KeyError>>,
}

/// A handle on the task that inserts. The task ends when the last handle is gone and the queue is empty.
#[derive(Clone)]
pub(super) struct Maker {
    queue: mpsc::Sender<Job>,
}

impl Maker {
    /// Starts the task; must run within a tokio runtime.
    pub fn start(database: KeyDatabase) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_JOBS);
        tokio::spawn(commit_batches(database, jobs));
        Self { queue }
    }

    /// Inserts keys and answers, after the commit, which of them are in. When the caller is cancelled the keys may be
    /// committed all the same: they are then found by whoever needs them next.
    pub async fn insert(&self, keys: Vec<NewSubjectKey>) -> Result<Vec<bool>, KeyError> {
        let (done, committed) = oneshot::channel();
        self.queue.send(Job { keys, done }).await.map_err(|_| KeyError::Unavailable)?;
        committed.await.unwrap_or(Err(KeyError::Unavailable))
    }
}

async fn commit_batches(database: KeyDatabase, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.recv().await {
        let mut batch = vec![first];
        let mut size = batch.iter().map(|job| job.keys.len()).sum::<usize>();
        while size < BATCH_KEYS
            && let Ok(job) = jobs.try_recv()
        {
            size += job.keys.len();
            batch.push(job);
        }
        commit(&database, batch, size).await;
    }
}

async fn commit(database: &KeyDatabase, mut batch: Vec<Job>, size: usize) {
    let mut keys = Vec::with_capacity(size);
    let mut shares = Vec::with_capacity(batch.len());
    for job in &mut batch {
        shares.push(job.keys.iter().map(|key| key.wrapped.header).collect::<Vec<_>>());
        keys.append(&mut job.keys);
    }
    let inserted = database.insert_subject_keys(&keys).await.map_err(KeyError::from);
    for (job, share) in batch.into_iter().zip(shares) {
        let answer = match &inserted {
            Ok(headers) => Ok(share.iter().map(|header| headers.contains(header)).collect()),
            Err(error) => Err(*error),
        };
        // A caller that hung up does not want to know.
        let _ = job.done.send(answer);
    }
}
