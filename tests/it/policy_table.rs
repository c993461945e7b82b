//! The authoriser's tables against Cedar asked field by field, by an oracle that shares no code with `policy`.

#![cfg(test)]

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, OnceLock};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet as Cedar, Request,
    RestrictedExpression,
};
use proptest::prelude::*;
use strongroom::domain::action::Action;
use strongroom::domain::actor::{Actor, CertificateFacts, ClientKind, Identity, KeyKeeping};
use strongroom::domain::clock::Timestamp;
use strongroom::domain::context::{OperationContext, RequestFacts};
use strongroom::domain::id::{FieldId, RequestId, SubjectId, TenantId};
use strongroom::domain::person::Person;
use strongroom::domain::purpose::Purpose;
use strongroom::domain::relationship::Relationship;
use strongroom::policy::{
    Authoriser, Collection, DenialCode, Field, PolicySet, Prospect, RelayedField, View,
};
use uuid::Uuid;

use crate::parts::Folder;
use crate::support::copy_folder;

/// A policy, as this service decides by it and as Cedar has it.
struct World {
    set: Arc<PolicySet>,
    authoriser: Authoriser,
    policies: Cedar,
}

impl World {
    fn of(folder: &Path) -> Self {
        let set = Arc::new(PolicySet::load(folder).unwrap());
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "cedar"));
        let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let authoriser = Authoriser::new(Arc::clone(&set));
        Self { set, authoriser, policies: Cedar::from_str(&text).unwrap() }
    }
}

static SHIPPED: LazyLock<World> = LazyLock::new(|| World::of(folder()));

/// The shipped policy with rules that ask for departments, and for the roles that a person brought: by name, by several, by any,
/// and by none.
static BY_PERSON: LazyLock<World> = LazyLock::new(|| {
    let folder = Folder::new("by-person");
    copy_folder(self::folder(), folder.path());
    std::fs::write(folder.path().join("people.cedar"), RULES_BY_PERSON).unwrap();
    World::of(folder.path())
});

const RULES_BY_PERSON: &str = r#"
@id("extra-named") permit (principal in Role::"clinician", action == Action::"read_plain", resource == Field::"patients.insurance")
when { context has person && context.person has department && context.person.department == Department::"pharmacy" };
@id("extra-several") @code("department_not_allowed")
forbid (principal in Role::"therapist", action, resource)
unless
{
  context has person.department &&
  [Department::"psychiatry", Department::"emergency"].contains(context.person.department)
};
@id("extra-any") permit (principal in Role::"portal", action == Action::"delete", resource in Collection::"encounters")
when { context has person && context.person has department };
@id("extra-none") permit (principal in Role::"billing", action in [Action::"read_masked", Action::"update"], resource in Class::"phi")
unless { context has person && context.person has department };
@id("extra-guard") forbid (principal, action == Action::"update", resource)
when { context has person && context.person has department && context.person.department == Department::"laboratory" };
@id("extra-role") permit (principal in Role::"mobile", action in [Action::"read_plain", Action::"delete"], resource)
when { context has person && context.person in Role::"mobile" };
@id("extra-roles") forbid (principal in Role::"clinician", action in [Action::"update", Action::"delete"], resource)
unless { context has person && context.person in [Role::"clinician", Role::"portal"] };
@id("extra-no-role") permit (principal in Role::"admin", action == Action::"read_masked", resource)
when { context has person }
unless { context.person in Role::"admin" || context.person is Person in Role::"billing" };
"#;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"))
}

/// Of a request: whether a person is behind it, with how many factors, and how they stand to whose record it is; the hour, and
/// where from.
#[derive(Clone, Copy, Debug)]
struct Known {
    person: bool,
    second_factor: bool,
    relationship: Relationship,
    /// Which of the request's roles the person brought, a bit for each; the client has all of them.
    brought: u8,
    /// As a token says it: of people who bring a role, and of those in the schema, it counts.
    department: Option<&'static str>,
    hour: i64,
    source: [u8; 4],
}

const NOTHING: Known = Known {
    person: false,
    second_factor: false,
    relationship: Relationship::NONE,
    brought: 0b111,
    department: None,
    hour: 12,
    source: [127, 0, 0, 1],
};

