//! What a caller can ask to do; the vocabulary that policy decides over.

/// An operation of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Create,
    Read,
    Update,
    Delete,
    /// See which versions a record has had, and read an older one (which also needs [`Self::Read`]).
    History,
    /// See which records a collection holds: ids, versions and times.
    List,
    /// Read many records in one request (which also needs [`Self::Read`]).
    ReadMany,
    ReadAudit,
}

impl Action {
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Read,
        Self::Update,
        Self::Delete,
        Self::History,
        Self::List,
        Self::ReadMany,
        Self::ReadAudit,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::History => "history",
            Self::List => "list",
            Self::ReadMany => "read_many",
            Self::ReadAudit => "read_audit",
        }
    }
}
