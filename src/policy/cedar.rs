//! The Cedar rules: loaded strictly, asked one field at a time.
//!
//! Strict means: warnings are errors, every policy has a unique `@id`, templates are refused, and every collection,
//! field, role, purpose and class that a policy names must exist. Policies speak of roles, never of single clients or
//! tenants: who has a role is `identities.toml`'s business.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy as cedar;
use cedar_policy::{EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use super::collection::{Collection, Field};
use super::permit::View;
use crate::domain::actor::{ClientKind, Identity};
use crate::domain::class::DataClass;
use crate::domain::id::CollectionName;
use crate::domain::purpose::Purpose;

/// The file at fault and a sentence for the person who edits it.
type Fault = (String, String);

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
    ReadAudit,
    ReadMetrics,
}

impl RuleAction {
    const ALL: [Self; 10] = [
        Self::Create,
        Self::ReadPlain,
        Self::ReadMasked,
        Self::Update,
        Self::Delete,
        Self::History,
        Self::List,
        Self::ReadMany,
        Self::ReadAudit,
        Self::ReadMetrics,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::ReadPlain => "read_plain",
            Self::ReadMasked => "read_masked",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::History => "history",
            Self::List => "list",
            Self::ReadMany => "read_many",
            Self::ReadAudit => "read_audit",
            Self::ReadMetrics => "read_metrics",
        }
    }
}

/// What is asked about.
#[derive(Clone, Copy)]
pub(super) enum RuleResource<'a> {
    Field(&'a Collection, &'a Field),
    Collection(&'a CollectionName),
    AuditLog,
    Metrics,
}

/// One answer of the engine.
pub(super) struct Verdict {
    pub allowed: bool,
    /// Sorted; the permits that held, or the forbids that did.
    pub policies: Vec<Arc<str>>,
}

pub(super) struct Rules {
    schema: cedar::Schema,
    policies: cedar::PolicySet,
    /// Collections, fields and actions; the client is added for each table.
    entities: cedar::Entities,
    names: Names,
    ids: HashMap<cedar::PolicyId, Arc<str>>,
    roles: Vec<Arc<str>>,
}

/// A client before the rules: its entity among all others, and the policies that can hold for it.
pub(super) struct Caller {
    uid: EntityUid,
    entities: cedar::Entities,
    policies: cedar::PolicySet,
}

impl Rules {
    pub(super) fn load(
        (schema_file, schema_text): (&str, &str),
        files: &BTreeMap<String, String>,
        collections: &BTreeMap<String, Arc<Collection>>,
    ) -> Result<Self, Fault> {
        let schema_fault = |why: String| (schema_file.to_owned(), why);
        let names = Names::new().map_err(schema_fault)?;
        let (schema, roles) = read_schema(schema_text).map_err(schema_fault)?;
        let known = known_literals(collections);
        let mut policies = cedar::PolicySet::new();
        let mut ids = HashMap::new();
        for (file, text) in files {
            let fault = |why: String| (file.clone(), why);
            for policy in read_policies(text).map_err(fault)? {
                check_literals(&policy, &known).map_err(fault)?;
                ids.insert(policy.id().clone(), Arc::from(policy.id().to_string()));
                policies.add(policy).map_err(|_| fault("give each policy an @id of its own".to_owned()))?;
            }
        }
        validate(&schema, &policies).map_err(|why| ("*.cedar".to_owned(), why))?;
        let entities = entities(&schema, &names, collections).map_err(schema_fault)?;
        Ok(Self { schema, policies, entities, names, ids, roles })
    }

    pub(super) fn roles(&self) -> &[Arc<str>] {
        &self.roles
    }

