//! The only maker of permits: compiled tables, cached, bound to one immutable policy set.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::circumstances::Circumstances;
use super::collection::Collection;
use super::permit::{
    AuditPermit, Denial, DenialCode, Dependent, KeysPermit, Permit, Prospect, SubjectPermit,
};
use super::relay_file::Destination;
use super::set::PolicySet;
use super::table::{Asking, Table, compile};
use crate::domain::action::Action;
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::context::OperationContext;
use crate::domain::id::{CollectionName, DestinationName, TenantId};
use crate::domain::purpose::Purpose;
use crate::domain::relationship::Relationship;

/// Tables kept. When it is full the cache starts over: a table costs a millisecond or two to make again, and nothing that a
/// caller chooses freely is in the key.
const MAX_TABLES: usize = 4_096;

/// Decides requests by one [`PolicySet`]. Decisions are cached for the authoriser's life, so a reload makes a new one.
pub struct Authoriser {
    set: Arc<PolicySet>,
    tables: RwLock<HashMap<Key, Decision>>,
}

#[derive(Clone)]
enum Decision {
    Permitted(Arc<Table>),
    Denied(Denial),
    /// With the policies that permit it in one relationship or another.
    Depends(Arc<[Arc<str>]>),
}

impl From<Result<Arc<Table>, Denial>> for Decision {
    fn from(decided: Result<Arc<Table>, Denial>) -> Self {
        match decided {
            Ok(table) => Self::Permitted(table),
            Err(denial) => Self::Denied(denial),
        }
    }
}

/// Everything a decision depends on besides the policy set. Ids of records, subjects and people never enter it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    client: Arc<str>,
    kind: ClientKind,
    roles: Arc<[Arc<str>]>,
    /// `None` where the action is not of a collection.
    collection: Option<CollectionName>,
    destination: Option<DestinationName>,
    action: Action,
    purpose: Option<Purpose>,
    circumstances: Circumstances,
    /// The relationship is not known yet: that of the circumstances is what it can be at most.
    is_open: bool,
}

/// What is to be done, and to what of this set.
#[derive(Clone, Copy)]
struct Aim<'a> {
    action: Action,
    /// `None` where the action is not of one.
    collection: Option<&'a Arc<Collection>>,
    destination: Option<&'a Arc<Destination>>,
}

impl<'a> Aim<'a> {
    const fn in_collection(action: Action, collection: &'a Arc<Collection>) -> Self {
        Self { action, collection: Some(collection), destination: None }
    }

    const fn in_none(action: Action) -> Self {
        Self { action, collection: None, destination: None }
    }
}

impl Authoriser {
    pub fn new(set: Arc<PolicySet>) -> Self {
        Self { set, tables: RwLock::new(HashMap::new()) }
    }

    pub const fn policy_set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// Decides `action` for the caller of `ctx`, every field of `collection` at once, as far as that can be done before it
    /// is known whose record it is about. A denial says that nothing at all is permitted, whoever that is; a permit may
    /// still leave fields out. The collection is taken from this authoriser's own set, by its name; one that the set does
    /// not have is denied.
    pub fn prospect(
        &self,
        ctx: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
    ) -> Result<Prospect, Denial> {
        let own = self.own(collection, action)?;
        self.prospect_of(ctx, Aim::in_collection(action, own), own)
    }

    /// The same of sending fields of the collection on to a destination. That, too, is this authoriser's own of its name.
    pub fn relay_prospect(
        &self,
        ctx: &OperationContext,
        destination: &Destination,
        collection: &Collection,
    ) -> Result<Prospect, Denial> {
        let (aim, own) = self.relay(destination, collection)?;
        self.prospect_of(ctx, aim, own)
    }

