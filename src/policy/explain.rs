//! Why a request would be allowed or refused: the policies that decide, and what would have to be another way.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::circumstances::{Circumstances, PersonFacts};
use super::collection::{Collection, Field};
use super::described::{Described, Resolved};
use super::permit::View;
use super::set::PolicySet;
use super::table::{Asking, Table, compile};
use crate::domain::actor::Identity;
use crate::domain::id::FieldId;
use crate::domain::purpose::Purpose;
use crate::domain::relationship::Relationship;

/// What becomes of a described request.
pub struct Explanation {
    /// The code of the denial; `None` where something is permitted.
    code: Option<&'static str>,
    policies: Vec<String>,
    /// What is wrong with the roles together, where that is why.
    conflict: Option<String>,
    fields: Vec<ExplainedField>,
    /// What gives more, each on its own: `purpose TREAT`, `second_factor`, `without person`, `person_role clinician`,
    /// `department oncology`, `hour day`.
    more_with: Vec<String>,
}

struct ExplainedField {
    name: String,
    view: View,
    policies: Vec<String>,
}

/// An error names what is not there.
pub fn explain(set: &PolicySet, described: &Described) -> Result<Explanation, String> {
    let resolved = described.resolve(set)?;
    let decision = compile(&resolved.asking(), resolved.purpose);
    let has_fields = resolved.action.is_of_fields();
    let fields = resolved.collection.filter(|_| has_fields).map_or(&[][..], |held| held.fields());
    // What the destination's file does not name is not a question of rules.
    let is_asked = |field: &&Field| {
        let name = resolved.collection.map(|collection| collection.name());
        resolved.destination.zip(name).is_none_or(|(destination, name)| destination.takes(name, field.id))
    };
    let explained = |table: &Table| {
        let each = fields.iter().filter(is_asked).map(|field| ExplainedField {
            name: field.name.as_str().to_owned(),
            view: table.view_of(field.id),
            policies: words(table.policies_of(field.id)),
        });
        each.collect()
    };
    let more_with = more_with(&resolved, decision.as_deref().ok());
    let conflict = resolved.asking().conflict().map(|conflict| conflict.to_string());
    let (code, policies, fields) = match &decision {
        Ok(table) => (None, words(table.policies()), explained(table)),
        Err(denial) => (Some(denial.code.as_str()), words(&denial.policies), Vec::new()),
    };
    Ok(Explanation { code, policies, conflict, fields, more_with })
}

fn words(policies: &[Arc<str>]) -> Vec<String> {
    policies.iter().map(ToString::to_string).collect()
}

/// Every single change of the purpose or the circumstances after which something more is given.
fn more_with(resolved: &Resolved<'_>, now: Option<&Table>) -> Vec<String> {
    let is_more = |purpose: Option<Purpose>, asking: &Asking<'_>| {
        compile(asking, purpose)
            .is_ok_and(|then| now.is_none_or(|now| gives_more(resolved.collection, now, &then)))
    };
    let purposes = Purpose::ALL.into_iter().filter(|other| Some(*other) != resolved.purpose);
    let mut found: Vec<String> = purposes
        .filter(|other| is_more(Some(*other), &resolved.asking()))
        .map(|other| format!("purpose {}", other.as_str()))
        .collect();
    let others = changes(resolved).into_iter().filter(|(_, circumstances)| {
        is_more(resolved.purpose, &Asking { circumstances: *circumstances, ..resolved.asking() })
    });
    found.extend(others.map(|(words, _)| words));
    let others = brought(resolved).into_iter().filter(|(_, circumstances, identity)| {
        let circumstances = *circumstances;
        is_more(resolved.purpose, &Asking { identity, circumstances, ..resolved.asking() })
    });
    found.extend(others.map(|(words, ..)| words));
    found
}

fn gives_more(collection: Option<&Arc<Collection>>, now: &Table, then: &Table) -> bool {
    let view = |table: &Table, field: FieldId| table.view_of(field);
    let fields = collection.into_iter().flat_map(|collection| collection.fields());
    fields.map(|field| field.id).any(|field| view(then, field) > view(now, field))
}

