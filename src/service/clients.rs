//! Whether listed clients, people and a policy go together. Asked when either is loaded, before it is taken into use.

use std::sync::Arc;

use super::Service;
use crate::people::Known;
use crate::policy::PolicySet;
use crate::tls::{Identities, IdentityError};

/// The policy must know every role, and no client may come to have roles that nobody has together. Of several clients that
/// may, the first by its name is told.
pub fn check_clients(policy: &PolicySet, identities: &Identities) -> Result<(), IdentityError> {
    if let Some(role) = identities.roles().find(|role| !policy.has_role(role)) {
        return Err(IdentityError::Role(role.to_owned()));
    }
    let refused = identities.iter().filter_map(|(_, identity)| {
        let conflict = policy.client_conflict(identity)?;
        Some((identities.label(identity), conflict.to_string()))
    });
    refused.min().map_or(Ok(()), |(client, why)| Err(IdentityError::Refused(client, why)))
}

/// Asks with what a table of people may speak of: the tenants of the clients, the roles and departments of the policy.
pub fn with_known<T>(policy: &PolicySet, identities: &Identities, ask: impl FnOnce(&Known<'_>) -> T) -> T {
    ask(&Known {
        tenant: &|name| identities.tenant(name),
        has_role: &|role| policy.has_role(role),
        has_department: &|name| policy.has_department(name),
    })
}

impl Service {
    /// The same, of the policy in force.
    pub fn check_clients(&self, identities: &Identities) -> Result<(), IdentityError> {
        let policy = Arc::clone(self.policy.load().policy_set());
        check_clients(&policy, identities)
    }

    /// The same, of the policy in force.
    pub fn with_known<T>(&self, identities: &Identities, ask: impl FnOnce(&Known<'_>) -> T) -> T {
        with_known(self.policy.load().policy_set(), identities, ask)
    }
}
