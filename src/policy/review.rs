//! What is wrong with a policy that is valid: permits that never have an effect, because nothing can be what they ask for, or
//! because guards forbid all of it. A guard may wait for what it forbids; a permit without effect is a mistake.

use std::sync::Arc;

use super::cases::identity;
use super::cedar::{Asked, Caller, RuleResource, Rules};
use super::matrix::kind_of;
use super::reach::{Reached, reached};
use super::set::PolicySet;
use super::words::RuleAction;
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
    let Some(caller) = rules.caller(&identity) else { return false };
    reached(rules, role, &permit.actions)
        .iter()
        .any(|reached| in_these(set, (&caller, asked), reached, permit))
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
    match action {
        RuleAction::Create
        | RuleAction::ReadPlain
        | RuleAction::ReadMasked
        | RuleAction::Update
        | RuleAction::Export => Box::new(set.collections().flat_map(|collection| {
            collection.fields().iter().map(move |field| RuleResource::Field(collection, field))
        })),
        RuleAction::Delete
        | RuleAction::History
        | RuleAction::List
        | RuleAction::ReadMany
        | RuleAction::Search => {
            Box::new(set.collections().map(|collection| RuleResource::Collection(collection.name())))
        }
        RuleAction::ReadAudit => Box::new(std::iter::once(RuleResource::AuditLog)),
        RuleAction::ReadMetrics => Box::new(std::iter::once(RuleResource::Metrics)),
        RuleAction::ReadCareTeam
        | RuleAction::UpdateCareTeam
        | RuleAction::OpenBreakGlass
        | RuleAction::ReviewBreakGlass
        | RuleAction::ReadHold
        | RuleAction::Hold
        | RuleAction::ReadErasure
        | RuleAction::Erase
        | RuleAction::Approve => Box::new(std::iter::once(RuleResource::Subject)),
        RuleAction::ReadKeys | RuleAction::Rotate | RuleAction::ApproveDestruction => {
            Box::new(std::iter::once(RuleResource::Keys))
        }
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
