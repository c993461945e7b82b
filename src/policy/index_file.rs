//! `[field.index]` of a collection's file: how a field can be looked for, and why some fields cannot.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::domain::index::{
    FEWEST_VALUES, FieldIndex, IndexSpec, PREFIX_LENGTHS, ROWS, Transform, UNIQUE_BITS, bits_for,
};
use crate::domain::value::{FieldType, ValueLimits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IndexEntry {
    r#match: Vec<Match>,
    /// Of `prefix` only: the beginnings that are indexed, in characters.
    lengths: Option<Vec<u8>>,
    /// Records that one tenant is expected to have; decides how long terms are.
    rows: Option<u64>,
    /// No two records have the same value.
    #[serde(default)]
    unique: bool,
    /// How many different values are expected, where the type does not say.
    values: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Match {
    Exact,
    Prefix,
    Date,
}

/// The error is a sentence for the person who edits the file.
pub(super) fn read_index(
    entry: &IndexEntry,
    field_type: FieldType,
    limits: &ValueLimits,
) -> Result<FieldIndex, String> {
    let matches: BTreeSet<Match> = entry.r#match.iter().copied().collect();
    if matches.is_empty() || matches.len() != entry.r#match.len() {
        return Err(
            "list in match of the index each of exact, prefix and date at most once, and one at least"
                .to_owned(),
        );
    }
    check_values(entry, field_type, limits)?;
    for each in &matches {
        check_type(*each, field_type)?;
    }
    let bits = read_bits(entry)?;
    let mut specs = Vec::new();
    let mut add = |transform| specs.push(IndexSpec { transform, bits });
    if matches.contains(&Match::Exact) {
        add(Transform::Exact);
    }
    if matches.contains(&Match::Date) {
        add(Transform::Day);
    }
    read_lengths(entry, matches.contains(&Match::Prefix))?.into_iter().map(Transform::Prefix).for_each(add);
    Ok(FieldIndex::new(specs))
}

/// How often each of few values occurs in the index is how often it occurs in the population.
fn check_values(entry: &IndexEntry, field_type: FieldType, limits: &ValueLimits) -> Result<(), String> {
    let few = format!(
        "a field with few values cannot be indexed: how often each occurs would tell which it is; there must be {FEWEST_VALUES} at least"
    );
    if field_type == FieldType::Boolean || limits.values.is_some() {
        return Err(few);
    }
    let is_open = matches!(field_type, FieldType::Code | FieldType::Integer);
    match (is_open && !entry.unique, entry.values) {
        (true, None) => {
            Err("say in values of the index how many different values are expected, or unique = true"
                .to_owned())
        }
        (true, Some(values)) if values < FEWEST_VALUES => Err(few),
        (false, Some(_)) => {
            Err("values of an index is for codes and integers that are not unique".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_type(each: Match, field_type: FieldType) -> Result<(), String> {
    let fits = match each {
        Match::Exact => matches!(
            field_type,
            FieldType::Name
                | FieldType::Email
                | FieldType::Phone
                | FieldType::Ssn
                | FieldType::Mrn
                | FieldType::Code
                | FieldType::Integer
        ),
        Match::Prefix => matches!(field_type, FieldType::Name),
        Match::Date => matches!(field_type, FieldType::Date | FieldType::DateTime),
    };
    if fits {
        return Ok(());
    }
    Err(match (each, field_type) {
        (Match::Exact, FieldType::Date | FieldType::DateTime) => {
            "index days with match = [\"date\"]".to_owned()
        }
        (Match::Prefix, _) => "a prefix index is for names".to_owned(),
        (Match::Date, _) => "a date index is for dates and moments".to_owned(),
        (Match::Exact, other) => format!(
            "a {} cannot be indexed: its values have no one spelling in which they could be compared",
            other.as_str()
        ),
    })
}

fn read_bits(entry: &IndexEntry) -> Result<u8, String> {
    match (entry.unique, entry.rows) {
        (true, None) => Ok(UNIQUE_BITS),
        (false, Some(rows)) if ROWS.contains(&rows) => Ok(bits_for(rows)),
        _ => Err(format!(
            "say in the index either unique = true, or in rows how many records one tenant will have, from {} to {}",
            ROWS.start(),
            ROWS.end()
        )),
    }
}

fn read_lengths(entry: &IndexEntry, has_prefix: bool) -> Result<BTreeSet<u8>, String> {
    let listed = entry.lengths.as_deref().unwrap_or_default();
    let lengths: BTreeSet<u8> = listed.iter().copied().collect();
    let is_sound =
        lengths.len() == listed.len() && lengths.iter().all(|length| PREFIX_LENGTHS.contains(length));
    if is_sound && lengths.is_empty() != has_prefix && lengths.len() <= 4 {
        return Ok(lengths);
    }
    Err(format!(
        "list in lengths of the index 1 to 4 beginnings of {} to {} characters, where it has prefix and only there",
        PREFIX_LENGTHS.start(),
        PREFIX_LENGTHS.end()
    ))
}
