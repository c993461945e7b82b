//! What is wrong with a policy that is valid: permits that never have an effect, because nothing can be what they ask for, or
//! because guards forbid all of it. A guard may wait for what it forbids; a permit without effect is a mistake.

use std::sync::Arc;

use super::cases::identity;
use super::cedar::{Asked, Caller, Rules};
use super::entities::RuleResource;
use super::matrix::kind_of;
use super::reach::{Reached, reached};
use super::set::PolicySet;
use super::words::{ResourceKind, RuleAction};
use crate::domain::purpose::Purpose;

/// One sentence for each permit that gives nothing to anybody, in any circumstances and for any purpose.
pub fn idle_permits(set: &PolicySet) -> Vec<String> {
    let rules = set.rules();
    let judged = rules.permits().into_iter().filter_map(|permit| {
        let concerned: Vec<&Arc<str>> = rules
            .roles()
            .iter()
            .filter(|role| permit.role.as_ref().is_none_or(|own| *own == ***role))
            .collect();
        let is_found = |asked| concerned.iter().any(|role| has_effect(set, role, &permit, asked));
        if is_found(Asked::All) {
            None
        } else if is_found(Asked::Permits) {
            Some(format!(
                "{}: forbids hold wherever it does; it gives nothing, take it back or change them",
                permit.id
            ))
        } else {
            Some(format!("{}: no request is what it asks for; take it back or change it", permit.id))
        }
    });
    judged.collect()
}

/// A permit as it is looked for.
pub(super) struct Sought {
    pub id: Arc<str>,
    /// The role of its scope; `None` where it is for every role.
    pub role: Option<String>,
    pub actions: Vec<RuleAction>,
}

/// Whether there is a request of the role that the permit lets through.
fn has_effect(set: &PolicySet, role: &str, permit: &Sought, asked: Asked) -> bool {
    let rules = set.rules();
    let identity = identity(kind_of(role), &[role.to_owned()]);
    reached(rules, role, &permit.actions).iter().any(|reached| {
        let caller = rules.caller(&identity, reached.circumstances.person);
        caller.is_some_and(|caller| in_these(set, (&caller, asked), reached, permit))
    })
}

fn in_these(set: &PolicySet, caller: (&Caller, Asked), reached: &Reached, permit: &Sought) -> bool {
    let rules = set.rules();
    let mut purposes = std::iter::once(None).chain(Purpose::ALL.map(Some));
    purposes.any(|purpose| {
        let Some(setting) = rules.setting(purpose, reached.circumstances) else { return false };
        let holds = |action: RuleAction, resource: RuleResource<'_>| {
            let verdict = rules.decide(caller, &setting, action, resource);
            verdict.allowed && verdict.policies.contains(&permit.id)
        };
        permit.actions.iter().any(|action| resources(set, *action).any(|resource| holds(*action, resource)))
    })
}

/// Everything that an action can be about.
fn resources(set: &PolicySet, action: RuleAction) -> Box<dyn Iterator<Item = RuleResource<'_>> + '_> {
    let once =
        |resource| -> Box<dyn Iterator<Item = RuleResource<'_>> + '_> { Box::new(std::iter::once(resource)) };
    match action.resource() {
        ResourceKind::Field => Box::new(set.collections().flat_map(|collection| {
            collection.fields().iter().map(move |field| RuleResource::Field(collection, field))
        })),
        ResourceKind::RelayedField => Box::new(set.destinations().flat_map(|destination| {
            let each = destination.distinct_fields();
            each.map(move |(collection, field)| {
                RuleResource::RelayedField(destination.name(), collection, field)
            })
        })),
        ResourceKind::Collection => {
            Box::new(set.collections().map(|collection| RuleResource::Collection(collection.name())))
        }
        ResourceKind::Record => {
            Box::new(set.collections().map(|collection| RuleResource::Record(collection.name())))
        }
        ResourceKind::AuditLog => once(RuleResource::AuditLog),
        ResourceKind::Metrics => once(RuleResource::Metrics),
        ResourceKind::Subject => once(RuleResource::Subject),
        ResourceKind::Keys => once(RuleResource::Keys),
    }
}

impl Rules {
    /// All permits, by id.
    fn permits(&self) -> Vec<Sought> {
        let mut permits: Vec<Sought> = self.sought().collect();
        permits.sort_by(|one, other| one.id.cmp(&other.id));
        permits
    }
}
