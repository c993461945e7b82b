//! Chains of processes: `seq` without gaps, `prev` the SHA-256 of the entry before, and the last entry of each flush signed by
//! a key that the log's key attests (see `audit::committer`).
//!
//! The sequencer keeps the entries of a chain in their order, so each is followed as it comes. A signature covers all of its
//! chain up to there, so that of a whole chain only the newest is checked.

use std::collections::HashMap;

use uuid::Uuid;

use super::finding::{Finding, Findings};
use super::form::{ChainFacts, FlushFacts};
use crate::audit::checkpoint::VerifierKey;
use crate::audit::instance::{is_attested, is_signed, key_id};

/// A flush is numbered in steps that are smaller: so far behind the end of the log it is there as a whole.
const LONGEST_FLUSH: u64 = 4_096;
/// Before a known checkpoint may lie the write that an entry soon after it lists.
const LISTED_WITHIN: u64 = 65_536;

/// An entry's place in its chain, and the digest that the next one names.
pub(super) struct Link {
    pub entry: u64,
    pub facts: ChainFacts,
    pub sha256: [u8; 32],
}

/// A chain that was left for a new one, as a `chain.restart` says.
pub(super) struct Ended {
    pub entry: u64,
    pub chain: u128,
    pub number: u64,
    pub sha256: Option<[u8; 32]>,
}

struct Tip {
    entry: u64,
    number: u64,
    sha256: [u8; 32],
    /// The chain's first entry, where that was read.
    first: Option<u64>,
    /// The key that the log's key attests.
    key: Option<[u8; 32]>,
    /// The newest flush, whose signature was not checked yet.
    flush: Option<(u64, Box<FlushFacts>)>,
    /// The newest entry is of a flush whose end was not seen.
    is_within_flush: bool,
    /// Where a `chain.end` stands, and its number.
    end: Option<(u64, u64)>,
    is_accused: bool,
    is_cut: bool,
}

/// All chains met so far.
pub(super) struct Chains {
    /// Who may attest keys.
    logs: Vec<VerifierKey>,
    start: u64,
    tips: HashMap<u128, Tip>,
    ended: Vec<Ended>,
    /// The newest entry that could not be read: what a chain had up to there is not known.
    hole: Option<u64>,
    /// The first entry that attests a key: chains that begin later have one.
    first_attested: Option<u64>,
    /// Writes that signed flushes list, folded, with the entry that does.
    listed: Vec<(u64, u64)>,
}

impl Chains {
    /// Of a log that is read from its first entry, or from `start`.
    pub fn new(start: u64, logs: &[VerifierKey]) -> Self {
        Self {
            logs: logs.to_vec(),
            start,
            tips: HashMap::new(),
            ended: Vec::new(),
            hole: start.checked_sub(1),
            first_attested: None,
            listed: Vec::new(),
        }
    }

    /// An entry is missing or not the tree's. That is a finding of its own, and not one more for each chain.
    pub fn skip(&mut self, entry: u64) {
        self.hole = self.hole.max(Some(entry));
    }

    pub fn count(&self) -> usize {
        self.tips.len()
    }

    /// Chains that ended in order, by their processes' word.
    pub fn count_ended(&self) -> usize {
        self.tips.values().filter(|tip| tip.end.is_some()).count()
    }

    pub fn follow(&mut self, link: Link, findings: &mut Findings) {
        let ChainFacts { source, number, previous, .. } = link.facts;
        let chain = Uuid::from_u128(source);
        let Some(tip) = self.tips.get_mut(&source) else {
            if number > 1 && self.hole.is_none() {
                findings.add(Finding::ChainGap { chain, numbers: 1..=number - 1, entry: Some(link.entry) });
            }
            self.tips.insert(source, Tip::begin(&link));
            return self.look_at(link, findings);
        };
        if number <= tip.number {
            findings.add(Finding::ChainFork { chain, number, entry: link.entry });
            return;
        }
        if number > tip.number + 1 {
            if self.hole.is_none_or(|hole| hole < tip.entry) {
                let numbers = tip.number + 1..=number - 1;
                findings.add(Finding::ChainGap { chain, numbers, entry: Some(link.entry) });
            }
            // What comes covers nothing before the gap.
            tip.settle(chain, findings);
        } else if previous != Some(tip.sha256) {
            findings.add(Finding::ChainBroken { chain, number, entry: link.entry });
            tip.settle(chain, findings);
        }
        (tip.entry, tip.number, tip.sha256) = (link.entry, number, link.sha256);
        self.look_at(link, findings);
    }

