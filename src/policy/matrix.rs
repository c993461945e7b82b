//! `policy/matrix.golden`: every role × action × collection × field × purpose, in all circumstances that make a difference, as
//! text that a reviewer reads in a diff.

use std::fmt::Write as _;

use super::cases::identity;
use super::circumstances::{Circumstances, PersonFacts};
use super::collection::Collection;
use super::permit::View;
use super::person_roles::PersonRoles;
use super::reach::{Reached, reached};
use super::relay_file::Destination;
use super::set::PolicySet;
use super::table::{Asking, Table, decide};
use super::words::RuleAction;
use crate::domain::action::Action;
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::purpose::Purpose;

const HEAD: &str = "# Generated, see README.md. For each role, action and collection: the purposes that show a field, and how;
# for create and update, plain is \"may write\", for export \"is taken out\",
# for relay \"is sent there\". What is not listed is refused. (none) is a request without a purpose.
# After \"when\" stand the circumstances in which it is so, where there are others: what holds, and the bands.
";

/// The whole matrix, each role on its own.
pub fn matrix(set: &PolicySet) -> String {
    let mut out = String::from(HEAD);
    for role in set.roles() {
        let identity = identity(kind_of(role), &[role.to_string()]);
        for collection in set.collections() {
            let within = |action: &Action| action.is_of_a_collection() && !action.is_of_a_destination();
            for action in Action::ALL.into_iter().filter(within) {
                sections(&mut out, (set, &identity), (Some(collection), None), action);
            }
        }
        for destination in set.destinations() {
            for collection in destination.collections() {
                let place = (Some(collection.as_ref()), Some(destination.as_ref()));
                sections(&mut out, (set, &identity), place, Action::Relay);
            }
        }
        for action in Action::ALL.into_iter().filter(|action| !action.is_of_a_collection()) {
            sections(&mut out, (set, &identity), (None, None), action);
        }
    }
    out
}

/// The kind of client that a role is for.
pub(super) fn kind_of(role: &str) -> ClientKind {
    match role {
        "auditor" => ClientKind::Auditor,
        "custodian" => ClientKind::Custodian,
        "operator" => ClientKind::Operator,
        _ => ClientKind::App,
    }
}

/// One section for all circumstances that give the same.
fn sections(
    out: &mut String,
    (set, identity): (&PolicySet, &Identity),
    (collection, destination): (Option<&Collection>, Option<&Destination>),
    action: Action,
) {
    let role = identity.roles.first().map_or("", AsRef::as_ref);
    let actions = RuleAction::of(action);
    if !set.rules().may_permit(role, actions) {
        return;
    }
    let all: Vec<(Reached, String)> = reached(set.rules(), role, actions)
        .into_iter()
        .map(|reached| {
            let circumstances = reached.circumstances;
            let rules = set.rules();
            let asking = Asking { rules, identity, collection, destination, action, circumstances };
            (reached, body(&asking))
        })
        .collect();
    let alike = WithoutDifference::among(&all);
    let mut bodies: Vec<(String, Vec<&str>)> = Vec::new();
    for (Reached { circumstances, words }, body) in &all {
        if alike.without(*circumstances) != *circumstances {
            continue;
        }
        match bodies.iter_mut().find(|(known, _)| known == body) {
            Some((_, when)) => when.push(words),
            None => bodies.push((body.clone(), vec![words])),
        }
    }
    let collection = collection.map(|collection| collection.name().as_str());
    let destination = destination.map(|destination| destination.name().as_str());
    let place: Vec<&str> = destination.into_iter().chain(collection).collect();
    let title = format!("{role} {} {}", action.as_str(), place.join("/"));
    let is_one = bodies.len() == 1;
    for (body, when) in bodies.iter().filter(|(body, _)| !body.is_empty()) {
        let when: Vec<&str> =
            when.iter().map(|words| if words.is_empty() { "nothing" } else { words }).collect();
        let when = if is_one { String::new() } else { format!(" when {}", when.join("; ")) };
        // Writing to a String does not fail.
        let _ = write!(out, "\n{}{when}\n{body}", title.trim_end());
    }
}

/// What of people makes no difference to a section: a rule about one collection is none about the others.
#[derive(Clone, Copy)]
struct WithoutDifference {
    departments: bool,
    roles: bool,
}

impl WithoutDifference {
    fn among(all: &[(Reached, String)]) -> Self {
        let of = |wanted: Circumstances| all.iter().find(|(one, _)| one.circumstances == wanted);
        let are_alike = |without: Self| {
            all.iter().all(|(reached, body)| {
                of(without.without(reached.circumstances)).is_some_and(|(_, other)| other == body)
            })
        };
        Self {
            departments: are_alike(Self { departments: true, roles: false }),
            roles: are_alike(Self { departments: false, roles: true }),
        }
    }

    /// The same person, of no department and without a role, as far as that makes no difference.
    fn without(self, circumstances: Circumstances) -> Circumstances {
        let person = circumstances.person.map(|person| PersonFacts {
            roles: if self.roles { PersonRoles::default() } else { person.roles },
            department: person.department.filter(|_| !self.departments),
        });
        Circumstances { person, ..circumstances }
    }
}

fn body(asking: &Asking<'_>) -> String {
    let Some(caller) = asking.caller() else { return String::new() };
    let tables: Vec<(&str, Table)> = std::iter::once(None)
        .chain(Purpose::ALL.map(Some))
        .filter_map(|purpose| {
            Some((purpose.map_or("(none)", Purpose::as_str), decide(asking, &caller, purpose)?))
        })
        .collect();
    let mut out = String::new();
    if tables.is_empty() {
        return out;
    }
    let has_fields = asking.action.is_of_fields();
    let fields = asking.collection.filter(|_| has_fields).map_or(&[][..], Collection::fields);
    if fields.is_empty() {
        let purposes: Vec<&str> = tables.iter().map(|(purpose, _)| *purpose).collect();
        let _ = writeln!(out, "  for {}", purposes.join(" "));
    }
    for field in fields {
        for view in [View::Plain, View::Masked] {
            let shown = tables.iter().filter(|(_, table)| table.view_of(field.id) == view);
            let purposes: Vec<&str> = shown.map(|(purpose, _)| *purpose).collect();
            if !purposes.is_empty() {
                let (name, class) = (field.name.as_str(), field.class.as_str());
                let _ = writeln!(out, "  {name:<18} {class} {:<6} {}", view.as_str(), purposes.join(" "));
            }
        }
    }
    out
}
