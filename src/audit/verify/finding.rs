//! What does not hold, each by its place.

use std::fmt;
use std::ops::RangeInclusive;

use uuid::Uuid;

use super::form_fault::FormFault;
use crate::audit::checkpoint::Distrust;

/// How entries differ from the hashes that the tree has for their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are other bytes.
    Changed,
    /// They belong one place further on: one before them is gone.
    Early,
    /// They belong one place before: something was put in before them.
    Late,
    /// They belong to other places of the same bundle.
    Moved,
}

/// One thing that does not hold. `kind` in the JSON report is [`Finding::kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// There is nothing signed that the log could be held against.
    NothingSigned,
    /// A checkpoint cannot be read.
    CheckpointMalformed {
        path: String,
        why: String,
    },
    /// A checkpoint is not to be believed.
    CheckpointDistrusted {
        path: String,
        why: Distrust,
    },
    /// Too few known witnesses have seen a checkpoint.
    CosignaturesMissing {
        path: String,
        size: u64,
        has: usize,
    },
    /// A checkpoint of another log.
    OtherOrigin {
        path: String,
    },
    /// A signed checkpoint has another root than the tree has at its size: the log was forked or changed.
    Forked {
        path: String,
        size: u64,
    },
    /// Checkpoints that go further are kept beside the newest one.
    RolledBack {
        newest: u64,
        kept: u64,
    },
    /// The log ends before a checkpoint that was known.
    Shrunk {
        size: u64,
        known: u64,
    },
    /// Entries are other than the tree's.
    Entries {
        places: RangeInclusive<u64>,
        change: Change,
    },
    /// Entries and their hashes fit each other and not the tree.
    EntriesAndTile {
        tile: String,
        places: RangeInclusive<u64>,
    },
    /// Entries are not there.
    Missing {
        places: RangeInclusive<u64>,
    },
    /// The file of entries is cut, or longer than it should be.
    BundleMalformed {
        path: String,
        why: String,
    },
    TileMissing {
        path: String,
    },
    TileMalformed {
        path: String,
        why: String,
    },
    /// A tile does not fit the tree.
    TileChanged {
        path: String,
    },
    /// A partial tile or bundle is not the beginning of the full one.
    PartialChanged {
        path: String,
    },
    /// An entry of the tree is not what the service writes.
    Form {
        entry: u64,
        why: FormFault,
    },
    /// Two entries have one id.
    Duplicate {
        id: Uuid,
        entries: Vec<u64>,
    },
    /// Numbers of a process's chain are missing before an entry, or where none is named, at its end.
    ChainGap {
        chain: Uuid,
        numbers: RangeInclusive<u64>,
        entry: Option<u64>,
    },
    /// A number of a chain stands twice, or behind a later one.
    ChainFork {
        chain: Uuid,
        number: u64,
        entry: u64,
    },
    /// An entry does not name the one before it in its chain.
    ChainBroken {
        chain: Uuid,
        number: u64,
        entry: u64,
    },
    /// What a chain has from the last sound flush on is not what its process signed.
    ChainForged {
        chain: Uuid,
        entry: u64,
    },
    /// Something was done for a client in a chain whose key nobody attested.
    ChainUnattested {
        chain: Uuid,
        entry: u64,
    },
    /// The log has gone on long since, and a chain ends with an entry whose flush is not signed: its end was cut off.
    ChainCut {
        chain: Uuid,
        entry: u64,
    },
    /// A process signed that it saw a write committed, and the write is not in the log.
    WriteMissing {
        entry: u64,
    },
    /// A chain goes on after it was left.
    ChainPastEnd {
        chain: Uuid,
        left: u64,
        last: u64,
        entry: u64,
    },
}

