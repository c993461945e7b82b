//! The authoriser's tables against Cedar asked field by field, by an oracle that shares no code with `policy`.

#![cfg(test)]

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet as Cedar, Request,
    RestrictedExpression,
};
use proptest::prelude::*;
use strongroom::domain::action::Action;
use strongroom::domain::actor::{Actor, CertificateFacts, ClientKind, Identity, KeyKeeping};
use strongroom::domain::clock::Timestamp;
use strongroom::domain::context::{OperationContext, RequestFacts};
use strongroom::domain::id::{FieldId, RequestId, TenantId};
use strongroom::domain::purpose::Purpose;
use strongroom::policy::{Authoriser, Collection, DenialCode, PolicySet, View};
use uuid::Uuid;

static SET: LazyLock<Arc<PolicySet>> = LazyLock::new(|| Arc::new(PolicySet::load(folder()).unwrap()));
static AUTHORISER: LazyLock<Authoriser> = LazyLock::new(|| Authoriser::new(Arc::clone(&SET)));
static POLICIES: LazyLock<Cedar> = LazyLock::new(|| {
    let mut files: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cedar"));
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    Cedar::from_str(&text).unwrap()
});

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"))
}

fn context(kind: ClientKind, roles: &[&str], purpose: Option<Purpose>) -> OperationContext {
    let identity = Identity {
        client: Arc::from("client"),
        kind,
        tenant: TenantId::from_uuid(Uuid::from_u128(1)),
        roles: roles.iter().map(|role| Arc::from(*role)).collect(),
        acts_for: Arc::from([]),
        key: KeyKeeping::File,
    };
    let certificate = CertificateFacts {
        san: "spiffe://test/client".to_owned(),
        issuer_sha256: String::new(),
        serial: String::new(),
        not_after: Timestamp::from_micros(0),
        sha256: String::new(),
    };
    OperationContext {
        actor: Actor::new(Arc::new(identity), Arc::new(certificate), SocketAddr::from(([127, 0, 0, 1], 1))),
        request: RequestFacts { id: RequestId::from_uuid(Uuid::nil()), trace: None, route: "/" },
        purpose,
    }
}

fn uid(text: &str) -> EntityUid {
    text.parse().unwrap()
}

