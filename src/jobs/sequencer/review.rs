//! Reads again what is stored, for as long as it is: every entry against its leaf and all leaves against the head that was
//! signed, every entry without a number, every version of a record against its entry and the other way round.
//!
//! A step every few seconds. The newest entries are read in each; the rest in passes from the first entry to the head and
//! then from the first again, so that a whole pass over a hundred million entries takes some days.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Fault;
use crate::audit::tiles::Edge;
use crate::audit::tree::TreeHash;
use crate::service::{Alarm, Service};
use crate::storage::{RecordKey, SequenceStore};

const EVERY: Duration = Duration::from_secs(2);
/// Entries, and records, of one step; and how many of the newest entries are read in each.
const STEP: u64 = 1_024;
const NEWEST: u64 = 512;

/// Where the passes are.
#[derive(Default)]
pub(super) struct Review {
    looked_at: Option<Instant>,
    entries: EntriesPass,
    records: RecordsPass,
}

/// Over entries.
#[derive(Default)]
struct EntriesPass {
    /// The tree over what was read, and the head that the pass goes to.
    read: Edge,
    goal: Option<Edge>,
    /// After which one entries without numbers are looked for.
    after: Uuid,
    has_fault: bool,
    /// The leaves did not lead to the head. Until a whole pass does again, nothing is signed.
    is_in_doubt: bool,
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

impl Review {
    /// Reads on where it is time.
    pub async fn go_on(
        &mut self,
        store: &SequenceStore,
        head: &Edge,
        service: &Service,
    ) -> Result<(), Fault> {
        if !self.entries.is_in_doubt && self.looked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        self.read_newest(store, head, service).await?;
        self.read_entries(store, head, service).await?;
        self.find_unnumbered(store, service).await?;
        self.compare_records(store, service).await?;
        // Afterwards: a step that failed is done again at once.
        self.looked_at = Some(Instant::now());
        if self.entries.is_in_doubt { Err(Fault::Changed { from: 0 }) } else { Ok(()) }
    }

    /// Whether the stored log was found to be another than the one that was signed.
    pub const fn is_in_doubt(&self) -> bool {
        self.entries.is_in_doubt
    }

    async fn read_newest(
        &mut self,
        store: &SequenceStore,
        head: &Edge,
        service: &Service,
    ) -> Result<(), Fault> {
        let from = head.size().saturating_sub(NEWEST);
        let stored = store.entries(from, head.size() - from).await?;
        let are_all = u64::try_from(stored.len()).is_ok_and(|count| count == head.size() - from);
        if !are_all || stored.iter().any(|entry| !is_leaf(entry)) {
            self.entries.has_fault = true;
            service.raise(Alarm::EntriesChanged).await;
        }
        Ok(())
    }

    async fn read_entries(
        &mut self,
        store: &SequenceStore,
        head: &Edge,
        service: &Service,
    ) -> Result<(), Fault> {
        let goal = self.entries.goal.get_or_insert_with(|| head.clone()).clone();
        let from = self.entries.read.size();
        let wanted = STEP.min(goal.size() - from);
        for (entry, number) in store.entries(from, wanted).await?.iter().zip(from..) {
            if !is_leaf(entry) {
                tracing::error!(entry = number, "log.entry_changed");
                self.entries.has_fault = true;
                service.raise(Alarm::EntriesChanged).await;
            }
            self.entries.read.append(entry.0);
        }
        let is_number_gone = self.entries.read.size() < from + wanted;
        if self.entries.read.size() < goal.size() && !is_number_gone {
            return Ok(());
        }
        self.entries.is_in_doubt = is_number_gone || self.entries.read != goal;
        (self.entries.read, self.entries.goal) = (Edge::default(), None);
        if !std::mem::take(&mut self.entries.has_fault) {
            service.clear(Alarm::EntriesChanged).await;
        }
        Ok(())
    }

    /// Entries that were put in with a transaction id of long ago never get a number.
    async fn find_unnumbered(&mut self, store: &SequenceStore, service: &Service) -> Result<(), Fault> {
        let found = store.unnumbered(self.entries.after, STEP).await?;
        if found.count > 0 {
            self.entries.has_fault = true;
            service.raise(Alarm::EntriesChanged).await;
        }
        self.entries.after = found.next.unwrap_or_default();
        Ok(())
    }

    async fn compare_records(&mut self, store: &SequenceStore, service: &Service) -> Result<(), Fault> {
        let writes = store.writes_without_record(self.records.write_after, STEP).await?;
        let records = store.records_without_entry(&self.records.record_after, STEP).await?;
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

fn is_leaf((leaf, entry): &(TreeHash, Option<Vec<u8>>)) -> bool {
    entry.as_ref().is_some_and(|entry| TreeHash::of_leaf(entry) == *leaf)
}
