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

fn clinician_of(department: Option<&str>, teams: &[&str], subject: Option<SubjectId>) -> OperationContext {
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
        authoriser.table(&context, Aim::in_collection(Action::Read, patients), Relationship::NONE)
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
    // The role is the desk's whoever comes. What ships asks whether a person brought it.
    let all = alike.into_iter().chain([somebody("p-4", &[], None), somebody("p-5", &["patient"], None)]);
    let all: Vec<OperationContext> = all.collect();
    for (authoriser, tables) in [(authoriser(), 2), (asking("clinician"), 2), (asking("billing"), 2)] {
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
