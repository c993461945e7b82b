//! Refusals of one caller by one limit: which of them leaves an entry, and how many the entry tells of.

use crate::audit::EntryDraft;
use crate::domain::clock::Timestamp;

/// Refusals leave one entry in so many seconds.
const WINDOW_SECONDS: i64 = 60;

/// Refusals of one caller by one limit.
pub(super) struct Refusals {
    /// No entry before.
    next_entry: Timestamp,
    /// Refusals since the last entry.
    unreported: u32,
    /// The first of them, for the entry that tells their number.
    first: Option<EntryDraft>,
}

/// What is to be done about a refusal.
pub(super) enum Noted {
    /// Put it on record, with so many.
    Report(u32),
    /// It is counted; `true` for the first since the last entry.
    Counted(bool),
}

impl Refusals {
    pub const NONE: Self = Self { next_entry: Timestamp::from_micros(i64::MIN), unreported: 0, first: None };

    /// Takes in one more.
    pub fn note(&mut self, now: Timestamp, draft: impl FnOnce() -> EntryDraft) -> Noted {
        self.unreported = self.unreported.saturating_add(1);
        if self.is_due(now) {
            return Noted::Report(self.report(now));
        }
        let is_first = self.first.is_none();
        if is_first {
            self.first = Some(draft());
        }
        Noted::Counted(is_first)
    }

    /// Also when the clock was set back.
    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.next_entry || self.next_entry > now.plus_seconds(WINDOW_SECONDS)
    }

    /// The number that the entry of now tells, which is the last for a while.
    fn report(&mut self, now: Timestamp) -> u32 {
        self.next_entry = now.plus_seconds(WINDOW_SECONDS);
        self.first = None;
        std::mem::take(&mut self.unreported)
    }

    /// The entry that tells of those that none tells of yet, if it is time for one; `Err(())`: not yet.
    pub fn report_due(&mut self, now: Timestamp, all: bool) -> Result<Option<(EntryDraft, u32)>, ()> {
        // None: an entry of a later refusal told of them.
        let Some(first) = &self.first else { return Ok(None) };
        if !all && !self.is_due(now) {
            return Err(());
        }
        let first = first.clone();
        Ok(Some((first, self.report(now))))
    }

    /// The entry that was to tell of them could not be written: the next refusal is to be one again.
    pub fn restore(&mut self, number: u32, first: Option<EntryDraft>) {
        self.first = first.or(self.first.take());
        self.unreported = self.unreported.saturating_add(number);
        self.next_entry = Timestamp::from_micros(i64::MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Act, Outcome};

    fn draft() -> EntryDraft {
        EntryDraft::of_service(Act::AccessDenied, Outcome::refused("rate_limited"))
    }

    /// What a refusal at a second leads to: the number of its entry, or none.
    fn note(refusals: &mut Refusals, second: i64) -> Option<u32> {
        match refusals.note(at(second), draft) {
            Noted::Report(number) => Some(number),
            Noted::Counted(_) => None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).plus_seconds(second)
    }

    #[test]
    fn a_flood_leaves_an_entry_a_minute_that_counts_it() {
        let mut refusals = Refusals::NONE;
        assert_eq!(note(&mut refusals, 0), Some(1));
        let entries: Vec<u32> = (0..180).filter_map(|second| note(&mut refusals, second)).collect();
        assert_eq!(entries, [61, 60]);
        // Nothing is due before its minute is over, then the rest, once.
        assert!(refusals.report_due(at(179), false).is_err());
        let (_, rest) = refusals.report_due(at(180), false).unwrap().unwrap();
        assert_eq!(rest, 59);
        assert!(refusals.report_due(at(300), false).unwrap().is_none());
        assert_eq!(note(&mut refusals, 300), Some(1));
    }

    #[test]
    fn the_first_that_is_counted_is_told_apart_and_the_end_tells_all() {
        let mut refusals = Refusals::NONE;
        assert!(matches!(refusals.note(at(0), draft), Noted::Report(1)));
        assert!(matches!(refusals.note(at(1), draft), Noted::Counted(true)));
        assert!(matches!(refusals.note(at(2), draft), Noted::Counted(false)));
        let (_, number) = refusals.report_due(at(2), true).unwrap().unwrap();
        assert_eq!(number, 2);
    }

    #[test]
    fn what_could_not_be_written_is_told_by_the_next() {
        let mut refusals = Refusals::NONE;
        assert_eq!(note(&mut refusals, 0), Some(1));
        refusals.restore(1, None);
        assert_eq!(note(&mut refusals, 1), Some(2));
        assert_eq!(note(&mut refusals, 2), None);
    }

    #[test]
    fn a_clock_set_back_silences_nothing() {
        let mut refusals = Refusals::NONE;
        assert_eq!(note(&mut refusals, 7_200), Some(1));
        assert_eq!(note(&mut refusals, 0), Some(1));
        assert_eq!(note(&mut refusals, 1), None);
    }
}
