use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::super::act::{Act, Outcome};
use super::super::event::{
    EntryDraft, ExpiredObject, HoldObject, KeyLevel, KeyObject, PrunedObject, RecordObject,
};
use super::super::fixtures::{Counting, context, names, patient, read, scribe, uuid};
use super::*;
use crate::audit::verify::{EntryReader, FormFault};
use crate::domain::break_glass::Reference;
use crate::domain::context::OperationContext;
use crate::domain::id::{
    CollectionName, DestinationName, ErasureId, FieldName, HoldId, KeyId, RecordId, RecordVersion,
    RotationId, SubjectId,
};
use crate::domain::month::Month;
use crate::domain::person::Person;

const SCHEMA: &str = include_str!("../../audit/entry.schema.json");

fn text_of(draft: &EntryDraft) -> String {
    String::from_utf8(scribe().write(draft).unwrap().into_unchained()).unwrap()
}

fn chained_text_of(draft: &EntryDraft) -> String {
    let encoded = scribe().write(draft).unwrap();
    String::from_utf8(encoded.chained(&uuid(0xe), 7, Some(&[0x33; 32]))).unwrap()
}

/// One entry of each kind, by the name of its file in `audit/examples`.
fn examples() -> Vec<(&'static str, String)> {
    let context = context();
    let written = patient().fields(names(&["family_name", "mrn"])).class(DataClass::Phi);
    let created = EntryDraft::of_request(&context, Act::RecordCreate, Outcome::SUCCESS)
        .subject(SubjectId::from_uuid(uuid(0xd)))
        .policies(&[Arc::from("portal-writes-patients")])
        .record(written)
        .seals([0x44; 32]);
    let refused = EntryDraft::of_request(&context, Act::RecordRead, Outcome::refused("purpose_not_allowed"))
        .record(patient());
    let clinician = EntryDraft::of_request(
        &for_person(&context, "p-4711", Some("cardiology")),
        Act::RecordRead,
        Outcome::SUCCESS,
    )
    .subject(SubjectId::from_uuid(uuid(0xd)))
    .policies(&[Arc::from("clinician-reads-patients")])
    .record(patient().fields(names(&["birth_date"])).class(DataClass::Phi));
    let stranger = EntryDraft::of_stranger(
        context.actor.source,
        Some(&context.actor.certificate),
        Outcome::refused("certificate_revoked"),
    );
    let audit_read = EntryDraft::of_request(&context, Act::AuditRead, Outcome::SUCCESS).count(100);
    let start = EntryDraft::of_service(Act::ServiceStart, Outcome::SUCCESS);
    let policy = EntryDraft::of_service(Act::PolicyLoad, Outcome::SUCCESS).loaded([0x55; 32]);
    let key = EntryDraft::of_service(Act::KeyCreate, Outcome::SUCCESS)
        .tenant(TenantId::from_uuid(uuid(0xa)))
        .key(KeyObject::new(KeyLevel::Tenant, DataClass::Phi, KeyId::new(2).unwrap()));
    let attested =
        EntryDraft::of_service(Act::InstanceAttest, Outcome::SUCCESS).instance_key([0x77; 32], [0x88; 64]);
    let flush = EntryDraft::of_service(Act::ChainFlush, Outcome::SUCCESS);
    let instance = InstanceKey::generate(&Counting::default()).unwrap();
    let writes = [EntryId::from_uuid(uuid(0x21)), EntryId::from_uuid(uuid(0x22))];
    let flush = scribe().write(&flush).unwrap().flushed(&uuid(0xe), 7, Some(&[0x33; 32]), &instance, &writes);
    let start = scribe().write(&start).unwrap().chained(&uuid(0xe), 1, None);
    vec![
        ("record.create", text_of(&created)),
        ("record.read", chained_text_of(&read())),
        ("record.read.person", chained_text_of(&clinician)),
        ("record.read.refused", chained_text_of(&refused)),
        ("record.relay", chained_text_of(&relayed())),
        ("authentication.failed", chained_text_of(&stranger)),
        ("audit.read", chained_text_of(&audit_read)),
        ("service.start", String::from_utf8(start).unwrap()),
        ("policy.load", chained_text_of(&policy)),
        ("key.create", chained_text_of(&key)),
        ("chain.restart", chained_text_of(&restarted())),
        ("chain.flush", String::from_utf8(flush).unwrap()),
        ("instance.attest", chained_text_of(&attested)),
        ("audit.prune", text_of(&pruned())),
        ("audit.expire", text_of(&expired("postgres"))),
        ("audit.hold", text_of(&EntryDraft::of_service(Act::AuditHold, Outcome::SUCCESS).hold(hold()))),
        ("hold.place", text_of(&placed())),
        ("erasure.complete", text_of(&erased())),
        ("key.rotate", text_of(&rotated())),
    ]
}

