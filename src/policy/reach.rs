//! Which circumstances can make a difference to a role: what is worth asking about when all of a policy is looked through.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bands::Band;
use super::cedar::Rules;
use super::circumstances::{Circumstances, PersonFacts};
use super::departments::Department;
use super::person_roles::combinations;
use super::words::RuleAction;
use crate::domain::relationship::Relationship;

/// Of the roles that rules ask people for, so many at once are looked through, and all; up to four that is every way there is.
const ROLES_AT_ONCE: usize = 3;

/// What policies look at.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the context, or of whatever else has attributes.
    pub attributes: BTreeSet<String>,
    /// Those that are named: rules cannot tell the others apart.
    pub departments: BTreeSet<String>,
    /// Roles that a person is asked for.
    pub person_roles: BTreeSet<String>,
}

impl Seen {
    /// What people can bring of the roles that they are asked for.
    pub fn brought(&self) -> Vec<Vec<&str>> {
        let names: Vec<&str> = self.person_roles.iter().map(String::as_str).collect();
        combinations(&names, ROLES_AT_ONCE)
    }

    pub fn looks_at(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }
}

impl FromIterator<Self> for Seen {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), |mut together, one| {
            together.attributes.extend(one.attributes);
            together.departments.extend(one.departments);
            together.person_roles.extend(one.person_roles);
            together
        })
    }
}

/// Circumstances with the words that a reviewer reads for them.
pub(super) struct Reached {
    pub circumstances: Circumstances,
    /// Those that hold, as in the schema; empty where there is nothing to say.
    pub words: String,
}

/// Every combination of what the policies of a role look at for these actions, without those that cannot be: nobody has to
/// do with a record, is of a department or brings a role but a person.
pub(super) fn reached(rules: &Rules, role: &str, actions: &[RuleAction]) -> Vec<Reached> {
    reached_by(rules, &rules.seen(role, actions))
}

/// The same of what is named.
pub(super) fn reached_by(rules: &Rules, seen: &Seen) -> Vec<Reached> {
    reached_with(rules, seen, &seen.brought())
}

/// The same of people who bring these roles, of those that are asked for.
pub(super) fn reached_with(rules: &Rules, seen: &Seen, brought: &[Vec<&str>]) -> Vec<Reached> {
    let (hours, sources) =
        (bands(seen, "hour", rules.bands().hours()), bands(seen, "source", rules.bands().sources()));
    let mut reached = Vec::new();
    for (person, whose) in people(rules, seen, brought) {
        for (circumstances, flags) in standing(seen, person) {
            for (hour, hour_name) in &hours {
                for (source, source_name) in &sources {
                    let words = [&*flags, &*whose, hour_name, source_name];
                    let words = words.into_iter().filter(|words| !words.is_empty());
                    reached.push(Reached {
                        circumstances: Circumstances { hour: *hour, source: *source, ..circumstances },
                        words: words.collect::<Vec<_>>().join(" "),
                    });
                }
            }
        }
    }
    reached
}

/// Whom a request can come from, as far as rules tell them apart: nobody, or somebody of whom this is known.
fn people(rules: &Rules, seen: &Seen, brought: &[Vec<&str>]) -> Vec<(Option<PersonFacts>, String)> {
    let mut all = vec![(None, String::new())];
    for roles in brought {
        let of = rules.asked_roles().among(roles.iter().copied());
        let words: Vec<String> = roles.iter().map(|role| format!("person_role {role}")).collect();
        for (department, name) in departments(rules, seen) {
            let words = words.iter().map(String::as_str).chain([name.as_str()]);
            let words = words.filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ");
            all.push((Some(PersonFacts { roles: of, department }), words));
        }
    }
    all
}

/// What else can be of that person, or of nobody, with the words for it.
fn standing(seen: &Seen, person: Option<PersonFacts>) -> Vec<(Circumstances, String)> {
    let most = Relationship {
        is_self: seen.looks_at("is_self"),
        in_care_team: seen.looks_at("in_care_team"),
        break_glass: seen.looks_at("break_glass"),
    };
    let factors = if seen.looks_at("second_factor") { &[false, true][..] } else { &[false] };
    let mut all = Vec::new();
    for relationship in most.at_most() {
        let can_be = if relationship == Relationship::NONE {
            // A person of whom nothing is known is told apart from nobody where the rules do so.
            person != Some(PersonFacts::default()) || seen.looks_at("person")
        } else {
            person.is_some()
        };
        if !can_be {
            continue;
        }
        for second_factor in factors {
            let (second_factor, others) = (*second_factor, Circumstances::default());
            let circumstances = Circumstances { person, second_factor, relationship, ..others };
            all.push((circumstances, flags(circumstances)));
        }
    }
    all
}

/// None, those that are named, and one for all others; none alone where departments are not looked at.
fn departments(rules: &Rules, seen: &Seen) -> Vec<(Option<Department>, String)> {
    let mut found = vec![(None, String::new())];
    if seen.looks_at("department") {
        let is_named = |name: &Arc<str>| seen.departments.contains(&**name);
        let named = rules.departments().all().filter(|(_, name)| is_named(name));
        found.extend(named.map(|(department, name)| (Some(department), format!("department {name}"))));
        let other = rules.departments().all().find(|(_, name)| !is_named(name));
        found.extend(other.map(|(department, _)| (Some(department), "another department".to_owned())));
    }
    found
}

/// The bands of a sort that is looked at; the first, without a name, of one that is not.
fn bands<'b>(
    seen: &Seen,
    sort: &str,
    all: impl Iterator<Item = (Band, &'b Arc<str>)>,
) -> Vec<(Band, String)> {
    if seen.looks_at(sort) {
        all.map(|(band, name)| (band, name.to_string())).collect()
    } else {
        vec![(Band::default(), String::new())]
    }
}

fn flags(circumstances: Circumstances) -> String {
    let Relationship { is_self, in_care_team, break_glass } = circumstances.relationship;
    let flags = [
        ("person", circumstances.person.is_some()),
        ("second_factor", circumstances.second_factor),
        ("is_self", is_self),
        ("in_care_team", in_care_team),
        ("break_glass", break_glass),
    ];
    let flags = flags.into_iter().filter_map(|(word, holds)| holds.then_some(word));
    flags.collect::<Vec<_>>().join(" ")
}
