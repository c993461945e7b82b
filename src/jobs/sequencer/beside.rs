//! What is done beside something else that takes its time: the log is numbered, or the lead at least kept.

use std::time::Duration;

use tokio::sync::Notify;

use super::fresh::Fresh;
use super::{Fault, STEP};
use crate::service::{Alarm, Service};
use crate::storage::{Lead, Taken};

/// The lead says so often that it lives while nothing is numbered.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
/// Entries of one transaction.
const MOST_ENTRIES: usize = 1_024;

/// What a transaction of numbering did.
pub(super) struct Step {
    pub entries: usize,
    /// Nothing is left that was visible when it began.
    pub is_all: bool,
}

/// A transaction of numbering. What got a number is kept for the files, if there are any.
pub(super) async fn step(lead: &mut Lead, service: &Service, fresh: Option<&Fresh>) -> Result<Step, Fault> {
    let Taken { first, entries, is_all, refused, lost } = lead.take(MOST_ENTRIES).await?;
    if refused > 0 {
        service.raise(Alarm::EntriesChanged).await;
    }
    // What is gone does not come back: the alarm ends with the process.
    if lost > 0 {
        tracing::error!(entries = lost, "log.entries_lost");
        service.raise(Alarm::ChainsBroken).await;
    }
    let step = Step { entries: entries.len(), is_all };
    if let Some(fresh) = fresh {
        fresh.keep(first, entries);
    }
    Ok(step)
}

/// Does what takes its time, and goes on numbering meanwhile: a busy log is not left behind by its files.
pub(super) async fn number_beside<T>(
    lead: &mut Lead,
    service: &Service,
    fresh: &Fresh,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let over = Notify::new();
    let working = async {
        let done = work.await;
        over.notify_one();
        Ok(done)
    };
    let numbering = async {
        let mut pause = STEP;
        loop {
            // A step is never broken off: with a transaction its session is gone, and with the session the lead.
            tokio::select! {
                () = over.notified() => return Ok::<_, Fault>(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = if step(lead, service, Some(fresh)).await?.is_all { STEP } else { Duration::ZERO };
        }
    };
    let (done, ()) = tokio::try_join!(working, numbering)?;
    done
}

/// Does what takes its time while the lead is kept: a session that says nothing ends.
pub(super) async fn beside<T>(
    lead: &mut Lead,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(SIGN_OF_LIFE) => lead.touch().await?,
        }
    }
}