impl Finding {
    /// A stable word for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NothingSigned => "nothing_signed",
            Self::CheckpointMalformed { .. } => "checkpoint_malformed",
            Self::CheckpointDistrusted { .. } => "checkpoint_distrusted",
            Self::CosignaturesMissing { .. } => "cosignatures_missing",
            Self::OtherOrigin { .. } => "other_origin",
            Self::Forked { .. } => "forked",
            Self::RolledBack { .. } => "rolled_back",
            Self::Shrunk { .. } => "shrunk",
            Self::Entries { change, .. } => match change {
                Change::Changed => "entries_changed",
                Change::Early => "entries_early",
                Change::Late => "entries_late",
                Change::Moved => "entries_moved",
            },
            Self::EntriesAndTile { .. } => "entries_and_tile_changed",
            Self::Missing { .. } => "entries_missing",
            Self::BundleMalformed { .. } => "bundle_malformed",
            Self::TileMissing { .. } => "tile_missing",
            Self::TileMalformed { .. } => "tile_malformed",
            Self::TileChanged { .. } => "tile_changed",
            Self::PartialChanged { .. } => "partial_changed",
            Self::Form { .. } => "form",
            Self::Duplicate { .. } => "duplicate",
            Self::ChainGap { .. } => "chain_gap",
            Self::ChainFork { .. } => "chain_fork",
            Self::ChainBroken { .. } => "chain_broken",
            Self::ChainPastEnd { .. } => "chain_past_end",
            Self::ChainForged { .. } => "chain_forged",
            Self::ChainUnattested { .. } => "chain_unattested",
            Self::ChainCut { .. } => "chain_cut",
            Self::WriteMissing { .. } => "write_missing",
        }
    }

    /// It is about what one process wrote.
    pub const fn is_of_a_chain(&self) -> bool {
        matches!(
            self,
            Self::ChainGap { .. }
                | Self::ChainFork { .. }
                | Self::ChainBroken { .. }
                | Self::ChainPastEnd { .. }
                | Self::ChainForged { .. }
                | Self::ChainUnattested { .. }
                | Self::ChainCut { .. }
        )
    }

    /// The entries it is about, where it is about entries.
    pub fn entries(&self) -> Option<RangeInclusive<u64>> {
        match self {
            Self::Entries { places, .. } | Self::EntriesAndTile { places, .. } | Self::Missing { places } => {
                Some(places.clone())
            }
            Self::Form { entry, .. }
            | Self::ChainFork { entry, .. }
            | Self::ChainBroken { entry, .. }
            | Self::ChainForged { entry, .. }
            | Self::ChainUnattested { entry, .. }
            | Self::ChainCut { entry, .. }
            | Self::WriteMissing { entry }
            | Self::ChainPastEnd { entry, .. } => Some(*entry..=*entry),
            Self::ChainGap { entry, .. } => entry.map(|entry| entry..=entry),
            Self::Duplicate { entries, .. } => Some(*entries.first()?..=*entries.last()?),
            _ => None,
        }
    }

    /// The file it is about, where it is about one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::CheckpointMalformed { path, .. }
            | Self::CheckpointDistrusted { path, .. }
            | Self::CosignaturesMissing { path, .. }
            | Self::OtherOrigin { path }
            | Self::Forked { path, .. }
            | Self::BundleMalformed { path, .. }
            | Self::TileMissing { path }
            | Self::TileMalformed { path, .. }
            | Self::TileChanged { path }
            | Self::PartialChanged { path }
            | Self::EntriesAndTile { tile: path, .. } => Some(path),
            _ => None,
        }
    }

    /// Joins this with the finding before it where both say the same of neighbouring entries.
    fn continues(&self, last: &mut Self) -> bool {
        let join = |last: &mut RangeInclusive<u64>, next: &RangeInclusive<u64>| {
            let is_next = last.end().checked_add(1) == Some(*next.start());
            if is_next {
                *last = *last.start()..=*next.end();
            }
            is_next
        };
        match (last, self) {
            (Self::Entries { places, change }, Self::Entries { places: next, change: same }) => {
                change == same && join(places, next)
            }
            (Self::Missing { places }, Self::Missing { places: next }) => join(places, next),
            _ => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingSigned => f.write_str("no checkpoint is signed by a known key of the log"),
            Self::CheckpointMalformed { path, why } => write!(f, "{path}: {why}"),
            Self::CheckpointDistrusted { path, why } => write!(f, "{path}: {why}"),
            Self::CosignaturesMissing { path, size, has } => {
                write!(
                    f,
                    "{path}: {has} known witnesses have seen the log at {size} entries, which is too few"
                )
            }
            Self::OtherOrigin { path } => write!(f, "{path}: a checkpoint of another log"),
            Self::Forked { path, size } => {
                write!(f, "{path}: signed for another log of {size} entries than this one")
            }
            Self::RolledBack { newest, kept } => {
                write!(f, "checkpoint: says {newest} entries, but a checkpoint of {kept} was published")
            }
            Self::Shrunk { size, known } => write!(f, "the log has {size} entries, and {known} were known"),
            Self::Entries { places, change } => {
                let what = match change {
                    Change::Changed => "not what the tree has there",
                    Change::Early => "one place early: an entry before is gone",
                    Change::Late => "one place late: something was put in before",
                    Change::Moved => "at another place than in the tree",
                };
                write!(f, "{}: {what}", Places(places))
            }
            Self::EntriesAndTile { tile, places } => {
                write!(f, "{tile}: changed together with its entries, some of {}", Places(places))
            }
            Self::Missing { places } => write!(f, "{}: missing", Places(places)),
            Self::TileMissing { path } => write!(f, "{path}: missing"),
            Self::BundleMalformed { path, why } | Self::TileMalformed { path, why } => {
                write!(f, "{path}: {why}")
            }
            Self::TileChanged { path } => write!(f, "{path}: other hashes than the tree's"),
            Self::PartialChanged { path } => write!(f, "{path}: not the beginning of what came after it"),
            Self::Form { entry, why } => write!(f, "entry {entry}: {why}"),
            Self::Duplicate { id, entries } => {
                let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
                write!(f, "entries {}: all have the id {id}", entries.join(", "))
            }
            _ => self.fmt_chain(f),
        }
    }
}

