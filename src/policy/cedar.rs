//! The Cedar rules: loaded strictly, asked one field at a time.
//!
//! Strict means: warnings are errors, every policy has a unique `@id`, templates are refused, and every collection,
//! field, destination, role, department, purpose, class and band that a policy names must exist. Policies speak of roles, never of
//! single clients, tenants, people or records: who has a role is the business of `identities.toml` and `people.toml`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy as cedar;
use cedar_policy::{EntityUid, RestrictedExpression};

use super::bands::Bands;
use super::cases::identity;
use super::circumstances::{Circumstances, PersonFacts};
use super::collection::{Collection, Field};
use super::conflict::KnownConflicts;
use super::departments::{Department, Departments};
use super::entities::{RuleResource, client_and_log, person, person_uid, standing_entities};
use super::isolation::keep_values_from_keepers;
use super::permit::{DenialCode, View};
use super::person_roles::AskedRoles;
use super::reach::Seen;
use super::relay_file::Destination;
use super::review::Sought;
use super::rule_files::{
    check_literals, known_literals, names_action, read_code, read_policies, role_of, seen_by, validate,
};
use super::schema_file::{SchemaFile, read_schema};
use super::words::{Kind, Names, RuleAction};
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::class::DataClass;
use crate::domain::purpose::Purpose;

/// The file at fault and a sentence for the person who edits it.
pub(super) type Fault = (String, String);

/// One answer of the engine.
pub(super) struct Verdict {
    pub allowed: bool,
    /// Sorted; the permits that held, or the forbids that did.
    pub policies: Vec<Arc<str>>,
}

pub(super) struct Rules {
    schema: cedar::Schema,
    policies: cedar::PolicySet,
    /// Those that permit.
    permits: cedar::PolicySet,
    /// Collections, records, fields, destinations and actions; the client and whom it acts for are added for each table.
    entities: cedar::Entities,
    names: Names,
    ids: HashMap<cedar::PolicyId, Arc<str>>,
    /// Of the guards that say what a caller can do about them.
    codes: HashMap<Arc<str>, DenialCode>,
    roles: Vec<Arc<str>>,
    departments: Departments,
    /// Whether any policy asks for one: where none does, people of all departments share what was decided.
    asks_department: bool,
    asked_roles: AskedRoles,
    bands: Bands,
    /// Collections that have to do with what is kept apart; none where there is no cardholder data.
    with_cards_or_health: Vec<Arc<Collection>>,
    conflicts: KnownConflicts,
}

/// A client before the rules: its entity among all others, and the policies that can hold for it.
pub(super) struct Caller {
    uid: EntityUid,
    entities: cedar::Entities,
    policies: cedar::PolicySet,
    /// Without the guards that have a code; `None` where there are none.
    without_codes: Option<cedar::PolicySet>,
}

/// Which of the caller's policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    All,
    /// As if the caller had done what the guards with a code ask for.
    WithoutCodes,
    /// As if nothing were forbidden; what is allowed then may not be.
    Permits,
}

/// Purpose and circumstances, as Cedar's context.
pub(super) struct Setting(cedar::Context);

/// What rules can name.
type Named<'a> = (&'a BTreeMap<String, Arc<Collection>>, &'a BTreeMap<String, Arc<Destination>>);

