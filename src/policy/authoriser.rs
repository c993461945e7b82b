//! The only maker of permits: compiled tables, cached, bound to one immutable policy set.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::circumstances::Circumstances;
use super::collection::Collection;
use super::permit::{
    AuditPermit, Denial, DenialCode, Dependent, KeysPermit, Permit, Prospect, SubjectPermit,
};
use super::set::PolicySet;
use super::table::{Asking, Table, compile};
use crate::domain::action::Action;
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::context::OperationContext;
use crate::domain::id::{CollectionName, TenantId};
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
    action: Action,
    purpose: Option<Purpose>,
    circumstances: Circumstances,
    /// The relationship is not known yet: that of the circumstances is what it can be at most.
    is_open: bool,
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
        let most = Relationship::most_possible_of(ctx.actor.person().map(AsRef::as_ref), ctx.purpose);
        match self.decision(ctx, Some(own), action, most, most != Relationship::NONE) {
            Decision::Permitted(table) => Ok(Prospect::Permit(permit(ctx, action, own, table))),
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
        let table = self.table(ctx, Some(own), action, relationship)?;
        Ok(permit(ctx, action, own, table))
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
        let table = self.table(ctx, None, Action::ReadAudit, Relationship::NONE)?;
        Ok(AuditPermit { tenant: ctx.actor.identity.tenant, table })
    }

    /// Decides whether the caller of `ctx` may read the service's metrics, which are of all tenants together and of no
    /// record.
    pub fn permit_metrics(&self, ctx: &OperationContext) -> Result<(), Denial> {
        self.table(ctx, None, Action::ReadMetrics, Relationship::NONE).map(drop)
    }

    /// Decides whether the caller of `ctx` may do `action` about subjects of its tenant.
    pub fn permit_subject(&self, ctx: &OperationContext, action: Action) -> Result<SubjectPermit, Denial> {
        if !action.is_of_a_subject() {
            return Err(not_allowed());
        }
        let table = self.table(ctx, None, action, Relationship::NONE)?;
        Ok(SubjectPermit { tenant: ctx.actor.identity.tenant, action, table })
    }

    /// Decides whether the caller of `ctx` may do `action` with the keys of its tenant.
    pub fn permit_keys(&self, ctx: &OperationContext, action: Action) -> Result<KeysPermit, Denial> {
        if !action.is_of_keys() {
            return Err(not_allowed());
        }
        let table = self.table(ctx, None, action, Relationship::NONE)?;
        Ok(KeysPermit { tenant: ctx.actor.identity.tenant, action, table })
    }

    fn own(&self, collection: &Collection, action: Action) -> Result<&Arc<Collection>, Denial> {
        let own = self.set.collection(collection.name().as_str());
        own.filter(|_| action.is_of_a_collection()).ok_or_else(not_allowed)
    }

    fn table(
        &self,
        ctx: &OperationContext,
        collection: Option<&Arc<Collection>>,
        action: Action,
        relationship: Relationship,
    ) -> Result<Arc<Table>, Denial> {
        match self.decision(ctx, collection, action, relationship, false) {
            Decision::Permitted(table) => Ok(table),
            Decision::Denied(denial) => Err(denial),
            // Nobody asks a closed question and hears this.
            Decision::Depends(_) => Err(not_allowed()),
        }
    }

    fn decision(
        &self,
        ctx: &OperationContext,
        collection: Option<&Arc<Collection>>,
        action: Action,
        relationship: Relationship,
        is_open: bool,
    ) -> Decision {
        let (identity, roles) = (&ctx.actor.identity, ctx.actor.roles());
        let key = Key {
            tenant: identity.tenant,
            client: Arc::clone(&identity.client),
            kind: identity.kind,
            roles: Arc::clone(roles),
            collection: collection.map(|collection| collection.name().clone()),
            action,
            purpose: ctx.purpose,
            circumstances: Circumstances::of(ctx, relationship, self.set.rules()),
            is_open,
        };
        // A panic elsewhere cannot leave the map half changed, so a poisoned lock is still good.
        if let Some(known) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let decision = if is_open {
            self.over_all(ctx, collection, action, relationship)
        } else {
            let asking = Asking {
                rules: self.set.rules(),
                identity: &Identity { roles: Arc::clone(roles), ..Identity::clone(identity) },
                collection: collection.map(AsRef::as_ref),
                action,
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
    fn over_all(
        &self,
        ctx: &OperationContext,
        collection: Option<&Arc<Collection>>,
        action: Action,
        most: Relationship,
    ) -> Decision {
        let mut permitted: Vec<Arc<Table>> = Vec::new();
        let mut denied = None;
        for relationship in most.at_most() {
            match self.table(ctx, collection, action, relationship) {
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
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::OnceLock;

    use uuid::Uuid;

    use super::*;
    use crate::domain::actor::{Actor, CertificateFacts, KeyKeeping};
    use crate::domain::clock::Timestamp;
    use crate::domain::context::RequestFacts;
    use crate::domain::id::{RequestId, SubjectId};
    use crate::domain::person::Person;

    fn authoriser() -> Authoriser {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"));
        Authoriser::new(Arc::new(PolicySet::load(folder).unwrap()))
    }

    fn roles(role: &str) -> Arc<[Arc<str>]> {
        [Arc::from(role)].into()
    }

    fn context(tenant: u128, own: &str, purpose: Option<Purpose>) -> OperationContext {
        let identity = Identity {
            client: Arc::from("client"),
            kind: ClientKind::App,
            tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
            roles: roles(own),
            acts_for: roles(own),
            key: KeyKeeping::File,
        };
        let certificate = CertificateFacts {
            san: String::new(),
            issuer_sha256: String::new(),
            serial: String::new(),
            not_after: Timestamp::from_micros(0),
            sha256: String::new(),
        };
        let source = SocketAddr::from(([127, 0, 0, 1], 1));
        OperationContext {
            actor: Actor::new(Arc::new(identity), Arc::new(certificate), source),
            request: RequestFacts { id: RequestId::from_uuid(Uuid::nil()), trace: None, route: "/" },
            purpose,
            at: Timestamp::from_micros(0),
            break_glass: OnceLock::new(),
        }
    }

    fn clinician(teams: &[&str], subject: Option<SubjectId>) -> OperationContext {
        clinician_of(None, teams, subject)
    }

    fn clinician_of(
        department: Option<&str>,
        teams: &[&str],
        subject: Option<SubjectId>,
    ) -> OperationContext {
        let person = Person {
            issuer: "staff".into(),
            id: "p-1".into(),
            roles: roles("clinician"),
            department: department.map(Arc::from),
            care_teams: teams.iter().map(|team| Arc::from(*team)).collect(),
            subject,
            has_second_factor: false,
            expires_at: Timestamp::from_micros(0),
        };
        let alone = context(1, "clinician", Some(Purpose::Treat));
        OperationContext { actor: alone.actor.for_person(Arc::new(person)), ..alone }
    }

    #[test]
    fn the_same_question_gets_the_same_table() {
        let authoriser = authoriser();
        let patients = authoriser.set.collection("patients").unwrap();
        let ask = |tenant, purpose| {
            let context = context(tenant, "portal", purpose);
            authoriser.table(&context, Some(patients), Action::Read, Relationship::NONE)
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
    fn only_who_can_have_to_do_with_somebody_waits_to_know_with_whom() {
        let authoriser = authoriser();
        let patients = authoriser.set.collection("patients").unwrap();
        let ask = |context: &OperationContext| authoriser.prospect(context, patients, Action::Read);
        // A client by itself is decided at once, in one table.
        assert!(matches!(ask(&context(1, "clinician", Some(Purpose::Treat))), Ok(Prospect::Permit(_))));
        assert_eq!(authoriser.tables.read().unwrap().len(), 1);
        // In no team: no record could be theirs to read.
        let denial = ask(&clinician(&[], None)).err().unwrap();
        assert_eq!(denial.code, DenialCode::RelationshipRequired);
        assert_eq!(denial.policies.iter().map(|id| &**id).collect::<Vec<_>>(), ["guard-clinician-care-team"]);
        let in_team = clinician(&["ward-3"], None);
        let Ok(Prospect::Depends(dependent)) = ask(&in_team) else { panic!("it depends") };
        assert!(dependent.policies().iter().any(|id| &**id == "clinician-reads"));
        let permit = |in_care_team| {
            let relationship = Relationship { in_care_team, ..Relationship::NONE };
            authoriser.permit(&in_team, patients, Action::Read, relationship)
        };
        assert!(permit(true).is_ok());
        assert_eq!(permit(false).err().unwrap().code, DenialCode::RelationshipRequired);
        // Whom somebody is does not matter to this role.
        let own = clinician(&[], Some(SubjectId::from_uuid(Uuid::nil())));
        assert_eq!(ask(&own).err().unwrap().code, DenialCode::RelationshipRequired);
    }

    /// The shipped rules, and one more.
    fn asking(name: &str, condition: &str) -> Authoriser {
        let folder = std::env::temp_dir().join(format!("strongroom-{name}-{}", std::process::id()));
        let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"));
        std::fs::create_dir_all(folder.join("collections")).unwrap();
        for file in ["", "collections"].iter().flat_map(|each| std::fs::read_dir(from.join(each)).unwrap()) {
            let file = file.unwrap().path();
            if file.is_file() {
                std::fs::copy(&file, folder.join(file.strip_prefix(from).unwrap())).unwrap();
            }
        }
        let rule = format!(
            "@id(\"extra\") permit (principal in Role::\"billing\", action == Action::\"list\", \
             resource == Collection::\"messages\") when {{ context has person && {condition} }};"
        );
        std::fs::write(folder.join("extra.cedar"), rule).unwrap();
        let set = PolicySet::load(&folder);
        std::fs::remove_dir_all(folder).unwrap();
        Authoriser::new(Arc::new(set.unwrap()))
    }

    /// How many decisions it takes to permit all of these.
    fn tables_of(authoriser: &Authoriser, contexts: &[OperationContext]) -> usize {
        let patients = authoriser.set.collection("patients").unwrap();
        let related = Relationship { in_care_team: true, ..Relationship::NONE };
        for context in contexts {
            assert!(authoriser.permit(context, patients, Action::Read, related).is_ok());
        }
        authoriser.tables.read().unwrap().len()
    }

    /// The shipped rules ask for no department, so that people of all of them share a table.
    #[test]
    fn a_department_is_in_the_key_where_rules_ask_for_one() {
        // One that the schema does not list is none.
        let departments = [None, Some("cardiology"), Some("oncology"), Some("catering")];
        let contexts = departments.map(|department| clinician_of(department, &["ward-3"], None));
        assert_eq!(tables_of(&authoriser(), &contexts), 1);
        assert_eq!(tables_of(&asking("departments", "context.person has department"), &contexts), 3);
    }

    /// Somebody else with the same role, teams and department is the same to a decision, also where rules ask for a role; whoever
    /// comes to the same desk without it is not.
    #[test]
    fn which_person_it_is_never_enters_the_key() {
        let somebody = |id: &str, brought: &[&str], subject: Option<u128>| {
            let context = clinician(&["ward-3"], subject.map(|id| SubjectId::from_uuid(Uuid::from_u128(id))));
            let person = Person {
                id: id.into(),
                roles: brought.iter().map(|role| Arc::from(*role)).collect(),
                ..Person::clone(context.actor.person().unwrap())
            };
            OperationContext { actor: context.actor.for_person(Arc::new(person)), ..context }
        };
        let alike = [
            somebody("p-1", &["clinician"], None),
            somebody("p-2", &["clinician"], Some(7)),
            // The client does not act for patients: it is not brought.
            somebody("p-3", &["clinician", "patient"], None),
        ];
        let asking = |role: &str| asking(role, &format!("context.person in Role::\"{role}\""));
        for authoriser in [authoriser(), asking("clinician"), asking("billing")] {
            assert_eq!(tables_of(&authoriser, &alike), 1);
        }
        // The role is the desk's whoever comes.
        let all = alike.into_iter().chain([somebody("p-4", &[], None), somebody("p-5", &["patient"], None)]);
        let all: Vec<OperationContext> = all.collect();
        for (authoriser, tables) in [(authoriser(), 1), (asking("clinician"), 2), (asking("billing"), 1)] {
            assert_eq!(tables_of(&authoriser, &all), tables);
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let authoriser = authoriser();
        let ask = || authoriser.permit_metrics(&context(1, "portal", None));
        ask().unwrap_err();
        // Filled by hand: only the last one is worth asking Cedar for.
        let mut tables = authoriser.tables.write().unwrap();
        let key = tables.keys().next().unwrap().clone();
        for tenant in 2..=MAX_TABLES as u128 {
            let tenant = TenantId::from_uuid(Uuid::from_u128(tenant));
            tables.insert(Key { tenant, ..key.clone() }, Decision::Denied(not_allowed()));
        }
        assert_eq!(tables.len(), MAX_TABLES);
        tables.remove(&key);
        tables.insert(Key { is_open: true, ..key }, Decision::Denied(not_allowed()));
        drop(tables);
        ask().unwrap_err();
        assert_eq!(authoriser.tables.read().unwrap().len(), 1);
    }
}
