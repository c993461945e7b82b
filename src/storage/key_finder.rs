//! Finding subject keys: whoever asks for some while others do shares their statement, as with records.

use std::time::Duration;

use tokio::sync::oneshot;

use super::key_store::{FoundSubjectKey, find_subject_keys};
use super::lanes::{self, Batched, Lanes};
use super::pool::{Database, StorageError};
use crate::domain::class::DataClass;
use crate::domain::id::{KeyId, KeyOwner, TenantId};

/// As many as of records, which come before.
const LANES: usize = 2;
/// Keys of one statement, unless one caller asks for more.
const MOST_KEYS: usize = 256;

/// Whose key, of which class, and which.
pub type KeyName = (KeyOwner, DataClass, KeyId);

/// In the order in which they were asked for. A row that does not read is the fault of whoever asked for that one.
pub type FoundKeys = Vec<Result<Option<FoundSubjectKey>, StorageError>>;

type Answer = Result<FoundKeys, StorageError>;

/// Finds keys, a few at a time for whoever asks, many at a time for the database.
#[derive(Clone)]
pub(super) struct KeyFinder {
    lanes: Lanes<Find>,
    patience: Duration,
}

struct Find {
    database: Database,
}

struct Job {
    tenant: TenantId,
    wanted: Vec<KeyName>,
    reply: oneshot::Sender<Answer>,
}

impl KeyFinder {
    pub fn new(database: Database) -> Self {
        let patience = database.timeout() * 2;
        Self { lanes: Lanes::new(Find { database }, LANES), patience }
    }

    /// See `KeyDatabase::subject_keys`. A statement that fails, fails for all who shared it.
    pub async fn find(&self, tenant: TenantId, wanted: Vec<KeyName>) -> Answer {
        let (reply, told) = oneshot::channel();
        self.lanes.put(Job { tenant, wanted, reply });
        lanes::answer(told, self.patience).await
    }
}

impl Batched for Find {
    type Job = Job;

    fn is_wanted(&self, job: &Job) -> bool {
        !job.reply.is_closed()
    }

    /// One tenant in a statement: tenants do not meet, not even there, and a cluster that shards by tenant can route it.
    fn joins(&self, taken: &[Job], job: &Job) -> bool {
        let keys: usize = taken.iter().map(|job| job.wanted.len()).sum();
        // All that are taken agree with the first.
        keys + job.wanted.len() <= MOST_KEYS && taken.first().is_some_and(|first| first.tenant == job.tenant)
    }

    async fn run(&self, jobs: Vec<Job>) {
        let Some(tenant) = jobs.first().map(|job| job.tenant) else { return };
        let wanted: Vec<&KeyName> = jobs.iter().flat_map(|job| &job.wanted).collect();
        let found = find_subject_keys(&self.database, tenant, &wanted).await;
        let mut found = found.map(Vec::into_iter);
        for job in jobs {
            let answer = match &mut found {
                Ok(found) => Ok(found.by_ref().take(job.wanted.len()).collect()),
                Err(error) => Err(error.clone()),
            };
            // A caller that hung up does not want to know.
            let _ = job.reply.send(answer);
        }
    }
}