    /// The caller, ready to be asked about; `None` when it has a role that the schema does not list, which is refused
    /// like a caller without any role.
    pub(super) fn caller(&self, identity: &Identity) -> Option<Caller> {
        if !identity.roles.iter().all(|role| self.roles.contains(role)) {
            return None;
        }
        let tenant = self.names.uid(Kind::Tenant, &identity.tenant.to_string());
        let uid = self.names.uid(Kind::Client, &format!("{}/{}", identity.tenant, identity.client));
        let kind = self.names.uid(Kind::OfClient, identity.kind.as_str());
        let attributes = HashMap::from([
            ("tenant".to_owned(), RestrictedExpression::new_entity_uid(tenant.clone())),
            ("kind".to_owned(), RestrictedExpression::new_entity_uid(kind)),
        ]);
        let roles: HashSet<EntityUid> =
            identity.roles.iter().map(|role| self.names.uid(Kind::Role, role)).collect();
        let client = cedar::Entity::new(uid.clone(), attributes, roles.clone()).ok()?;
        let log = cedar::Entity::new(
            self.names.uid(Kind::AuditLog, "log"),
            HashMap::from([("tenant".to_owned(), RestrictedExpression::new_entity_uid(tenant))]),
            HashSet::new(),
        )
        .ok()?;
        let entities = self.entities.clone().add_entities([client, log], Some(&self.schema)).ok()?;
        Some(Caller { uid, entities, policies: self.policies_for(&roles)? })
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

    /// Asks the engine. A policy that fails while it is evaluated refuses the request: the engine itself would skip it,
    /// and a skipped `forbid` grants.
    pub(super) fn decide(
        &self,
        caller: &Caller,
        action: RuleAction,
        resource: RuleResource<'_>,
        purpose: Option<Purpose>,
    ) -> Verdict {
        let refused = Verdict { allowed: false, policies: Vec::new() };
        let purpose = purpose.map(|purpose| {
            let uid = self.names.uid(Kind::Purpose, purpose.as_str());
            ("purpose".to_owned(), RestrictedExpression::new_entity_uid(uid))
        });
        let Ok(context) = cedar::Context::from_pairs(purpose) else { return refused };
        let resource = match resource {
            RuleResource::Field(collection, field) => {
                self.names.uid(Kind::Field, &field_literal(collection, field))
            }
            RuleResource::Collection(name) => self.names.uid(Kind::Collection, name.as_str()),
            RuleResource::AuditLog => self.names.uid(Kind::AuditLog, "log"),
            RuleResource::Metrics => self.names.uid(Kind::Metrics, "metrics"),
        };
        let action = self.names.uid(Kind::Action, action.as_str());
        let request = cedar::Request::new(caller.uid.clone(), action, resource, context, Some(&self.schema));
        let Ok(request) = request else { return refused };
        let answer = cedar::Authorizer::new().is_authorized(&request, &caller.policies, &caller.entities);
        let failed = answer.diagnostics().errors().next().is_some();
        let mut policies: Vec<Arc<str>> =
            answer.diagnostics().reason().filter_map(|id| self.ids.get(id).cloned()).collect();
        policies.sort();
        Verdict { allowed: answer.decision() == cedar::Decision::Allow && !failed, policies }
    }

    /// A field's view for reading: plain where that is permitted, else masked, else absent.
    pub(super) fn read_view(
        &self,
        caller: &Caller,
        collection: &Collection,
        field: &Field,
        purpose: Option<Purpose>,
    ) -> (View, Vec<Arc<str>>) {
        let resource = RuleResource::Field(collection, field);
        let plain = self.decide(caller, RuleAction::ReadPlain, resource, purpose);
        if plain.allowed {
            return (View::Plain, plain.policies);
        }
        let masked = self.decide(caller, RuleAction::ReadMasked, resource, purpose);
        (if masked.allowed { View::Masked } else { View::Absent }, masked.policies)
    }
}

/// The name of a field's entity.
fn field_literal(collection: &Collection, field: &Field) -> String {
    format!("{}.{}", collection.name().as_str(), field.name.as_str())
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Action,
    AuditLog,
    Class,
    Client,
    OfClient,
    Collection,
    Field,
    Metrics,
    Purpose,
    Role,
    Tenant,
}

impl Kind {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Action, "Action"),
        (Self::AuditLog, "AuditLog"),
        (Self::Class, "Class"),
        (Self::Client, "Client"),
        (Self::OfClient, "ClientKind"),
        (Self::Collection, "Collection"),
        (Self::Field, "Field"),
        (Self::Metrics, "Metrics"),
        (Self::Purpose, "Purpose"),
        (Self::Role, "Role"),
        (Self::Tenant, "Tenant"),
    ];
}

/// The schema's type names, parsed once.
struct Names {
    action: EntityTypeName,
    by_kind: HashMap<Kind, EntityTypeName>,
}

impl Names {
    fn new() -> Result<Self, String> {
        let parse = |name: &str| EntityTypeName::from_str(name).map_err(|error| error.to_string());
        let mut by_kind = HashMap::new();
        for (kind, name) in Kind::ALL {
            by_kind.insert(kind, parse(name)?);
        }
        Ok(Self { action: parse("Action")?, by_kind })
    }

    fn uid(&self, kind: Kind, id: &str) -> EntityUid {
        let type_name = self.by_kind.get(&kind).unwrap_or(&self.action);
        EntityUid::from_type_name_and_id(type_name.clone(), EntityId::new(id))
    }
}

