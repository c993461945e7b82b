//! Blind indexes: what of a field's values can be looked for, and in which spelling two values are the same.
//!
//! Not here: the keyed terms that stand for values in the database (`crypto::index`), and which field has which index
//! (`policy`).

mod normal;
mod sought;
#[cfg(test)]
mod tests;

pub use normal::{NORMALISATION_VERSION, normalised};
pub use sought::{MOST_DAYS, Sought, SoughtError};

use super::secret::SecretBytes;
use super::value::FieldType;

/// Bits of a term that stands for a unique identifier.
pub const UNIQUE_BITS: u8 = 128;
/// The shortest and the longest beginning that an index may be of: of shorter ones there are too few.
pub const PREFIX_LENGTHS: std::ops::RangeInclusive<u8> = 3..=16;
/// How many rows, of one tenant, an index may be declared for.
pub const ROWS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000;
/// A field with fewer different values has no index: how often each occurs would tell which it is.
pub const FEWEST_VALUES: u64 = 256;

/// What of a value a term stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transform {
    /// All of it.
    Exact,
    /// So many characters at its beginning.
    Prefix(u8),
    /// The day of a date or a moment (UTC).
    Day,
}

impl Transform {
    /// The permanent number: in the derivation of the terms' key, and beside each term.
    pub const fn number(self) -> u16 {
        match self {
            Self::Exact => 0x0100,
            Self::Prefix(length) => 0x0200 | length as u16,
            Self::Day => 0x0300,
        }
    }
}

/// One index of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexSpec {
    pub transform: Transform,
    /// How long its terms are.
    pub bits: u8,
}

/// All indexes of a field, ascending by their transforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldIndex(Box<[IndexSpec]>);

impl FieldIndex {
    pub fn new(mut specs: Vec<IndexSpec>) -> Self {
        specs.sort_by_key(|spec| spec.transform);
        Self(specs.into())
    }

    pub fn specs(&self) -> &[IndexSpec] {
        &self.0
    }

    /// What of a value goes into which index.
    pub fn parts(&self, field_type: FieldType, value: &SecretBytes) -> Vec<(IndexSpec, SecretBytes)> {
        let Some(normal) = normalised(field_type, value) else { return Vec::new() };
        self.0.iter().filter_map(|spec| Some((*spec, normal.part(spec.transform)?))).collect()
    }

    pub fn exact(&self) -> Option<IndexSpec> {
        self.find(|transform| transform == Transform::Exact)
    }

    pub fn day(&self) -> Option<IndexSpec> {
        self.find(|transform| transform == Transform::Day)
    }

    /// The lengths of the beginnings that there is an index of.
    pub fn prefix_lengths(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().filter_map(|spec| match spec.transform {
            Transform::Prefix(length) => Some(length),
            Transform::Exact | Transform::Day => None,
        })
    }

    /// The index of the longest beginning that is no longer than `characters`.
    fn prefix_of(&self, characters: usize) -> Option<IndexSpec> {
        let fits =
            |transform| matches!(transform, Transform::Prefix(length) if usize::from(length) <= characters);
        self.0.iter().rev().find(|spec| fits(spec.transform)).copied()
    }

    fn find(&self, is_it: impl Fn(Transform) -> bool) -> Option<IndexSpec> {
        self.0.iter().find(|spec| is_it(spec.transform)).copied()
    }
}

/// The length of terms for so many rows: the longest that still leaves two other rows that share a term by chance, so that
/// a term names nobody. Those others are at least 2 and at most √rows (the rule of `CipherSweet`), for all of [`ROWS`].
pub fn bits_for(rows: u64) -> u8 {
    let bits = (rows / 2).checked_ilog2().unwrap_or_default().max(1);
    // Below 64.
    u8::try_from(bits).unwrap_or(u8::MAX)
}
