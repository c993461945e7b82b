//! What can be wrong with an entry.

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormFault {
    #[error("not canonical JSON (RFC 8785) from byte {at} on")]
    NotCanonical { at: usize },
    #[error("{member} is missing, or something unknown is in its place, at byte {at}")]
    Missing { member: String, at: usize },
    #[error("something that no entry has, at byte {at}")]
    Unknown { at: usize },
    #[error("a value that does not fit {member}, at byte {at}")]
    Value { member: String, at: usize },
    #[error("an act that audit/events.toml does not have")]
    Act,
    #[error("id is not a UUIDv7 of the time in ts")]
    Time,
    #[error("the first of a chain has no prev, and every other has one")]
    Previous,
    #[error("chain.restart names no chain that ended")]
    NoEnd,
    #[error("a flush has a key and a signature, or neither and no writes")]
    Flush,
    #[error("instance.attest, and nothing else, names an instance's key")]
    Attested,
}

/// Where an entry is not what the schema has there. Without a copy of any name: of several forms that a value may have, all
/// but one are left by way of one.
pub(super) enum Misfit<'s> {
    Missing { member: &'s str, at: usize },
    Unknown { at: usize },
    Value { member: Option<&'s str>, at: usize },
}

impl From<Misfit<'_>> for FormFault {
    fn from(misfit: Misfit<'_>) -> Self {
        match misfit {
            Misfit::Missing { member, at } => Self::Missing { member: member.to_owned(), at },
            Misfit::Unknown { at } => Self::Unknown { at },
            Misfit::Value { member, at } => Self::Value { member: member.unwrap_or_default().to_owned(), at },
        }
    }
}