    fn prospect_of(
        &self,
        ctx: &OperationContext,
        aim: Aim<'_>,
        own: &Arc<Collection>,
    ) -> Result<Prospect, Denial> {
        let most = Relationship::most_possible_of(ctx.actor.person().map(AsRef::as_ref), ctx.purpose);
        match self.decision(ctx, aim, most, most != Relationship::NONE) {
            Decision::Permitted(table) => Ok(Prospect::Permit(permit(ctx, aim.action, own, table))),
            Decision::Denied(denial) => Err(denial),
            Decision::Depends(policies) => Ok(Prospect::Depends(Dependent { policies })),
        }
    }

    /// The same, now that it is known how the person behind the caller stands to whose record it is.
    pub fn permit(
        &self,
        ctx: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
        relationship: Relationship,
    ) -> Result<Permit, Denial> {
        let own = self.own(collection, action)?;
        let table = self.table(ctx, Aim::in_collection(action, own), relationship)?;
        Ok(permit(ctx, action, own, table))
    }

    /// The same of sending fields on: those that may be sent are plain, the others absent.
    pub fn relay_permit(
        &self,
        ctx: &OperationContext,
        destination: &Destination,
        collection: &Collection,
        relationship: Relationship,
    ) -> Result<Permit, Denial> {
        let (aim, own) = self.relay(destination, collection)?;
        let table = self.table(ctx, aim, relationship)?;
        Ok(permit(ctx, aim.action, own, table))
    }

    /// The same of everybody to whom that person can stand in any way: for each way that permits it, what it permits.
    pub fn permits(
        &self,
        ctx: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
    ) -> Vec<(Relationship, Permit)> {
        let most = Relationship::most_possible_of(ctx.actor.person().map(AsRef::as_ref), ctx.purpose);
        let each = most.at_most();
        each.filter_map(|one| Some((one, self.permit(ctx, collection, action, one).ok()?))).collect()
    }

    /// For the service itself, where it makes anew what a tenant's records are found by: it opens them, and shows and writes
    /// nothing. `None` where the collection has no indexes, or is not of this authoriser's set.
    pub fn permit_indexing(&self, tenant: TenantId, collection: &Collection) -> Option<Permit> {
        let own = self.set.collection(collection.name().as_str())?;
        own.index_digest()?;
        let (collection, table) = (Arc::clone(own), Arc::new(Table::default()));
        Some(Permit { tenant, action: Action::Search, collection, table })
    }

    /// Decides whether the caller of `ctx` may read its tenant's audit log.
    pub fn permit_audit(&self, ctx: &OperationContext) -> Result<AuditPermit, Denial> {
        let table = self.table(ctx, Aim::in_none(Action::ReadAudit), Relationship::NONE)?;
        Ok(AuditPermit { tenant: ctx.actor.identity.tenant, table })
    }

    /// Decides whether the caller of `ctx` may read the service's metrics, which are of all tenants together and of no
    /// record.
    pub fn permit_metrics(&self, ctx: &OperationContext) -> Result<(), Denial> {
        self.table(ctx, Aim::in_none(Action::ReadMetrics), Relationship::NONE).map(drop)
    }

    /// Decides whether the caller of `ctx` may do `action` about subjects of its tenant.
    pub fn permit_subject(&self, ctx: &OperationContext, action: Action) -> Result<SubjectPermit, Denial> {
        if !action.is_of_a_subject() {
            return Err(not_allowed());
        }
        let table = self.table(ctx, Aim::in_none(action), Relationship::NONE)?;
        Ok(SubjectPermit { tenant: ctx.actor.identity.tenant, action, table })
    }

    /// Decides whether the caller of `ctx` may do `action` with the keys of its tenant.
    pub fn permit_keys(&self, ctx: &OperationContext, action: Action) -> Result<KeysPermit, Denial> {
        if !action.is_of_keys() {
            return Err(not_allowed());
        }
        let table = self.table(ctx, Aim::in_none(action), Relationship::NONE)?;
        Ok(KeysPermit { tenant: ctx.actor.identity.tenant, action, table })
    }

