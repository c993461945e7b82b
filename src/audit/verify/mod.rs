//! Verifying a log from its files and public keys alone, as somebody who trusts neither the service nor its database.
//!
//! What holds, when [`Verification::run`] finds nothing: the newest checkpoint is signed by the log and seen by enough
//! witnesses; every entry up to it is there, is what `audit/entry.schema.json` says, and is the one that every checkpoint
//! ever kept was signed over; every tile is made of them; every process's chain is whole; no id stands twice.
//!
//! What it cannot show: that the newest checkpoint is the newest there was (a witness or `--from` can), and that what was
//! never logged did not happen.
//!
//! Order of blame: the signed root vouches for the tiles from the top down, these for the entries' hashes, and these for
//! the entries. Where that line is broken, the tree is made from the entries and from the tiles, and the signed root says
//! which of them is right.

mod chains;
mod duplicates;
mod examine;
mod expire;
mod files;
mod finding;
mod form;
mod form_fault;
mod heads;
mod pattern;
mod prove;
mod scan;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod upper;
mod walk;
mod watch;

use std::path::Path;

use uuid::Uuid;

use super::checkpoint::{Trust, TrustFault};
use super::tiles::FULL;
use super::tree::TreeHash;
use crate::domain::clock::Timestamp;
use examine::Context;
use files::Files;
use finding::Findings;
use heads::{Heads, Judge};
use upper::Upper;

pub use expire::{Expiry, RemoveFault};
pub use files::ReadFault;
pub use finding::{Change, Finding};
pub use form::EntryReader;
pub use form_fault::FormFault;
pub use prove::{EntryName, ProveFault, ProvenEntry, prove};
pub use scan::Scan;
pub use watch::ChainWatch;

/// Why a log could not be verified. Nothing is known of it then.
#[derive(Debug, thiserror::Error)]
pub enum VerifyFault {
    #[error(transparent)]
    Read(#[from] ReadFault),
    #[error(transparent)]
    Trust(#[from] TrustFault),
    #[error("the known checkpoint is not to be believed: {0}")]
    Known(String),
    #[error("the form of entries in audit/entry.schema.json cannot be used")]
    Schema,
}

/// What to verify, and by whose word.
pub struct Verification<'a> {
    pub log: &'a Path,
    pub trust: &'a Trust,
    /// Cosignatures that every checkpoint must have, besides the policy's quorum.
    pub witnesses: usize,
    /// The bytes of a checkpoint that was verified before: entries up to it are not read again.
    pub from: Option<&'a [u8]>,
    /// How long entries are kept: the first ones may be missing where what follows them is from before this time.
    pub kept_from: Timestamp,
    pub threads: usize,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    pub origin: String,
    /// Entries of the newest checkpoint that can be believed, and its root.
    pub size: u64,
    pub root: TreeHash,
    /// Witnesses that have seen it, and when (seconds since the epoch).
    pub witnesses: Vec<(String, u64)>,
    /// The first entry that was read.
    pub start: u64,
    pub entries: u64,
    pub checkpoints: u64,
    pub chains: usize,
    /// Of these, how many ended in order; the others' processes run, or were killed.
    pub chains_ended: usize,
    /// The first thousand, and how many there are.
    pub findings: Vec<Finding>,
    pub findings_total: u64,
    pub notes: Vec<Note>,
}

/// What an auditor should know of a log that holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    #[error("files reach to {reach} entries, beyond the newest checkpoint: written, and not yet signed")]
    Unsigned { reach: u64 },
    #[error("entries 0 to {last} are gone, which is right: what follows them is older than entries are kept")]
    Expired { last: u64 },
    #[error("{count} files are not of the log, one of them {path}")]
    Strays { count: usize, path: String },
    #[error("chain {chain} was left because it held what its process had not written (entry {entry})")]
    ChainLeft { chain: Uuid, entry: u64 },
}

impl Report {
    pub const fn holds(&self) -> bool {
        self.findings_total == 0
    }
}

impl Verification<'_> {
    /// Reads everything; `progress` hears how many entries are done, and of how many.
    pub fn run(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, VerifyFault> {
        let reader = EntryReader::new().ok_or(VerifyFault::Schema)?;
        let files = Files::open(self.log)?;
        let judge = Judge { trust: self.trust, witnesses: self.witnesses };
        let mut findings = Findings::default();
        let threads = self.threads.max(1);
        let mut heads = Heads::read(&files, &judge, threads, &mut findings)?;
        let mut start = 0;
        if let Some(bytes) = self.from {
            let known = judge.known(bytes).map_err(VerifyFault::Known)?;
            heads.expect(&known, &mut findings);
            start = known.size / u64::from(FULL) * u64::from(FULL);
        }
        let Some(newest) = heads.newest.clone() else { return Ok(Report::of_nothing(findings)) };
        let listing = files.listing()?;
        // Its bundle is compared with the signed tree below, so that it must be of that.
        let is_signed = |first: &u64| first.saturating_add(u64::from(FULL)) <= newest.size;
        let kept = expire::kept(&files, &listing, &reader, self.kept_from)?.filter(is_signed);
        start = start.max(kept.unwrap_or(0));
        let upper = Upper::read(&files, &newest, start, &mut findings)?;
        let context = Context {
            files: &files,
            listing: &listing,
            upper: &upper,
            reader: &reader,
            logs: self.trust.logs(),
            size: newest.size,
        };
        let total = newest.size.saturating_sub(start);
        let mut progress = |done| progress(done, total);
        let walked = walk::walk(&context, &heads, start, threads, &mut findings, &mut progress)?;
        context.compare_upper_partial(&mut findings)?;
        let mut notes: Vec<Note> =
            walked.chains.left().map(|(chain, entry)| Note::ChainLeft { chain, entry }).collect();
        notes.extend(kept.map(|first| Note::Expired { last: first.saturating_sub(1) }));
        notes.extend(listing.notes(newest.size));
        let (findings, findings_total) = findings.finish();
        Ok(Report {
            origin: newest.origin,
            size: newest.size,
            root: newest.root,
            witnesses: newest.endorsement.witnesses,
            start,
            entries: walked.entries,
            checkpoints: heads.count,
            chains: walked.chains.count(),
            chains_ended: walked.chains.count_ended(),
            findings,
            findings_total,
            notes,
        })
    }
}

impl Report {
    fn of_nothing(findings: Findings) -> Self {
        let (findings, findings_total) = findings.finish();
        Self {
            origin: String::new(),
            size: 0,
            root: TreeHash::of_nothing(),
            witnesses: Vec::new(),
            start: 0,
            entries: 0,
            checkpoints: 0,
            chains: 0,
            chains_ended: 0,
            findings,
            findings_total,
            notes: Vec::new(),
        }
    }
}
