//! The only maker of permits: compiled tables, cached, bound to one immutable policy set.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::collection::Collection;
use super::permit::{AuditPermit, Denial, DenialCode, Permit};
use super::set::PolicySet;
use super::table::{Table, compile};
use crate::domain::action::Action;
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::context::OperationContext;
use crate::domain::id::{CollectionName, TenantId};
use crate::domain::purpose::Purpose;

/// Tables kept. When it is full the cache starts over: a table costs less than a millisecond to make again, and nothing
/// that a caller chooses freely is in the key.
const MAX_TABLES: usize = 4_096;

/// Decides requests by one [`PolicySet`]. Decisions are cached for the authoriser's life, so a reload makes a new one.
pub struct Authoriser {
    set: Arc<PolicySet>,
    tables: RwLock<HashMap<Key, Decision>>,
}

type Decision = Result<Arc<Table>, Denial>;

/// Everything a decision depends on besides the policy set. Ids of records and subjects never enter it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    client: Arc<str>,
    kind: ClientKind,
    roles: Arc<[Arc<str>]>,
    /// `None` where the action is not of a collection.
    collection: Option<CollectionName>,
    action: Action,
    purpose: Option<Purpose>,
}

impl Authoriser {
    pub fn new(set: Arc<PolicySet>) -> Self {
        Self { set, tables: RwLock::new(HashMap::new()) }
    }

    pub const fn policy_set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// Decides `action` for the caller of `ctx`, every field of `collection` at once. A denial says that nothing at all
    /// is permitted; a permit may still leave fields out. The collection is taken from this authoriser's own set, by its
    /// name; one that the set does not have is denied.
    pub fn permit(
        &self,
        ctx: &OperationContext,
        collection: &Arc<Collection>,
        action: Action,
    ) -> Result<Permit, Denial> {
        let own = self.set.collection(collection.name().as_str());
        let own = own.filter(|_| action.is_of_a_collection()).ok_or_else(not_allowed)?;
        let table = self.table(&ctx.actor.identity, ctx.actor.roles(), Some(own), action, ctx.purpose)?;
        Ok(Permit { tenant: ctx.actor.identity.tenant, action, collection: Arc::clone(own), table })
    }

    /// Decides whether the caller of `ctx` may read its tenant's audit log.
    pub fn permit_audit(&self, ctx: &OperationContext) -> Result<AuditPermit, Denial> {
        let table =
            self.table(&ctx.actor.identity, ctx.actor.roles(), None, Action::ReadAudit, ctx.purpose)?;
        Ok(AuditPermit { tenant: ctx.actor.identity.tenant, table })
    }

    /// Decides whether the caller of `ctx` may read the service's metrics, which are of all tenants together and of no
    /// record.
    pub fn permit_metrics(&self, ctx: &OperationContext) -> Result<(), Denial> {
        self.table(&ctx.actor.identity, ctx.actor.roles(), None, Action::ReadMetrics, ctx.purpose).map(drop)
    }

    fn table(
        &self,
        identity: &Identity,
        roles: &Arc<[Arc<str>]>,
        collection: Option<&Arc<Collection>>,
        action: Action,
        purpose: Option<Purpose>,
    ) -> Decision {
        let key = Key {
            tenant: identity.tenant,
            client: Arc::clone(&identity.client),
            kind: identity.kind,
            roles: Arc::clone(roles),
            collection: collection.map(|collection| collection.name().clone()),
            action,
            purpose,
        };
        // A panic elsewhere cannot leave the map half changed, so a poisoned lock is still good.
        if let Some(known) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let asking = Identity { roles: Arc::clone(roles), ..identity.clone() };
        let decision = compile(self.set.rules(), &asking, collection.map(AsRef::as_ref), action, purpose);
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= MAX_TABLES {
            tables.clear();
        }
        tables.insert(key, decision.clone());
        decision
    }
}

fn not_allowed() -> Denial {
    Denial { code: DenialCode::ActionNotAllowed, policies: Arc::from([]) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::domain::actor::KeyKeeping;

    fn authoriser() -> Authoriser {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"));
        Authoriser::new(Arc::new(PolicySet::load(folder).unwrap()))
    }

    fn portal() -> Arc<[Arc<str>]> {
        [Arc::from("portal")].into()
    }

    fn identity(number: u128) -> Identity {
        Identity {
            client: Arc::from("client"),
            kind: ClientKind::App,
            tenant: TenantId::from_uuid(Uuid::from_u128(number)),
            roles: portal(),
            acts_for: Arc::from([]),
            key: KeyKeeping::File,
        }
    }

    #[test]
    fn the_same_question_gets_the_same_table() {
        let authoriser = authoriser();
        let patients = authoriser.set.collection("patients").unwrap();
        let ask = |tenant, purpose| {
            authoriser.table(&identity(tenant), &portal(), Some(patients), Action::Read, purpose)
        };
        let first = ask(1, Some(Purpose::Treat)).unwrap();
        assert!(Arc::ptr_eq(&first, &ask(1, Some(Purpose::Treat)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &ask(1, Some(Purpose::Patrqt)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &ask(2, Some(Purpose::Treat)).unwrap()));
        // A denial is remembered too.
        assert!(ask(1, None).is_err() && ask(1, None).is_err());
        assert_eq!(authoriser.tables.read().unwrap().len(), 4);
    }

    #[test]
    fn the_cache_is_bounded() {
        let authoriser = authoriser();
        let patients = authoriser.set.collection("patients").unwrap();
        let ask =
            |tenant| authoriser.table(&identity(tenant), &portal(), Some(patients), Action::Delete, None);
        for tenant in 0..=MAX_TABLES as u128 {
            // Filled by hand: only the last one is worth asking Cedar for.
            let mut tables = authoriser.tables.write().unwrap();
            if tables.len() < MAX_TABLES {
                let identity = identity(tenant);
                let key = Key {
                    tenant: identity.tenant,
                    client: identity.client,
                    kind: identity.kind,
                    roles: identity.roles,
                    collection: None,
                    action: Action::ReadAudit,
                    purpose: None,
                };
                tables.insert(key, Err(not_allowed()));
            }
        }
        assert_eq!(authoriser.tables.read().unwrap().len(), MAX_TABLES);
        assert!(ask(1).is_err());
        assert_eq!(authoriser.tables.read().unwrap().len(), 1);
    }
}