    fn own(&self, collection: &Collection, action: Action) -> Result<&Arc<Collection>, Denial> {
        let own = self.set.collection(collection.name().as_str());
        own.filter(|_| action.is_of_a_collection()).ok_or_else(not_allowed)
    }

    fn relay(
        &self,
        destination: &Destination,
        collection: &Collection,
    ) -> Result<(Aim<'_>, &Arc<Collection>), Denial> {
        let own = self.own(collection, Action::Relay)?;
        let destination = self.set.destination(destination.name().as_str()).ok_or_else(not_allowed)?;
        Ok((Aim { destination: Some(destination), ..Aim::in_collection(Action::Relay, own) }, own))
    }

    fn table(
        &self,
        ctx: &OperationContext,
        aim: Aim<'_>,
        relationship: Relationship,
    ) -> Result<Arc<Table>, Denial> {
        match self.decision(ctx, aim, relationship, false) {
            Decision::Permitted(table) => Ok(table),
            Decision::Denied(denial) => Err(denial),
            // Nobody asks a closed question and hears this.
            Decision::Depends(_) => Err(not_allowed()),
        }
    }

    fn decision(
        &self,
        ctx: &OperationContext,
        aim: Aim<'_>,
        relationship: Relationship,
        is_open: bool,
    ) -> Decision {
        let (identity, roles) = (&ctx.actor.identity, ctx.actor.roles());
        let key = Key {
            tenant: identity.tenant,
            client: Arc::clone(&identity.client),
            kind: identity.kind,
            roles: Arc::clone(roles),
            collection: aim.collection.map(|collection| collection.name().clone()),
            destination: aim.destination.map(|destination| destination.name().clone()),
            action: aim.action,
            purpose: ctx.purpose,
            circumstances: Circumstances::of(ctx, relationship, self.set.rules()),
            is_open,
        };
        // A panic elsewhere cannot leave the map half changed, so a poisoned lock is still good.
        if let Some(known) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let decision = if is_open {
            self.over_all(ctx, aim, relationship)
        } else {
            let asking = Asking {
                rules: self.set.rules(),
                identity: &Identity { roles: Arc::clone(roles), ..Identity::clone(identity) },
                collection: aim.collection.map(AsRef::as_ref),
                destination: aim.destination.map(AsRef::as_ref),
                action: aim.action,
                circumstances: key.circumstances,
            };
            compile(&asking, ctx.purpose).into()
        };
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= MAX_TABLES {
            tables.clear();
        }
        tables.insert(key, decision.clone());
        decision
    }

    /// Asks about every relationship that there can be. Where the answers are one, it is the answer.
    fn over_all(&self, ctx: &OperationContext, aim: Aim<'_>, most: Relationship) -> Decision {
        let mut permitted: Vec<Arc<Table>> = Vec::new();
        let mut denied = None;
        for relationship in most.at_most() {
            match self.table(ctx, aim, relationship) {
                Ok(table) => permitted.push(table),
                // The last is that of the closest relationship.
                Err(denial) => denied = Some(denial),
            }
        }
        match (permitted.first(), denied) {
            (None, Some(denial)) => Decision::Denied(denial),
            (Some(first), None) if permitted.iter().all(|table| table == first) => {
                Decision::Permitted(Arc::clone(first))
            }
            _ => {
                let all = permitted.iter().flat_map(|table| table.policies());
                let all: BTreeSet<&Arc<str>> = all.collect();
                Decision::Depends(all.into_iter().cloned().collect())
            }
        }
    }
}

fn permit(ctx: &OperationContext, action: Action, own: &Arc<Collection>, table: Arc<Table>) -> Permit {
    Permit { tenant: ctx.actor.identity.tenant, action, collection: Arc::clone(own), table }
}

fn not_allowed() -> Denial {
    Denial { code: DenialCode::ActionNotAllowed, policies: Arc::from([]) }
}

#[cfg(test)]
#[path = "authoriser_tests.rs"]
mod tests;
