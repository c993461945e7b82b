//! What a decision knows of a request besides who asks, what for and why. All of it is yes or no, or one of a few declared
//! words: none of it names anybody, so that decisions can be kept.

use super::bands::Band;
use super::cedar::Rules;
use super::departments::Department;
use super::person_roles::PersonRoles;
use crate::domain::actor::Acting;
use crate::domain::context::OperationContext;
use crate::domain::relationship::Relationship;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Circumstances {
    /// Of whom the client acts for, where it does for somebody whose token was believed.
    pub person: Option<PersonFacts>,
    pub second_factor: bool,
    pub relationship: Relationship,
    pub hour: Band,
    pub source: Band,
}

/// What rules ask of a person, and nothing else: two of whom it is the same are one to a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PersonFacts {
    /// That they brought.
    pub roles: PersonRoles,
    /// Where they are of one.
    pub department: Option<Department>,
}

impl Circumstances {
    pub fn of(context: &OperationContext, relationship: Relationship, rules: &Rules) -> Self {
        let bands = rules.bands();
        Self {
            person: context.actor.acting().map(|acting| PersonFacts::of(acting, context, rules)),
            second_factor: context.actor.has_second_factor(),
            relationship,
            hour: bands.hour(context.at),
            source: bands.source(context.actor.source.ip()),
        }
    }
}

impl PersonFacts {
    fn of(acting: &Acting, context: &OperationContext, rules: &Rules) -> Self {
        Self {
            roles: rules.asked_roles().among(acting.brought().iter().map(AsRef::as_ref)),
            department: context.actor.department().and_then(|name| rules.asked_department(name)),
        }
    }
}