fn restarted() -> EntryDraft {
    let restart = EntryDraft::of_service(Act::ChainRestart, Outcome::failed("chain_forked"));
    restart.ended_chain(uuid(0xf), 41, Some([0x66; 32]))
}

fn relayed() -> EntryDraft {
    EntryDraft::of_request(&context(), Act::RecordRelay, Outcome::SUCCESS)
        .subject(SubjectId::from_uuid(uuid(0xd)))
        .policies(&[Arc::from("billing-relays-to-clearinghouse")])
        .record(patient().fields(names(&["birth_date", "ssn"])).class(DataClass::Pii))
        .recipient(DestinationName::parse("claims-clearinghouse").unwrap())
}

fn pruned() -> EntryDraft {
    let object = PrunedObject {
        month: Month::parse("2024-10").unwrap(),
        by: "postgres".into(),
        first: 1_000,
        end: 250_000,
        entries: 248_990,
        kept_from: 249_856,
        kept_root: [0x99; 32],
        checkpoint_size: 3_000_123,
        checkpoint_root: [0xaa; 32],
    };
    EntryDraft::of_service(Act::AuditPrune, Outcome::SUCCESS).pruned(object)
}

fn expired(by: &str) -> EntryDraft {
    let object = ExpiredObject {
        by: by.into(),
        first: 0,
        end: 1_249_792,
        checkpoint_size: 90_000_123,
        checkpoint_root: [0xbb; 32],
    };
    EntryDraft::of_service(Act::AuditExpire, Outcome::SUCCESS).expired(object)
}

fn placed() -> EntryDraft {
    let reference = Reference::parse("CV-2026/117".to_owned()).unwrap();
    EntryDraft::of_request(&context(), Act::HoldPlace, Outcome::success_as("litigation"))
        .subject(SubjectId::from_uuid(uuid(0xb)))
        .subject_hold(HoldId::from_uuid(uuid(0x41)), reference)
}

fn erased() -> EntryDraft {
    let reference = Reference::parse("GDPR-117".to_owned()).unwrap();
    EntryDraft::of_service(Act::ErasureComplete, Outcome::SUCCESS)
        .tenant(TenantId::from_uuid(uuid(0xa)))
        .subject(SubjectId::from_uuid(uuid(0xd)))
        .erasure(ErasureId::from_uuid(uuid(0x42)), reference)
}

fn rotated() -> EntryDraft {
    let reference = Reference::parse("KEY-2026/11".to_owned()).unwrap();
    let key = |id| KeyObject::new(KeyLevel::Tenant, DataClass::Phi, KeyId::new(id).unwrap());
    EntryDraft::of_request(&context(), Act::KeyRotate, Outcome::success_as("scheduled"))
        .key(key(1))
        .key(key(2))
        .rotation(RotationId::from_uuid(uuid(0x43)), reference)
}

fn hold() -> HoldObject {
    HoldObject {
        id: uuid(0x31),
        by: "postgres".into(),
        from: Month::parse("2024-10").unwrap(),
        until: Month::parse("2025-02"),
        reason: Reference::parse("CV-2026/117".to_owned()).unwrap(),
    }
}

/// The examples are what reviewers read; `STRONGROOM_BLESS=1 cargo test` writes them anew.
#[test]
fn entries_are_those_of_the_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("audit/examples");
    for (name, text) in examples() {
        let file = folder.join(format!("{name}.json"));
        if std::env::var_os("STRONGROOM_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, format!("{text}\n")).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, expected.trim_end(), "{name} differs from audit/examples");
    }
}

#[test]
fn examples_fit_the_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for (name, text) in examples() {
        let entry: Value = serde_json::from_str(&text).unwrap();
        check(&schema, &schema, &entry).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    let mut odd: Value = serde_json::from_str(&examples()[1].1).unwrap();
    odd["note"] = Value::from("free text");
    assert!(check(&schema, &schema, &odd).is_err(), "the schema lets anything in");
}

