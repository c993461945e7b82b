//! Inserting new subject keys: whoever needs some while others do shares their statement and its commit. A new patient needs one
//! to three, each durable before its first use.
//!
//! Not here: making and wrapping keys, and what to do with those that another instance made first (`keys`).

use std::time::Duration;

use tokio::sync::oneshot;

use super::key_store::{NewSubjectKey, insert_subject_keys};
use super::lanes::{self, Batched, Lanes};
use super::pool::{Database, StorageError};
use crate::domain::id::TenantId;

/// While one lane waits for its commit to be durable, the other collects.
const LANES: usize = 2;
/// Keys of one statement, unless one caller has more.
const MOST_KEYS: usize = 256;

type Answer = Result<Vec<bool>, StorageError>;

/// Inserts keys, a few at a time for whoever asks, many at a time for the database.
#[derive(Clone)]
pub(super) struct KeyMaker {
    lanes: Lanes<Insert>,
    patience: Duration,
}

struct Insert {
    database: Database,
}

struct Job {
    tenant: TenantId,
    keys: Vec<NewSubjectKey>,
    reply: oneshot::Sender<Answer>,
}

impl KeyMaker {
    pub fn new(database: Database) -> Self {
        let patience = database.timeout() * 2;
        Self { lanes: Lanes::new(Insert { database }, LANES), patience }
    }

    /// See `KeyDatabase::insert_subject_keys`. A statement that fails, fails for all who shared it.
    pub async fn insert(&self, tenant: TenantId, keys: Vec<NewSubjectKey>) -> Answer {
        let (reply, told) = oneshot::channel();
        self.lanes.put(Job { tenant, keys, reply });
        lanes::answer(told, self.patience).await
    }
}

impl Batched for Insert {
    type Job = Job;

    fn is_wanted(&self, job: &Job) -> bool {
        !job.reply.is_closed()
    }

    /// One tenant in a statement, as where keys are found: what one tenant's keys are refused for fails nobody else's.
    fn joins(&self, taken: &[Job], job: &Job) -> bool {
        let keys: usize = taken.iter().map(|job| job.keys.len()).sum();
        // All that are taken agree with the first.
        keys + job.keys.len() <= MOST_KEYS && taken.first().is_some_and(|first| first.tenant == job.tenant)
    }

    async fn run(&self, jobs: Vec<Job>) {
        let Some(tenant) = jobs.first().map(|job| job.tenant) else { return };
        let keys: Vec<&NewSubjectKey> = jobs.iter().flat_map(|job| &job.keys).collect();
        let inserted = insert_subject_keys(&self.database, tenant, &keys).await;
        for job in jobs {
            let answer = match &inserted {
                Ok(headers) => Ok(job.keys.iter().map(|key| headers.contains(&key.wrapped.header)).collect()),
                Err(error) => Err(error.clone()),
            };
            // A caller that hung up does not want to know.
            let _ = job.reply.send(answer);
        }
    }
}
