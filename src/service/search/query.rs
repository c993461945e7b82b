//! What a caller looks for: one to four conditions, all of which a record must meet. Every fault is found, none echoes what
//! was sent.

use serde_json::value::RawValue;

use crate::crypto::OpenedField;
use crate::domain::id::FieldName;
use crate::domain::index::{Sought, SoughtError};
use crate::policy::{Collection, Field};
use crate::service::Error;

/// The most conditions of one search.
pub const MOST_CONDITIONS: usize = 4;

/// A condition as it was sent.
pub struct Condition<'a> {
    pub field: &'a str,
    pub test: Test<'a>,
}

/// What the field is to be.
#[derive(Clone, Copy)]
pub enum Test<'a> {
    Exact(&'a RawValue),
    Prefix(&'a RawValue),
    /// A day.
    On(&'a RawValue),
    /// The days from the first to the last, both included.
    Between(&'a RawValue, &'a RawValue),
}

/// One thing that is wrong with the conditions, by the place of the condition, from 0; the name is there only when the
/// collection has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFault {
    pub condition: Option<usize>,
    pub field: Option<FieldName>,
    pub code: ConditionFaultCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionFaultCode {
    /// There are none, or more than four.
    Count,
    /// A field that the collection does not have.
    UnknownField,
    /// The field cannot be looked for, or not in this way.
    Sought(SoughtError),
}

impl ConditionFaultCode {
    /// Its own; those of values are `ValueError`'s.
    pub const OWN: [&'static str; 6] = [
        "condition_count",
        "unknown_field",
        "not_indexed",
        "prefix_too_short",
        "range_reversed",
        "range_too_long",
    ];

    pub const fn code(self) -> &'static str {
        match self {
            Self::Count => "condition_count",
            Self::UnknownField => "unknown_field",
            Self::Sought(SoughtError::NotIndexed) => "not_indexed",
            Self::Sought(SoughtError::TooShort) => "prefix_too_short",
            Self::Sought(SoughtError::RangeReversed) => "range_reversed",
            Self::Sought(SoughtError::RangeTooLong) => "range_too_long",
            Self::Sought(SoughtError::Value(error)) => error.code(),
        }
    }
}

/// Conditions that fit the collection.
pub struct Query(Vec<Asked>);

/// A field and what it is to be.
pub(super) struct Asked {
    pub field: Field,
    pub sought: Sought,
}

impl Query {
    /// [`Error::SearchInvalid`] with all that is wrong.
    pub fn parse(collection: &Collection, conditions: &[Condition<'_>]) -> Result<Self, Error> {
        if !(1..=MOST_CONDITIONS).contains(&conditions.len()) {
            let fault = ConditionFault { condition: None, field: None, code: ConditionFaultCode::Count };
            return Err(Error::SearchInvalid(vec![fault]));
        }
        let (mut asked, mut faults) = (Vec::with_capacity(conditions.len()), Vec::new());
        for (place, condition) in conditions.iter().enumerate() {
            let field = collection.field(condition.field);
            match parse_one(field, condition.test) {
                Ok(one) => asked.push(one),
                Err(code) => faults.push(ConditionFault {
                    condition: Some(place),
                    field: field.map(|field| field.name.clone()),
                    code,
                }),
            }
        }
        if faults.is_empty() { Ok(Self(asked)) } else { Err(Error::SearchInvalid(faults)) }
    }

    /// The fields that are asked by, in the order of the request.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.0.iter().map(|asked| &asked.field)
    }

    /// Their names, each once, for the log.
    pub(super) fn names(&self) -> Vec<FieldName> {
        let mut names: Vec<FieldName> = self.fields().map(|field| field.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The conditions, that which leaves the fewest records first.
    pub(super) fn by_width(&self) -> impl Iterator<Item = &Asked> {
        let mut all: Vec<&Asked> = self.0.iter().collect();
        let bits = |asked: &Asked| asked.sought.looked_in(asked.field.index.as_ref()?).map(|spec| spec.bits);
        all.sort_by_key(|asked| (asked.sought.width(), std::cmp::Reverse(bits(asked))));
        all.into_iter()
    }

    /// Whether a record is what is asked for. A field that it does not have is not.
    pub(super) fn is_met_by(&self, opened: &[OpenedField]) -> bool {
        self.0.iter().all(|Asked { field, sought }| {
            let value = opened.iter().find(|opened| opened.id == field.id).map(|opened| &opened.value);
            value.is_some_and(|value| sought.is_met_by(field.field_type, value))
        })
    }
}

fn parse_one(field: Option<&Field>, test: Test<'_>) -> Result<Asked, ConditionFaultCode> {
    let field = field.ok_or(ConditionFaultCode::UnknownField)?;
    let not_indexed = ConditionFaultCode::Sought(SoughtError::NotIndexed);
    let index = field.index.as_ref().ok_or(not_indexed)?;
    let of = (field.field_type, index);
    let sought = match test {
        Test::Exact(value) => Sought::exact(of, &field.limits, value),
        Test::Prefix(value) => Sought::prefix(of, &field.limits, value),
        Test::On(day) => Sought::days(index, day, day),
        Test::Between(first, last) => Sought::days(index, first, last),
    };
    Ok(Asked { field: field.clone(), sought: sought.map_err(ConditionFaultCode::Sought)? })
}
