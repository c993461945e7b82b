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

/// Why nothing at all is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenialCode {
    /// No purpose was given, and with one it may be allowed.
    PurposeRequired,
    /// Another purpose would be allowed, this one is not.
    PurposeNotAllowed,
    /// No purpose would change it.
    ActionNotAllowed,
}

impl DenialCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PurposeRequired => "purpose_required",
            Self::PurposeNotAllowed => "purpose_not_allowed",
            Self::ActionNotAllowed => "action_not_allowed",
        }
    }
}

/// A refusal, with the ids of the policies that forbade it; none where nothing permitted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy does not allow this: {}", code.as_str())]
pub struct Denial {
    pub code: DenialCode,
    pub policies: Arc<[Arc<str>]>,
}
