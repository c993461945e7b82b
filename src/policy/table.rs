//! A compiled decision: each field of a collection decided once for one kind of request.

use std::sync::Arc;

use super::cedar::{Asked, Caller, Rules, Setting, Verdict};
use super::circumstances::Circumstances;
use super::collection::{Collection, Field};
use super::conflict::RoleConflict;
use super::entities::RuleResource;
use super::permit::{Denial, DenialCode, View};
use super::relay_file::Destination;
use super::words::{ResourceKind, RuleAction};
use crate::domain::action::Action;
use crate::domain::actor::Identity;
use crate::domain::id::FieldId;
use crate::domain::purpose::Purpose;

/// Field → view and deciding policies; immutable. By default it gives nothing.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Ascending by field id; empty where the action is about no field (delete, history, list, read many, search, read audit).
    rows: Vec<Row>,
    policies: Vec<Arc<str>>,
}

#[derive(PartialEq, Eq)]
struct Row {
    field: FieldId,
    view: View,
    policies: Vec<Arc<str>>,
}

impl Table {
    pub(super) fn view_of(&self, field: FieldId) -> View {
        self.row(field).map_or(View::Absent, |row| row.view)
    }

    pub(super) fn policies_of(&self, field: FieldId) -> &[Arc<str>] {
        self.row(field).map_or(&[], |row| &row.policies)
    }

    pub(super) fn policies(&self) -> &[Arc<str>] {
        &self.policies
    }

    fn row(&self, field: FieldId) -> Option<&Row> {
        self.rows.binary_search_by_key(&field, |row| row.field).ok().and_then(|at| self.rows.get(at))
    }
}

/// A request as policy sees it, but for its purpose.
pub(super) struct Asking<'a> {
    pub rules: &'a Rules,
    pub identity: &'a Identity,
    /// `None` where the action is not of a collection.
    pub collection: Option<&'a Collection>,
    /// Of what is sent on, where to.
    pub destination: Option<&'a Destination>,
    pub action: Action,
    pub circumstances: Circumstances,
}

impl Asking<'_> {
    /// What is wrong with the roles together.
    pub fn conflict(&self) -> Option<RoleConflict> {
        let brought = self.circumstances.person.map(|person| person.roles);
        self.rules.conflict(self.identity, Some(brought.unwrap_or_default()))
    }

    /// Who asks, before the rules: the same for every purpose.
    pub fn caller(&self) -> Option<Caller> {
        self.rules.caller(self.identity, self.circumstances.person)
    }
}

/// Decides a whole request.
pub(super) fn compile(asking: &Asking<'_>, purpose: Option<Purpose>) -> Result<Arc<Table>, Denial> {
    let denied = |code, policies: Vec<Arc<str>>| Err(Denial { code, policies: policies.into() });
    if let Some(conflict) = asking.conflict() {
        return denied(DenialCode::RolesConflict, vec![conflict.rule_id().into()]);
    }
    let Some(caller) = asking.caller() else {
        return denied(DenialCode::ActionNotAllowed, Vec::new());
    };
    let question = |asked| Question { asking, caller: (&caller, asked) };
    let forbidding = match question(Asked::All).table(purpose) {
        Ok(table) => return Ok(Arc::new(table)),
        Err(forbidding) => forbidding,
    };
    // What would be permitted but for guards that say what to do about them is refused with what they say.
    let unguarded = question(Asked::WithoutCodes);
    if unguarded.permits_anything(purpose)
        && let Some(code) = forbidding.iter().filter_map(|id| asking.rules.code(id)).min()
    {
        return denied(code, forbidding);
    }
    let others = std::iter::once(None).chain(Purpose::ALL.map(Some)).filter(|other| *other != purpose);
    let another = others.into_iter().any(|other| unguarded.permits_anything(other));
    let code = match (another, purpose) {
        (true, None) => DenialCode::PurposeRequired,
        (true, Some(_)) => DenialCode::PurposeNotAllowed,
        (false, _) => DenialCode::ActionNotAllowed,
    };
    denied(code, forbidding)
}

/// One decision on its own, of a caller that [`Asking::caller`] made, without asking what another purpose would change.
pub(super) fn decide(asking: &Asking<'_>, caller: &Caller, purpose: Option<Purpose>) -> Option<Table> {
    Question { asking, caller: (caller, Asked::All) }.table(purpose).ok()
}

struct Question<'a> {
    asking: &'a Asking<'a>,
    caller: (&'a Caller, Asked),
}

