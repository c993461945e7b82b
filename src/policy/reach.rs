//! Which circumstances can make a difference to a role: what is worth asking about when all of a policy is looked through.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bands::Band;
use super::cedar::Rules;
use super::circumstances::Circumstances;
use super::departments::Department;
use super::words::RuleAction;
use crate::domain::relationship::Relationship;

/// What policies look at.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the context, or of whatever else has attributes.
    pub attributes: BTreeSet<String>,
    /// Those that are named: rules cannot tell the others apart.
    pub departments: BTreeSet<String>,
}

impl Seen {
    pub fn looks_at(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }
}

impl FromIterator<Self> for Seen {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), |mut together, one| {
            together.attributes.extend(one.attributes);
            together.departments.extend(one.departments);
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
/// do with a record, or is of a department, but a person.
pub(super) fn reached(rules: &Rules, role: &str, actions: &[RuleAction]) -> Vec<Reached> {
    reached_by(rules, &rules.seen(role, actions))
}

/// The same of what is named.
pub(super) fn reached_by(rules: &Rules, seen: &Seen) -> Vec<Reached> {
    let departments = departments(rules, seen);
    let (hours, sources) =
        (bands(seen, "hour", rules.bands().hours()), bands(seen, "source", rules.bands().sources()));
    let mut reached = Vec::new();
    for circumstances in people(seen, &departments) {
        let of = departments.iter().find(|(department, _)| *department == circumstances.department);
        let department = of.map_or("", |(_, words)| words);
        for (hour, hour_name) in &hours {
            for (source, source_name) in &sources {
                let circumstances = Circumstances { hour: *hour, source: *source, ..circumstances };
                let words = words(circumstances, [department, hour_name, source_name]);
                reached.push(Reached { circumstances, words });
            }
        }
    }
    reached
}

/// Whom a request can come from, as far as rules tell them apart.
fn people(seen: &Seen, departments: &[(Option<Department>, String)]) -> Vec<Circumstances> {
    let flags = |name: &str| if seen.looks_at(name) { &[false, true][..] } else { &[false] };
    let most = Relationship {
        is_self: seen.looks_at("is_self"),
        in_care_team: seen.looks_at("in_care_team"),
        break_glass: seen.looks_at("break_glass"),
    };
    let mut all = Vec::new();
    for relationship in most.at_most() {
        for (department, _) in departments {
            let is_somebody = relationship != Relationship::NONE || department.is_some();
            // A person of whom nothing else is known is told apart where the rules do so.
            for person in if is_somebody { &[true][..] } else { flags("person") } {
                for second_factor in flags("second_factor") {
                    let (person, second_factor, department) = (*person, *second_factor, *department);
                    let others = Circumstances::default();
                    all.push(Circumstances { person, second_factor, relationship, department, ..others });
                }
            }
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

fn words(circumstances: Circumstances, others: [&str; 3]) -> String {
    let Relationship { is_self, in_care_team, break_glass } = circumstances.relationship;
    let flags = [
        ("person", circumstances.person),
        ("second_factor", circumstances.second_factor),
        ("is_self", is_self),
        ("in_care_team", in_care_team),
        ("break_glass", break_glass),
    ];
    let flags = flags.into_iter().filter_map(|(word, holds)| holds.then_some(word));
    let others = others.into_iter().filter(|name| !name.is_empty());
    flags.chain(others).collect::<Vec<_>>().join(" ")
}
