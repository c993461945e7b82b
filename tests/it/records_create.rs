//! Create: a record is stored, says where it is, and comes back as it was.

use std::collections::BTreeSet;

use reqwest::{StatusCode, Version};
use serde_json::{Value, json};
use strongroom::domain::value::FieldType;
use strongroom::policy::PolicySet;

use crate::support::samples::{NOBODY, document, encounter, message, note, patient, small_patient};
use crate::support::{Client, Strongroom, eventually, policy_directory, problem, site};

#[tokio::test]
async fn every_type_of_value_comes_back_as_it_was_stored() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let sent = patient();
    let id = portal.create_patient(sent.clone()).await;
    let read = async |path: String| portal.read(&path).await.0["fields"].clone();

    let mut expected = sent.clone();
    expected["ssn"] = json!("•••4320");
    expected["drivers_licence"] = json!("•••2345");
    assert_eq!(read(format!("/api/v1/patients/{id}")).await, expected);

    let visit = clinician.create("encounters", &encounter(&id)).await;
    let path = format!("/api/v1/encounters/{}", visit["id"].as_str().unwrap());
    let charged = billing.patch(&path, "\"1\"", &json!({ "fields": { "charge_usd": "128.50" } })).await;
    assert_eq!(charged.status(), 200);
    let mut expected = encounter(&id)["fields"].clone();
    expected["charge_usd"] = json!("128.50");
    assert_eq!(read(path).await, expected);
    let whole_visit = expected;

    let letter = portal.create("messages", &message(&id)).await;
    let path = format!("/api/v1/messages/{}", letter["id"].as_str().unwrap());
    assert_eq!(read(path).await, message(&id)["fields"]);

    let therapist = strongroom.client("therapist-desk").await.with_purpose("TREAT");
    let kept_apart = therapist.create("psychotherapy_notes", &note(&id)).await;
    let path = format!("/api/v1/psychotherapy_notes/{}", kept_apart["id"].as_str().unwrap());
    assert_eq!(therapist.read(&path).await.0["fields"], note(&id)["fields"]);

    let record = portal.create("documents", &document(&id)).await;
    let path = format!("/api/v1/documents/{}", record["id"].as_str().unwrap());
    assert_eq!(read(path.clone()).await, document(&id)["fields"]);
    portal.upload(&format!("{path}/files/content"), b"%PDF-1.7 made up").await;
    let mut whole_document = document(&id)["fields"].clone();
    whole_document["content"] = json!({ "bytes": 16, "media_type": "application/octet-stream" });
    assert_eq!(read(path).await, whole_document);

    assert_samples_are_whole([
        ("patients", &sent),
        ("encounters", &whole_visit),
        ("messages", &message(&id)["fields"]),
        ("documents", &whole_document),
        ("psychotherapy_notes", &note(&id)["fields"]),
    ]);

    // Nobody may see these two whole; with a rule of its own, a role can, and they are as they were sent.
    let rule = r#"@id("test-identifiers") permit (principal in Role::"clinician", action == Action::"read_plain", resource)
        when { [Field::"patients.ssn", Field::"patients.drivers_licence"].contains(resource) && context has purpose };"#;
    std::fs::write(strongroom.policy_directory.join("test.cedar"), rule).unwrap();
    eventually("the rule is in force", async || {
        let (record, _) = clinician.read(&format!("/api/v1/patients/{id}")).await;
        record["fields"]["ssn"] == sent["ssn"]
            && record["fields"]["drivers_licence"] == sent["drivers_licence"]
    })
    .await;
}

/// The samples set every field of every collection, and with that every type.
fn assert_samples_are_whole<const N: usize>(samples: [(&str, &Value); N]) {
    let policy = PolicySet::load(&policy_directory()).unwrap();
    let mut types = BTreeSet::new();
    assert_eq!(policy.collections().count(), N);
    for (name, fields) in samples {
        let collection = policy.collection(name).unwrap();
        for field in collection.fields() {
            assert!(
                fields.get(field.name.as_str()).is_some(),
                "{name}.{} has no sample",
                field.name.as_str()
            );
            types.insert(field.field_type);
        }
    }
    assert_eq!(types.len(), FieldType::ALL.len());
}

