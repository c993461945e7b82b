//! Reads again what is stored, for as long as it is: every entry against its leaf and all leaves against the head that was
//! signed, every entry without a number, every version of a record against its entry and the other way round.
//!
//! The newest entries are read every two seconds, the last few thousand of them on a busy log. What came since the last night
//! is read each night, and the whole log in stretches, one after the other, at least one a week; both in small steps,
//! `entries_per_second` together. How far they are and when they were last done is kept in the database, so that neither a
//! restart nor another lead begins anew; what was not done in its time is an alarm.
//!
//! What was pruned is read no more: a pass begins where the database does, with the tree that is on record, which must lead to
//! the head as well, and the records themselves are held against the entries that speak of them.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Fault;
use super::watch::Watch;
use crate::audit::tiles::Edge;
use crate::config::AuditReviewConfig;
use crate::domain::clock::Timestamp;
use crate::service::{Alarm, Service};
use crate::storage::{RecordKey, ReviewPart, Reviewed, SequenceStore, StoredEntry};

const EVERY: Duration = Duration::from_secs(2);
/// Between two passes over a log that is read in one step.
const REST: Duration = Duration::from_secs(6);
/// New entries that one look reads; what is more is left to the night.
const NEWEST: u64 = 4_096;
/// Of these in one query.
const NEWEST_STEP: u64 = 512;
/// Between two looks at what is on record of pruned months.
const PRUNED_EVERY: Duration = Duration::from_secs(6);
/// Of a long log one stretch of this many entries counts as a review.
const STRETCH: u64 = 1_000_000;
/// How far a review is, is kept so often.
const KEPT_EVERY: Duration = Duration::from_secs(30);
const DAY_S: i64 = 86_400;

/// Where the passes are.
pub(super) struct Review {
    config: AuditReviewConfig,
    looked_at: Option<Instant>,
    /// Up to here new entries were read again.
    newest: u64,
    recent: Pass,
    old: Pass,
    /// After which entry those without numbers are looked for.
    after: Uuid,
    has_fault: bool,
    /// The leaves did not lead to the head. Until a whole pass does again, nothing is signed.
    is_in_doubt: bool,
    records: RecordsPass,
    /// When what is on record of pruned months was last looked at.
    pruned_at: Option<Instant>,
}

/// Over entries.
struct Pass {
    part: ReviewPart,
    /// As it was kept; `None` until it was read.
    reviewed: Option<Reviewed>,
    /// The head that it goes to.
    goal: Option<Edge>,
    /// It began with the first entry that the database has: nothing that was kept of a pass is in its tree.
    is_whole: bool,
    kept_at: Option<Instant>,
    rested_at: Option<Instant>,
}

/// Over records, and over writes.
#[derive(Default)]
struct RecordsPass {
    write_after: Uuid,
    record_after: RecordKey,
    has_fault: bool,
    /// The records are through; the pass is over when the writes are as well.
    is_half_over: bool,
}

/// How a step over entries ended.
enum Step {
    GoesOn,
    /// It has come to the head, which it leads to or not.
    Ended {
        fits: bool,
        is_whole: bool,
    },
}

impl Review {
    pub fn new(config: AuditReviewConfig) -> Self {
        Self {
            config,
            looked_at: None,
            newest: 0,
            recent: Pass::new(ReviewPart::Recent),
            old: Pass::new(ReviewPart::Old),
            after: Uuid::nil(),
            has_fault: false,
            is_in_doubt: false,
            records: RecordsPass::default(),
            pruned_at: None,
        }
    }

    /// A lead begins: what another one has done meanwhile is in the database.
    pub fn begin(&mut self) {
        (self.recent, self.old) = (Pass::new(ReviewPart::Recent), Pass::new(ReviewPart::Old));
    }

    /// Reads on where it is time.
    pub async fn go_on(
        &mut self,
        store: &SequenceStore,
        head: &Edge,
        watch: &mut Watch,
        service: &Service,
    ) -> Result<(), Fault> {
        if !self.is_in_doubt && self.looked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        let boundary = store.boundary().await?;
        self.read_newest(store, &boundary, head, watch, service).await?;
        let is_late = self.read_entries(store, &boundary, head, service).await?;
        self.look_at_pruned(store, service).await?;
        self.find_unnumbered(store, service).await?;
        self.compare_records(store, service).await?;
        watch.tell(service).await;
        service.alarm_if(is_late, Alarm::LogNotReviewed).await;
        // Afterwards: a step that failed is done again at once.
        self.looked_at = Some(Instant::now());
        if self.is_in_doubt { Err(Fault::Changed { from: 0 }) } else { Ok(()) }
    }

    /// Whether the stored log was found to be another than the one that was signed.
    pub const fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Entries that one step may read.
    const fn step(&self) -> u64 {
        self.config.entries_per_second * EVERY.as_secs()
    }