/// The part of JSON Schema that the file uses, but for `pattern`.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").ok_or("reference")?;
        return check(root, &root["$defs"][name], value);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = any.iter().any(|each| check(root, each, value).is_ok());
        return if fits { Ok(()) } else { Err(format!("nothing of anyOf fits {value}")) };
    }
    if schema.get("const").is_some_and(|only| only != value)
        || schema["enum"].as_array().is_some_and(|words| !words.contains(value))
    {
        return Err(format!("{value} is not one of the words"));
    }
    let kind_fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        _ => true,
    };
    if !kind_fits {
        return Err(format!("{value} has the wrong type"));
    }
    for item in value.as_array().into_iter().flatten() {
        check(root, &schema["items"], item)?;
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(name).ok_or_else(|| format!("{name} is missing"))?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(name).ok_or_else(|| format!("{name} is not known"))?;
        check(root, known, member)?;
    }
    Ok(())
}

#[test]
fn a_card_number_for_an_id_stays_out() {
    let with = |id: &str| {
        let object = RecordObject::new(CollectionName::parse("patients").unwrap());
        let draft = EntryDraft::of_service(Act::RecordRead, Outcome::failed("record_not_found"));
        text_of(&draft.record(object.id(RecordId::parse(id).unwrap())))
    };
    for pan in ["4111111111111111", "378282246310005", "9111111111111111115", "ssn-123-45-6789", "smith"] {
        assert!(!with(pan).contains(pan), "{pan} is in the log");
    }
    for ours in ["019b76da-0000-7000-8000-00000000000c", "tok_7k3m9q2w5x8z1c4v6b7n0p2r4t", "9111111111111112"]
    {
        assert!(with(ours).contains(ours), "{ours} is missing");
    }
}

#[test]
fn names_that_do_not_fit_are_digests_and_strangers_have_none() {
    let mut context = context();
    context.actor.identity = Arc::new(crate::domain::actor::Identity {
        client: "Jane Doe <jane@example.org>".into(),
        ..(*context.actor.identity).clone()
    });
    context.request.trace = Some("not a trace".into());
    let text = text_of(&EntryDraft::of_request(&context, Act::AccessDenied, Outcome::refused("no_route")));
    assert!(!text.contains("Jane") && !text.contains("not a trace") && text.contains("\"uid\":\"sha256:"));
    let person = for_person(&context, "jane@example.org", None);
    let text = text_of(&EntryDraft::of_request(&person, Act::RecordList, Outcome::SUCCESS));
    assert!(!text.contains("jane") && text.contains("\"uid\":\"sha256:"), "{text}");
    assert!(!text.contains("department"), "{text}");
    let stranger = EntryDraft::of_stranger(
        context.actor.source,
        Some(&context.actor.certificate),
        Outcome::refused("client_not_listed"),
    );
    assert!(!text_of(&stranger).contains("spiffe"));
}

/// The same request, for a person with a role that the client may act for and one that it may not.
fn for_person(context: &OperationContext, id: &str, department: Option<&str>) -> OperationContext {
    let person = Person {
        issuer: "staff-login".into(),
        id: id.into(),
        roles: Arc::from([Arc::from("clinician"), Arc::from("owner")]),
        department: department.map(Arc::from),
        care_teams: Arc::from([Arc::from("ward-3")]),
        subject: None,
        has_second_factor: true,
        expires_at: Timestamp::from_micros(0),
    };
    OperationContext { actor: context.actor.clone().for_person(Arc::new(person)), ..context.clone() }
}

fn any_name() -> impl Strategy<Value = FieldName> {
    "[a-z][a-z0-9_]{0,47}".prop_map(|text| FieldName::parse(&text).unwrap())
}

fn any_names() -> impl Strategy<Value = Vec<FieldName>> {
    proptest::collection::vec(any_name(), 0..6)
}

prop_compose! {
    fn any_record()(
        collection in "[a-z][a-z0-9_]{0,47}", record in "[a-z0-9_-]{1,64}|tok_[a-z2-7]{26}", id in any::<u128>(),
        as_uuid in any::<bool>(), version in 1..=u32::MAX, fields in proptest::option::of(any_names()),
        masked in proptest::option::of(any_names()), classes in any::<[bool; 3]>(),
    ) -> RecordObject {
        let record = if as_uuid { RecordId::from_uuid(Uuid::from_u128(id)) } else { RecordId::parse(&record).unwrap() };
        let mut object = RecordObject::new(CollectionName::parse(&collection).unwrap()).id(record);
        object.version = RecordVersion::new(version);
        object.fields = fields.map(Arc::from);
        object.masked = masked.map(Arc::from);
        object.classes = classes;
        object
    }
}

