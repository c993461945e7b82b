//! The words of `schema.cedarschema` that this program speaks itself: its types of entities, and its actions.

use std::collections::HashMap;
use std::str::FromStr;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};

use crate::domain::action::Action;

/// What a policy decides over: the actions of `schema.cedarschema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RuleAction {
    Create,
    ReadPlain,
    ReadMasked,
    Update,
    Delete,
    History,
    List,
    ReadMany,
    Search,
    ReadAudit,
    ReadMetrics,
    ReadCareTeam,
    UpdateCareTeam,
    OpenBreakGlass,
    ReviewBreakGlass,
    ReadHold,
    Hold,
    Export,
    Relay,
    ReadErasure,
    Erase,
    Approve,
    ReadKeys,
    Rotate,
    ApproveDestruction,
}

impl RuleAction {
    pub const ALL: [Self; 25] = [
        Self::Create,
        Self::ReadPlain,
        Self::ReadMasked,
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

    /// What is asked to decide an action.
    pub const fn of(action: Action) -> &'static [Self] {
        match action {
            Action::Create => &[Self::Create],
            Action::Read => &[Self::ReadPlain, Self::ReadMasked],
            Action::Update => &[Self::Update],
            Action::Delete => &[Self::Delete],
            Action::History => &[Self::History],
            Action::List => &[Self::List],
            Action::ReadMany => &[Self::ReadMany],
            Action::Search => &[Self::Search],
            Action::ReadAudit => &[Self::ReadAudit],
            Action::ReadMetrics => &[Self::ReadMetrics],
            Action::ReadCareTeam => &[Self::ReadCareTeam],
            Action::UpdateCareTeam => &[Self::UpdateCareTeam],
            Action::OpenBreakGlass => &[Self::OpenBreakGlass],
            Action::ReviewBreakGlass => &[Self::ReviewBreakGlass],
            Action::ReadHold => &[Self::ReadHold],
            Action::Hold => &[Self::Hold],
            Action::Export => &[Self::Export],
            Action::Relay => &[Self::Relay],
            Action::ReadErasure => &[Self::ReadErasure],
            Action::Erase => &[Self::Erase],
            Action::Approve => &[Self::Approve],
            Action::ReadKeys => &[Self::ReadKeys],
            Action::Rotate => &[Self::Rotate],
            Action::ApproveDestruction => &[Self::ApproveDestruction],
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::ReadPlain => "read_plain",
            Self::ReadMasked => "read_masked",
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

    /// The type of what it is about, in the schema.
    pub const fn resource(self) -> ResourceKind {
        match self {
            Self::Create | Self::ReadPlain | Self::ReadMasked | Self::Update | Self::Export => {
                ResourceKind::Field
            }
            Self::Relay => ResourceKind::RelayedField,
            Self::Delete | Self::History => ResourceKind::Record,
            Self::List | Self::ReadMany | Self::Search => ResourceKind::Collection,
            Self::ReadAudit => ResourceKind::AuditLog,
            Self::ReadMetrics => ResourceKind::Metrics,
            Self::ReadCareTeam
            | Self::UpdateCareTeam
            | Self::OpenBreakGlass
            | Self::ReviewBreakGlass
            | Self::ReadHold
            | Self::Hold
            | Self::ReadErasure
            | Self::Erase
            | Self::Approve => ResourceKind::Subject,
            Self::ReadKeys | Self::Rotate | Self::ApproveDestruction => ResourceKind::Keys,
        }
    }
}

/// What an action can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResourceKind {
    AuditLog,
    Collection,
    Field,
    Keys,
    Metrics,
    Record,
    RelayedField,
    Subject,
}

impl ResourceKind {
    pub const fn kind(self) -> Kind {
        match self {
            Self::AuditLog => Kind::AuditLog,
            Self::Collection => Kind::Collection,
            Self::Field => Kind::Field,
            Self::Keys => Kind::Keys,
            Self::Metrics => Kind::Metrics,
            Self::Record => Kind::Record,
            Self::RelayedField => Kind::RelayedField,
            Self::Subject => Kind::Subject,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Action,
    AuditLog,
    Class,
    Client,
    OfClient,
    Collection,
    Department,
    Destination,
    Field,
    Hour,
    Keys,
    Metrics,
    Person,
    Purpose,
    Record,
    RelayedField,
    Role,
    Source,
    Subject,
    Tenant,
}

impl Kind {
    const ALL: [(Self, &'static str); 20] = [
        (Self::Action, "Action"),
        (Self::AuditLog, "AuditLog"),
        (Self::Class, "Class"),
        (Self::Client, "Client"),
        (Self::OfClient, "ClientKind"),
        (Self::Collection, "Collection"),
        (Self::Department, "Department"),
        (Self::Destination, "Destination"),
        (Self::Field, "Field"),
        (Self::Hour, "Hour"),
        (Self::Keys, "Keys"),
        (Self::Metrics, "Metrics"),
        (Self::Person, "Person"),
        (Self::Purpose, "Purpose"),
        (Self::Record, "Record"),
        (Self::RelayedField, "RelayedField"),
        (Self::Role, "Role"),
        (Self::Source, "Source"),
        (Self::Subject, "Subject"),
        (Self::Tenant, "Tenant"),
    ];
}

/// The schema's type names, parsed once.
pub(super) struct Names {
    action: EntityTypeName,
    by_kind: HashMap<Kind, EntityTypeName>,
}

impl Names {
    pub fn new() -> Result<Self, String> {
        let parse = |name: &str| EntityTypeName::from_str(name).map_err(|error| error.to_string());
        let mut by_kind = HashMap::new();
        for (kind, name) in Kind::ALL {
            by_kind.insert(kind, parse(name)?);
        }
        Ok(Self { action: parse("Action")?, by_kind })
    }

    pub fn uid(&self, kind: Kind, id: &str) -> EntityUid {
        let type_name = self.by_kind.get(&kind).unwrap_or(&self.action);
        EntityUid::from_type_name_and_id(type_name.clone(), EntityId::new(id))
    }
}
