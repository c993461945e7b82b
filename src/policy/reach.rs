//! Which circumstances can make a difference to a role: what is worth asking about when all of a policy is looked through.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bands::Band;
use super::cedar::Rules;
use super::circumstances::Circumstances;
use super::words::RuleAction;
use crate::domain::relationship::Relationship;

/// Circumstances with the words that a reviewer reads for them.
pub(super) struct Reached {
    pub circumstances: Circumstances,
    /// Those that hold, as in the schema; empty where there is nothing to say.
    pub words: String,
}

/// Every combination of what the policies of a role look at for these actions, without those that cannot be: nobody has to do with a record
/// but a person.
pub(super) fn reached(rules: &Rules, role: &str, actions: &[RuleAction]) -> Vec<Reached> {
    reached_by(rules, &rules.attributes_of(role, actions))
}

/// The same of what is named.
pub(super) fn reached_by(rules: &Rules, seen: &BTreeSet<String>) -> Vec<Reached> {
    let flags = |name: &str| if seen.contains(name) { &[false, true][..] } else { &[false] };
    let most = Relationship {
        is_self: seen.contains("is_self"),
        in_care_team: seen.contains("in_care_team"),
        break_glass: seen.contains("break_glass"),
    };
    let mut all = Vec::new();
    for relationship in most.at_most() {
        let is_related = relationship != Relationship::NONE;
        // A person without any relationship is told apart where the rules do so.
        let people = if is_related { &[true][..] } else { flags("person") };
        for person in people {
            for second_factor in flags("second_factor") {
                let (person, second_factor) = (*person, *second_factor);
                all.push(Circumstances { person, second_factor, relationship, ..Default::default() });
            }
        }
    }
    let (hours, sources) =
        (bands(seen, "hour", rules.bands().hours()), bands(seen, "source", rules.bands().sources()));
    let mut reached = Vec::new();
    for circumstances in all {
        for (hour, hour_name) in &hours {
            for (source, source_name) in &sources {
                let circumstances = Circumstances { hour: *hour, source: *source, ..circumstances };
                let words = words(circumstances, [hour_name, source_name]);
                reached.push(Reached { circumstances, words });
            }
        }
    }
    reached
}

/// The bands of a sort that is looked at; the first, without a name, of one that is not.
fn bands<'b>(
    seen: &BTreeSet<String>,
    sort: &str,
    all: impl Iterator<Item = (Band, &'b Arc<str>)>,
) -> Vec<(Band, String)> {
    if seen.contains(sort) {
        all.map(|(band, name)| (band, name.to_string())).collect()
    } else {
        vec![(Band::default(), String::new())]
    }
}

fn words(circumstances: Circumstances, bands: [&String; 2]) -> String {
    let Relationship { is_self, in_care_team, break_glass } = circumstances.relationship;
    let flags = [
        ("person", circumstances.person),
        ("second_factor", circumstances.second_factor),
        ("is_self", is_self),
        ("in_care_team", in_care_team),
        ("break_glass", break_glass),
    ];
    let flags = flags.into_iter().filter_map(|(word, holds)| holds.then_some(word));
    let bands = bands.into_iter().map(String::as_str).filter(|name| !name.is_empty());
    flags.chain(bands).collect::<Vec<_>>().join(" ")
}
