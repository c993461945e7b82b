//! Writes that this process saw committed and that no signed flush has listed yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::id::EntryId;

/// Ids that one flush lists: some 40 kB of an entry, which may have 64.
const MOST: usize = 1_024;
/// So many are listed without waiting for the next entry.
const MANY: usize = 512;

#[derive(Default)]
pub(in crate::audit) struct Seen {
    ids: Mutex<VecDeque<EntryId>>,
    /// Many wait, or the committer stops.
    pub wake: Notify,
}

impl Seen {
    pub fn note(&self, id: EntryId) {
        let mut ids = self.ids();
        ids.push_back(id);
        if ids.len() >= MANY {
            self.wake.notify_one();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.ids().is_empty()
    }

    /// The oldest, for one flush.
    pub fn take(&self) -> Vec<EntryId> {
        let mut ids = self.ids();
        let count = ids.len().min(MOST);
        ids.drain(..count).collect()
    }

    fn ids(&self) -> MutexGuard<'_, VecDeque<EntryId>> {
        // A panic elsewhere cannot leave the list half changed.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
