//! Prunes the log: drops the months of it that are old enough, when the exported files, as they are now, have every entry of them.
//!
//! For an operator's command, and not by itself: that something leaves the database is somebody's decision. Months go in their
//! order, so that one boundary says what is left. Not here: the SQL of it (`storage::retention`), and retention of the files.

mod exported;
mod refusal;

use jiff::civil::Date;

use self::exported::Exported;
pub use self::refusal::Refusal;
use crate::audit::checkpoint::Trust;
use crate::audit::export::ExportError;
use crate::audit::tiles::FULL;
use crate::audit::tree::TreeHash;
use crate::audit::{Act, CommitError, Committer, EntryDraft, Outcome, PrunedObject};
use crate::config::AuditConfig;
use crate::domain::month::Month;
use crate::storage::{Dropped, MonthEntry, MonthFacts, MonthRecord, Retention, StorageError, StoredMonth};

/// Entries of one query.
const BATCH: u32 = 4_096;

/// Why it could not be found out whether a month may go, or it could not be dropped. A month that was under way is there whole, or
/// gone with its record.
#[derive(Debug, thiserror::Error)]
pub enum PruneFault {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the exported log cannot be read: {0}")]
    Export(ExportError),
    #[error("the log cannot record it: {0}")]
    Record(#[from] CommitError),
    #[error("the reader of files has ended")]
    Ended,
}

/// What stops a month: something that the operator is told about the month, or about the command.
enum Stop {
    Refused(Refusal),
    Fault(PruneFault),
}

impl From<PruneFault> for Stop {
    fn from(fault: PruneFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Fault(error.into())
    }
}

/// Whether a month may go.
pub enum Examined {
    MayGo(MonthRecord),
    Stays(Option<MonthFacts>, Refusal),
}

/// The months that are old enough at a day, and the first that is not, with the day from which it is.
pub fn divide(
    months: &[StoredMonth],
    today: Date,
    online_months: u32,
) -> (Vec<StoredMonth>, Option<(Month, Date)>) {
    let may_go_from = |month: Month| month.next().later(online_months).first_day();
    let (old, young): (Vec<StoredMonth>, Vec<StoredMonth>) =
        months.iter().partition(|stored| may_go_from(stored.month) <= today);
    let next = young.first().map(|stored| (stored.month, may_go_from(stored.month)));
    (old, next)
}

/// One run of the command.
pub struct Pruner {
    retention: Retention,
    exported: Result<Exported, Refusal>,
}

impl Pruner {
    /// Opens the exported log, as the configuration has it, by the word of these keys.
    pub async fn open(retention: Retention, config: &AuditConfig, trust: Trust) -> Result<Self, PruneFault> {
        let exported = match &config.export {
            None => Err(Refusal::NotExported),
            Some(export) => match Exported::open(&export.place, trust).await {
                Ok(exported) => Ok(exported),
                Err(Stop::Refused(refusal)) => Err(refusal),
                Err(Stop::Fault(fault)) => return Err(fault),
            },
        };
        Ok(Self { retention, exported })
    }

