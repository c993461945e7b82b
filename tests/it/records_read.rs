//! Read: what is shown of a record, as asked for and as far as policy goes.

use serde_json::{Value, json};

use crate::support::samples::{patient, small_patient};
use crate::support::{Client, Strongroom, problem};

#[tokio::test]
async fn a_default_read_shows_what_policy_gives_and_names_the_rest() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    let path = format!("/api/v1/patients/{id}");

    let (record, etag) = portal.read(&path).await;
    assert_eq!(etag, "\"1\"");
    assert_eq!(record["masked"], json!(["ssn", "drivers_licence"]));
    assert_eq!(record.get("withheld"), None);

    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let (record, _) = clinician.read(&path).await;
    assert_eq!(record["masked"], json!(["ssn", "drivers_licence"]));
    assert_eq!(record["withheld"], json!(["insurance"]));
    assert_eq!(record["fields"]["ssn"], "•••4320");
    assert_eq!(record["fields"].get("insurance"), None);
    assert_eq!(record["fields"]["notes"], patient()["notes"]);

    let billing = strongroom.client("billing").await.with_purpose("HPAYMT");
    let (record, _) = billing.read(&path).await;
    assert_eq!(record["masked"], json!(["email", "ssn"]));
    assert_eq!(record["fields"]["email"], "•••@example.org");
    assert_eq!(names(&record["fields"]).len(), 10);
    assert!(names(&record["withheld"]).contains(&"notes".to_owned()));
    assert!(!record.to_string().contains("penicillin"));
}

#[tokio::test]
async fn fields_can_be_named_and_only_those_are_answered() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let (record, _) = portal.read(&format!("{path}?fields=notes,birth_date")).await;
    assert_eq!(record["fields"], json!({ "birth_date": "1984-02-29", "notes": patient()["notes"] }));
    assert_eq!((record.get("masked"), record.get("withheld")), (None, None));
    // A masked field may be named when no view is asked for.
    let (record, _) = portal.read(&format!("{path}?fields=ssn")).await;
    assert_eq!((&record["fields"], &record["masked"]), (&json!({ "ssn": "•••4320" }), &json!(["ssn"])));
    // A field that has no value is not there, and is not withheld either.
    let bare = portal.create_patient(small_patient()).await;
    let (record, _) = portal.read(&format!("/api/v1/patients/{bare}?fields=email,mrn")).await;
    assert_eq!(record["fields"], json!({ "mrn": "MRN-0012345678" }));
    assert_eq!(record.get("withheld"), None);
}

#[tokio::test]
async fn a_view_can_be_asked_for() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    let path = format!("/api/v1/patients/{id}");

    let (record, _) = portal.read(&format!("{path}?view=masked")).await;
    assert_eq!(names(&record["masked"]).len(), 22);
    let shown = &record["fields"];
    for (name, mask) in [
        ("family_name", "N•••"),
        ("birth_date", "1984"),
        ("email", "•••@example.org"),
        ("phone", "•••1234"),
        ("address", "•••"),
        ("insurance", "•••"),
        ("active", "•••"),
        ("notes", "•••"),
        ("mrn", "•••5678"),
    ] {
        assert_eq!(shown[name], mask, "{name}");
    }

    let (record, _) = portal.read(&format!("{path}?view=plain")).await;
    assert_eq!(record["withheld"], json!(["ssn", "drivers_licence"]));
    assert_eq!(record.get("masked"), None);
    assert_eq!(record["fields"]["family_name"], "Nováková");

    let (record, _) = portal.read(&format!("{path}?view=masked&fields=family_name")).await;
    assert_eq!(record["fields"], json!({ "family_name": "N•••" }));
}

#[tokio::test]
async fn a_named_field_that_policy_refuses_refuses_the_read() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    let path = format!("/api/v1/patients/{id}");
    let refused = async |client: &Client, query: &str| {
        let answer = client.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.status(), 403);
        let document: Value = answer.json().await.unwrap();
        assert_eq!(document["code"], "field_not_allowed");
        document["errors"].clone()
    };
    let not_allowed = |name: &str| json!({ "field": name, "code": "not_allowed" });
    assert_eq!(refused(&portal, "view=plain&fields=mrn,ssn").await, json!([not_allowed("ssn")]));
    assert_eq!(refused(&clinician, "fields=insurance,notes").await, json!([not_allowed("insurance")]));
    assert_eq!(refused(&clinician, "view=masked&fields=insurance").await, json!([not_allowed("insurance")]));
    assert_eq!(
        refused(&clinician, "view=plain&fields=ssn,insurance,notes").await,
        json!([not_allowed("ssn"), not_allowed("insurance")])
    );
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(patient()).await;
    for query in [
        "fields=shoe_size",
        "fields=mrn,shoe_size",
        "fields=",
        "fields=mrn,",
        "fields=mrn,mrn",
        "fields=MRN",
        "fields=m%72n,mrn",
        "fields=mrn%00",
        "fields=mrn&fields=notes",
        "fields=%ff",
        "view=whole",
        "view=",
        "view=plain&view=plain",
        "version=0",
        "version=1&version=1",
        "Fields=mrn",
        "x",
    ] {
        let answer = portal.get(&format!("/api/v1/patients/{id}?{query}")).await;
        assert_eq!(problem(answer).await, (400, "query_invalid".into()), "{query}");
    }
    // One name has many spellings in a URL; what counts is what they decode to.
    let (record, _) = portal.read(&format!("/api/v1/%70atients/{id}?fields=m%72n")).await;
    assert_eq!(record["fields"], json!({ "mrn": "MRN-0012345678" }));
    // HEAD is a read like any other, without the body.
    let head = portal.request(reqwest::Method::HEAD, &format!("/api/v1/patients/{id}")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let reads = strongroom.entries_of("record.read").await;
    let went_well = reads.iter().filter(|entry| entry["out"] == json!({ "status": "success" })).count();
    assert_eq!((went_well, reads.len()), (2, 19), "each refusal is on record as well");
}

/// The names of an object's members, or the texts of an array.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => members.keys().cloned().collect(),
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    }
}