/// As `bands.toml` has them.
impl Known {
    fn hour_band(self) -> &'static str {
        if (5..21).contains(&self.hour) { "day" } else { "night" }
    }

    fn source_band(self) -> &'static str {
        if [10, 127].contains(&self.source[0]) { "inside" } else { "elsewhere" }
    }

    fn brought<'r>(self, roles: &[&'r str]) -> Vec<&'r str> {
        let places =
            roles.iter().enumerate().filter(|(place, _)| self.person && self.brought >> place & 1 == 1);
        places.map(|(_, role)| *role).collect()
    }

    fn department_of(self, roles: &[&str]) -> Option<&'static str> {
        self.department.filter(|name| !self.brought(roles).is_empty() && *name != UNLISTED)
    }
}

const UNLISTED: &str = "catering";

fn somebody(brought: &[&str], known: Known) -> Person {
    let roles: BTreeSet<&str> = brought.iter().copied().collect();
    Person {
        issuer: "staff".into(),
        id: "p-1".into(),
        roles: roles.into_iter().map(Arc::from).collect(),
        department: known.department.map(Arc::from),
        care_teams: Arc::from([Arc::from("ward-3")]),
        subject: Some(SubjectId::from_uuid(Uuid::nil())),
        has_second_factor: known.second_factor,
        expires_at: Timestamp::from_micros(0),
    }
}

fn context(kind: ClientKind, roles: &[&str], purpose: Option<Purpose>, known: Known) -> OperationContext {
    let brought = known.brought(roles);
    let sorted: BTreeSet<&str> = roles.iter().copied().collect();
    let roles: Arc<[Arc<str>]> = sorted.into_iter().map(Arc::from).collect();
    let identity = Identity {
        client: Arc::from("client"),
        kind,
        tenant: TenantId::from_uuid(Uuid::from_u128(1)),
        roles: Arc::clone(&roles),
        acts_for: Arc::clone(&roles),
        key: if known.second_factor { KeyKeeping::Hardware } else { KeyKeeping::File },
    };
    let certificate = CertificateFacts {
        san: "spiffe://test/client".to_owned(),
        issuer_sha256: String::new(),
        serial: String::new(),
        not_after: Timestamp::from_micros(0),
        sha256: String::new(),
    };
    let source = SocketAddr::from((known.source, 1));
    let actor = Actor::new(Arc::new(identity), Arc::new(certificate), source);
    OperationContext {
        actor: if known.person { actor.for_person(Arc::new(somebody(&brought, known))) } else { actor },
        request: RequestFacts { id: RequestId::from_uuid(Uuid::nil()), trace: None, route: "/" },
        purpose,
        at: Timestamp::from_micros(known.hour * 3_600 * 1_000_000),
        break_glass: OnceLock::new(),
    }
}

fn uid(text: &str) -> EntityUid {
    text.parse().unwrap()
}

/// Whoever keeps the service or its log has no other role: each of the others is given values.
fn are_apart(roles: &[&str]) -> bool {
    let keepers = roles.iter().filter(|role| ["auditor", "custodian", "operator"].contains(role)).count();
    keepers == 0 || keepers == roles.len()
}

fn oracle(
    policies: &Cedar,
    (kind, roles): (ClientKind, &[&str]),
    (purpose, known): (Option<Purpose>, Known),
    action: &str,
    resource: Entity,
) -> bool {
    if !are_apart(roles) {
        return false;
    }
    let reference = |text: String| RestrictedExpression::new_entity_uid(uid(&text));
    let attributes = HashMap::from([
        ("tenant".to_owned(), reference("Tenant::\"t\"".to_owned())),
        ("kind".to_owned(), reference(format!("ClientKind::\"{}\"", kind.as_str()))),
    ]);
    let parents = roles.iter().map(|role| uid(&format!("Role::\"{role}\""))).collect();
    let client = Entity::new(uid("Client::\"c\""), attributes, parents).unwrap();
    let purpose = purpose.map(|p| ("purpose".to_owned(), reference(format!("Purpose::\"{}\"", p.as_str()))));
    let flag = |name: &str, is_so| (name.to_owned(), RestrictedExpression::new_bool(is_so));
    let pairs = [
        flag("second_factor", known.second_factor),
        flag("is_self", known.relationship.is_self),
        flag("in_care_team", known.relationship.in_care_team),
        flag("break_glass", known.relationship.break_glass),
        ("hour".to_owned(), reference(format!("Hour::\"{}\"", known.hour_band()))),
        ("source".to_owned(), reference(format!("Source::\"{}\"", known.source_band()))),
    ];
    let person = known.person.then(|| ("person".to_owned(), reference("Person::\"p-1\"".to_owned())));
    let pairs = pairs.into_iter().chain(purpose).chain(person);
    let request = Request::new(
        client.uid(),
        uid(&format!("Action::\"{action}\"")),
        resource.uid(),
        Context::from_pairs(pairs).unwrap(),
        None,
    )
    .unwrap();
    let entities = Entities::from_entities([client, resource, person_entity(known, roles)], None).unwrap();
    Authorizer::new().is_authorized(&request, policies, &entities).decision() == Decision::Allow
}