#[tokio::test]
async fn a_new_record_says_where_it_is_over_both_protocols() {
    let strongroom = Strongroom::start().await;
    let uri = "spiffe://strongroom.internal/client/clinic-north/portal";
    let (_, files) = strongroom.client_with("client", uri).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = Client::speaking(version, strongroom.address, site().await.roots_file(), Some(&files));
        let portal = client.with_purpose("PATRQT");
        let answer = portal.post("/api/v1/patients", &json!({ "fields": small_patient() })).await;
        assert_eq!((answer.status(), answer.version()), (StatusCode::CREATED, version));
        let headers = answer.headers().clone();
        assert_eq!(
            (&headers["etag"], &headers["cache-control"]),
            (&"\"1\"".parse().unwrap(), &"no-store".parse().unwrap())
        );
        let body: Value = answer.json().await.unwrap();
        let id = body["id"].as_str().unwrap();
        let at = body["updated_at"].as_str().unwrap();
        // A patient is a subject; ids and times come back, values never.
        assert_eq!(
            body,
            json!({ "id": id, "collection": "patients", "version": 1, "updated_at": at, "subject": id })
        );
        assert_eq!(headers["location"], format!("/api/v1/patients/{id}"));
        let again = portal.get(headers["location"].to_str().unwrap()).await;
        assert_eq!((again.status(), again.version()), (StatusCode::OK, version));
        assert_eq!(
            (&again.headers()["etag"], &again.headers()["cache-control"]),
            (&"\"1\"".parse().unwrap(), &"no-store".parse().unwrap())
        );
        let record: Value = again.json().await.unwrap();
        assert_eq!((&record["created_at"], &record["updated_at"]), (&json!(at), &json!(at)));
        assert_eq!(
            record["fields"],
            json!({ "family_name": "Nováková", "given_name": "Žofie", "birth_date": "1984-02-29", "mrn": "MRN-0012345678" })
        );
    }
}

#[tokio::test]
async fn values_are_kept_in_one_spelling() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let sent = json!({
        "family_name": "  Nova\u{301}kova\u{301} ", "given_name": "Z", "birth_date": "1984-02-29", "mrn": " mrn-1 ",
        "email": "Zofie@EXAMPLE.Org", "phone": "(555) 010-1234", "notes": "one\r\ntwo ",
        "deceased_at": "2031-05-06T09:08:09+02:00", "insurance": { "b": 1.50, "a": 1e2 }
    });
    let id = portal.create_patient(sent).await;
    let (record, _) = portal.read(&format!("/api/v1/patients/{id}")).await;
    assert_eq!(
        record["fields"],
        json!({
            "family_name": "Nováková", "given_name": "Z", "birth_date": "1984-02-29", "mrn": "mrn-1",
            "email": "Zofie@example.org", "phone": "+15550101234", "notes": "one\ntwo",
            "deceased_at": "2031-05-06T07:08:09.000000Z", "insurance": { "a": 100, "b": 1.5 }
        })
    );
}

#[tokio::test]
async fn a_record_refers_to_a_subject_of_its_own_tenant() {
    let strongroom = Strongroom::start().await;
    let north = strongroom.client("portal").await.with_purpose("TREAT");
    let south = strongroom.client_of("clinic-south", "portal").await.with_purpose("TREAT");
    let foreign = south.create_patient(small_patient()).await;
    let own = north.create_patient(small_patient()).await;

    let unknown = north.post("/api/v1/messages", &message(NOBODY)).await;
    assert_eq!(unknown.status(), 422);
    let unknown = unknown.bytes().await.unwrap();
    let theirs = north.post("/api/v1/messages", &message(&foreign)).await;
    assert_eq!(theirs.status(), 422);
    assert_eq!(theirs.bytes().await.unwrap(), unknown);
    assert_eq!(serde_json::from_slice::<Value>(&unknown).unwrap()["code"], "subject_unknown");

    let missing = north.post("/api/v1/messages", &json!({ "fields": message(&own)["fields"] })).await;
    assert_eq!(problem(missing).await, (422, "subject_rule".into()));
    let given = north.post("/api/v1/patients", &json!({ "subject": own, "fields": small_patient() })).await;
    assert_eq!(problem(given).await, (422, "subject_rule".into()));
    for misspelt in [own.to_uppercase(), own.replace('-', ""), format!("{{{own}}}"), String::new()] {
        let answer = north.post("/api/v1/messages", &message(&misspelt)).await;
        assert_eq!(problem(answer).await, (400, "body_shape".into()));
    }

    // Neither keys nor records of what was refused; that somebody asked for an unknown person is on record.
    let rows = strongroom.data().await.query("SELECT collection FROM record", &[]).await.unwrap();
    assert!(rows.iter().all(|row| row.get::<_, &str>(0) == "patients") && rows.len() == 2);
    let asked = strongroom.entries_of("record.create").await;
    let codes: Vec<_> = asked
        .iter()
        .filter(|entry| entry["out"]["status"] == "failed")
        .map(|entry| &entry["out"]["code"])
        .collect();
    assert_eq!(codes, ["subject_unknown", "subject_unknown"]);
}