    /// What came since it was last here, or the last of it. Where no files are written, it is heard here.
    async fn read_newest(
        &mut self,
        store: &SequenceStore,
        boundary: &Edge,
        head: &Edge,
        watch: &mut Watch,
        service: &Service,
    ) -> Result<(), Fault> {
        let newest = head.size().saturating_sub(NEWEST).max(boundary.size());
        let read = if watch.is_fed { self.newest } else { watch.next().unwrap_or_default() };
        let mut from = read.max(newest);
        while from < head.size() {
            let most = NEWEST_STEP.min(head.size() - from);
            let stored = store.entries(from, most).await?;
            let are_all = u64::try_from(stored.len()).is_ok_and(|count| count == most);
            if !are_all || !stored.iter().all(StoredEntry::is_as_numbered) {
                if store.boundary().await? != *boundary {
                    return Ok(());
                }
                self.has_fault = true;
                service.raise(Alarm::EntriesChanged).await;
            }
            if !watch.is_fed {
                // What comes after the last of which there is nothing to be heard.
                let silent =
                    stored.iter().rposition(|stored| stored.entry.is_none()).map_or(0, |last| last + 1);
                let entries: Vec<Vec<u8>> =
                    stored.into_iter().skip(silent).filter_map(|stored| stored.entry).collect();
                watch.hear(from + u64::try_from(silent).unwrap_or(0), &entries);
            }
            from += most;
        }
        self.newest = head.size();
        Ok(())
    }

    /// Nobody but `audit prune` makes entries go, and it says so in the log.
    async fn look_at_pruned(&mut self, store: &SequenceStore, service: &Service) -> Result<(), Fault> {
        if self.pruned_at.is_some_and(|at| at.elapsed() < PRUNED_EVERY) {
            return Ok(());
        }
        if store.differs().await? {
            tracing::error!("log.pruned_differs");
            self.has_fault = true;
            service.raise(Alarm::EntriesChanged).await;
        }
        self.pruned_at = Some(Instant::now());
        Ok(())
    }

    /// Whether a review was not done in its time.
    async fn read_entries(
        &mut self,
        store: &SequenceStore,
        boundary: &Edge,
        head: &Edge,
        service: &Service,
    ) -> Result<bool, Fault> {
        let (now, step) = (service.clock().now(), self.step());
        let recent_at = self.recent.resume(store).await?.done_at;
        let old_at = self.old.resume(store).await?.done_at;
        let is_night = is_night(recent_at, now, self.config.nightly_hour);
        let pass = if is_night || self.recent.goal.is_some() { &mut self.recent } else { &mut self.old };
        if pass.is_resting() {
            return Ok(false);
        }
        let (ended, has_fault) = pass.read(store, (boundary, head), step, now, service).await?;
        self.has_fault |= has_fault;
        if let Step::Ended { fits, is_whole } = ended {
            let is_old = matches!(pass.part, ReviewPart::Old);
            if !fits {
                // Where one that went on from what was kept does not lead to the head, a whole one decides.
                tracing::error!(is_whole, "log.review_does_not_fit");
                self.is_in_doubt |= is_whole;
                self.old.start_over();
            } else if is_old {
                self.is_in_doubt &= !is_whole;
                if !std::mem::take(&mut self.has_fault) {
                    service.clear(Alarm::EntriesChanged).await;
                }
            }
        }
        let is_late = |at: Timestamp, days: i64| now.as_seconds() - at.as_seconds() > days * DAY_S * 5 / 4;
        Ok(is_late(recent_at, 1) || is_late(old_at, 7))
    }

    /// Entries that were put in with a transaction id of long ago never get a number.
    async fn find_unnumbered(&mut self, store: &SequenceStore, service: &Service) -> Result<(), Fault> {
        let found = store.unnumbered(self.after, self.step()).await?;
        if found.count > 0 {
            self.has_fault = true;
            service.raise(Alarm::EntriesChanged).await;
        }
        self.after = found.next.unwrap_or_default();
        Ok(())
    }

    async fn compare_records(&mut self, store: &SequenceStore, service: &Service) -> Result<(), Fault> {
        let step = self.step();
        let writes = store.writes_without_record(self.records.write_after, step).await?;
        let records = store.records_without_entry(&self.records.record_after, step).await?;
        if writes.count + records.count > 0 {
            self.records.has_fault = true;
            service.raise(Alarm::RecordsChanged).await;
        }
        self.records.is_half_over |= records.next.is_none();
        self.records.record_after = records.next.unwrap_or_default();
        self.records.write_after = writes.next.unwrap_or_default();
        let is_over = self.records.write_after.is_nil() && std::mem::take(&mut self.records.is_half_over);
        if is_over && !std::mem::take(&mut self.records.has_fault) {
            service.clear(Alarm::RecordsChanged).await;
        }
        Ok(())
    }
}

