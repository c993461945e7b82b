//! Roles that nobody has together: not a client by itself, and not with a person behind it.
//!
//! What roles come to together is known where clients are listed, and a list that breaks a rule is refused there. A request is
//! asked about all the same, whatever came together for it: a `forbid` of a role that its person does not have may be all that
//! kept the rest apart.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{Display, Formatter};
use std::sync::{Arc, PoisonError, RwLock};

use super::cedar::Rules;
use super::isolation::{BOTH_CLASSES, broken_by};
use super::person_roles::PersonRoles;
use crate::domain::actor::{ClientKind, Identity};

/// Sets of roles whose answer is kept. When it is full it starts over.
const MOST_KNOWN: usize = 4_096;

/// What is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    BothClasses,
    NumberWithFingerprint,
    KeeperWithValues,
}

/// Roles that break a rule together, or one that does alone. Says which, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleConflict {
    roles: Arc<[Arc<str>]>,
    rule: Rule,
}

impl RoleConflict {
    pub(super) fn new(roles: &Arc<[Arc<str>]>, rule: Rule) -> Self {
        Self { roles: Arc::clone(roles), rule }
    }

    /// As it stands in the log, where the ids of deciding policies stand otherwise.
    pub(super) const fn rule_id(&self) -> &'static str {
        match self.rule {
            Rule::BothClasses => "isolation:classes",
            Rule::NumberWithFingerprint => "isolation:card",
            Rule::KeeperWithValues => "isolation:keepers",
        }
    }
}

impl Display for RoleConflict {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let is_one = self.roles.len() == 1;
        let (verb, apart) = if is_one { ("reads", "roles") } else { ("together read", "clients") };
        let names = self.roles.join(" and ");
        match self.rule {
            Rule::BothClasses => write!(
                f,
                "{names} {verb} cardholder data and health information: give them to different {apart}, or say @allows(\"{BOTH_CLASSES}\") on a permit of the role"
            ),
            Rule::NumberWithFingerprint => {
                write!(f, "{names} {verb} card numbers and fingerprints: give them to different {apart}")
            }
            Rule::KeeperWithValues => write!(
                f,
                "{names} together keep the service or its log and are given values: give them to different clients"
            ),
        }
    }
}

/// What was found out about sets of roles.
#[derive(Default)]
pub(super) struct KnownConflicts(RwLock<HashMap<Together, Option<Rule>>>);

/// The kind of a client, and roles; which of them a person brought, where that is known.
type Together = (ClientKind, Arc<[Arc<str>]>, Option<PersonRoles>);

impl Rules {
    /// What is wrong with a caller that has these roles together, whoever brought some of them, or this person. Each role alone
    /// was looked at when it was loaded.
    pub(super) fn conflict(&self, identity: &Identity, brought: Option<PersonRoles>) -> Option<RoleConflict> {
        if identity.roles.len() < 2 {
            return None;
        }
        let key = (identity.kind, Arc::clone(&identity.roles), brought);
        let known = &self.conflicts().0;
        let found = known.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let rule = found.unwrap_or_else(|| {
            let rule = broken_by(self, identity, brought);
            let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(key, rule);
            rule
        });
        rule.map(|rule| RoleConflict::new(&identity.roles, rule))
    }

    /// The same of all that a listed client may come to have: its own roles, with those that people bring. By ones and twos,
    /// since no more than two are needed to join two things, and all at once.
    pub(super) fn client_conflict(&self, identity: &Identity) -> Option<RoleConflict> {
        let brought = &identity.acts_for;
        let pairs = brought.iter().enumerate().flat_map(|(place, one)| {
            let rest = brought.iter().skip(place + 1);
            rest.map(move |other| vec![one, other])
        });
        let ones = brought.iter().map(|one| vec![one]);
        let none_and_all = [Vec::new(), brought.iter().collect()];
        ones.chain(pairs)
            .chain(none_and_all)
            .map(|brought| {
                let together: BTreeSet<&Arc<str>> = identity.roles.iter().chain(brought).collect();
                Identity { roles: together.into_iter().cloned().collect(), ..identity.clone() }
            })
            .find_map(|together| self.conflict(&together, None))
    }
}