impl Question<'_> {
    /// The table, or the policies that forbade all of it.
    fn table(&self, purpose: Option<Purpose>) -> Result<Table, Vec<Arc<str>>> {
        let Some(setting) = self.setting(purpose) else { return Err(Vec::new()) };
        let mut rows = Vec::new();
        let mut policies: Vec<Arc<str>> = Vec::new();
        let mut forbidding: Vec<Arc<str>> = Vec::new();
        let mut permitted = false;
        let mut note = |allowed: bool, deciding: &[Arc<str>]| {
            permitted |= allowed;
            if allowed { &mut policies } else { &mut forbidding }.extend_from_slice(deciding);
        };
        match (self.asking.collection, self.whole()) {
            (_, Some((action, resource))) => {
                let verdict = self.asking.rules.decide(self.caller, &setting, action, resource);
                note(verdict.allowed, &verdict.policies);
            }
            (Some(collection), None) => {
                for field in collection.fields() {
                    let (view, deciding) = self.field(&setting, collection, field);
                    note(view != View::Absent, &deciding);
                    rows.push(Row { field: field.id, view, policies: deciding });
                }
            }
            (None, None) => {}
        }
        let tidy = |mut ids: Vec<Arc<str>>| {
            ids.sort();
            ids.dedup();
            ids
        };
        if permitted { Ok(Table { rows, policies: tidy(policies) }) } else { Err(tidy(forbidding)) }
    }

    fn setting(&self, purpose: Option<Purpose>) -> Option<Setting> {
        self.asking.rules.setting(purpose, self.asking.circumstances)
    }

    fn permits_anything(&self, purpose: Option<Purpose>) -> bool {
        let Some(setting) = self.setting(purpose) else { return false };
        match (self.asking.collection, self.whole()) {
            (_, Some((action, resource))) => {
                self.asking.rules.decide(self.caller, &setting, action, resource).allowed
            }
            (Some(collection), None) => collection
                .fields()
                .iter()
                .any(|field| self.field(&setting, collection, field).0 != View::Absent),
            (None, None) => false,
        }
    }

    /// The one question of an action that is not about fields.
    fn whole(&self) -> Option<(RuleAction, RuleResource<'_>)> {
        let action = *RuleAction::of(self.asking.action).first()?;
        let collection = || self.asking.collection.map(Collection::name);
        let resource = match action.resource() {
            ResourceKind::Field | ResourceKind::RelayedField => return None,
            ResourceKind::Collection => RuleResource::Collection(collection()?),
            ResourceKind::Record => RuleResource::Record(collection()?),
            ResourceKind::AuditLog => RuleResource::AuditLog,
            ResourceKind::Metrics => RuleResource::Metrics,
            ResourceKind::Subject => RuleResource::Subject,
            ResourceKind::Keys => RuleResource::Keys,
        };
        Some((action, resource))
    }

    fn field(&self, setting: &Setting, collection: &Collection, field: &Field) -> (View, Vec<Arc<str>>) {
        let rules = self.asking.rules;
        let rule = match self.asking.action {
            Action::Create => RuleAction::Create,
            Action::Update => RuleAction::Update,
            Action::Export => RuleAction::Export,
            Action::Read => return rules.read_view(self.caller, setting, collection, field),
            Action::Relay => return self.relayed(setting, collection, field),
            Action::Delete
            | Action::History
            | Action::List
            | Action::ReadMany
            | Action::Search
            | Action::ReadAudit
            | Action::ReadMetrics
            | Action::ReadCareTeam
            | Action::UpdateCareTeam
            | Action::OpenBreakGlass
            | Action::ReviewBreakGlass
            | Action::ReadHold
            | Action::Hold
            | Action::ReadErasure
            | Action::Erase
            | Action::Approve
            | Action::ReadKeys
            | Action::Rotate
            | Action::ApproveDestruction => return (View::Absent, Vec::new()),
        };
        let verdict = rules.decide(self.caller, setting, rule, RuleResource::Field(collection, field));
        plain_or_absent(verdict)
    }

    /// A field that the destination's file does not name is not sent there, whatever the rules say.
    fn relayed(&self, setting: &Setting, collection: &Collection, field: &Field) -> (View, Vec<Arc<str>>) {
        let declared = self.asking.destination.filter(|one| one.takes(collection.name(), field.id));
        let Some(destination) = declared else { return (View::Absent, Vec::new()) };
        let resource = RuleResource::RelayedField(destination.name(), collection, field);
        plain_or_absent(self.asking.rules.decide(self.caller, setting, RuleAction::Relay, resource))
    }
}

fn plain_or_absent(verdict: Verdict) -> (View, Vec<Arc<str>>) {
    (if verdict.allowed { View::Plain } else { View::Absent }, verdict.policies)
}
