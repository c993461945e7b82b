//! Why a month of the log stays, and what to do about it.

use jiff::civil::Date;
use uuid::Uuid;

use crate::domain::break_glass::Reference;

/// What was found. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is younger than audit.retention.online_months, until {from}")]
    TooYoung { from: Date },
    #[error("there is no such month, or it was dropped before")]
    Unknown,
    #[error("it is held: {}", listed(holds))]
    Held { holds: Vec<(Uuid, Reference)> },
    #[error("a hold was placed on it meanwhile")]
    HeldMeanwhile,
    #[error("entries of it are kept outside of the month's own tables")]
    Incomplete,
    #[error("{entries} entries of it have no number of their own")]
    Unnumbered { entries: u64 },
    #[error("the log is not exported")]
    NotExported,
    #[error("the exported log ends after {size} entries, and whole bundles up to {end} are needed")]
    ExportBehind { size: u64, end: u64 },
    #[error("the exported log's checkpoint is not to be believed: {why}")]
    ExportDistrusted { why: String },
    #[error("{path} of the exported log is missing, or is not what was signed")]
    ExportDiffers { path: String },
    #[error("entry {entry} in the database is not the one that was signed")]
    DatabaseDiffers { entry: u64 },
    #[error("entries came to it, or went, while it was read")]
    Changed,
    #[error("somebody reads or writes the log without a pause")]
    InUse,
}

impl Refusal {
    /// The part that programs act on; permanent once released.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooYoung { .. } => "month_too_young",
            Self::Unknown => "month_unknown",
            Self::Held { .. } | Self::HeldMeanwhile => "month_held",
            Self::Incomplete => "month_incomplete",
            Self::Unnumbered { .. } => "entries_unnumbered",
            Self::NotExported => "not_exported",
            Self::ExportBehind { .. } => "export_behind",
            Self::ExportDistrusted { .. } => "export_distrusted",
            Self::ExportDiffers { .. } => "export_differs",
            Self::DatabaseDiffers { .. } => "database_differs",
            Self::Changed => "month_changed",
            Self::InUse => "log_in_use",
        }
    }

    /// What to do next.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::TooYoung { .. } => "wait until then",
            Self::Unknown => "`--dry-run` without `--through` lists the months that are there",
            Self::Held { .. } | Self::HeldMeanwhile => {
                "leave it, or have the hold released (`strongroom audit hold release`)"
            }
            Self::Incomplete => {
                "log_month_missing was an alarm then; such a month stays for good, and those after it with it"
            }
            Self::Unnumbered { .. } => {
                "let the service run until /readyz has no alarm; if entries_changed is one, somebody put entries in around it"
            }
            Self::NotExported => "configure [audit.export], and let the service write the log there",
            Self::ExportBehind { .. } => "let the service run until the files have grown further",
            Self::ExportDistrusted { .. } => {
                "verify the files (`strongroom audit verify`) and find out who wrote this checkpoint"
            }
            Self::ExportDiffers { .. } => {
                "verify the files (`strongroom audit verify`), and bring them back from another copy"
            }
            Self::DatabaseDiffers { .. } => {
                "somebody changed the database: keep it as it is, verify the files, and investigate"
            }
            Self::Changed => "run it again; if it stays so, somebody puts entries in around the service",
            Self::InUse => "run it again at another hour",
        }
    }
}

fn listed(holds: &[(Uuid, Reference)]) -> String {
    let each: Vec<String> = holds.iter().map(|(id, reason)| format!("{id} ({})", reason.as_str())).collect();
    each.join(", ")
}