fn person_entity(known: Known, roles: &[&str]) -> Entity {
    let department = known.department_of(roles).map(|name| {
        let department = RestrictedExpression::new_entity_uid(uid(&format!("Department::\"{name}\"")));
        ("department".to_owned(), department)
    });
    let parents = known.brought(roles).iter().map(|role| uid(&format!("Role::\"{role}\""))).collect();
    Entity::new(uid("Person::\"p-1\""), department.into_iter().collect(), parents).unwrap()
}

/// One of the collection.
fn record_entity(collection: &str) -> Entity {
    let parent = uid(&format!("Collection::\"{collection}\""));
    Entity::new_no_attrs(uid("Record::\"r-1\""), HashSet::from([parent]))
}

fn field_entity(collection: &Collection, field: FieldId) -> Entity {
    let field = collection.field_by_id(field).unwrap();
    let name = collection.name().as_str();
    let parents = HashSet::from([
        uid(&format!("Collection::\"{name}\"")),
        uid(&format!("Class::\"{}\"", field.class.as_str())),
    ]);
    Entity::new_no_attrs(uid(&format!("Field::\"{name}.{}\"", field.name.as_str())), parents)
}

/// In the destination, the field and what the field is in.
fn relayed_entity(collection: &Collection, field: FieldId) -> Entity {
    let field = collection.field_by_id(field).unwrap();
    let (name, own) = (collection.name().as_str(), field.name.as_str());
    let parents = HashSet::from([
        uid("Destination::\"claims-clearinghouse\""),
        uid(&format!("Field::\"{name}.{own}\"")),
        uid(&format!("Collection::\"{name}\"")),
        uid(&format!("Class::\"{}\"", field.class.as_str())),
    ]);
    Entity::new_no_attrs(uid("RelayedField::\"r\""), parents)
}

fn expected_view(
    policies: &Cedar,
    who: (ClientKind, &[&str]),
    why: (Option<Purpose>, Known),
    action: Action,
    (collection, field): (&Collection, FieldId),
) -> View {
    let ask = |action: &str| oracle(policies, who, why, action, field_entity(collection, field));
    match action {
        Action::Read if ask("read_plain") => View::Plain,
        Action::Read if ask("read_masked") => View::Masked,
        Action::Create | Action::Update if ask(action.as_str()) => View::Plain,
        _ => View::Absent,
    }
}

const ROLES: [&str; 13] = [
    "portal",
    "mobile",
    "clinician",
    "therapist",
    "billing",
    "admin",
    "integration",
    "patient",
    "care_coordinator",
    "privacy_officer",
    "auditor",
    "custodian",
    "operator",
];

fn known() -> impl Strategy<Value = Known> {
    let source = prop::sample::select(vec![[127, 0, 0, 1], [10, 1, 2, 3], [203, 0, 113, 9]]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let departments = ["cardiology", "pharmacy", "psychiatry", "emergency", "laboratory", UNLISTED];
    let department = prop::option::weighted(0.8, prop::sample::select(departments.to_vec()));
    (flags, 0..8_u8, department, 0..48_i64, source).prop_map(|(flags, brought, department, hour, source)| {
        let (person, second_factor, is_self, in_care_team, break_glass) = flags;
        let relationship =
            if person { Relationship { is_self, in_care_team, break_glass } } else { Relationship::NONE };
        Known { person, second_factor, relationship, brought, department, hour: hour % 24, source }
    })
}

fn world(by_person: bool) -> &'static World {
    if by_person { &BY_PERSON } else { &SHIPPED }
}