/// Parses the schema and checks that its closed lists are the service's own; answers the roles as well.
fn read_schema(text: &str) -> Result<(cedar::Schema, Vec<Arc<str>>), String> {
    let (fragment, warnings) =
        cedar::SchemaFragment::from_cedarschema_str(text).map_err(|error| error.to_string())?;
    if let Some(warning) = warnings.into_iter().next() {
        return Err(warning.to_string());
    }
    // The empty namespace is an empty member name.
    let json = fragment.clone().to_json_value().map_err(|error| error.to_string())?;
    let listed = |kind: &str| -> Vec<Arc<str>> {
        let words = json.pointer(&format!("//entityTypes/{kind}/enum")).and_then(|list| list.as_array());
        words.into_iter().flatten().filter_map(|word| word.as_str().map(Arc::from)).collect()
    };
    let same = |kind: &str, wanted: BTreeSet<&str>| {
        let found = listed(kind);
        let found: BTreeSet<&str> = found.iter().map(|word| &**word).collect();
        if found == wanted { Ok(()) } else { Err(format!("list exactly the service's own words in {kind}")) }
    };
    same("Purpose", Purpose::ALL.iter().map(|purpose| purpose.as_str()).collect())?;
    same("Class", DataClass::ALL.iter().map(|class| class.as_str()).collect())?;
    let kinds = [ClientKind::App, ClientKind::Auditor, ClientKind::Custodian, ClientKind::Operator];
    same("ClientKind", kinds.iter().map(|kind| kind.as_str()).collect())?;
    let actions = json.pointer("//actions").and_then(|actions| actions.as_object());
    let missing = RuleAction::ALL
        .iter()
        .find(|action| !actions.is_some_and(|actions| actions.contains_key(action.as_str())));
    if let Some(action) = missing {
        return Err(format!("declare the action {}", action.as_str()));
    }
    let roles = listed("Role");
    if roles.is_empty() {
        return Err("list the roles in Role".to_owned());
    }
    let schema = cedar::Schema::from_schema_fragments([fragment]).map_err(|error| error.to_string())?;
    Ok((schema, roles))
}

/// The policies of one file under the ids that they declare.
fn read_policies(text: &str) -> Result<Vec<cedar::Policy>, String> {
    let parsed = cedar::PolicySet::from_str(text).map_err(|error| error.to_string())?;
    if parsed.num_of_templates() > 0 {
        return Err("write policies without templates".to_owned());
    }
    let mut named = Vec::new();
    for policy in parsed.policies() {
        let id = policy.annotation("id").unwrap_or_default();
        let fits = (1..=80).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err("give each policy an @id of lower-case letters, digits and hyphens".to_owned());
        }
        named.push(policy.new_id(cedar::PolicyId::new(id)));
    }
    Ok(named)
}

fn validate(schema: &cedar::Schema, policies: &cedar::PolicySet) -> Result<(), String> {
    let result = cedar::Validator::new(schema.clone()).validate(policies, cedar::ValidationMode::Strict);
    let first = result
        .validation_errors()
        .map(ToString::to_string)
        .chain(result.validation_warnings().map(ToString::to_string))
        .next();
    first.map_or(Ok(()), Err)
}

fn known_literals(collections: &BTreeMap<String, Arc<Collection>>) -> HashSet<(String, String)> {
    let mut known = HashSet::new();
    for collection in collections.values() {
        known.insert(("Collection".to_owned(), collection.name().as_str().to_owned()));
        for field in collection.fields() {
            known.insert(("Field".to_owned(), field_literal(collection, field)));
        }
    }
    known
}

/// Roles, purposes, classes and actions are the validator's; collections and fields are ours; single clients and tenants
/// have no place in a policy.
fn check_literals(policy: &cedar::Policy, known: &HashSet<(String, String)>) -> Result<(), String> {
    for literal in policy.entity_literals() {
        let kind = literal.type_name().to_string();
        let id: &str = literal.id().unescaped();
        let fits = match kind.as_str() {
            "Role" | "Purpose" | "Class" | "ClientKind" | "Action" => true,
            "Collection" | "Field" => known.contains(&(kind.clone(), id.to_owned())),
            _ => false,
        };
        if !fits {
            return Err(format!("policy {}: there is no {kind} {id} to name", policy.id()));
        }
    }
    Ok(())
}

fn entities(
    schema: &cedar::Schema,
    names: &Names,
    collections: &BTreeMap<String, Arc<Collection>>,
) -> Result<cedar::Entities, String> {
    let mut all = vec![cedar::Entity::new_no_attrs(names.uid(Kind::Metrics, "metrics"), HashSet::new())];
    for collection in collections.values() {
        let parent = names.uid(Kind::Collection, collection.name().as_str());
        all.push(cedar::Entity::new_no_attrs(parent.clone(), HashSet::new()));
        for field in collection.fields() {
            let class = names.uid(Kind::Class, field.class.as_str());
            let uid = names.uid(Kind::Field, &field_literal(collection, field));
            all.push(cedar::Entity::new_no_attrs(uid, HashSet::from([parent.clone(), class])));
        }
    }
    let actions = schema.action_entities().map_err(|error| error.to_string())?;
    all.extend(actions.iter().cloned());
    cedar::Entities::from_entities(all, Some(schema)).map_err(|error| error.to_string())
}