    /// What the newest entry of its chain says of keys and signatures.
    fn look_at(&mut self, link: Link, findings: &mut Findings) {
        let Link { entry, facts, .. } = link;
        let (chain, number) = (Uuid::from_u128(facts.source), facts.number);
        let Some(tip) = self.tips.get_mut(&facts.source) else { return };
        if let Some((at, left)) = tip.end {
            findings.add(Finding::ChainPastEnd { chain, left, last: number, entry: at });
        }
        tip.end = facts.is_end.then_some((entry, number));
        if let Some(attested) = facts.attested {
            let (public, attestation) = *attested;
            if is_attested(&self.logs, &public, &attestation) {
                tip.key = Some(public);
                self.first_attested.get_or_insert(entry);
            } else {
                tip.accuse(chain, entry, findings);
            }
        }
        if facts.is_success && tip.key.is_none() {
            // Before the first attested key, and of chains whose beginning was not read, nothing is known.
            let is_late = self.first_attested.zip(tip.first).is_some_and(|(first, own)| first < own);
            if is_late {
                tip.accuse(chain, entry, findings);
            }
        }
        tip.is_within_flush = facts.flush.is_none();
        if let Some(flush) = facts.flush {
            if tip.key.is_some() {
                self.listed.extend(flush.writes.iter().map(|write| (*write, entry)));
            }
            tip.flush = Some((entry, flush));
        }
    }

    /// Checks the newest signature of every chain that has one, as far as its key is known.
    pub fn settle(&mut self, findings: &mut Findings) {
        let mut tips: Vec<_> = self.tips.iter_mut().collect();
        tips.sort_unstable_by_key(|(_, tip)| tip.entry);
        for (source, tip) in tips {
            tip.settle(Uuid::from_u128(*source), findings);
        }
    }

    /// A `chain.restart` may stand before the end of the chain it speaks of.
    pub fn end(&mut self, ended: Ended) {
        self.ended.push(ended);
    }

    /// Whether signatures hold, and the chains of a log of so many entries end where it was said.
    pub fn finish(&mut self, size: u64, findings: &mut Findings) {
        self.settle(findings);
        self.find_cut(size, findings);
        for ended in &self.ended {
            let chain = Uuid::from_u128(ended.chain);
            let tip = self.tips.get(&ended.chain);
            let last = tip.map_or(0, |tip| tip.number);
            let is_known = self.hole.is_none_or(|hole| tip.is_some_and(|tip| hole < tip.entry));
            if last > ended.number {
                let (left, entry) = (ended.number, ended.entry);
                findings.add(Finding::ChainPastEnd { chain, left, last, entry });
            } else if last < ended.number && is_known {
                findings.add(Finding::ChainGap { chain, numbers: last + 1..=ended.number, entry: None });
            } else if tip.is_some_and(|tip| tip.number == ended.number && ended.sha256 != Some(tip.sha256)) {
                findings.add(Finding::ChainBroken { chain, number: ended.number, entry: ended.entry });
            }
        }
    }

    /// Chains that end within a flush although the log of so many entries has gone on for long: each is found once.
    pub fn find_cut(&mut self, size: u64, findings: &mut Findings) {
        let hole = self.hole;
        let is_cut = |tip: &Tip| {
            tip.key.is_some()
                && tip.is_within_flush
                && size.saturating_sub(tip.entry) > LONGEST_FLUSH
                && hole.is_none_or(|hole| hole < tip.entry)
        };
        let mut cut = Vec::new();
        for (source, tip) in self.tips.iter_mut().filter(|(_, tip)| is_cut(tip)) {
            if !std::mem::replace(&mut tip.is_cut, true) {
                cut.push((tip.entry, Uuid::from_u128(*source)));
            }
        }
        cut.sort_unstable();
        findings.extend(cut.into_iter().map(|(entry, chain)| Finding::ChainCut { chain, entry }));
    }

    /// Writes that must be in the log by now; none where something of it could not be read.
    pub fn listed(&self) -> impl Iterator<Item = (u64, u64)> {
        let is_whole = self.hole.is_none_or(|hole| hole < self.start);
        let from = if self.start == 0 { 0 } else { self.start.saturating_add(LISTED_WITHIN) };
        self.listed.iter().copied().filter(move |(_, entry)| is_whole && *entry >= from)
    }

    /// Of a log whose processes have keys: chains that begin from here on have one as well.
    pub fn expect_keys(&mut self) {
        self.first_attested = Some(0);
    }

    /// Where nobody will ask for them.
    pub fn forget_listed(&mut self) {
        self.listed.clear();
    }

    /// Chains that were left because they held what their process had not written.
    pub fn left(&self) -> impl Iterator<Item = (Uuid, u64)> {
        self.ended.iter().map(|ended| (Uuid::from_u128(ended.chain), ended.entry))
    }
}

impl Tip {
    fn begin(link: &Link) -> Self {
        Self {
            entry: link.entry,
            number: link.facts.number,
            sha256: link.sha256,
            first: (link.facts.number == 1).then_some(link.entry),
            key: None,
            flush: None,
            is_within_flush: false,
            end: None,
            is_accused: false,
            is_cut: false,
        }
    }

