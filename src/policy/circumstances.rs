//! What a decision knows of a request besides who asks, what for and why. All of it is yes or no, or one of a few declared
//! bands: none of it names anybody, so that decisions can be kept.

use super::bands::{Band, Bands};
use crate::domain::context::OperationContext;
use crate::domain::relationship::Relationship;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Circumstances {
    /// The client acts for a person whose token was believed.
    pub person: bool,
    pub second_factor: bool,
    pub relationship: Relationship,
    pub hour: Band,
    pub source: Band,
}

impl Circumstances {
    pub fn of(context: &OperationContext, relationship: Relationship, bands: &Bands) -> Self {
        Self {
            person: context.actor.person().is_some(),
            second_factor: context.actor.has_second_factor(),
            relationship,
            hour: bands.hour(context.at),
            source: bands.source(context.actor.source.ip()),
        }
    }
}