fn oracle(
    kind: ClientKind,
    roles: &[&str],
    purpose: Option<Purpose>,
    action: &str,
    resource: Entity,
) -> bool {
    let reference = |text: String| RestrictedExpression::new_entity_uid(uid(&text));
    let attributes = HashMap::from([
        ("tenant".to_owned(), reference("Tenant::\"t\"".to_owned())),
        ("kind".to_owned(), reference(format!("ClientKind::\"{}\"", kind.as_str()))),
    ]);
    let parents = roles.iter().map(|role| uid(&format!("Role::\"{role}\""))).collect();
    let client = Entity::new(uid("Client::\"c\""), attributes, parents).unwrap();
    let pairs = purpose.map(|p| ("purpose".to_owned(), reference(format!("Purpose::\"{}\"", p.as_str()))));
    let request = Request::new(
        client.uid(),
        uid(&format!("Action::\"{action}\"")),
        resource.uid(),
        Context::from_pairs(pairs).unwrap(),
        None,
    )
    .unwrap();
    let entities = Entities::from_entities([client, resource], None).unwrap();
    Authorizer::new().is_authorized(&request, &POLICIES, &entities).decision() == Decision::Allow
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

fn expected_view(
    kind: ClientKind,
    roles: &[&str],
    purpose: Option<Purpose>,
    action: Action,
    collection: &Collection,
    field: FieldId,
) -> View {
    let ask = |action: &str| oracle(kind, roles, purpose, action, field_entity(collection, field));
    match action {
        Action::Read if ask("read_plain") => View::Plain,
        Action::Read if ask("read_masked") => View::Masked,
        Action::Create | Action::Update if ask(action.as_str()) => View::Plain,
        _ => View::Absent,
    }
}

const ROLES: [&str; 9] =
    ["portal", "mobile", "clinician", "billing", "admin", "integration", "auditor", "custodian", "operator"];

fn kinds() -> impl Strategy<Value = ClientKind> {
    prop::sample::select(vec![
        ClientKind::App,
        ClientKind::Auditor,
        ClientKind::Custodian,
        ClientKind::Operator,
    ])
}

fn purposes() -> impl Strategy<Value = Option<Purpose>> {
    prop::option::weighted(0.9, prop::sample::select(Purpose::ALL.to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_what_cedar_says(
        kind in kinds(),
        roles in prop::sample::subsequence(ROLES.to_vec(), 0..=3),
        purpose in purposes(),
        action in prop::sample::select(vec![Action::Create, Action::Read, Action::Update]),
        collection in prop::sample::select(vec!["patients", "encounters", "messages"]),
    ) {
        let collection = SET.collection(collection).unwrap();
        let permit = AUTHORISER.permit(&context(kind, &roles, purpose), collection, action);
        let mut anything = false;
        for field in collection.fields() {
            let expected = expected_view(kind, &roles, purpose, action, collection, field.id);
            anything |= expected != View::Absent;
            let found = permit.as_ref().map_or(View::Absent, |permit| permit.view_of(field.id));
            prop_assert_eq!(found, expected, "{}", field.name.as_str());
        }
        prop_assert_eq!(permit.is_ok(), anything);
    }

    #[test]
    fn whole_actions_are_what_cedar_says(
        kind in kinds(),
        roles in prop::sample::subsequence(ROLES.to_vec(), 0..=3),
        purpose in purposes(),
        collection in prop::sample::select(vec!["patients", "encounters", "messages"]),
    ) {
        let context = context(kind, &roles, purpose);
        let resource = Entity::new_no_attrs(uid(&format!("Collection::\"{collection}\"")), HashSet::new());
        let expected = oracle(kind, &roles, purpose, "delete", resource);
        let found = AUTHORISER.permit(&context, SET.collection(collection).unwrap(), Action::Delete);
        prop_assert_eq!(found.is_ok(), expected);
        let tenant = RestrictedExpression::new_entity_uid(uid("Tenant::\"t\""));
        let log = Entity::new(uid("AuditLog::\"l\""), HashMap::from([("tenant".to_owned(), tenant)]), HashSet::new());
        let expected = oracle(kind, &roles, purpose, "read_audit", log.unwrap());
        prop_assert_eq!(AUTHORISER.permit_audit(&context).is_ok(), expected);
    }
}

#[test]
fn a_permit_is_bound_to_tenant_action_and_collection() {
    let patients = SET.collection("patients").unwrap();
    let context = context(ClientKind::App, &["portal"], Some(Purpose::Patrqt));
    let permit = AUTHORISER.permit(&context, patients, Action::Read).ok().unwrap();
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
    let context = context(ClientKind::App, &["portal"], Some(Purpose::Patrqt));
    let permit =
        AUTHORISER.permit(&context, older.collection("patients").unwrap(), Action::Read).ok().unwrap();
    assert!(Arc::ptr_eq(permit.collection(), SET.collection("patients").unwrap()));
}

#[test]
fn a_role_that_the_schema_does_not_list_is_no_role() {
    let patients = SET.collection("patients").unwrap();
    for roles in [&["root"][..], &["portal", "root"], &[]] {
        let context = context(ClientKind::App, roles, Some(Purpose::Treat));
        let denial = AUTHORISER.permit(&context, patients, Action::Read).err().unwrap();
        assert_eq!(denial.code, DenialCode::ActionNotAllowed, "{roles:?}");
    }
    assert!(SET.has_role("portal") && !SET.has_role("root"));
}

#[test]
fn reading_the_log_is_no_action_of_a_collection() {
    let patients = SET.collection("patients").unwrap();
    let context = context(ClientKind::Auditor, &["auditor"], None);
    assert!(AUTHORISER.permit(&context, patients, Action::ReadAudit).is_err());
    assert!(AUTHORISER.permit_audit(&context).is_ok());
}
