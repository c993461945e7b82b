//! The policies of `*.cedar`, each under its own id: no templates, no warnings, nothing named that is not there.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy as cedar;
use cedar_policy::{ActionConstraint, EntityUid, PrincipalConstraint};
use serde_json::Value;

use super::collection::Collection;
use super::entities::field_literal;
use super::permit::DenialCode;
use super::reach::Seen;
use super::relay_file::Destination;
use super::words::RuleAction;

/// The policies of one file under the ids that they declare.
pub(super) fn read_policies(text: &str) -> Result<Vec<cedar::Policy>, String> {
    let parsed = cedar::PolicySet::from_str(text).map_err(|error| error.to_string())?;
    if parsed.num_of_templates() > 0 {
        return Err("write policies without templates".to_owned());
    }
    let mut named = Vec::new();
    for policy in parsed.policies() {
        let id = policy.annotation("id").unwrap_or_default();
        let fits = (1..=80).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err("give each policy an @id of lower-case letters, digits and hyphens".to_owned());
        }
        named.push(policy.new_id(cedar::PolicyId::new(id)));
    }
    Ok(named)
}

pub(super) fn validate(schema: &cedar::Schema, policies: &cedar::PolicySet) -> Result<(), String> {
    let result = cedar::Validator::new(schema.clone()).validate(policies, cedar::ValidationMode::Strict);
    // Not everything that Cedar says is wrong names the policy in which it is.
    let named = |text: String, id: &cedar::PolicyId| {
        if text.contains(&format!("policy `{id}`")) { text } else { format!("for policy `{id}`, {text}") }
    };
    let errors = result.validation_errors().map(|error| named(error.to_string(), error.policy_id()));
    let warnings =
        result.validation_warnings().map(|warning| named(warning.to_string(), warning.policy_id()));
    errors.chain(warnings).next().map_or(Ok(()), Err)
}

pub(super) fn known_literals(
    collections: &BTreeMap<String, Arc<Collection>>,
    destinations: &BTreeMap<String, Arc<Destination>>,
) -> HashSet<(String, String)> {
    let destinations = destinations.keys().map(|name| ("Destination".to_owned(), name.clone()));
    let mut known: HashSet<(String, String)> = destinations.collect();
    for collection in collections.values() {
        known.insert(("Collection".to_owned(), collection.name().as_str().to_owned()));
        for field in collection.fields() {
            known.insert(("Field".to_owned(), field_literal(collection, field)));
        }
    }
    known
}

/// What a guard asks of the caller: the code that a refusal by it has. Only a `forbid` has one.
pub(super) fn read_code(policy: &cedar::Policy) -> Result<Option<DenialCode>, String> {
    let Some(word) = policy.annotation("code") else { return Ok(None) };
    let code = DenialCode::of_guard(word).filter(|_| policy.effect() == cedar::Effect::Forbid);
    let why = || format!("policy {}: @code is for a forbid, and one of the codes in README.md", policy.id());
    code.map(Some).ok_or_else(why)
}

/// The role that a policy's scope names.
pub(super) fn role_of(policy: &cedar::Policy) -> Option<String> {
    match policy.principal_constraint() {
        PrincipalConstraint::In(role) | PrincipalConstraint::IsIn(_, role) => Some(word(&role)),
        _ => None,
    }
}

/// Whether a policy's scope has the action.
pub(super) fn names_action(policy: &cedar::Policy, action: RuleAction) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(named) => word(&named) == action.as_str(),
        ActionConstraint::In(named) => named.iter().any(|named| word(named) == action.as_str()),
    }
}

fn word(uid: &EntityUid) -> String {
    uid.id().unescaped().to_owned()
}

/// What a policy looks at: attributes, of whatever, and departments and roles of a person by name.
pub(super) fn seen_by(policy: &cedar::Policy) -> Seen {
    let (mut attributes, mut person_roles) = (Vec::new(), Vec::new());
    if let Ok(json) = policy.to_json() {
        collect_attributes(&json, &mut attributes);
        collect_person_roles(&json, &mut person_roles);
    }
    let literals = policy.entity_literals().into_iter();
    let departments = literals.filter(|literal| literal.type_name().to_string() == "Department");
    Seen {
        attributes: attributes.into_iter().collect(),
        departments: departments.map(|literal| word(&literal)).collect(),
        person_roles: person_roles.into_iter().collect(),
    }
}

/// Of every `in`, and `is … in`, whose left side has to do with the person: what is in it of roles. There is no other way to ask
/// whose parent a role is, and none to have a role without naming it.
fn collect_person_roles(json: &Value, found: &mut Vec<String>) {
    let members = json.as_object();
    for test in ["in", "is"].into_iter().filter_map(|test| members?.get(test)) {
        let mut left = Vec::new();
        test.get("left").into_iter().for_each(|side| collect_attributes(side, &mut left));
        if left.iter().any(|attribute| attribute == "person") {
            collect_roles(test, found);
        }
    }
    inside(json).for_each(|member| collect_person_roles(member, found));
}

fn collect_roles(json: &Value, found: &mut Vec<String>) {
    let text = |name: &str| json.pointer(&format!("/__entity/{name}")).and_then(Value::as_str);
    if text("type") == Some("Role") {
        found.extend(text("id").map(str::to_owned));
    }
    inside(json).for_each(|member| collect_roles(member, found));
}

fn collect_attributes(json: &Value, found: &mut Vec<String>) {
    found.extend(json.get("attr").and_then(Value::as_str).map(str::to_owned));
    inside(json).for_each(|member| collect_attributes(member, found));
}

/// The members of an object, the items of an array.
fn inside(json: &Value) -> impl Iterator<Item = &Value> {
    let members = json.as_object().into_iter().flat_map(serde_json::Map::values);
    members.chain(json.as_array().into_iter().flatten())
}

/// Roles, departments, purposes, classes, bands and actions are the validator's; collections, fields and destinations are ours; single
/// clients, tenants, people and records have no place in a policy.
pub(super) fn check_literals(
    policy: &cedar::Policy,
    known: &HashSet<(String, String)>,
) -> Result<(), String> {
    for literal in policy.entity_literals() {
        let kind = literal.type_name().to_string();
        let id: &str = literal.id().unescaped();
        let fits = match kind.as_str() {
            "Role" | "Department" | "Purpose" | "Class" | "ClientKind" | "Action" | "Hour" | "Source" => true,
            "Collection" | "Field" | "Destination" => known.contains(&(kind.clone(), id.to_owned())),
            _ => false,
        };
        if !fits {
            return Err(format!("policy {}: there is no {kind} {id} to name", policy.id()));
        }
    }
    Ok(())
}
