//! Following chains while the log grows: what [`super::Verification`] says of chains at the end, as soon as it can be seen.

use std::sync::LazyLock;

use ring::digest::{SHA256, digest};

use super::chains::{Chains, Ended, Link};
use super::finding::{Finding, Findings};
use super::form::EntryReader;
use super::shape::Shapes;
use crate::audit::checkpoint::VerifierKey;

/// Lengths of entries whose shapes are kept: with up to eight shapes each, of some kilobytes, a megabyte.
const MOST_LENGTHS: usize = 32;

/// One for every watch, so that shapes may outlive any of them.
static READER: LazyLock<Option<EntryReader>> = LazyLock::new(EntryReader::new);

/// Hears every entry once, in order.
pub struct ChainWatch {
    reader: &'static EntryReader,
    shapes: Shapes<'static>,
    chains: Chains,
    findings: Findings,
    next: u64,
}

impl ChainWatch {
    /// Of entries from `start` on, whose keys one of the log's attests. `None` as [`EntryReader::new`].
    pub fn new(start: u64, logs: &[VerifierKey]) -> Option<Self> {
        let mut chains = Chains::new(start, logs);
        if start > 0 {
            chains.expect_keys();
        }
        let (reader, shapes) = (READER.as_ref()?, Shapes::of_lengths(MOST_LENGTHS));
        Some(Self { reader, shapes, chains, findings: Findings::default(), next: start })
    }

    /// The entry that should come now.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// An entry with its number. Of entries that were left out nothing is said.
    pub fn hear(&mut self, entry: u64, bytes: &[u8]) {
        if entry > self.next {
            self.chains.skip(entry - 1);
        }
        self.next = entry + 1;
        match self.reader.read_like(&mut self.shapes, bytes) {
            Ok(facts) => {
                if let Some(facts) = facts.chain {
                    let mut sha256 = [0; 32];
                    sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
                    self.chains.follow(Link { entry, facts, sha256 }, &mut self.findings);
                }
                if let Some((chain, number, sha256)) = facts.ended {
                    self.chains.end(Ended { entry, chain, number, sha256 });
                }
            }
            Err(why) => {
                self.findings.add(Finding::Form { entry, why });
                self.chains.skip(entry);
            }
        }
    }

    /// What does not hold of what was heard since the last time.
    pub fn settle(&mut self) -> Vec<Finding> {
        self.chains.settle(&mut self.findings);
        self.chains.find_cut(self.next, &mut self.findings);
        self.chains.forget_listed();
        std::mem::take(&mut self.findings).finish().0
    }
}