/// The circumstances with one thing another way. Whoever has to do with somebody, or is of a department, is a person.
fn changes(resolved: &Resolved<'_>) -> Vec<(String, Circumstances)> {
    let now = resolved.circumstances;
    let Relationship { is_self, in_care_team, break_glass } = now.relationship;
    let turned = |word: &str, is_so: bool| if is_so { format!("without {word}") } else { word.to_owned() };
    let person = now.person.unwrap_or_default();
    let related = |relationship| Circumstances { person: Some(person), relationship, ..now };
    let (relationship, other) = (Relationship::NONE, now.person.is_none().then_some(person));
    let alone = Circumstances { person: other, relationship, ..now };
    let mut all = vec![
        (turned("person", now.person.is_some()), alone),
        (
            turned("second_factor", now.second_factor),
            Circumstances { second_factor: !now.second_factor, ..now },
        ),
        (turned("is_self", is_self), related(Relationship { is_self: !is_self, ..now.relationship })),
        (
            turned("in_care_team", in_care_team),
            related(Relationship { in_care_team: !in_care_team, ..now.relationship }),
        ),
        (
            turned("break_glass", break_glass),
            related(Relationship { break_glass: !break_glass, ..now.relationship }),
        ),
    ];
    let of = |department| Circumstances { person: Some(PersonFacts { department, ..person }), ..now };
    if person.department.is_some() {
        all.push(("without department".to_owned(), of(None)));
    }
    let departments = resolved.set.rules().departments().all();
    let others = departments.filter(|(department, _)| Some(*department) != person.department);
    all.extend(others.map(|(department, name)| (format!("department {name}"), of(Some(department)))));
    let bands = resolved.set.rules().bands();
    let hours = bands.hours().filter(|(band, _)| *band != now.hour);
    all.extend(hours.map(|(hour, name)| (format!("hour {name}"), Circumstances { hour, ..now })));
    let sources = bands.sources().filter(|(band, _)| *band != now.source);
    all.extend(sources.map(|(source, name)| (format!("source {name}"), Circumstances { source, ..now })));
    all
}

/// The same person, bringing one more or less of the roles that people are asked for. What they bring is a role of the
/// request; what they do not can still be the client's.
fn brought(resolved: &Resolved<'_>) -> Vec<(String, Circumstances, Identity)> {
    let (asked, person) =
        (resolved.set.rules().asked_roles(), resolved.circumstances.person.unwrap_or_default());
    let now: BTreeSet<&str> = asked.names(person.roles).map(AsRef::as_ref).collect();
    let change = |role: &Arc<str>| {
        let (one, identity) = (BTreeSet::from([&**role]), &resolved.identity);
        let words = if now.contains(&**role) { "without person_role" } else { "person_role" };
        let person = PersonFacts { roles: asked.among(&now ^ &one), ..person };
        let roles: BTreeSet<&Arc<str>> = identity.roles.iter().chain([role]).collect();
        let identity = Identity { roles: roles.into_iter().cloned().collect(), ..identity.clone() };
        let circumstances = Circumstances { person: Some(person), ..resolved.circumstances };
        (format!("{words} {role}"), circumstances, identity)
    };
    asked.all().map(change).collect()
}

impl Explanation {
    /// For people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let by = |policies: &[String]| {
            if policies.is_empty() { "no permit holds".to_owned() } else { policies.join(" ") }
        };
        let head = match self.code {
            Some(code) => format!("refused, {code}: {}", by(&self.policies)),
            None => format!("permitted: {}", by(&self.policies)),
        };
        let field = |field: &ExplainedField| {
            format!("  {:<18} {:<6} {}", field.name, field.view.as_str(), by(&field.policies))
        };
        let mut lines: Vec<String> = std::iter::once(head).chain(self.fields.iter().map(field)).collect();
        lines.extend(self.conflict.clone());
        if !self.more_with.is_empty() {
            lines.push(format!("more would be given with: {}", self.more_with.join("; ")));
        }
        lines
    }

    pub fn to_json(&self) -> Value {
        let field = |field: &ExplainedField| json!({ "field": field.name, "view": field.view.as_str(), "policies": field.policies });
        json!({
            "permitted": self.code.is_none(),
            "code": self.code,
            "policies": self.policies,
            "fields": self.fields.iter().map(field).collect::<Vec<_>>(),
            "more_with": self.more_with,
        })
    }
}
