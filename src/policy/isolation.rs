//! What no policy folder may say, whoever reviewed it, and which roles nobody has together: refused when it is loaded.
//!
//! Some of it is read off the policies as they are written, since a `forbid` without a condition outweighs whatever else the
//! files say, of this role and of every other beside it. The rest is asked of the engine, for one role or for several.

use std::collections::BTreeSet;

use cedar_policy as cedar;
use cedar_policy::ResourceConstraint;

use super::cases::identity;
use super::cedar::{Caller, Fault, Rules};
use super::circumstances::Circumstances;
use super::collection::{CardPart, Collection, Field};
use super::conflict::{RoleConflict, Rule};
use super::matrix::kind_of;
use super::permit::View;
use super::person_roles::PersonRoles;
use super::reach::{Reached, Seen, reached_by, reached_with};
use super::rule_files::{names_action, role_of};
use super::table::{Asking, decide};
use super::words::RuleAction;
use crate::domain::action::Action;
use crate::domain::actor::Identity;
use crate::domain::class::DataClass;
use crate::domain::purpose::Purpose;

/// Roles of clients that keep the service, its keys or its log.
const KEEPERS: [&str; 3] = ["auditor", "custodian", "operator"];
/// By which a value, or that there is one, is given or taken.
const ON_VALUES: [RuleAction; 11] = [
    RuleAction::Create,
    RuleAction::ReadPlain,
    RuleAction::ReadMasked,
    RuleAction::Update,
    RuleAction::Delete,
    RuleAction::History,
    RuleAction::List,
    RuleAction::ReadMany,
    RuleAction::Search,
    RuleAction::Export,
    RuleAction::Relay,
];
/// What a permit says with `@allows` whose role may read both.
pub(super) const BOTH_CLASSES: &str = "cardholder data beside health information";

/// Keepers, and whoever may read the log, can never be given a value.
pub(super) fn keep_values_from_keepers(
    roles: &BTreeSet<&str>,
    policies: &cedar::PolicySet,
) -> Result<(), String> {
    let guarded: BTreeSet<String> = policies.policies().filter_map(keeps_values_from).collect();
    let open = KEEPERS.iter().find(|role| roles.contains(*role) && !guarded.contains(**role));
    if let Some(role) = open {
        return Err(format!(
            "forbid {role} every action on values, in one policy without a condition: the role can never be given one"
        ));
    }
    for policy in policies.policies().filter(|policy| policy.effect() == cedar::Effect::Permit) {
        if !names_action(policy, RuleAction::ReadAudit) {
            continue;
        }
        let role = role_of(policy);
        if !role.is_some_and(|role| guarded.contains(&role)) {
            let id = policy.id();
            return Err(format!(
                "policy {id}: whoever reads the log can never be given a value, like auditor"
            ));
        }
    }
    Ok(())
}

/// The role that a policy forbids every action on values, whatever the circumstances.
fn keeps_values_from(policy: &cedar::Policy) -> Option<String> {
    let is_whole = policy.effect() == cedar::Effect::Forbid
        && policy.resource_constraint() == ResourceConstraint::Any
        && has_no_condition(policy)
        && ON_VALUES.iter().all(|action| names_action(policy, *action));
    role_of(policy).filter(|_| is_whole)
}

fn has_no_condition(policy: &cedar::Policy) -> bool {
    let json = policy.to_json().ok();
    let conditions = json.as_ref().and_then(|json| json.get("conditions")?.as_array());
    conditions.is_some_and(Vec::is_empty)
}

/// Each role on its own.
pub(super) fn keep_classes_apart(rules: &Rules) -> Result<(), Fault> {
    for role in rules.roles() {
        let identity = identity(kind_of(role), &[role.to_string()]);
        if let Some(rule) = broken_by(rules, &identity, None) {
            return Err(("*.cedar".to_owned(), RoleConflict::new(&identity.roles, rule).to_string()));
        }
    }
    Ok(())
}

/// What a caller with these roles would be given that nobody is given together. Of whom it acts for it is known which of the
/// roles that people are asked for they brought; `None` is whoever there can be.
pub(super) fn broken_by(rules: &Rules, identity: &Identity, brought: Option<PersonRoles>) -> Option<Rule> {
    let held = &identity.roles;
    let is_keeper = |role: &str| KEEPERS.contains(&role) || rules.may_permit(role, &[RuleAction::ReadAudit]);
    // Of one role it is read off the policies as they are written.
    let is_given_values = |role: &str| !is_keeper(role) && rules.may_permit(role, &ON_VALUES);
    if held.iter().any(|role| is_keeper(role)) && held.iter().any(|role| is_given_values(role)) {
        return Some(Rule::KeeperWithValues);
    }
    let read = |wanted: &dyn Fn(&Field) -> bool| reads(rules, (identity, brought), wanted);
    if read(&|field| field.card == Some(CardPart::Number))
        && read(&|field| field.card == Some(CardPart::Fingerprint))
    {
        return Some(Rule::NumberWithFingerprint);
    }
    let is_meant = || held.iter().any(|role| rules.allows(role, BOTH_CLASSES));
    let both = read(&|field| field.class == DataClass::Chd) && read(&|field| field.class == DataClass::Phi);
    (both && !is_meant()).then_some(Rule::BothClasses)
}

/// Whether a caller sees anything of such a field, masked or not, one by one or in an export, in any circumstances and for any purpose.
fn reads(
    rules: &Rules,
    (identity, brought): (&Identity, Option<PersonRoles>),
    wanted: &dyn Fn(&Field) -> bool,
) -> bool {
    let has_some = |collection: &&Collection| collection.fields().iter().any(wanted);
    let collections: Vec<&Collection> = rules.with_cards_or_health().filter(has_some).collect();
    if collections.is_empty() {
        return false;
    }
    let all = [Action::Read, Action::Export].into_iter().flat_map(|action| {
        let actions = RuleAction::of(action);
        let seen: Seen = identity.roles.iter().map(|role| rules.seen(role, actions)).collect();
        reached_of(rules, identity, seen, brought).into_iter().filter_map(
            move |Reached { circumstances, .. }| {
                Some((action, circumstances, rules.caller(identity, circumstances.person)?))
            },
        )
    });
    let all: Vec<(Action, Circumstances, Caller)> = all.collect();
    collections.into_iter().any(|collection| {
        all.iter().any(|(action, circumstances, caller)| {
            let (collection, action, circumstances) = (Some(collection), *action, *circumstances);
            // What is sent on is shown to nobody here.
            let destination = None;
            let asking = Asking { rules, identity, collection, destination, action, circumstances };
            let mut purposes = std::iter::once(None).chain(Purpose::ALL.map(Some));
            purposes.any(|purpose| {
                decide(&asking, caller, purpose).is_some_and(|table| {
                    let fields = collection.into_iter().flat_map(Collection::fields);
                    fields.filter(|field| wanted(field)).any(|field| table.view_of(field.id) != View::Absent)
                })
            })
        })
    })
}

fn reached_of(
    rules: &Rules,
    identity: &Identity,
    mut seen: Seen,
    brought: Option<PersonRoles>,
) -> Vec<Reached> {
    if let Some(roles) = brought {
        let names = rules.asked_roles().names(roles).map(AsRef::as_ref);
        return reached_with(rules, &seen, &[names.collect()]);
    }
    // What a person brings is among the roles of the request. One role on its own is looked at beside whatever they may bring.
    if identity.roles.len() > 1 {
        seen.person_roles.retain(|role| identity.roles.iter().any(|held| **held == **role));
    }
    reached_by(rules, &seen)
}
