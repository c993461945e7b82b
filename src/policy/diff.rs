//! What a change of the policy would grant or take away: every role, action, collection, field and purpose of both, in all
//! circumstances that make a difference to either.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cases::identity;
use super::collection::{Collection, Field};
use super::matrix::kind_of;
use super::permit::View;
use super::reach::{Seen, reached_by};
use super::set::PolicySet;
use super::table::{Asking, decide};
use super::words::RuleAction;
use crate::domain::action::Action;
use crate::domain::class::DataClass;
use crate::domain::purpose::Purpose;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    role: String,
    action: Action,
    collection: Option<String>,
    /// There where something is sent on.
    destination: Option<String>,
    /// `None` where the action is about no field.
    field: Option<String>,
    before: View,
    after: View,
    /// Codes, or `(none)`.
    purposes: Vec<&'static str>,
    /// The circumstances; empty where it is so in all of them.
    when: Vec<String>,
}

/// What an action is of, by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    collection: Option<&'a str>,
    destination: Option<&'a str>,
}

/// A role's view of one field for one purpose, in circumstances that these words say.
type Views = BTreeMap<(Option<String>, &'static str, String), View>;

/// Everything that is different, in the order of the roles.
pub fn differences(old: &PolicySet, new: &PolicySet) -> Vec<Change> {
    let roles: BTreeSet<&str> = old.roles().iter().chain(new.roles()).map(AsRef::as_ref).collect();
    let mut changes = Vec::new();
    for role in roles {
        for action in Action::ALL {
            let actions = RuleAction::of(action);
            let sets = [old, new].into_iter().filter(|set| set.has_role(role));
            let seen: Seen = sets.map(|set| set.rules().seen(role, actions)).collect();
            // People of a department that was added, or is gone, are somebody to what asks for any.
            let is_one_list = !seen.looks_at("department") || departments_of(old) == departments_of(new);
            let [was, is] =
                [old, new].map(|set| set.has_role(role).then(|| set.rules().written(role, actions)));
            for place in places(old, action).into_iter().chain(places(new, action)).collect::<BTreeSet<_>>() {
                if was == is && is_one_list && fields_of(old, place) == fields_of(new, place) {
                    continue;
                }
                let [before, after] = [old, new].map(|set| views(set, role, action, place, &seen));
                changes.extend(compared(&before, &after).map(|(key, purposes, when)| Change {
                    role: role.to_owned(),
                    action,
                    collection: place.collection.map(str::to_owned),
                    destination: place.destination.map(str::to_owned),
                    field: key.0,
                    before: key.1,
                    after: key.2,
                    purposes,
                    when,
                }));
            }
        }
    }
    changes
}

/// Everything that the action can be of.
fn places(set: &PolicySet, action: Action) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    if action.is_of_a_destination() {
        for destination in set.destinations() {
            for collection in destination.collections() {
                let collection = Some(collection.name().as_str());
                places.push(Place { collection, destination: Some(destination.name().as_str()) });
            }
        }
    } else if action.is_of_a_collection() {
        let names = set.collections().map(|collection| Some(collection.name().as_str()));
        places.extend(names.map(|collection| Place { collection, destination: None }));
    } else {
        places.push(Place { collection: None, destination: None });
    }
    places
}

/// What a decision knows of a place: the names of its fields with their classes. `None` where there is none.
fn fields_of<'s>(set: &'s PolicySet, place: Place<'_>) -> Option<Vec<(&'s str, DataClass)>> {
    let collection = set.collection(place.collection?)?;
    let destination = match place.destination {
        Some(name) => Some(set.destination(name)?),
        None => None,
    };
    let is_there = |field: &&Field| destination.is_none_or(|one| one.takes(collection.name(), field.id));
    let fields = collection.fields().iter().filter(is_there);
    Some(fields.map(|field| (field.name.as_str(), field.class)).collect())
}

fn departments_of(set: &PolicySet) -> BTreeSet<&str> {
    set.rules().departments().all().map(|(_, name)| &**name).collect()
}

