//! What a condition looks for: the terms that may stand for it, and whether a value is really it.

use jiff::civil::Date;
use serde_json::value::RawValue;

use super::normal::{Normal, normalised};
use super::{FieldIndex, IndexSpec};
use crate::domain::secret::SecretBytes;
use crate::domain::value::{FieldType, ValueError, ValueLimits, parse_value};

/// The most days of one range, its first and last included: a term is of a day, since one of a year would count births.
pub const MOST_DAYS: i32 = 400;

/// What a field is to be.
pub enum Sought {
    Exact(Normal),
    Prefix(Normal),
    /// From the first to the last, both included.
    Days(Date, Date),
}

/// Why there is nothing to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoughtError {
    /// The field has no index of this kind.
    NotIndexed,
    /// Shorter than the shortest beginning that there is an index of.
    TooShort,
    /// The last day comes before the first.
    RangeReversed,
    /// More days than [`MOST_DAYS`].
    RangeTooLong,
    Value(ValueError),
}

impl From<ValueError> for SoughtError {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

impl Sought {
    /// All of the value.
    pub fn exact(
        (field_type, index): (FieldType, &FieldIndex),
        limits: &ValueLimits,
        json: &RawValue,
    ) -> Result<Self, SoughtError> {
        index.exact().ok_or(SoughtError::NotIndexed)?;
        let value = parse_value(field_type, limits, json)?;
        Ok(Self::Exact(normalised(field_type, &value).ok_or(ValueError::Empty)?))
    }

    /// Its beginning, in characters as they are compared.
    pub fn prefix(
        (field_type, index): (FieldType, &FieldIndex),
        limits: &ValueLimits,
        json: &RawValue,
    ) -> Result<Self, SoughtError> {
        index.prefix_lengths().next().ok_or(SoughtError::NotIndexed)?;
        let value = parse_value(field_type, limits, json)?;
        let normal = normalised(field_type, &value).ok_or(ValueError::Empty)?;
        index.prefix_of(normal.characters()).ok_or(SoughtError::TooShort)?;
        Ok(Self::Prefix(normal))
    }

    /// A day, or the days from one to another.
    pub fn days(index: &FieldIndex, first: &RawValue, last: &RawValue) -> Result<Self, SoughtError> {
        index.day().ok_or(SoughtError::NotIndexed)?;
        let (first, last) = (date(first)?, date(last)?);
        let days = first.until(last).map_err(|_| SoughtError::RangeTooLong)?.get_days();
        if days < 0 {
            return Err(SoughtError::RangeReversed);
        }
        if days >= MOST_DAYS { Err(SoughtError::RangeTooLong) } else { Ok(Self::Days(first, last)) }
    }

    /// The index to look into.
    pub fn looked_in(&self, index: &FieldIndex) -> Option<IndexSpec> {
        match self {
            Self::Exact(_) => index.exact(),
            Self::Prefix(normal) => index.prefix_of(normal.characters()),
            Self::Days(..) => index.day(),
        }
    }

    /// The same, with every value that a term in it may stand for.
    pub fn looked_up(&self, index: &FieldIndex) -> Option<(IndexSpec, Vec<SecretBytes>)> {
        let spec = self.looked_in(index)?;
        let parts = match self {
            Self::Exact(normal) | Self::Prefix(normal) => vec![normal.part(spec.transform)?],
            Self::Days(first, last) => {
                let days = first.series(jiff::Span::new().days(1)).take_while(|day| day <= last);
                days.map(|day| SecretBytes::new(day.to_string().into_bytes())).collect()
            }
        };
        Some((spec, parts))
    }

    /// Whether a value is what is sought: a term that fits is no proof.
    pub fn is_met_by(&self, field_type: FieldType, value: &SecretBytes) -> bool {
        let Some(normal) = normalised(field_type, value) else { return false };
        match self {
            Self::Exact(sought) => normal.equals(sought),
            Self::Prefix(sought) => normal.begins_with(sought),
            Self::Days(first, last) => {
                normal.text().parse().is_ok_and(|day: Date| (*first..=*last).contains(&day))
            }
        }
    }

    /// How few records one condition of its kind leaves, the fewest first: where a search begins.
    pub fn width(&self) -> usize {
        match self {
            Self::Exact(_) => 0,
            Self::Days(first, last) if first == last => 1,
            Self::Prefix(_) => 2,
            Self::Days(..) => 3,
        }
    }
}

fn date(json: &RawValue) -> Result<Date, SoughtError> {
    let value = parse_value(FieldType::Date, &ValueLimits::of(FieldType::Date), json)?;
    let normal = normalised(FieldType::Date, &value).ok_or(ValueError::Empty)?;
    normal.text().parse().map_err(|_| ValueError::OutOfRange.into())
}