    fn settle(&mut self, chain: Uuid, findings: &mut Findings) {
        let (Some(key), Some((entry, flush))) = (self.key, self.flush.take()) else { return };
        if flush.key != key_id(&key) || !is_signed(&key, &flush.unsigned_sha256, &flush.signature) {
            findings.add(Finding::ChainForged { chain, entry });
        }
    }

    fn accuse(&mut self, chain: Uuid, entry: u64, findings: &mut Findings) {
        if !std::mem::replace(&mut self.is_accused, true) {
            findings.add(Finding::ChainUnattested { chain, entry });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(entry: u64, number: u64, previous: Option<u8>, own: u8) -> Link {
        let previous = previous.map(|byte| [byte; 32]);
        let facts = ChainFacts { source: 5, number, previous, ..ChainFacts::default() };
        Link { entry, facts, sha256: [own; 32] }
    }

    fn found(start: u64, links: impl Into<Vec<Link>>, ended: Option<Ended>) -> Vec<Finding> {
        let (mut chains, mut findings) = (Chains::new(start, &[]), Findings::default());
        for link in links.into() {
            chains.follow(link, &mut findings);
        }
        if let Some(ended) = ended {
            chains.end(ended);
        }
        chains.finish(9, &mut findings);
        findings.finish().0
    }

    const CHAIN: Uuid = Uuid::from_u128(5);

    #[test]
    fn gaps_forks_and_broken_links_are_told_apart() {
        let whole = || vec![link(0, 1, None, 1), link(4, 2, Some(1), 2), link(5, 3, Some(2), 3)];
        assert_eq!(found(0, whole(), None), []);
        let gap = [link(0, 1, None, 1), link(5, 3, Some(2), 3)];
        assert_eq!(found(0, gap, None), [Finding::ChainGap { chain: CHAIN, numbers: 2..=2, entry: Some(5) }]);
        let fork =
            [link(0, 1, None, 1), link(4, 2, Some(1), 2), link(6, 2, Some(1), 9), link(7, 3, Some(2), 3)];
        assert_eq!(found(0, fork, None), [Finding::ChainFork { chain: CHAIN, number: 2, entry: 6 }]);
        let broken = [link(0, 1, None, 1), link(4, 2, Some(7), 2), link(5, 3, Some(2), 3)];
        assert_eq!(found(0, broken, None), [Finding::ChainBroken { chain: CHAIN, number: 2, entry: 4 }]);
        let late = || [link(9, 7, Some(1), 1), link(10, 8, Some(1), 2)];
        assert_eq!(
            found(0, late(), None),
            [Finding::ChainGap { chain: CHAIN, numbers: 1..=6, entry: Some(9) }]
        );
        assert_eq!(found(9, late(), None), [], "its beginning lies before the known checkpoint");
    }

    #[test]
    fn what_could_not_be_read_is_no_gap_as_well() {
        let (mut chains, mut findings) = (Chains::new(0, &[]), Findings::default());
        chains.follow(link(0, 1, None, 1), &mut findings);
        chains.skip(3);
        chains.follow(link(5, 3, Some(2), 3), &mut findings);
        chains.follow(link(6, 5, Some(4), 5), &mut findings);
        assert_eq!(findings.finish().0, [Finding::ChainGap { chain: CHAIN, numbers: 4..=4, entry: Some(6) }]);
    }

    #[test]
    fn a_chain_that_was_left_ends_where_it_was_said() {
        let whole = || vec![link(0, 1, None, 1), link(4, 2, Some(1), 2)];
        let ended = |number, byte: u8| Some(Ended { entry: 8, chain: 5, number, sha256: Some([byte; 32]) });
        assert_eq!(found(0, whole(), ended(2, 2)), []);
        assert_eq!(
            found(0, whole(), ended(2, 9)),
            [Finding::ChainBroken { chain: CHAIN, number: 2, entry: 8 }]
        );
        let past = Finding::ChainPastEnd { chain: CHAIN, left: 1, last: 2, entry: 8 };
        assert_eq!(found(0, whole(), ended(1, 1)), [past]);
        assert_eq!(
            found(0, whole(), ended(4, 4)),
            [Finding::ChainGap { chain: CHAIN, numbers: 3..=4, entry: None }]
        );
        assert_eq!(
            found(0, [], ended(4, 4)),
            [Finding::ChainGap { chain: CHAIN, numbers: 1..=4, entry: None }]
        );
        assert_eq!(found(9, [], ended(4, 4)), []);
        assert_eq!(found(0, [], Some(Ended { entry: 8, chain: 5, number: 0, sha256: None })), []);
    }
}
