//! A compiled decision: each field of a collection decided once for one kind of request.

use std::sync::Arc;

use super::cedar::{Caller, RuleAction, RuleResource, Rules};
use super::collection::{Collection, Field};
use super::permit::{Denial, DenialCode, View};
use crate::domain::action::Action;
use crate::domain::actor::Identity;
use crate::domain::id::FieldId;
use crate::domain::purpose::Purpose;

/// Field → view and deciding policies; immutable.
pub(super) struct Table {
    /// Ascending by field id; empty where the action is about no field (delete, history, list, read many, read audit).
    rows: Vec<Row>,
    policies: Vec<Arc<str>>,
}

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

/// Decides a whole request. `collection` is `None` for the audit log alone.
pub(super) fn compile(
    rules: &Rules,
    identity: &Identity,
    collection: Option<&Collection>,
    action: Action,
    purpose: Option<Purpose>,
) -> Result<Arc<Table>, Denial> {
    let denied = |code, policies: Vec<Arc<str>>| Err(Denial { code, policies: policies.into() });
    let Some(caller) = rules.caller(identity) else {
        return denied(DenialCode::ActionNotAllowed, Vec::new());
    };
    let question = Question { rules, caller: &caller, collection, action };
    let forbidding = match question.table(purpose) {
        Ok(table) => return Ok(Arc::new(table)),
        Err(forbidding) => forbidding,
    };
    let others = std::iter::once(None).chain(Purpose::ALL.map(Some)).filter(|other| *other != purpose);
    let another = others.into_iter().any(|other| question.permits_anything(other));
    let code = match (another, purpose) {
        (true, None) => DenialCode::PurposeRequired,
        (true, Some(_)) => DenialCode::PurposeNotAllowed,
        (false, _) => DenialCode::ActionNotAllowed,
    };
    denied(code, forbidding)
}

/// One decision on its own, without asking what another purpose would change.
pub(super) fn decide(
    rules: &Rules,
    identity: &Identity,
    collection: Option<&Collection>,
    action: Action,
    purpose: Option<Purpose>,
) -> Option<Table> {
    let caller = rules.caller(identity)?;
    Question { rules, caller: &caller, collection, action }.table(purpose).ok()
}

struct Question<'a> {
    rules: &'a Rules,
    caller: &'a Caller,
    collection: Option<&'a Collection>,
    action: Action,
}

impl Question<'_> {
    /// The table, or the policies that forbade all of it.
    fn table(&self, purpose: Option<Purpose>) -> Result<Table, Vec<Arc<str>>> {
        let mut rows = Vec::new();
        let mut policies: Vec<Arc<str>> = Vec::new();
        let mut forbidding: Vec<Arc<str>> = Vec::new();
        let mut permitted = false;
        let mut note = |allowed: bool, deciding: &[Arc<str>]| {
            permitted |= allowed;
            if allowed { &mut policies } else { &mut forbidding }.extend_from_slice(deciding);
        };
        match (self.collection, self.whole()) {
            (_, Some((action, resource))) => {
                let verdict = self.rules.decide(self.caller, action, resource, purpose);
                note(verdict.allowed, &verdict.policies);
            }
            (Some(collection), None) => {
                for field in collection.fields() {
                    let (view, deciding) = self.field(collection, field, purpose);
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

    fn permits_anything(&self, purpose: Option<Purpose>) -> bool {
        match (self.collection, self.whole()) {
            (_, Some((action, resource))) => {
                self.rules.decide(self.caller, action, resource, purpose).allowed
            }
            (Some(collection), None) => collection
                .fields()
                .iter()
                .any(|field| self.field(collection, field, purpose).0 != View::Absent),
            (None, None) => false,
        }
    }

    /// The one question of an action that is not about fields.
    fn whole(&self) -> Option<(RuleAction, RuleResource<'_>)> {
        let action = match self.action {
            Action::Create | Action::Read | Action::Update => return None,
            Action::Delete => RuleAction::Delete,
            Action::History => RuleAction::History,
            Action::List => RuleAction::List,
            Action::ReadMany => RuleAction::ReadMany,
            Action::ReadAudit => return Some((RuleAction::ReadAudit, RuleResource::AuditLog)),
            Action::ReadMetrics => return Some((RuleAction::ReadMetrics, RuleResource::Metrics)),
        };
        self.collection.map(|collection| (action, RuleResource::Collection(collection.name())))
    }

    fn field(
        &self,
        collection: &Collection,
        field: &Field,
        purpose: Option<Purpose>,
    ) -> (View, Vec<Arc<str>>) {
        let writing = match self.action {
            Action::Create => RuleAction::Create,
            Action::Update => RuleAction::Update,
            Action::Read => return self.rules.read_view(self.caller, collection, field, purpose),
            Action::Delete
            | Action::History
            | Action::List
            | Action::ReadMany
            | Action::ReadAudit
            | Action::ReadMetrics => return (View::Absent, Vec::new()),
        };
        let resource = RuleResource::Field(collection, field);
        let verdict = self.rules.decide(self.caller, writing, resource, purpose);
        (if verdict.allowed { View::Plain } else { View::Absent }, verdict.policies)
    }
}
