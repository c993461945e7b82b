//! What a decision knows of a request besides who asks, what for and why. All of it is yes or no, or one of a few declared
//! words: none of it names anybody, so that decisions can be kept.

use super::bands::Band;
use super::cedar::Rules;
use super::departments::Department;
use crate::domain::context::OperationContext;
use crate::domain::relationship::Relationship;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Circumstances {
    /// The client acts for a person whose token was believed.
    pub person: bool,
    pub second_factor: bool,
    pub relationship: Relationship,
    /// Of the person, where they have one and rules ask for it.
    pub department: Option<Department>,
    pub hour: Band,
    pub source: Band,
}

impl Circumstances {
    pub fn of(context: &OperationContext, relationship: Relationship, rules: &Rules) -> Self {
        let bands = rules.bands();
        Self {
            person: context.actor.person().is_some(),
            second_factor: context.actor.has_second_factor(),
            relationship,
            department: context.actor.department().and_then(|name| rules.asked_department(name)),
            hour: bands.hour(context.at),
            source: bands.source(context.actor.source.ip()),
        }
    }
}
