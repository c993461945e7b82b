//! A person's department: what their token says, as the policy's table reads it, is part of the decision and of the entry.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::departments_review::readme_example;
use crate::support::clinic::{Clinic, send};
use crate::support::people::claims;
use crate::support::samples::patient;
use crate::support::{eventually, problem, replace_file, request_id};

/// With the rule of `policy/README.md`.
async fn clinic() -> Clinic {
    Clinic::open_with(|folder| add_to(&folder.join("clinician.cedar"), &readme_example("cedar")[0])).await
}

fn add_to(file: &Path, text: &str) {
    let before = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, before + text).unwrap();
}

/// A token of ward 3 with these claims besides.
fn token(clinic: &Clinic, changes: &Value) -> String {
    let mut all = json!({ "roles": ["doctor"], "teams": ["ward-3"] });
    let changes = changes.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(changes);
    clinic.signer.sign(&claims(&all))
}

#[tokio::test]
async fn a_person_sees_what_their_department_gives_and_nobody_else_does() {
    let clinic = clinic().await;
    let patient = clinic.portal.create_patient(patient()).await;
    assert_eq!(clinic.set_team(&patient, "\"1\"", &["ward-3"]).await.status(), 200);
    let path = format!("/api/v1/patients/{patient}");
    for (what, changes, counted, sees) in [
        ("the department", json!({ "department": "Pharmacy (ground floor)" }), Some("pharmacy"), true),
        ("another", json!({ "department": "Heart" }), Some("cardiology"), false),
        ("one that the table does not list", json!({ "department": "Kitchen" }), None, false),
        ("the policy's own word", json!({ "department": "pharmacy" }), None, false),
        ("none", json!({}), None, false),
        (
            "the department of somebody without a role",
            json!({ "department": "Pharmacy (ground floor)", "roles": ["gardener"] }),
            Some("pharmacy"),
            false,
        ),
    ] {
        let token = token(&clinic, &changes);
        let answer = send(&clinic.desk, Method::GET, &path, &token, None).await;
        let request = request_id(&answer);
        assert_eq!(answer.status(), 200, "{what}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["fields"]["insurance"]["payer"] == "Example Health", sees, "{what}: {body}");
        // There is no list of nothing.
        let withheld = body.get("withheld").and_then(Value::as_array);
        let is_withheld = withheld.is_some_and(|names| names.contains(&json!("insurance")));
        assert_eq!(is_withheld, !sees, "{what}");
        assert_eq!(body["fields"]["given_name"], "Žofie 佐藤", "{what}");
        let entry = clinic.strongroom.entry_of(&request).await;
        let said = entry["who"]["on_behalf_of"].get("department").and_then(Value::as_str);
        assert_eq!(said, counted, "{what}");
        let has = |pointer: &str, word: &str| {
            entry.pointer(pointer).unwrap().as_array().unwrap().contains(&json!(word))
        };
        assert_eq!(has("/basis/policy", "pharmacy-reads-insurance"), sees, "{what}");
        assert_eq!(has("/obj/0/fields", "insurance"), sees, "{what}");
        // Asked for by its name.
        let named = send(&clinic.desk, Method::GET, &format!("{path}?fields=insurance"), &token, None).await;
        assert_eq!(named.status(), if sees { 200 } else { 403 }, "{what}");
        if !sees {
            assert_eq!(problem(named).await, (403, "field_not_allowed".into()), "{what}");
        }
    }
    // The application by itself is of none, and a claim that is no department refuses the token.
    let alone: Value = clinic.desk.get(&path).await.json().await.unwrap();
    assert_eq!(alone["fields"].get("insurance"), None);
    for bad in [json!(["Pharmacy (ground floor)"]), json!(""), json!(7), json!("a\nb")] {
        let token = token(&clinic, &json!({ "department": bad }));
        let answer = send(&clinic.desk, Method::GET, &path, &token, None).await;
        assert_eq!(problem(answer).await, (401, "token_invalid".into()), "{bad}");
    }
    auditors_read_it(&clinic).await;
}

async fn auditors_read_it(clinic: &Clinic) {
    let auditor = clinic.strongroom.client("audit").await;
    let read = async |form: &str| {
        let path = "/api/v1/audit/events?person=p-4711&act=record.read&order=oldest&limit=1";
        let request = auditor.request(Method::GET, path).header("accept", form);
        request.send().await.unwrap().text().await.unwrap()
    };
    let table = read("text/csv").await;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let place = rows[0].iter().position(|name| *name == "department").unwrap();
    assert_eq!(rows[1][place], "pharmacy");
    assert!(read("application/fhir+json").await.contains("\"urn:strongroom:department\""));
    assert!(read("application/ocsf+json").await.contains("\"ou_name\":\"pharmacy\""));
}

/// It tells whoever could do something about it, as it takes effect.
#[tokio::test]
async fn a_guard_on_departments_says_so() {
    let clinic = clinic().await;
    let heart = token(&clinic, &json!({ "department": "Heart" }));
    let pharmacy = token(&clinic, &json!({ "department": "Pharmacy (ground floor)" }));
    let nobody = token(&clinic, &json!({}));
    let list = async |token: &str| send(&clinic.desk, Method::GET, "/api/v1/patients", token, None).await;
    assert_eq!(list(&pharmacy).await.status(), 200);
    let guard = "@id(\"guard-lists\")\n@code(\"department_not_allowed\")\n\
                 forbid (principal in Role::\"clinician\", action == Action::\"list\", resource)\n\
                 unless { context has person && context.person has department && \
                 context.person.department == Department::\"cardiology\" };\n";
    std::fs::write(clinic.strongroom.policy_directory.join("extra.cedar"), guard).unwrap();
    eventually("the guard is in force", async || list(&pharmacy).await.status() == 403).await;
    for token in [&pharmacy, &nobody] {
        let answer = list(token).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (403, "department_not_allowed".into()));
        let entry = clinic.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "department_not_allowed" }));
        assert_eq!(entry["basis"]["policy"], json!(["guard-lists"]));
    }
    assert_eq!(list(&heart).await.status(), 200);
}

