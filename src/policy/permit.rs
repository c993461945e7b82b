//! Proof of a decision. Only the authoriser makes these values; their fields are private to `policy`.

use std::sync::Arc;

use super::collection::Collection;
use super::table::Table;
use crate::domain::action::Action;
use crate::domain::id::{FieldId, TenantId};

/// What a caller sees of a field. For create and update: `Plain` may be written, `Absent` may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    Absent,
    Masked,
    Plain,
}

impl View {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Masked => "masked",
            Self::Plain => "plain",
        }
    }
}

/// A caller may do `action` in `collection`, as far as [`Permit::view_of`] says field by field. Bound to the caller's
/// tenant.
pub struct Permit {
    pub(super) tenant: TenantId,
    pub(super) action: Action,
    pub(super) collection: Arc<Collection>,
    pub(super) table: Arc<Table>,
}

impl Permit {
    /// The tenant whose records it is for: the caller's, from the certificate.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub const fn action(&self) -> Action {
        self.action
    }

    pub const fn collection(&self) -> &Arc<Collection> {
        &self.collection
    }

    /// The view of a field; one that the collection does not have is absent.
    pub fn view_of(&self, field: FieldId) -> View {
        self.table.view_of(field)
    }

    /// The ids of the policies that decided one field: those that permitted it, or those that forbade it; none where
    /// nothing permitted it.
    pub fn policies_of(&self, field: FieldId) -> &[Arc<str>] {
        self.table.policies_of(field)
    }

    /// The ids of all policies that permitted something here, sorted.
    pub fn policies(&self) -> &[Arc<str>] {
        self.table.policies()
    }
}

/// What becomes of a request before it is known whose record it is about.
pub enum Prospect {
    /// It is permitted, whoever that is.
    Permit(Permit),
    /// It is permitted in some relationship to that person, and not or otherwise in another.
    Depends(Dependent),
}

/// A request that cannot be decided before it is known whose record it is about; nothing is permitted yet.
pub struct Dependent {
    pub(super) policies: Arc<[Arc<str>]>,
}

impl Dependent {
    /// The ids of the policies that would permit it in one relationship or another, sorted.
    pub fn policies(&self) -> &[Arc<str>] {
        &self.policies
    }
}

impl Prospect {
    /// The ids of the policies that permit it, or would.
    pub fn policies(&self) -> &[Arc<str>] {
        match self {
            Self::Permit(permit) => permit.policies(),
            Self::Depends(dependent) => dependent.policies(),
        }
    }
}

/// A caller may read the audit log of its tenant.
pub struct AuditPermit {
    pub(super) tenant: TenantId,
    pub(super) table: Arc<Table>,
}

impl AuditPermit {
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The ids of the policies that permitted it, sorted.
    pub fn policies(&self) -> &[Arc<str>] {
        self.table.policies()
    }
}

/// A caller may do `action` about a subject of its tenant.
pub struct SubjectPermit {
    pub(super) tenant: TenantId,
    pub(super) action: Action,
    pub(super) table: Arc<Table>,
}

impl SubjectPermit {
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub const fn action(&self) -> Action {
        self.action
    }

    /// The ids of the policies that permitted it, sorted.
    pub fn policies(&self) -> &[Arc<str>] {
        self.table.policies()
    }
}

/// A caller may do `action` with the keys of its tenant.
pub struct KeysPermit {
    pub(super) tenant: TenantId,
    pub(super) action: Action,
    pub(super) table: Arc<Table>,
}

impl KeysPermit {
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub const fn action(&self) -> Action {
        self.action
    }

    /// The ids of the policies that permitted it, sorted.
    pub fn policies(&self) -> &[Arc<str>] {
        self.table.policies()
    }
}

/// Why nothing at all is permitted. Of several guards the first here is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenialCode {
    /// No purpose was given, and with one it may be allowed.
    PurposeRequired,
    /// Another purpose would be allowed, this one is not.
    PurposeNotAllowed,
    /// No purpose would change it.
    ActionNotAllowed,
    /// The caller's roles are such that nobody has them together.
    RolesConflict,
    /// A guard asks for the person behind the client.
    PersonRequired,
    /// A guard asks for a second factor.
    SecondFactorRequired,
    /// A guard has it done from other networks.
    SourceNotAllowed,
    /// A guard has it done at other hours.
    HourNotAllowed,
    /// A guard has it done by people of other departments.
    DepartmentNotAllowed,
    /// A guard asks for a relationship to the person whose record it is.
    RelationshipRequired,
}

impl DenialCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PurposeRequired => "purpose_required",
            Self::PurposeNotAllowed => "purpose_not_allowed",
            Self::ActionNotAllowed => "action_not_allowed",
            Self::RolesConflict => "roles_conflict",
            Self::PersonRequired => "person_required",
            Self::SecondFactorRequired => "second_factor_required",
            Self::DepartmentNotAllowed => "department_not_allowed",
            Self::RelationshipRequired => "relationship_required",
            Self::HourNotAllowed => "hour_not_allowed",
            Self::SourceNotAllowed => "source_not_allowed",
        }
    }

    /// The code that a guard's `@code` names; the others come of there being no permit.
    pub(super) fn of_guard(word: &str) -> Option<Self> {
        let guards = [
            Self::PersonRequired,
            Self::SecondFactorRequired,
            Self::RelationshipRequired,
            Self::DepartmentNotAllowed,
            Self::HourNotAllowed,
            Self::SourceNotAllowed,
        ];
        guards.into_iter().find(|code| code.as_str() == word)
    }
}

/// A refusal, with the ids of the policies that forbade it; none where nothing permitted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy does not allow this: {}", code.as_str())]
pub struct Denial {
    pub code: DenialCode,
    pub policies: Arc<[Arc<str>]>,
}
