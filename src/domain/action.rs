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
    /// Find records by what is in them (which also needs [`Self::Read`]).
    Search,
    ReadAudit,
    /// See counts and times of the service; nothing of any record.
    ReadMetrics,
    /// See which care teams look after a subject.
    ReadCareTeam,
    /// Set which care teams look after a subject.
    UpdateCareTeam,
    /// See more than usual of subjects, for minutes, with a review afterwards.
    OpenBreakGlass,
    /// See who broke the glass, and review it.
    ReviewBreakGlass,
    /// See the legal holds on a subject.
    ReadHold,
    /// Place and release legal holds on a subject.
    Hold,
    /// Take out all that a collection holds of a subject.
    Export,
    /// Have fields of records sent on to an outside service, without seeing them.
    Relay,
    /// See how far the erasures of a subject have come, and their certificate.
    ReadErasure,
    /// Ask that a subject be erased.
    Erase,
    /// Approve what somebody else has asked for.
    Approve,
    /// See the ages of tenant keys, and how far their rotations have come; no key.
    ReadKeys,
    /// Have a tenant key replaced by a new one.
    Rotate,
    /// Approve that a tenant key which somebody else had replaced is destroyed.
    ApproveDestruction,
}

impl Action {
    pub const ALL: [Self; 24] = [
        Self::Create,
        Self::Read,
        Self::Update,
        Self::Delete,
        Self::History,
        Self::List,
        Self::ReadMany,
        Self::Search,
        Self::ReadAudit,
        Self::ReadMetrics,
        Self::ReadCareTeam,
        Self::UpdateCareTeam,
        Self::OpenBreakGlass,
        Self::ReviewBreakGlass,
        Self::ReadHold,
        Self::Hold,
        Self::Export,
        Self::Relay,
        Self::ReadErasure,
        Self::Erase,
        Self::Approve,
        Self::ReadKeys,
        Self::Rotate,
        Self::ApproveDestruction,
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
            Self::Search => "search",
            Self::ReadAudit => "read_audit",
            Self::ReadMetrics => "read_metrics",
            Self::ReadCareTeam => "read_care_team",
            Self::UpdateCareTeam => "update_care_team",
            Self::OpenBreakGlass => "open_break_glass",
            Self::ReviewBreakGlass => "review_break_glass",
            Self::ReadHold => "read_hold",
            Self::Hold => "hold",
            Self::Export => "export",
            Self::Relay => "relay",
            Self::ReadErasure => "read_erasure",
            Self::Erase => "erase",
            Self::Approve => "approve",
            Self::ReadKeys => "read_keys",
            Self::Rotate => "rotate",
            Self::ApproveDestruction => "approve_destruction",
        }
    }

    /// Whether it is about records of a collection, and not about a subject or the service as a whole.
    pub const fn is_of_a_collection(self) -> bool {
        !matches!(self, Self::ReadAudit | Self::ReadMetrics) && !self.is_of_a_subject() && !self.is_of_keys()
    }

    /// Whether it is decided field by field.
    pub const fn is_of_fields(self) -> bool {
        matches!(self, Self::Create | Self::Read | Self::Update | Self::Export | Self::Relay)
    }

    /// Whether it is about what is sent to a destination, of a collection.
    pub const fn is_of_a_destination(self) -> bool {
        matches!(self, Self::Relay)
    }

    /// Whether it is about the tenant's keys.
    pub const fn is_of_keys(self) -> bool {
        matches!(self, Self::ReadKeys | Self::Rotate | Self::ApproveDestruction)
    }

    /// Whether it is about subjects and no record.
    pub const fn is_of_a_subject(self) -> bool {
        self.is_of_one_subject() || matches!(self, Self::OpenBreakGlass | Self::ReviewBreakGlass)
    }

    /// Whether it is about the one subject that the path names.
    pub const fn is_of_one_subject(self) -> bool {
        matches!(
            self,
            Self::ReadCareTeam
                | Self::UpdateCareTeam
                | Self::ReadHold
                | Self::Hold
                | Self::ReadErasure
                | Self::Erase
                | Self::Approve
        )
    }
}
