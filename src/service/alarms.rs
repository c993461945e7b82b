//! What is wrong although no request is refused for it: kept with its time, and told by `/readyz`, the metrics, the
//! service's own log and the audit log.
//!
//! Not here: finding out (`jobs`), and parts that are down (`service::parts`).

use std::sync::{Mutex, PoisonError};

use super::Service;
use crate::audit::{Act, EntryDraft, Outcome};
use crate::domain::clock::Timestamp;
use crate::telemetry::metrics;

/// Each is on or off, for this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Entries are not numbered, or no checkpoint is signed.
    LogNotPublished,
    /// The log is not written as files.
    LogNotExported,
    /// What is stored of the log is not what a checkpoint of it says. Nothing is signed any more.
    LogChanged,
    /// The database has fewer entries than a checkpoint that was published. Nothing is signed any more.
    LogShrunk,
    /// A witness has not cosigned for some time.
    WitnessAbsent,
    /// A witness has forgotten a checkpoint that it cosigned: it was set back, and could be shown another log.
    WitnessForgot,
    /// Stored entries are not, or no longer, those that were numbered; the files have these.
    EntriesChanged,
    /// Records and the entries of their writes do not fit together: one of them was hidden, rolled back or forged.
    RecordsChanged,
    /// Entries that a process committed are missing or have their numbers as something else, or a chain is not what it signed.
    ChainsBroken,
    /// What is stored is not read again, or not in time.
    LogNotReviewed,
    /// The log has no place for entries of this month or the next: they are kept where they cannot be dropped by the month.
    LogMonthMissing,
    /// Roles, triggers, functions or settings of the data database are not what they were at the start.
    DatabaseChanged,
    /// A tenant key is to be replaced or destroyed, and that does not go on.
    RotationStalled,
}

impl Alarm {
    pub const ALL: [Self; 13] = [
        Self::LogNotPublished,
        Self::LogNotExported,
        Self::LogChanged,
        Self::LogShrunk,
        Self::WitnessAbsent,
        Self::WitnessForgot,
        Self::EntriesChanged,
        Self::RecordsChanged,
        Self::ChainsBroken,
        Self::LogNotReviewed,
        Self::LogMonthMissing,
        Self::DatabaseChanged,
        Self::RotationStalled,
    ];

    /// Permanent once released.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LogNotPublished => "log_not_published",
            Self::LogNotExported => "log_not_exported",
            Self::LogChanged => "log_changed",
            Self::LogShrunk => "log_shrunk",
            Self::WitnessAbsent => "witness_absent",
            Self::WitnessForgot => "witness_forgot",
            Self::EntriesChanged => "entries_changed",
            Self::RecordsChanged => "records_changed",
            Self::ChainsBroken => "chains_broken",
            Self::LogNotReviewed => "log_not_reviewed",
            Self::LogMonthMissing => "log_month_missing",
            Self::DatabaseChanged => "database_changed",
            Self::RotationStalled => "rotation_stalled",
        }
    }
}

/// An alarm that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub alarm: Alarm,
    pub since: Timestamp,
}

/// Since when each, in the order of [`Alarm::ALL`], has been on.
#[derive(Debug, Default)]
pub(super) struct Alarms(Mutex<[Option<Timestamp>; Alarm::ALL.len()]>);

impl Alarms {
    /// Whether this changed anything.
    fn set(&self, alarm: Alarm, since: Option<Timestamp>) -> bool {
        metrics::alarm(alarm.as_str(), since.is_some());
        // A panic elsewhere cannot leave the array half changed.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all.iter_mut().zip(Alarm::ALL).find(|(_, other)| *other == alarm);
        let Some((place, _)) = place.filter(|(place, _)| place.is_some() != since.is_some()) else {
            return false;
        };
        *place = since;
        true
    }

    fn on(&self) -> Vec<Raised> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let raised = all.iter().zip(Alarm::ALL);
        raised.filter_map(|(since, alarm)| since.map(|since| Raised { alarm, since })).collect()
    }
}

impl Service {
    /// Turns an alarm on. The first time it is told everywhere; that the log cannot take it holds nothing up.
    pub async fn raise(&self, alarm: Alarm) {
        if self.alarms.set(alarm, Some(self.clock.now())) {
            tracing::error!(alarm = alarm.as_str(), "alarm.begin");
            self.note(EntryDraft::of_service(Act::AlarmBegin, Outcome::failed(alarm.as_str()))).await;
        }
    }

    /// Turns it off, where it is on.
    pub async fn clear(&self, alarm: Alarm) {
        if self.alarms.set(alarm, None) {
            tracing::warn!(alarm = alarm.as_str(), "alarm.end");
            self.note(EntryDraft::of_service(Act::AlarmEnd, Outcome::success_as(alarm.as_str()))).await;
        }
    }

    /// Turns it on or off.
    pub async fn alarm_if(&self, is_so: bool, alarm: Alarm) {
        if is_so {
            self.raise(alarm).await;
        } else {
            self.clear(alarm).await;
        }
    }

    /// Refuses reads and writes, or no longer, because what they leave is not published in time.
    pub fn hold(&self, is_log_late: bool) {
        self.gate.hold(is_log_late);
    }

    /// Those that are on.
    pub fn alarms(&self) -> Vec<Raised> {
        self.alarms.on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_keeps_the_time_at_which_it_began() {
        let alarms = Alarms::default();
        let at = |micros| Some(Timestamp::from_micros(micros));
        assert!(!alarms.set(Alarm::LogChanged, None));
        assert!(alarms.set(Alarm::LogChanged, at(1)));
        assert!(!alarms.set(Alarm::LogChanged, at(2)));
        assert!(alarms.set(Alarm::LogNotExported, at(3)));
        let raised = |alarm, micros| Raised { alarm, since: Timestamp::from_micros(micros) };
        assert_eq!(alarms.on(), [raised(Alarm::LogNotExported, 3), raised(Alarm::LogChanged, 1)]);
        assert!(alarms.set(Alarm::LogChanged, None));
        assert_eq!(alarms.on(), [raised(Alarm::LogNotExported, 3)]);
    }
}