    /// Reads a month, in the database and in the files, entry by entry; `progress` hears how many are done, and of how many.
    pub async fn examine(
        &mut self,
        stored: StoredMonth,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Examined, PruneFault> {
        let month = stored.month;
        let holds = self.retention.holds().await?.into_iter().filter(|hold| hold.covers(month));
        let holds: Vec<_> = holds.map(|hold| (hold.id, hold.reason)).collect();
        if !holds.is_empty() {
            return Ok(Examined::Stays(None, Refusal::Held { holds }));
        }
        if !stored.is_whole {
            return Ok(Examined::Stays(None, Refusal::Incomplete));
        }
        let facts = self.retention.facts(month).await?;
        if facts.entries != facts.numbered {
            let entries = facts.entries.abs_diff(facts.numbered);
            return Ok(Examined::Stays(Some(facts), Refusal::Unnumbered { entries }));
        }
        match self.compare(month, facts, progress).await {
            Ok(record) => Ok(Examined::MayGo(record)),
            Err(Stop::Refused(refusal)) => Ok(Examined::Stays(Some(facts), refusal)),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    /// Every entry of the month is the one that was numbered, and the signed tree of the files has it at its place, in whole bundles.
    async fn compare(
        &mut self,
        month: Month,
        facts: MonthFacts,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<MonthRecord, Stop> {
        let exported = self.exported.as_mut().map_err(|refusal| Stop::Refused(refusal.clone()))?;
        let (mut from, mut done, mut tiles) = (facts.first, 0, Vec::new());
        let mut boundary = self.retention.boundary().await? / u64::from(FULL);
        while done < facts.entries {
            let batch = self.retention.entries(month, from, BATCH).await?;
            let is_last = batch.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            let tile_of = |entry: &MonthEntry| entry.number / u64::from(FULL);
            // The last of a full batch may go on in the next one.
            let open = batch.last().map(tile_of).filter(|_| !is_last);
            let runs = batch.chunk_by(|one, other| tile_of(one) == tile_of(other));
            let before = done;
            for run in runs.filter(|run| run.first().map(tile_of) != open) {
                let Some(tile) = run.first().map(tile_of) else { continue };
                let leaves = exported.bundle(tile).await?;
                same(run, &leaves)?;
                let count = u64::try_from(run.len()).unwrap_or(0);
                let has_others = count < u64::from(FULL) && self.retention.in_tile(tile).await? > count;
                if has_others {
                    tiles.push((tile, leaves));
                } else {
                    boundary = boundary.max(tile + 1);
                }
                done += count;
                from = (tile + 1) * u64::from(FULL);
                progress(done, facts.entries);
            }
            if done == before {
                return Err(Stop::Refused(Refusal::Changed));
            }
        }
        if done != facts.entries {
            return Err(Stop::Refused(Refusal::Changed));
        }
        let boundary = exported.before(boundary * u64::from(FULL)).await?;
        let (checkpoint_size, checkpoint_root) = exported.checkpoint();
        Ok(MonthRecord { month, facts, boundary, checkpoint_size, checkpoint_root, tiles })
    }

    /// Drops a month that may go, with its entry in the log. `Some`: it stays after all.
    pub async fn drop_month(
        &mut self,
        record: &MonthRecord,
        committer: &Committer,
    ) -> Result<Option<Refusal>, PruneFault> {
        let object = PrunedObject {
            month: record.month,
            by: self.retention.administrator().into(),
            first: record.facts.first,
            end: record.facts.end,
            entries: record.facts.entries,
            kept_from: record.boundary.size(),
            kept_root: *record.boundary.root().as_bytes(),
            checkpoint_size: record.checkpoint_size,
            checkpoint_root: *record.checkpoint_root.as_bytes(),
        };
        let draft = EntryDraft::of_service(Act::AuditPrune, Outcome::SUCCESS).pruned(object);
        let entry = committer.outbox_entry(&draft)?;
        let retention = &mut self.retention;
        let dropped = entry
            .commit_with(async |outbox| match retention.drop_month(record, outbox).await? {
                Dropped::Done => Ok(()),
                Dropped::Held => Err(Stop::Refused(Refusal::HeldMeanwhile)),
                Dropped::Changed => Err(Stop::Refused(Refusal::Changed)),
                Dropped::InUse => Err(Stop::Refused(Refusal::InUse)),
            })
            .await;
        match dropped {
            Ok(((), _receipt)) => Ok(None),
            Err(Stop::Refused(refusal)) => Ok(Some(refusal)),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }
}

/// Whether entries of one tile are those of its leaves in the files.
fn same(entries: &[MonthEntry], leaves: &[TreeHash]) -> Result<(), Stop> {
    for MonthEntry { number, leaf, entry } in entries {
        let place = usize::try_from(number % u64::from(FULL)).unwrap_or(usize::MAX);
        let is_it = entry.as_ref().is_some_and(|entry| TreeHash::of_leaf(entry) == *leaf);
        if !is_it || leaves.get(place) != Some(leaf) {
            return Err(Stop::Refused(Refusal::DatabaseDiffers { entry: *number }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_old_when_its_last_day_is() {
        let month = |text: &str| Month::parse(text).unwrap();
        let months = ["2025-08", "2025-09", "2025-10", "2025-11"];
        let months = months.map(|text| StoredMonth { month: month(text), is_whole: true });
        let old = |year, day_month, day| {
            let (old, next) = divide(&months, Date::constant(year, day_month, day), 12);
            (old.len(), next.map(|(month, from)| (month.to_string(), from.to_string())))
        };
        let next = |month: &str, from: &str| Some((month.to_owned(), from.to_owned()));
        assert_eq!(old(2026, 8, 31), (0, next("2025-08", "2026-09-01")));
        assert_eq!(old(2026, 9, 1), (1, next("2025-09", "2026-10-01")));
        assert_eq!(old(2026, 11, 26), (3, next("2025-11", "2026-12-01")));
        assert_eq!(old(2027, 1, 1), (4, None));
        assert_eq!(divide(&months, Date::constant(2027, 1, 1), 15).0.len(), 2);
    }

    #[test]
    fn an_entry_is_what_its_leaf_and_the_files_say() {
        let of = |number, bytes: &[u8], leaf: &[u8]| MonthEntry {
            number,
            leaf: TreeHash::of_leaf(leaf),
            entry: Some(bytes.to_vec()),
        };
        let leaves = [TreeHash::of_leaf(b"a"), TreeHash::of_leaf(b"b")];
        let differs = |entries: &[MonthEntry]| match same(entries, &leaves) {
            Err(Stop::Refused(Refusal::DatabaseDiffers { entry })) => Some(entry),
            _ => None,
        };
        assert_eq!(differs(&[of(256, b"a", b"a"), of(257, b"b", b"b")]), None);
        assert_eq!(differs(&[of(256, b"a", b"a"), of(257, b"x", b"b")]), Some(257), "other bytes");
        assert_eq!(differs(&[of(256, b"x", b"x")]), Some(256), "another leaf");
        assert_eq!(differs(&[of(257, b"a", b"a")]), Some(257), "another place");
        assert_eq!(differs(&[of(258, b"c", b"c")]), Some(258), "more than the files have");
        assert_eq!(differs(&[MonthEntry { entry: None, ..of(256, b"a", b"a") }]), Some(256), "gone");
    }
}