fn views(set: &PolicySet, role: &str, action: Action, place: Place<'_>, seen: &Seen) -> Views {
    let mut views = Views::new();
    let held = place.collection.and_then(|name| set.collection(name));
    let destination = place.destination.and_then(|name| set.destination(name)).map(AsRef::as_ref);
    let identity = identity(kind_of(role), &[role.to_owned()]);
    if place.collection.is_some() && held.is_none() {
        return views;
    }
    let collection = held.map(AsRef::as_ref);
    let has_fields = action.is_of_fields();
    for reached in reached_by(set.rules(), seen) {
        let circumstances = reached.circumstances;
        let (rules, identity) = (set.rules(), &identity);
        let asking = Asking { rules, identity, collection, destination, action, circumstances };
        let Some(caller) = asking.caller() else { continue };
        for purpose in std::iter::once(None).chain(Purpose::ALL.map(Some)) {
            let table = decide(&asking, &caller, purpose);
            let code = purpose.map_or("(none)", Purpose::as_str);
            let fields = collection.filter(|_| has_fields).map_or(&[][..], Collection::fields);
            for field in fields {
                let view = table.as_ref().map_or(View::Absent, |table| table.view_of(field.id));
                views.insert((Some(field.name.as_str().to_owned()), code, reached.words.clone()), view);
            }
            if fields.is_empty() {
                let view = if table.is_some() { View::Plain } else { View::Absent };
                views.insert((None, code, reached.words.clone()), view);
            }
        }
    }
    views
}

type Compared = ((Option<String>, View, View), Vec<&'static str>, Vec<String>);

/// What differs: by field and how, the purposes for which it does in the same circumstances.
fn compared(before: &Views, after: &Views) -> impl Iterator<Item = Compared> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let all: BTreeSet<&String> = keys.iter().map(|(_, _, words)| words).collect();
    let view = |views: &Views, key| views.get(key).copied().unwrap_or(View::Absent);
    let mut by_purpose: BTreeMap<_, BTreeMap<&'static str, Vec<String>>> = BTreeMap::new();
    for key in keys {
        let (before, after) = (view(before, key), view(after, key));
        if before != after {
            let differing = by_purpose.entry((key.0.clone(), before, after)).or_default();
            differing.entry(key.1).or_default().push(key.2.clone());
        }
    }
    let everywhere = all.len();
    by_purpose.into_iter().flat_map(move |(key, purposes)| {
        let mut together: Vec<(Vec<&'static str>, Vec<String>)> = Vec::new();
        for (purpose, when) in purposes {
            let when = if when.len() == everywhere { Vec::new() } else { when };
            match together.iter_mut().find(|(_, known)| *known == when) {
                Some((purposes, _)) => purposes.push(purpose),
                None => together.push((vec![purpose], when)),
            }
        }
        together.into_iter().map(move |(purposes, when)| (key.clone(), purposes, when))
    })
}

impl Change {
    /// Whether it gives more than before.
    pub fn is_grant(&self) -> bool {
        self.after > self.before
    }

    /// For people: `grants billing: read patients.ssn in plain (masked before), for HPAYMT`.
    pub fn sentence(&self) -> String {
        let verb = if self.is_grant() { "grants" } else { "takes from" };
        let place =
            [self.collection.as_deref(), self.field.as_deref()].into_iter().flatten().collect::<Vec<_>>();
        let what = format!("{} {}", self.action.as_str(), place.join("."));
        let to = self.destination.as_ref().map_or(String::new(), |name| format!(" to {name}"));
        let how = match (&self.field, self.action) {
            (Some(_), Action::Read) => {
                let view = |view| match view {
                    View::Plain => "in plain",
                    View::Masked => "masked",
                    View::Absent => "not at all",
                };
                format!(" {} ({} before)", view(self.after), view(self.before))
            }
            _ => String::new(),
        };
        let when = if self.when.is_empty() { String::new() } else { format!(", when {}", self.words()) };
        format!("{verb} {}: {}{to}{how}, for {}{when}", self.role, what.trim_end(), self.purposes.join(" "))
    }

    fn words(&self) -> String {
        let each = self.when.iter().map(|words| if words.is_empty() { "nothing" } else { words });
        each.collect::<Vec<_>>().join("; ")
    }

    pub fn to_json(&self) -> Value {
        json!({
            "change": if self.is_grant() { "grants" } else { "takes" },
            "role": self.role,
            "action": self.action.as_str(),
            "collection": self.collection,
            "destination": self.destination,
            "field": self.field,
            "before": self.before.as_str(),
            "after": self.after.as_str(),
            "purposes": self.purposes,
            "when": self.when,
        })
    }
}