fn kinds() -> impl Strategy<Value = ClientKind> {
    prop::sample::select(vec![
        ClientKind::App,
        ClientKind::Auditor,
        ClientKind::Custodian,
        ClientKind::Operator,
    ])
}

fn purposes() -> impl Strategy<Value = Option<Purpose>> {
    let often = [Purpose::Treat, Purpose::Patrqt, Purpose::Btg, Purpose::Coc];
    let all: Vec<Purpose> = Purpose::ALL.into_iter().chain(often).collect();
    prop::option::weighted(0.9, prop::sample::select(all))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_what_cedar_says(
        by_person in any::<bool>(),
        kind in kinds(),
        roles in prop::sample::subsequence(ROLES.to_vec(), 0..=3),
        purpose in purposes(),
        known in known(),
        action in prop::sample::select(vec![Action::Create, Action::Read, Action::Update]),
        collection in prop::sample::select(vec!["patients", "encounters", "messages", "psychotherapy_notes"]),
    ) {
        let World { set, authoriser, policies } = world(by_person);
        let collection = set.collection(collection).unwrap();
        let context = context(kind, &roles, purpose, known);
        let permit = authoriser.permit(&context, collection, action, known.relationship);
        let mut anything = false;
        for field in collection.fields() {
            let what = (collection.as_ref(), field.id);
            let expected = expected_view(policies, (kind, &roles), (purpose, known), action, what);
            anything |= expected != View::Absent;
            let found = permit.as_ref().map_or(View::Absent, |permit| permit.view_of(field.id));
            prop_assert_eq!(found, expected, "{}", field.name.as_str());
        }
        prop_assert_eq!(permit.is_ok(), anything);
        // Glass is broken for one purpose.
        if known.relationship.break_glass && purpose != Some(Purpose::Btg) {
            return Ok(());
        }
        // Before it is known whose record it is, nothing is permitted that then is not, and nothing refused that is.
        match authoriser.prospect(&context, collection, action) {
            Ok(Prospect::Permit(early)) => {
                let is_same = |field: &Field| permit.as_ref().is_ok_and(|late| late.view_of(field.id) == early.view_of(field.id));
                prop_assert!(collection.fields().iter().all(is_same));
            }
            Ok(Prospect::Depends(_)) => prop_assert!(known.person),
            Err(_) => prop_assert!(!anything),
        }
    }

    #[test]
    fn whole_actions_are_what_cedar_says(
        by_person in any::<bool>(),
        kind in kinds(),
        roles in prop::sample::subsequence(ROLES.to_vec(), 0..=3),
        purpose in purposes(),
        known in known(),
        collection in prop::sample::select(vec!["patients", "encounters", "messages"]),
    ) {
        let context = context(kind, &roles, purpose, known);
        let who = (kind, roles.as_slice());
        let World { set, authoriser, policies } = world(by_person);
        let all = Entity::new_no_attrs(uid(&format!("Collection::\"{collection}\"")), HashSet::new());
        let one = record_entity(collection);
        let own = set.collection(collection).unwrap();
        for (action, resource) in
            [(Action::Delete, &one), (Action::History, &one), (Action::List, &all), (Action::Search, &all)]
        {
            let expected = oracle(policies, who, (purpose, known), action.as_str(), resource.clone());
            let found = authoriser.permit(&context, own, action, known.relationship);
            prop_assert_eq!(found.is_ok(), expected, "{}", action.as_str());
        }
        let destination = set.destination("claims-clearinghouse").unwrap();
        for own in destination.collections() {
            let found = authoriser.relay_permit(&context, destination, own, known.relationship);
            for field in own.fields() {
                let sent = found.as_ref().is_ok_and(|permit| permit.view_of(field.id) == View::Plain);
                let is_named = |one: &&RelayedField| one.collection.name() == own.name() && one.field.id == field.id;
                let is_declared = destination.fields().iter().any(|one| is_named(&one));
                let resource = relayed_entity(own, field.id);
                let expected = is_declared && oracle(policies, who, (purpose, known), "relay", resource);
                prop_assert_eq!(sent, expected, "{}", field.name.as_str());
            }
        }
        let unrelated = Known { relationship: Relationship::NONE, ..known };
        let tenant = RestrictedExpression::new_entity_uid(uid("Tenant::\"t\""));
        let log = Entity::new(uid("AuditLog::\"l\""), HashMap::from([("tenant".to_owned(), tenant)]), HashSet::new());
        let expected = oracle(policies, who, (purpose, unrelated), "read_audit", log.unwrap());
        prop_assert_eq!(authoriser.permit_audit(&context).is_ok(), expected);
        let subject = Entity::new_no_attrs(uid("Subject::\"s\""), HashSet::new());
        let expected = oracle(policies, who, (purpose, unrelated), "update_care_team", subject);
        prop_assert_eq!(authoriser.permit_subject(&context, Action::UpdateCareTeam).is_ok(), expected);
        let keys = Entity::new_no_attrs(uid("Keys::\"k\""), HashSet::new());
        let expected = oracle(policies, who, (purpose, unrelated), "rotate", keys);
        prop_assert_eq!(authoriser.permit_keys(&context, Action::Rotate).is_ok(), expected);
    }
}

