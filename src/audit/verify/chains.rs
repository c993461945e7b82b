//! Chains of processes: `seq` without gaps, `prev` the SHA-256 of the entry before (see `audit::committer`).
//!
//! The sequencer keeps the entries of a chain in their order, so each is followed as it comes.

use std::collections::HashMap;

use uuid::Uuid;

use super::finding::{Finding, Findings};
use super::form::ChainFacts;

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
}

/// All chains met so far.
pub(super) struct Chains {
    tips: HashMap<u128, Tip>,
    ended: Vec<Ended>,
    /// The newest entry that could not be read: what a chain had up to there is not known.
    hole: Option<u64>,
}

impl Chains {
    /// Of a log that is read from its first entry, or from `start`.
    pub fn new(start: u64) -> Self {
        Self { tips: HashMap::new(), ended: Vec::new(), hole: start.checked_sub(1) }
    }

    /// An entry is missing or not the tree's. That is a finding of its own, and not one more for each chain.
    pub fn skip(&mut self, entry: u64) {
        self.hole = self.hole.max(Some(entry));
    }

    pub fn count(&self) -> usize {
        self.tips.len()
    }

    pub fn follow(&mut self, link: &Link, findings: &mut Findings) {
        let ChainFacts { source, number, previous } = link.facts;
        let chain = Uuid::from_u128(source);
        let next = Tip { entry: link.entry, number, sha256: link.sha256 };
        let Some(tip) = self.tips.get_mut(&source) else {
            if number > 1 && self.hole.is_none() {
                findings.add(Finding::ChainGap { chain, numbers: 1..=number - 1, entry: Some(link.entry) });
            }
            self.tips.insert(source, next);
            return;
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
        } else if previous != Some(tip.sha256) {
            findings.add(Finding::ChainBroken { chain, number, entry: link.entry });
        }
        *tip = next;
    }

    /// A `chain.restart` may stand before the end of the chain it speaks of.
    pub fn end(&mut self, ended: Ended) {
        self.ended.push(ended);
    }

    /// Whether the chains that were left ended where it was said.
    pub fn finish(&self, findings: &mut Findings) {
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

    /// Chains that were left because they held what their process had not written.
    pub fn left(&self) -> impl Iterator<Item = (Uuid, u64)> {
        self.ended.iter().map(|ended| (Uuid::from_u128(ended.chain), ended.entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(entry: u64, number: u64, previous: Option<u8>, own: u8) -> Link {
        let facts = ChainFacts { source: 5, number, previous: previous.map(|byte| [byte; 32]) };
        Link { entry, facts, sha256: [own; 32] }
    }

    fn found(start: u64, links: &[Link], ended: Option<Ended>) -> Vec<Finding> {
        let (mut chains, mut findings) = (Chains::new(start), Findings::default());
        for link in links {
            chains.follow(link, &mut findings);
        }
        if let Some(ended) = ended {
            chains.end(ended);
        }
        chains.finish(&mut findings);
        findings.finish().0
    }

    const CHAIN: Uuid = Uuid::from_u128(5);

    #[test]
    fn gaps_forks_and_broken_links_are_told_apart() {
        let whole = || vec![link(0, 1, None, 1), link(4, 2, Some(1), 2), link(5, 3, Some(2), 3)];
        assert_eq!(found(0, &whole(), None), []);
        let gap = [link(0, 1, None, 1), link(5, 3, Some(2), 3)];
        assert_eq!(
            found(0, &gap, None),
            [Finding::ChainGap { chain: CHAIN, numbers: 2..=2, entry: Some(5) }]
        );
        let fork =
            [link(0, 1, None, 1), link(4, 2, Some(1), 2), link(6, 2, Some(1), 9), link(7, 3, Some(2), 3)];
        assert_eq!(found(0, &fork, None), [Finding::ChainFork { chain: CHAIN, number: 2, entry: 6 }]);
        let broken = [link(0, 1, None, 1), link(4, 2, Some(7), 2), link(5, 3, Some(2), 3)];
        assert_eq!(found(0, &broken, None), [Finding::ChainBroken { chain: CHAIN, number: 2, entry: 4 }]);
        let late = [link(9, 7, Some(1), 1), link(10, 8, Some(1), 2)];
        assert_eq!(
            found(0, &late, None),
            [Finding::ChainGap { chain: CHAIN, numbers: 1..=6, entry: Some(9) }]
        );
        assert_eq!(found(9, &late, None), [], "its beginning lies before the known checkpoint");
    }

    #[test]
    fn what_could_not_be_read_is_no_gap_as_well() {
        let (mut chains, mut findings) = (Chains::new(0), Findings::default());
        chains.follow(&link(0, 1, None, 1), &mut findings);
        chains.skip(3);
        chains.follow(&link(5, 3, Some(2), 3), &mut findings);
        chains.follow(&link(6, 5, Some(4), 5), &mut findings);
        assert_eq!(findings.finish().0, [Finding::ChainGap { chain: CHAIN, numbers: 4..=4, entry: Some(6) }]);
    }

    #[test]
    fn a_chain_that_was_left_ends_where_it_was_said() {
        let whole = || vec![link(0, 1, None, 1), link(4, 2, Some(1), 2)];
        let ended = |number, byte: u8| Some(Ended { entry: 8, chain: 5, number, sha256: Some([byte; 32]) });
        assert_eq!(found(0, &whole(), ended(2, 2)), []);
        assert_eq!(
            found(0, &whole(), ended(2, 9)),
            [Finding::ChainBroken { chain: CHAIN, number: 2, entry: 8 }]
        );
        let past = Finding::ChainPastEnd { chain: CHAIN, left: 1, last: 2, entry: 8 };
        assert_eq!(found(0, &whole(), ended(1, 1)), [past]);
        assert_eq!(
            found(0, &whole(), ended(4, 4)),
            [Finding::ChainGap { chain: CHAIN, numbers: 3..=4, entry: None }]
        );
        assert_eq!(
            found(0, &[], ended(4, 4)),
            [Finding::ChainGap { chain: CHAIN, numbers: 1..=4, entry: None }]
        );
        assert_eq!(found(9, &[], ended(4, 4)), []);
        assert_eq!(found(0, &[], Some(Ended { entry: 8, chain: 5, number: 0, sha256: None })), []);
    }
}
