//! Entries that have just got their numbers, kept for whoever writes them as files: so what is written is what was numbered,
//! whatever becomes of it in the database meanwhile, and nothing is read for it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::audit::tree::TreeHash;
use crate::storage::NumberedEntry;

/// Some 2,700 entries. What does not fit is read from the database when it is written.
const MOST_BYTES: usize = 3 << 20;

/// A stretch of the log's end, without gaps.
#[derive(Default)]
pub(super) struct Fresh(Mutex<Stretch>);

#[derive(Default)]
struct Stretch {
    /// The number of the first.
    first: u64,
    entries: VecDeque<NumberedEntry>,
    bytes: usize,
}

impl Fresh {
    /// Keeps what has the numbers from `first` on, as much as there is room for.
    pub fn keep(&self, first: u64, entries: Vec<NumberedEntry>) {
        let mut stretch = self.stretch();
        if stretch.entries.is_empty() {
            stretch.first = first;
        }
        if stretch.end() != first {
            return;
        }
        for entry in entries {
            let bytes = stretch.bytes + entry.bytes.len();
            if bytes > MOST_BYTES {
                return;
            }
            stretch.bytes = bytes;
            stretch.entries.push_back(entry);
        }
    }

    /// So many entries from number `from` on, if all of them are here; what lies before them is let go.
    pub fn take(&self, from: u64, count: u64) -> Option<Vec<Vec<u8>>> {
        let mut stretch = self.stretch();
        stretch.begin_with(from);
        let count = usize::try_from(count).ok().filter(|count| *count <= stretch.entries.len())?;
        if stretch.first != from {
            return None;
        }
        let taken: Vec<Vec<u8>> = stretch.entries.drain(..count).map(|entry| entry.bytes).collect();
        stretch.first = from + u64::try_from(count).unwrap_or(0);
        stretch.bytes -= taken.iter().map(Vec::len).sum::<usize>();
        Some(taken)
    }

    /// The leaves from number `from` up to `end`, if all of them are here.
    pub fn leaves(&self, from: u64, end: u64) -> Option<Vec<TreeHash>> {
        let stretch = self.stretch();
        let skipped = usize::try_from(from.checked_sub(stretch.first)?).ok()?;
        let count = usize::try_from(end.checked_sub(from)?).ok()?;
        let leaves: Vec<TreeHash> =
            stretch.entries.iter().skip(skipped).take(count).map(|entry| entry.leaf).collect();
        (leaves.len() == count).then_some(leaves)
    }

    pub fn clear(&self) {
        *self.stretch() = Stretch::default();
    }

    fn stretch(&self) -> MutexGuard<'_, Stretch> {
        // A panic elsewhere can leave the count of bytes too large, never an entry at another's number.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stretch {
    fn end(&self) -> u64 {
        self.first + u64::try_from(self.entries.len()).unwrap_or(0)
    }

    /// Lets go what lies before `from`.
    fn begin_with(&mut self, from: u64) {
        let before = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let gone = self.entries.drain(..before.min(self.entries.len()));
        self.bytes -= gone.map(|entry| entry.bytes.len()).sum::<usize>();
        self.first = self.first.max(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(numbers: std::ops::Range<u64>) -> Vec<NumberedEntry> {
        let entry = |number: u64| number.to_be_bytes().to_vec();
        numbers.map(|number| NumberedEntry::new(entry(number))).collect()
    }

    fn bytes(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        entries(numbers).into_iter().map(|entry| entry.bytes).collect()
    }

    #[test]
    fn entries_come_back_under_their_numbers() {
        let fresh = Fresh::default();
        fresh.keep(5, entries(5..9));
        fresh.keep(9, entries(9..12));
        assert_eq!(fresh.take(4, 2), None, "the first is not here");
        assert_eq!(fresh.take(5, 3), Some(bytes(5..8)));
        assert_eq!(fresh.take(5, 1), None, "it was taken");
        assert_eq!(fresh.take(9, 2), Some(bytes(9..11)));
        assert_eq!(fresh.take(11, 2), None, "there is one");
        assert_eq!(fresh.take(11, 1), Some(bytes(11..12)));
        assert_eq!(fresh.stretch().bytes, 0);
    }

    #[test]
    fn leaves_are_those_of_the_entries_and_stay() {
        let fresh = Fresh::default();
        fresh.keep(5, entries(5..9));
        let leaves: Vec<TreeHash> = bytes(6..8).iter().map(|entry| TreeHash::of_leaf(entry)).collect();
        assert_eq!(fresh.leaves(6, 8), Some(leaves.clone()));
        assert_eq!(fresh.leaves(6, 8), Some(leaves));
        for (from, end) in [(4, 8), (6, 10), (8, 7)] {
            assert_eq!(fresh.leaves(from, end), None);
        }
        assert_eq!(fresh.leaves(9, 9), Some(vec![]));
    }

    #[test]
    fn a_stretch_has_no_gap() {
        let fresh = Fresh::default();
        fresh.keep(5, entries(5..9));
        fresh.keep(20, entries(20..22));
        assert_eq!(fresh.take(20, 2), None);
        // All that was here lies before.
        fresh.keep(22, entries(22..24));
        assert_eq!(fresh.take(22, 2), Some(bytes(22..24)));
        fresh.clear();
        fresh.keep(3, entries(3..4));
        assert_eq!(fresh.take(3, 1), Some(bytes(3..4)));
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let fresh = Fresh::default();
        let large = || NumberedEntry::new(vec![7; MOST_BYTES / 4]);
        fresh.keep(0, (0..6).map(|_| large()).collect());
        fresh.keep(6, entries(6..8));
        assert!(fresh.leaves(0, 4).is_some() && fresh.leaves(0, 5).is_none());
        assert_eq!(fresh.take(0, 4).map(|taken| taken.len()), Some(4));
        fresh.keep(8, entries(8..9));
        assert_eq!(fresh.take(8, 1), Some(bytes(8..9)));
    }
}