impl Rules {
    pub(super) fn load(
        (schema_file, schema_text): (&str, &str),
        files: &BTreeMap<String, String>,
        (collections, destinations): Named<'_>,
        bands: Bands,
    ) -> Result<Self, Fault> {
        let schema_fault = |why: String| (schema_file.to_owned(), why);
        let names = Names::new().map_err(schema_fault)?;
        let SchemaFile { schema, roles, departments } =
            read_schema(schema_text, &bands).map_err(schema_fault)?;
        let known = known_literals(collections, destinations);
        let mut policies = cedar::PolicySet::new();
        let (mut ids, mut codes) = (HashMap::new(), HashMap::new());
        for (file, text) in files {
            let fault = |why: String| (file.clone(), why);
            for policy in read_policies(text).map_err(fault)? {
                check_literals(&policy, &known).map_err(fault)?;
                let id: Arc<str> = Arc::from(policy.id().to_string());
                if let Some(code) = read_code(&policy).map_err(fault)? {
                    codes.insert(Arc::clone(&id), code);
                }
                ids.insert(policy.id().clone(), id);
                policies.add(policy).map_err(|_| fault("give each policy an @id of its own".to_owned()))?;
            }
        }
        let words = roles.iter().map(|role| &**role).collect();
        validate(&schema, &policies)
            .and_then(|()| keep_values_from_keepers(&words, &policies))
            .map_err(|why| ("*.cedar".to_owned(), why))?;
        let entities = standing_entities(&schema, &names, collections, destinations).map_err(schema_fault)?;
        let permits = policies.policies().filter(|policy| policy.effect() == cedar::Effect::Permit);
        let permits = cedar::PolicySet::from_policies(permits.cloned())
            .map_err(|error| ("*.cedar".to_owned(), error.to_string()))?;
        let with_cards_or_health = with_cards_or_health(collections);
        let seen: Seen = policies.policies().map(seen_by).collect();
        let asked_roles = AskedRoles::new(&seen.person_roles).map_err(|why| ("*.cedar".to_owned(), why))?;
        let conflicts = KnownConflicts::default();
        let rules = Self {
            schema,
            policies,
            permits,
            entities,
            names,
            ids,
            codes,
            roles,
            departments,
            asks_department: seen.looks_at("department"),
            asked_roles,
            bands,
            with_cards_or_health,
            conflicts,
        };
        rules.can_be_asked().map_err(schema_fault)?;
        Ok(rules)
    }

    /// That a request as it is put together here is one that the schema knows: of the types that it has for each action, with
    /// nothing in the context that it does not have. Rules were validated by it, and would be asked something else.
    fn can_be_asked(&self) -> Result<(), String> {
        let role: Vec<String> = self.roles.iter().take(1).map(ToString::to_string).collect();
        let department = self.departments.all().next().map(|(department, _)| department);
        let person = Some(PersonFacts { department, ..PersonFacts::default() });
        let caller = self.caller(&identity(ClientKind::App, &role), person);
        let circumstances = Circumstances { person, ..Circumstances::default() };
        let setting = self.setting(Some(Purpose::Treat), circumstances);
        let (Some(caller), Some(Setting(context))) = (caller, setting) else {
            return Err("declare Client, Person and AuditLog with the service's own attributes and parents"
                .to_owned());
        };
        for action in RuleAction::ALL {
            let resource = self.names.uid(action.resource().kind(), "any");
            let (uid, action) = (caller.uid.clone(), self.names.uid(Kind::Action, action.as_str()));
            cedar::Request::new(uid, action, resource, context.clone(), Some(&self.schema))
                .map_err(|error| format!("declare what requests are made of: {error}"))?;
        }
        Ok(())
    }

    pub(super) fn with_cards_or_health(&self) -> impl Iterator<Item = &Collection> {
        self.with_cards_or_health.iter().map(AsRef::as_ref)
    }

    pub(super) const fn conflicts(&self) -> &KnownConflicts {
        &self.conflicts
    }

    pub(super) fn roles(&self) -> &[Arc<str>] {
        &self.roles
    }

    pub(super) const fn bands(&self) -> &Bands {
        &self.bands
    }

    pub(super) const fn departments(&self) -> &Departments {
        &self.departments
    }

    /// The department of this name, as a decision asks for it: `None` where no policy does, and where it is not in the list,
    /// which is as if there were none.
    pub(super) fn asked_department(&self, name: &str) -> Option<Department> {
        if self.asks_department { self.departments.named(name) } else { None }
    }

    /// The roles that some policy asks a person for.
    pub(super) const fn asked_roles(&self) -> &AskedRoles {
        &self.asked_roles
    }

    /// What a guard asks of the caller, if it is one that says.
    pub(super) fn code(&self, policy: &str) -> Option<DenialCode> {
        self.codes.get(policy).copied()
    }

