//! Entries that this process saw committed, kept until they have numbers: whoever numbers them reads nothing for it, and what
//! gets a number is what was committed, whatever becomes of it in the database meanwhile. As far as there is room, and as long as
//! this process has the lead of the log: what is not here is read.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::audit::tiles::LARGEST_ENTRY_BYTES;
use crate::domain::id::{EntryId, TenantId};

/// Some 1,700 entries: what a busy service commits in a third of a second. What does not fit is read from the database.
const MOST_BYTES: usize = 2 << 20;

/// Empty until somebody wants them.
#[derive(Default)]
pub struct Committed(Mutex<Kept>);

/// Which entry: whoever owns the database can have the same id stand elsewhere as well, and only one of them is this process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommittedId {
    /// The nil UUID for the service's own.
    pub tenant: TenantId,
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
    /// Whether entries are kept from now on.
    pub fn want(&self, is_wanted: bool) {
        let mut kept = self.kept();
        if kept.is_wanted != is_wanted {
            *kept = Kept { is_wanted, now: kept.now, ..Kept::default() };
        }
    }

    /// Takes entries of which it is known that they are committed, as far as there is room.
    pub(in crate::audit) fn keep(&self, entries: impl IntoIterator<Item = (CommittedId, Vec<u8>)>) {
        let mut kept = self.kept();
        if !kept.is_wanted {
            return;
        }
        // What is larger gets no number at all.
        for (id, bytes) in entries.into_iter().filter(|(_, bytes)| bytes.len() <= LARGEST_ENTRY_BYTES) {
            if kept.bytes + bytes.capacity() > MOST_BYTES {
                return;
            }
            kept.remove(id);
            kept.bytes += bytes.capacity();
            let now = kept.now;
            kept.entries.insert(id, (now, bytes));
        }
    }

    /// What is kept of each of these. It is let go, and taken back unless it gets its numbers.
    pub fn lend(&self, ids: &[CommittedId]) -> Vec<Option<Vec<u8>>> {
        let mut kept = self.kept();
        ids.iter().map(|id| kept.remove(*id)).collect()
    }

    /// Takes back what was lent.
    pub fn take_back(&self, entries: impl IntoIterator<Item = (CommittedId, Vec<u8>)>) {
        self.keep(entries);
    }

    /// From here on what is kept is younger than this.
    pub fn tick(&self) -> CommittedBefore {
        let mut kept = self.kept();
        kept.now += 1;
        CommittedBefore(kept.now)
    }

    /// A step that began then has numbered all that it saw: what is still here, and is lent now, got its number before it was
    /// kept, or somebody took it away.
    pub fn settle(&self, before: CommittedBefore) -> Vec<(CommittedId, Vec<u8>)> {
        let mut kept = self.kept();
        let settled: Vec<CommittedId> =
            kept.entries.iter().filter(|(_, (at, _))| *at < before.0).map(|(id, _)| *id).collect();
        settled.into_iter().filter_map(|id| Some((id, kept.remove(id)?))).collect()
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
        let entry = EntryId::from_uuid(Uuid::from_u128(number));
        CommittedId { tenant: TenantId::from_uuid(Uuid::nil()), entry, is_write }
    }

    fn wanted() -> Committed {
        let committed = Committed::default();
        committed.want(true);
        committed
    }

    #[test]
    fn an_entry_is_lent_once_and_only_as_what_it_is() {
        let committed = wanted();
        committed.keep([(id(1, false), vec![1]), (id(2, true), vec![2])]);
        let of_another = CommittedId { tenant: TenantId::from_uuid(Uuid::max()), ..id(1, false) };
        let asked = [id(2, true), id(1, true), of_another, id(3, false), id(1, false), id(1, false)];
        assert_eq!(committed.lend(&asked), [Some(vec![2]), None, None, None, Some(vec![1]), None]);
        assert_eq!(committed.kept().bytes, 0);
        committed.take_back([(id(1, false), vec![1])]);
        committed.keep([(id(1, false), vec![1])]);
        assert_eq!(committed.lend(&[id(1, false)]), [Some(vec![1])]);
        assert_eq!(committed.kept().bytes, 0, "once, however often it came");
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let committed = Committed::default();
        committed.keep([(id(1, false), vec![1])]);
        assert_eq!(committed.lend(&[id(1, false)]), [None]);
        committed.want(true);
        committed.keep([(id(1, false), vec![1])]);
        committed.want(true);
        assert_eq!(committed.lend(&[id(1, false)]), [Some(vec![1])], "a lead that was lost and taken again");
        committed.keep([(id(1, false), vec![1])]);
        committed.want(false);
        committed.keep([(id(2, false), vec![1])]);
        assert!(committed.kept().entries.is_empty());
    }

    #[test]
    fn what_got_its_number_before_it_was_kept_goes_with_the_next_step_that_took_all() {
        let committed = wanted();
        committed.keep([(id(1, false), vec![1])]);
        let first = committed.tick();
        committed.keep([(id(2, false), vec![2])]);
        assert_eq!(committed.settle(first), [(id(1, false), vec![1])]);
        assert_eq!(committed.lend(&[id(1, false), id(2, false)]), [None, Some(vec![2])]);
        assert_eq!(committed.kept().bytes, 0);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let committed = wanted();
        let large = |number| (id(number, true), vec![7; MOST_BYTES / 64]);
        committed.keep((0..70).map(large));
        let ids: Vec<CommittedId> = (0..70).map(|number| id(number, true)).collect();
        assert_eq!(committed.lend(&ids).iter().flatten().count(), 64);
        committed.keep([large(99), (id(100, true), vec![7; LARGEST_ENTRY_BYTES + 1])]);
        let after = committed.lend(&[id(99, true), id(100, true)]);
        assert!(after[0].is_some(), "there is room again");
        assert!(after[1].is_none(), "it gets no number");
    }
}
