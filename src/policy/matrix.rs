//! `policy/matrix.golden`: every role × action × collection × field × purpose, as text that a reviewer reads in a diff.

use std::fmt::Write as _;

use super::cases::identity;
use super::collection::Collection;
use super::permit::View;
use super::set::PolicySet;
use super::table::{Table, decide};
use crate::domain::action::Action;
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::purpose::Purpose;

const HEAD: &str = "# Generated, see README.md. For each role, action and collection: the purposes that show a field, and how;
# for create and update, plain is \"may write\". What is not listed is refused. (none) is a request without a purpose.
";

/// The whole matrix, each role on its own.
pub fn matrix(set: &PolicySet) -> String {
    let mut out = String::from(HEAD);
    for role in set.roles() {
        let kind = match &**role {
            "auditor" => ClientKind::Auditor,
            "custodian" => ClientKind::Custodian,
            "operator" => ClientKind::Operator,
            _ => ClientKind::App,
        };
        let identity = identity(kind, &[role.to_string()]);
        for collection in set.collections() {
            for action in Action::ALL.into_iter().filter(|action| action.is_of_a_collection()) {
                section(&mut out, set, &identity, Some(collection), action);
            }
        }
        for action in Action::ALL.into_iter().filter(|action| !action.is_of_a_collection()) {
            section(&mut out, set, &identity, None, action);
        }
    }
    out
}

fn section(
    out: &mut String,
    set: &PolicySet,
    identity: &Identity,
    collection: Option<&Collection>,
    action: Action,
) {
    let tables: Vec<(&str, Table)> = std::iter::once(None)
        .chain(Purpose::ALL.map(Some))
        .filter_map(|purpose| {
            let table = decide(set.rules(), identity, collection, action, purpose)?;
            Some((purpose.map_or("(none)", Purpose::as_str), table))
        })
        .collect();
    if tables.is_empty() {
        return;
    }
    let role = identity.roles.first().map_or("", AsRef::as_ref);
    let place = collection.map_or("", |collection| collection.name().as_str());
    let title = format!("{role} {} {place}", action.as_str());
    // Writing to a String does not fail.
    let _ = writeln!(out, "\n{}", title.trim_end());
    let has_fields = matches!(action, Action::Create | Action::Read | Action::Update);
    let fields = collection.filter(|_| has_fields).map_or(&[][..], Collection::fields);
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
}