    /// All permits, with what a request must be to come under their scope.
    pub(super) fn sought(&self) -> impl Iterator<Item = Sought> {
        self.permits.policies().filter_map(|policy| {
            let actions = RuleAction::ALL.into_iter().filter(|action| names_action(policy, *action));
            Some(Sought {
                id: self.ids.get(policy.id()).cloned()?,
                role: role_of(policy),
                actions: actions.collect(),
            })
        })
    }

    /// Whether there is any permit of these actions for the role, or for every role.
    pub(super) fn may_permit(&self, role: &str, actions: &[RuleAction]) -> bool {
        self.about(role, actions).any(|policy| policy.effect() == cedar::Effect::Permit)
    }

    /// Whether a permit of this role says with `@allows` that something is meant to be so.
    pub(super) fn allows(&self, role: &str, what: &str) -> bool {
        let role = self.names.uid(Kind::Role, role);
        self.policies.policies().any(|policy| {
            policy.effect() == cedar::Effect::Permit
                && policy.principal_constraint() == cedar::PrincipalConstraint::In(role.clone())
                && policy.annotation("allows") == Some(what)
        })
    }

    /// What the policies about these actions look at, for this role or for every role.
    pub(super) fn seen(&self, role: &str, actions: &[RuleAction]) -> Seen {
        self.about(role, actions).map(seen_by).collect()
    }

    /// The policies about these actions, for this role or for every role, as they are written: where they are the same, so is
    /// what they decide about the same fields.
    pub(super) fn written(&self, role: &str, actions: &[RuleAction]) -> BTreeSet<String> {
        self.about(role, actions).map(ToString::to_string).collect()
    }

    fn about(&self, role: &str, actions: &[RuleAction]) -> impl Iterator<Item = &cedar::Policy> {
        self.policies.policies().filter(move |policy| {
            role_of(policy).is_none_or(|own| own == role)
                && actions.iter().any(|action| names_action(policy, *action))
        })
    }

    /// The caller, ready to be asked about, with whom it acts for; `None` when it has a role that the schema does not list, which is refused
    /// like a caller without any role.
    pub(super) fn caller(&self, identity: &Identity, person: Option<PersonFacts>) -> Option<Caller> {
        if !identity.roles.iter().all(|role| self.roles.contains(role)) {
            return None;
        }
        let roles: HashSet<EntityUid> =
            identity.roles.iter().map(|role| self.names.uid(Kind::Role, role)).collect();
        let [client, log] = client_and_log(&self.names, identity, &roles)?;
        let uid = client.uid();
        let person = match person {
            Some(facts) => Some(self.person(facts)?),
            None => None,
        };
        let added = [client, log].into_iter().chain(person);
        let entities = self.entities.clone().add_entities(added, Some(&self.schema)).ok()?;
        let policies = self.policies_for(&roles)?;
        let without_codes = self.without_codes(&policies)?;
        Some(Caller { uid, entities, policies, without_codes })
    }

    fn person(&self, facts: PersonFacts) -> Option<cedar::Entity> {
        let department = match facts.department {
            Some(department) => Some(&**self.departments.name(department)?),
            None => None,
        };
        person(&self.names, self.asked_roles.names(facts.roles), department)
    }

    /// Leaves out the policies for roles that the caller does not have: their scope cannot hold for it, so no answer
    /// changes, and the others are decided several times faster. `policy_table.rs` compares with the whole set.
    fn policies_for(&self, roles: &HashSet<EntityUid>) -> Option<cedar::PolicySet> {
        let concerned = self.policies.policies().filter(|policy| match policy.principal_constraint() {
            cedar::PrincipalConstraint::In(role) => roles.contains(&role),
            _ => true,
        });
        cedar::PolicySet::from_policies(concerned.cloned()).ok()
    }

