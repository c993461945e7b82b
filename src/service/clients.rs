//! Whether listed clients and a policy go together. Asked when either is loaded, before it is taken into use.

use std::sync::Arc;

use super::Service;
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

impl Service {
    /// The same, of the policy in force.
    pub fn check_clients(&self, identities: &Identities) -> Result<(), IdentityError> {
        let policy = Arc::clone(self.policy.load().policy_set());
        check_clients(&policy, identities)
    }
}