impl Pass {
    const fn new(part: ReviewPart) -> Self {
        Self { part, reviewed: None, goal: None, is_whole: false, kept_at: None, rested_at: None }
    }

    async fn resume(&mut self, store: &SequenceStore) -> Result<&Reviewed, Fault> {
        let reviewed = match self.reviewed.take() {
            Some(reviewed) => reviewed,
            None => store.reviewed(self.part).await?,
        };
        Ok(self.reviewed.insert(reviewed))
    }

    fn is_resting(&self) -> bool {
        self.rested_at.is_some_and(|at| at.elapsed() < REST)
    }

    fn start_over(&mut self) {
        if let Some(reviewed) = &mut self.reviewed {
            reviewed.edge = Edge::default();
        }
        (self.goal, self.is_whole, self.rested_at) = (None, false, None);
    }

    /// Reads a step; says how it ended, and whether an entry was not the one that was numbered.
    async fn read(
        &mut self,
        store: &SequenceStore,
        (boundary, head): (&Edge, &Edge),
        most: u64,
        now: Timestamp,
        service: &Service,
    ) -> Result<(Step, bool), Fault> {
        self.resume(store).await?;
        let Some(reviewed) = &mut self.reviewed else { return Ok((Step::GoesOn, false)) };
        if reviewed.edge.size() <= boundary.size() {
            (reviewed.edge, self.is_whole) = (boundary.clone(), true);
            self.goal = self.goal.take().filter(|goal| goal.size() > boundary.size());
        }
        let from = reviewed.edge.size();
        let goal = self.goal.get_or_insert_with(|| head.clone());
        let wanted = most.min(goal.size().saturating_sub(from));
        let stored = store.entries(from, wanted).await?;
        let changed: Vec<u64> = (from..)
            .zip(&stored)
            .filter(|(_, stored)| !stored.is_as_numbered())
            .map(|(number, _)| number)
            .collect();
        let is_short = u64::try_from(stored.len()) != Ok(wanted);
        if (is_short || !changed.is_empty()) && store.boundary().await? != *boundary {
            return Ok((Step::GoesOn, false));
        }
        for entry in &changed {
            tracing::error!(entry, "log.entry_changed");
            service.raise(Alarm::EntriesChanged).await;
        }
        let has_fault = !changed.is_empty();
        for stored in &stored {
            reviewed.edge.append(stored.leaf);
        }
        let size = reviewed.edge.size();
        let is_number_gone = size < from + wanted;
        let step = if size < goal.size() && !is_number_gone {
            Step::GoesOn
        } else {
            Step::Ended { fits: !is_number_gone && reviewed.edge == *goal, is_whole: self.is_whole }
        };
        let is_stretch = matches!(self.part, ReviewPart::Old) && size / STRETCH > from / STRETCH;
        let is_done = matches!(step, Step::Ended { fits: true, .. });
        if is_done || is_stretch {
            reviewed.done_at = now;
        }
        if matches!(step, Step::Ended { .. }) {
            (self.goal, self.is_whole, self.rested_at) = (None, false, Some(Instant::now()));
            // The whole log begins anew; the night goes on from here.
            if matches!(self.part, ReviewPart::Old) || !is_done {
                reviewed.edge = Edge::default();
            }
        }
        let is_time = self.kept_at.is_none_or(|at| at.elapsed() >= KEPT_EVERY);
        if is_time || is_stretch || (is_done && matches!(self.part, ReviewPart::Recent)) {
            store.keep_review(self.part, reviewed).await?;
            self.kept_at = Some(Instant::now());
        }
        Ok((step, has_fault))
    }
}

/// Whether the hour of the night, in UTC, has come since it was last done.
fn is_night(done_at: Timestamp, now: Timestamp, hour: u8) -> bool {
    let night = |at: Timestamp| (at.as_seconds() - i64::from(hour) * 3_600).div_euclid(DAY_S);
    night(now) > night(done_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_comes_once_a_day_at_its_hour() {
        let at = |day: i64, hour: i64| Timestamp::from_micros((day * DAY_S + hour * 3_600) * 1_000_000);
        assert!(!is_night(at(100, 3), at(100, 23), 2));
        assert!(!is_night(at(100, 3), at(101, 1), 2));
        assert!(is_night(at(100, 3), at(101, 2), 2));
        assert!(is_night(at(100, 1), at(100, 2), 2));
        assert!(is_night(at(100, 3), at(140, 0), 2), "however long it was away");
        assert!(!is_night(at(101, 0), at(100, 3), 2), "a clock that was set back makes no night");
    }
}