#[test]
fn a_permit_is_bound_to_tenant_action_and_collection() {
    let patients = SHIPPED.set.collection("patients").unwrap();
    let context = context(ClientKind::App, &["portal"], Some(Purpose::Patrqt), NOTHING);
    let permit =
        SHIPPED.authoriser.permit(&context, patients, Action::Read, Relationship::NONE).ok().unwrap();
    assert_eq!(permit.tenant(), context.actor.identity.tenant);
    assert_eq!(permit.action(), Action::Read);
    assert!(Arc::ptr_eq(permit.collection(), patients));
    let ssn = patients.field("ssn").unwrap().id;
    assert_eq!(permit.view_of(ssn), View::Masked);
    assert_eq!(permit.policies_of(ssn).iter().map(|id| &**id).collect::<Vec<_>>(), ["portal-reads-masked"]);
    assert_eq!(permit.view_of(FieldId(60_000)), View::Absent);
    assert!(permit.policies_of(FieldId(60_000)).is_empty());
}

#[test]
fn a_collection_of_an_older_set_is_taken_by_name() {
    let older = PolicySet::load(folder()).unwrap();
    let context = context(ClientKind::App, &["portal"], Some(Purpose::Patrqt), NOTHING);
    let patients = older.collection("patients").unwrap();
    let permit =
        SHIPPED.authoriser.permit(&context, patients, Action::Read, Relationship::NONE).ok().unwrap();
    assert!(Arc::ptr_eq(permit.collection(), SHIPPED.set.collection("patients").unwrap()));
}

#[test]
fn a_role_that_the_schema_does_not_list_is_no_role() {
    let patients = SHIPPED.set.collection("patients").unwrap();
    for roles in [&["root"][..], &["portal", "root"], &[]] {
        let context = context(ClientKind::App, roles, Some(Purpose::Treat), NOTHING);
        let denial =
            SHIPPED.authoriser.permit(&context, patients, Action::Read, Relationship::NONE).err().unwrap();
        assert_eq!(denial.code, DenialCode::ActionNotAllowed, "{roles:?}");
    }
    assert!(SHIPPED.set.has_role("portal") && !SHIPPED.set.has_role("root"));
}

#[test]
fn reading_the_log_is_no_action_of_a_collection() {
    let patients = SHIPPED.set.collection("patients").unwrap();
    let context = context(ClientKind::Auditor, &["auditor"], None, Known { second_factor: true, ..NOTHING });
    assert!(SHIPPED.authoriser.permit(&context, patients, Action::ReadAudit, Relationship::NONE).is_err());
    assert!(SHIPPED.authoriser.permit_subject(&context, Action::ReadAudit).is_err());
    assert!(SHIPPED.authoriser.permit_keys(&context, Action::ReadAudit).is_err());
    assert!(SHIPPED.authoriser.permit_audit(&context).is_ok());
}