    #[expect(
        clippy::option_option,
        reason = "the outer is a failure, the inner that there is nothing to leave out"
    )]
    fn without_codes(&self, policies: &cedar::PolicySet) -> Option<Option<cedar::PolicySet>> {
        let has_code =
            |policy: &&cedar::Policy| self.ids.get(policy.id()).is_some_and(|id| self.codes.contains_key(id));
        if !policies.policies().any(|policy| has_code(&policy)) {
            return Some(None);
        }
        let others = policies.policies().filter(|policy| !has_code(policy));
        cedar::PolicySet::from_policies(others.cloned()).ok().map(Some)
    }

    /// `None` is a defect, and refuses.
    pub(super) fn setting(&self, purpose: Option<Purpose>, circumstances: Circumstances) -> Option<Setting> {
        let flag = |name: &str, is_so: bool| (name.to_owned(), RestrictedExpression::new_bool(is_so));
        let Circumstances { person, second_factor, relationship, hour, source } = circumstances;
        let word = |name: &str, kind, of: &str| {
            (name.to_owned(), RestrictedExpression::new_entity_uid(self.names.uid(kind, of)))
        };
        let hour = self.bands.hours().find(|(known, _)| *known == hour)?.1;
        let source = self.bands.sources().find(|(known, _)| *known == source)?.1;
        let purpose = purpose.map(|purpose| word("purpose", Kind::Purpose, purpose.as_str()));
        let person = person
            .map(|_| ("person".to_owned(), RestrictedExpression::new_entity_uid(person_uid(&self.names))));
        let others = [
            flag("second_factor", second_factor),
            flag("is_self", relationship.is_self),
            flag("in_care_team", relationship.in_care_team),
            flag("break_glass", relationship.break_glass),
            word("hour", Kind::Hour, hour),
            word("source", Kind::Source, source),
        ];
        cedar::Context::from_pairs(others.into_iter().chain(purpose).chain(person)).ok().map(Setting)
    }

    /// Asks the engine. A policy that fails while it is evaluated refuses the request: the engine itself would skip it,
    /// and a skipped `forbid` grants.
    pub(super) fn decide(
        &self,
        (caller, asked): (&Caller, Asked),
        setting: &Setting,
        action: RuleAction,
        resource: RuleResource<'_>,
    ) -> Verdict {
        let refused = Verdict { allowed: false, policies: Vec::new() };
        let resource = resource.uid(&self.names);
        let action = self.names.uid(Kind::Action, action.as_str());
        // All that it names is of this program's making: checking it against the schema takes longer than deciding.
        let request = cedar::Request::new(caller.uid.clone(), action, resource, setting.0.clone(), None);
        let Ok(request) = request else { return refused };
        let policies = match asked {
            Asked::All => &caller.policies,
            Asked::WithoutCodes => caller.without_codes.as_ref().unwrap_or(&caller.policies),
            Asked::Permits => &self.permits,
        };
        let answer = cedar::Authorizer::new().is_authorized(&request, policies, &caller.entities);
        let failed = answer.diagnostics().errors().next().is_some();
        let mut policies: Vec<Arc<str>> =
            answer.diagnostics().reason().filter_map(|id| self.ids.get(id).cloned()).collect();
        policies.sort();
        Verdict { allowed: answer.decision() == cedar::Decision::Allow && !failed, policies }
    }

    /// A field's view for reading: plain where that is permitted, else masked, else absent.
    pub(super) fn read_view(
        &self,
        caller: (&Caller, Asked),
        setting: &Setting,
        collection: &Collection,
        field: &Field,
    ) -> (View, Vec<Arc<str>>) {
        let resource = RuleResource::Field(collection, field);
        let plain = self.decide(caller, setting, RuleAction::ReadPlain, resource);
        if plain.allowed {
            return (View::Plain, plain.policies);
        }
        let masked = self.decide(caller, setting, RuleAction::ReadMasked, resource);
        (if masked.allowed { View::Masked } else { View::Absent }, masked.policies)
    }
}

fn with_cards_or_health(collections: &BTreeMap<String, Arc<Collection>>) -> Vec<Arc<Collection>> {
    let has = |collection: &&Arc<Collection>, classes: &[DataClass]| {
        collection.fields().iter().any(|field| classes.contains(&field.class))
    };
    if !collections.values().any(|collection| has(&collection, &[DataClass::Chd])) {
        return Vec::new();
    }
    let concerned = collections.values().filter(|one| has(one, &[DataClass::Chd, DataClass::Phi]));
    concerned.cloned().collect()
}
