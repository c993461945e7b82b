//! Entries that this process saw committed, kept until they have numbers: whoever numbers them reads nothing for it, and what
//! gets a number is what was committed, whatever becomes of it in the database meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::id::EntryId;

/// Some 1,700 entries: what a busy service commits in a third of a second. What does not fit is read from the database.
const MOST_BYTES: usize = 2 << 20;

/// Empty until somebody wants them.
#[derive(Default)]
pub struct Committed(Mutex<Kept>);

/// Which entry: the same id can stand as a write's and in a chain, and only one of them is this process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommittedId {
    pub entry: EntryId,
    pub is_write: bool,
}

#[derive(Default)]
struct Kept {
    is_wanted: bool,
    /// With the time in which each came.
    entries: HashMap<CommittedId, (u64, Vec<u8>)>,
    bytes: usize,
    now: u64,
}

/// A point in time: what was kept before it was committed before it.
#[derive(Clone, Copy, Debug)]
pub struct CommittedBefore(u64);

impl Committed {
    /// Whether entries are kept from now on; what was kept before is let go.
    pub fn want(&self, is_wanted: bool) {
        *self.kept() = Kept { is_wanted, ..Kept::default() };
    }

    /// Takes entries of which it is known that they are committed, as far as there is room.
    pub(in crate::audit) fn keep(&self, entries: impl IntoIterator<Item = (CommittedId, Vec<u8>)>) {
        let mut kept = self.kept();
        if !kept.is_wanted {
            return;
        }
        for (id, bytes) in entries {
            if kept.bytes + bytes.capacity() > MOST_BYTES {
                return;
            }
            kept.bytes += bytes.capacity();
            let now = kept.now;
            kept.entries.insert(id, (now, bytes));
        }
    }

    /// What is kept of each of these; it is let go.
    pub fn take(&self, ids: impl IntoIterator<Item = CommittedId>) -> Vec<Option<Vec<u8>>> {
        let mut kept = self.kept();
        ids.into_iter().map(|id| kept.remove(id)).collect()
    }

    pub fn now(&self) -> CommittedBefore {
        let mut kept = self.kept();
        kept.now += 1;
        CommittedBefore(kept.now)
    }

    /// Everything that was committed before has its number: whatever was not taken got it before it was kept.
    pub fn settle(&self, before: CommittedBefore) {
        let mut kept = self.kept();
        let settled: Vec<CommittedId> =
            kept.entries.iter().filter(|(_, (at, _))| *at < before.0).map(|(id, _)| *id).collect();
        for id in settled {
            kept.remove(id);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic elsewhere can leave the count of bytes too large, never an entry under another's id.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, id: CommittedId) -> Option<Vec<u8>> {
        let (_, bytes) = self.entries.remove(&id)?;
        self.bytes -= bytes.capacity();
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128, is_write: bool) -> CommittedId {
        CommittedId { entry: EntryId::from_uuid(Uuid::from_u128(number)), is_write }
    }

    fn wanted() -> Committed {
        let committed = Committed::default();
        committed.want(true);
        committed
    }

    #[test]
    fn an_entry_is_taken_once_and_only_as_what_it_is() {
        let committed = wanted();
        committed.keep([(id(1, false), vec![1]), (id(2, true), vec![2])]);
        let asked = [id(2, true), id(1, true), id(3, false), id(1, false), id(1, false)];
        assert_eq!(committed.take(asked), [Some(vec![2]), None, None, Some(vec![1]), None]);
        assert_eq!(committed.kept().bytes, 0);
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let committed = Committed::default();
        committed.keep([(id(1, false), vec![1])]);
        assert_eq!(committed.take([id(1, false)]), [None]);
        committed.want(true);
        committed.keep([(id(1, false), vec![1])]);
        committed.want(true);
        assert_eq!(committed.take([id(1, false)]), [None], "what was for the one before");
        committed.want(false);
        committed.keep([(id(1, false), vec![1])]);
        assert!(committed.kept().entries.is_empty());
    }

    #[test]
    fn what_got_its_number_before_it_was_kept_goes_with_the_next_that_took_all() {
        let committed = wanted();
        committed.keep([(id(1, false), vec![1])]);
        let first = committed.now();
        committed.keep([(id(2, false), vec![2])]);
        committed.settle(first);
        assert_eq!(committed.take([id(1, false), id(2, false)]), [None, Some(vec![2])]);
        assert_eq!(committed.kept().bytes, 0);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let committed = wanted();
        let large = |number| (id(number, true), vec![7; MOST_BYTES / 4]);
        committed.keep((0..6).map(large));
        let taken = committed.take((0..6).map(|number| id(number, true)));
        assert_eq!(taken.iter().flatten().count(), 4);
        committed.keep([large(9)]);
        assert!(committed.take([id(9, true)])[0].is_some(), "there is room again");
    }
}
