//! What no policy folder may say, whoever reviewed it: it is refused when it is loaded.
//!
//! Some of it is read off the policies as they are written, since a `forbid` without a condition outweighs whatever else the
//! files say, of this role and of every other beside it. The rest is asked of the engine, role by role.

use std::collections::BTreeSet;

use cedar_policy as cedar;
use cedar_policy::ResourceConstraint;

use super::cases::identity;
use super::cedar::{Fault, Rules};
use super::collection::{CardPart, Collection, Field};
use super::matrix::kind_of;
use super::permit::View;
use super::reach::reached;
use super::rule_files::{names_action, role_of};
use super::table::{Asking, decide};
use super::words::RuleAction;
use crate::domain::action::Action;
use crate::domain::class::DataClass;
use crate::domain::purpose::Purpose;

/// Roles of clients that keep the service, its keys or its log.
const KEEPERS: [&str; 3] = ["auditor", "custodian", "operator"];
/// By which a value, or that there is one, is given or taken.
const ON_VALUES: [RuleAction; 8] = [
    RuleAction::Create,
    RuleAction::ReadPlain,
    RuleAction::ReadMasked,
    RuleAction::Update,
    RuleAction::Delete,
    RuleAction::History,
    RuleAction::List,
    RuleAction::ReadMany,
];
/// What a permit says with `@allows` whose role may read both.
const BOTH_CLASSES: &str = "cardholder data beside health information";

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

/// A role that reads cardholder data reads no health information, unless a permit of its own says so in as many words; and
/// none reads a card's number, if only a part of it, beside its fingerprint (PCI DSS 3.5.1).
pub(super) fn keep_classes_apart<'c>(
    rules: &Rules,
    collections: &(impl Iterator<Item = &'c Collection> + Clone),
) -> Result<(), Fault> {
    let fields = || {
        collections
            .clone()
            .flat_map(|collection| collection.fields().iter().map(move |field| (collection, field)))
    };
    if !fields().any(|(_, field)| field.class == DataClass::Chd) {
        return Ok(());
    }
    for role in rules.roles() {
        let read = |wanted: &dyn Fn(&Field) -> bool| {
            let concerned = collections.clone().filter(|collection| collection.fields().iter().any(wanted));
            reads(rules, role, concerned, wanted)
        };
        let fault = |why: String| Err(("*.cedar".to_owned(), why));
        if read(&|field| field.card == Some(CardPart::Number))
            && read(&|field| field.card == Some(CardPart::Fingerprint))
        {
            return fault(format!(
                "{role} reads card numbers and fingerprints: give them to different roles"
            ));
        }
        if !rules.allows(role, BOTH_CLASSES)
            && read(&|field| field.class == DataClass::Chd)
            && read(&|field| field.class == DataClass::Phi)
        {
            return fault(format!(
                "{role} reads cardholder data and health information: give them to different roles, or say @allows(\"{BOTH_CLASSES}\") on a permit of the role"
            ));
        }
    }
    Ok(())
}

/// Whether a role sees anything of such a field, masked or not, in any circumstances and for any purpose.
fn reads<'c>(
    rules: &Rules,
    role: &str,
    mut collections: impl Iterator<Item = &'c Collection>,
    wanted: &dyn Fn(&Field) -> bool,
) -> bool {
    let identity = identity(kind_of(role), &[role.to_owned()]);
    let Some(caller) = rules.caller(&identity) else { return false };
    let all = reached(rules, role, RuleAction::of(Action::Read));
    collections.any(|collection| {
        all.iter().any(|reached| {
            let circumstances = reached.circumstances;
            let (collection, action) = (Some(collection), Action::Read);
            let asking = Asking { rules, identity: &identity, collection, action, circumstances };
            let mut purposes = std::iter::once(None).chain(Purpose::ALL.map(Some));
            purposes.any(|purpose| {
                decide(&asking, &caller, purpose).is_some_and(|table| {
                    let fields = collection.into_iter().flat_map(Collection::fields);
                    fields.filter(|field| wanted(field)).any(|field| table.view_of(field.id) != View::Absent)
                })
            })
        })
    })
}
