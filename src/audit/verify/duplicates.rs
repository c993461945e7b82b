//! Ids that stand twice, in eight bytes of memory for each entry.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::finding::Finding;

/// A digest of every id. Two ids of one digest are looked at again, so that none is accused by chance.
#[derive(Default)]
pub(super) struct Ids {
    folded: Vec<u64>,
}

/// Digests that were met more than once.
pub(super) struct Suspects(HashSet<u64>);

impl Ids {
    pub fn add(&mut self, folded: &[u64]) {
        self.folded.extend_from_slice(folded);
    }

    /// Those of the listed entries that list an id which no entry has.
    pub fn missing(&mut self, listed: impl Iterator<Item = (u64, u64)>) -> impl Iterator<Item = u64> {
        self.folded.sort_unstable();
        listed.filter(|(id, _)| self.folded.binary_search(id).is_err()).map(|(_, entry)| entry)
    }

    /// `None` when all ids differ.
    pub fn suspects(mut self) -> Option<Suspects> {
        self.folded.sort_unstable();
        let twice = self.folded.array_windows::<2>().filter(|[one, other]| one == other);
        let suspects: HashSet<u64> = twice.map(|[one, _]| *one).collect();
        (!suspects.is_empty()).then_some(Suspects(suspects))
    }
}

impl Suspects {
    pub fn is_one(&self, id: &[u8; 16]) -> bool {
        self.0.contains(&fold(id))
    }
}

/// Half of an id's bits, all of them of use: the random ones with the time mixed in.
pub(super) fn fold(id: &[u8; 16]) -> u64 {
    let id = u128::from_be_bytes(*id);
    let halves = [id >> 64, id].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
    let [high, low] = halves;
    high.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ low
}

/// The ids that more than one entry has.
pub(super) fn duplicates(met: impl IntoIterator<Item = ([u8; 16], u64)>) -> Vec<Finding> {
    let mut places: BTreeMap<[u8; 16], Vec<u64>> = BTreeMap::new();
    for (id, entry) in met {
        places.entry(id).or_default().push(entry);
    }
    let twice = places.into_iter().filter(|(_, entries)| entries.len() > 1);
    twice.map(|(id, entries)| Finding::Duplicate { id: Uuid::from_bytes(id), entries }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_stands_twice_is_found_and_a_digest_that_does_is_not() {
        let ids: Vec<[u8; 16]> = (0..1_000_u128).map(|id| (id << 64 | 7).to_be_bytes()).collect();
        let mut set = Ids::default();
        set.add(&ids.iter().map(fold).collect::<Vec<_>>());
        assert!(set.suspects().is_none());
        let mut set = Ids::default();
        set.add(&[fold(&ids[3]), fold(&ids[4]), fold(&ids[3])]);
        let suspects = set.suspects().unwrap();
        assert!(suspects.is_one(&ids[3]) && !suspects.is_one(&ids[4]));
        let met = [(ids[3], 8), (ids[9], 10), (ids[3], 12)];
        let expected = Finding::Duplicate { id: Uuid::from_bytes(ids[3]), entries: vec![8, 12] };
        assert_eq!(duplicates(met), [expected]);
    }
}