/// Whatever the table names the policy must list; once it does, the table is taken up.
#[tokio::test]
async fn a_table_that_names_an_unknown_department_waits_for_it() {
    let clinic = clinic().await;
    let folder = &clinic.strongroom.policy_directory;
    let edit = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(from));
        replace_file(&folder.join(file), &text.replace(from, to));
    };
    edit("people.toml", "\"Heart\" = \"cardiology\"", "\"Heart\" = \"heart_centre\"");
    let why = "the policy has no department heart_centre";
    clinic
        .strongroom
        .logs("the refusal", |line| line.contains("people.reload_refused") && line.contains(why))
        .await;
    let heart = token(&clinic, &json!({ "department": "Heart" }));
    let path = format!("/api/v1/patients/{}", clinic.alice);
    assert_eq!(clinic.set_team(&clinic.alice, "\"1\"", &["ward-3"]).await.status(), 200);
    let department = async || {
        let answer = send(&clinic.desk, Method::GET, &path, &heart, None).await;
        let request = request_id(&answer);
        assert_eq!(answer.status(), 200);
        clinic.strongroom.entry_of(&request).await["who"]["on_behalf_of"]["department"].clone()
    };
    assert_eq!(department().await, "cardiology", "the old table is in force");
    edit("schema.cedarschema", "\"cardiology\"", "\"cardiology\", \"heart_centre\"");
    eventually("the table is taken up", async || department().await == "heart_centre").await;
    // Nor is a policy taken up that has lost what the table names, until there is another table.
    let hashes = async || {
        let loads = clinic.strongroom.entries_of("policy.load").await;
        loads.iter().filter(|entry| entry["out"]["status"] == "success").count()
    };
    let before = hashes().await;
    edit("schema.cedarschema", ", \"heart_centre\"", "");
    let why = "it does not go with people.toml: issuer staff: the policy has no department heart_centre";
    clinic
        .strongroom
        .logs("the refusal", |line| line.contains("policy.reload_refused") && line.contains(why))
        .await;
    assert_eq!((department().await, hashes().await), (json!("heart_centre"), before));
    edit("people.toml", "\"Heart\" = \"heart_centre\"", "\"Heart\" = \"cardiology\"");
    eventually("both are taken up", async || {
        department().await == "cardiology" && hashes().await == before + 1
    })
    .await;
}