prop_compose! {
    /// Drafts with arbitrary text wherever the types hold a string, reachable or not.
    fn any_draft()(
        act in proptest::sample::select(Act::ALL), kind in 0..3_u8, client in ".{0,20}", san in "\\PC{0,300}",
        roles in proptest::collection::vec(".{0,12}", 0..3), policies in proptest::collection::vec("[ -~]{0,24}", 0..3),
        records in proptest::collection::vec(any_record(), 0..3), asked in proptest::option::of(any_names()),
        count in proptest::option::of(any::<u32>()), seals in proptest::option::of(any::<[u8; 32]>()),
        loaded in proptest::option::of(any::<[u8; 32]>()), trace in proptest::option::of("[0-9a-f]{30,33}|.{0,9}"),
        key in proptest::option::of((1..i64::MAX, any::<u64>())), source in any::<std::net::SocketAddr>(),
        person in proptest::option::of((".{0,20}", proptest::option::of(".{0,20}"))),
        role in proptest::option::of(".{0,20}"), open in any::<bool>(),
        recipient in proptest::option::of("[a-z][a-z0-9-]{0,47}"),
    ) -> EntryDraft {
        let mut context = context();
        let mut identity = (*context.actor.identity).clone();
        identity.client = client.into();
        identity.roles = roles.into_iter().map(Arc::from).collect();
        let mut certificate = (*context.actor.certificate).clone();
        certificate.san = san;
        context.actor.identity = Arc::new(identity);
        context.actor.certificate = Arc::new(certificate);
        context.actor.source = source;
        context.request.trace = trace;
        if let Some((id, department)) = person {
            context = for_person(&context, &id, department.as_deref());
        }
        let mut draft = match kind {
            0 => EntryDraft::of_request(&context, act, Outcome::SUCCESS),
            1 => EntryDraft::of_service(act, Outcome::failed("why")),
            _ => EntryDraft::of_stranger(source, Some(&context.actor.certificate), Outcome::refused("why")),
        };
        draft.asked = asked.map(Arc::from);
        draft.count = count;
        draft.seals = seals;
        draft.recipient = recipient.map(|name| DestinationName::parse(&name).unwrap());
        draft.policy_set = loaded;
        draft.policies = policies.into_iter().map(Arc::from).collect();
        for record in records {
            draft = draft.record(record);
        }
        if let Some((id, seq)) = key {
            draft = draft.key(KeyObject::new(KeyLevel::Subject, DataClass::Chd, KeyId::new(id).unwrap()));
            draft = draft.ended_chain(Uuid::from_u128(u128::from(seq)), seq, None);
        }
        if let Some(role) = role {
            draft.objects.extend(expired(&role).objects);
            let by: Arc<str> = role.into();
            draft.objects.extend(pruned().objects.into_iter().map(|object| match object {
                Object::Pruned(object) => Object::Pruned(PrunedObject { by: Arc::clone(&by), ..object }),
                other => other,
            }));
            draft.objects.extend(placed().objects);
            draft.objects.extend(erased().objects);
            draft = draft.hold(HoldObject { by, until: hold().until.filter(|_| open), ..hold() });
        }
        draft
    }
}

fn canonical(bytes: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    serde_json_canonicalizer::to_vec(&value).unwrap()
}

proptest! {
    #[test]
    fn bytes_are_canonical(draft in any_draft(), seq in 1..1_u64 << 53, prev in proptest::option::of(any::<[u8; 32]>())) {
        let reader = EntryReader::new().unwrap();
        let encoded = scribe().write(&draft).unwrap();
        let chained = encoded.chained(&uuid(1), seq, prev.as_ref());
        prop_assert_eq!(&canonical(&chained), &chained);
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let entry: Value = serde_json::from_slice(&chained).unwrap();
        prop_assert_eq!(&entry["chain"]["seq"], &Value::from(seq));
        prop_assert_eq!(check(&schema, &schema, &entry), Ok(()));
        let unchained = encoded.into_unchained();
        prop_assert_eq!(&canonical(&unchained), &unchained);
        // The verifier takes it, unless it is a restart that names no chain.
        let verdict = reader.check(&unchained);
        let names_none = draft.act == Act::ChainRestart && entry.pointer("/obj").is_none_or(|obj| !obj.to_string().contains("\"chain\""));
        prop_assert_eq!(verdict, if names_none { Err(FormFault::NoEnd) } else { Ok(()) });
    }

    #[test]
    fn strings_are_canonical(text in "(?s).{0,40}") {
        let mut json = Json { out: Vec::new() };
        json.string(&text);
        prop_assert_eq!(&canonical(&json.out), &json.out);
    }
}
