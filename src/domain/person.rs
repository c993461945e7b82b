//! The person behind a client, as their signed token says and `policy/people.toml` reads it.

use std::sync::Arc;

use super::clock::Timestamp;
use super::id::SubjectId;

/// A person whose token was verified; it says nothing about what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Person {
    /// Short name of the identity provider in `policy/people.toml`.
    pub issuer: Arc<str>,
    /// The token's `sub`, 1 to 255 visible ASCII characters.
    pub id: Arc<str>,
    /// Roles of the policy that the token's claims map to. Sorted, without duplicates.
    pub roles: Arc<[Arc<str>]>,
    /// The department of the policy that the token's claim maps to.
    pub department: Option<Arc<str>>,
    /// Names of the care teams that the person belongs to. Sorted, without duplicates.
    pub care_teams: Arc<[Arc<str>]>,
    /// The person's own record, where they are a patient.
    pub subject: Option<SubjectId>,
    /// The token tells of more than one factor (RFC 8176 `amr`).
    pub has_second_factor: bool,
    pub expires_at: Timestamp,
}