impl Finding {
    fn fmt_chain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChainGap { chain, numbers, entry } => {
                write!(f, "chain {chain}: {} to {} are missing", numbers.start(), numbers.end())?;
                entry.map_or(Ok(()), |entry| write!(f, " before entry {entry}"))
            }
            Self::ChainFork { chain, number, entry } => {
                write!(f, "chain {chain}: entry {entry} has the number {number}, and the chain was past that")
            }
            Self::ChainBroken { chain, number, entry } => {
                write!(f, "chain {chain}: entry {entry}, number {number}, does not follow the one before it")
            }
            Self::ChainPastEnd { chain, left, last, entry } => {
                write!(
                    f,
                    "chain {chain}: goes on to {last}, and entry {entry} says that it was left at {left}"
                )
            }
            Self::ChainForged { chain, entry } => {
                write!(f, "chain {chain}: what it has up to entry {entry} is not what its process signed")
            }
            Self::ChainUnattested { chain, entry } => {
                write!(
                    f,
                    "chain {chain}: entry {entry} is of a process whose key the log's key does not attest"
                )
            }
            Self::ChainCut { chain, entry } => {
                write!(f, "chain {chain}: cut off behind entry {entry}, within a flush")
            }
            Self::WriteMissing { entry } => {
                write!(f, "entry {entry}: lists a write as committed that is not in the log")
            }
            _ => Ok(()),
        }
    }
}

struct Places<'a>(&'a RangeInclusive<u64>);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.start() == self.0.end() {
            write!(f, "entry {}", self.0.start())
        } else {
            write!(f, "entries {} to {}", self.0.start(), self.0.end())
        }
    }
}

/// Findings in the order in which they were made; of a log that is wrong everywhere, the first.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    /// The newest, which the next may continue.
    last: Option<Finding>,
    total: u64,
}

impl Findings {
    const MOST: usize = 1_000;

    pub fn add(&mut self, finding: Finding) {
        if self.last.as_mut().is_some_and(|last| finding.continues(last)) {
            return;
        }
        self.total += 1;
        self.keep(Some(finding));
    }

    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }

    fn keep(&mut self, next: Option<Finding>) {
        let last = std::mem::replace(&mut self.last, next);
        self.kept.extend(last.filter(|_| self.kept.len() < Self::MOST));
    }

    /// The kept ones, and how many there are in all.
    pub fn finish(mut self) -> (Vec<Finding>, u64) {
        self.keep(None);
        (self.kept, self.total)
    }
}
