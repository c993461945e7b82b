//! People and records in rules: what a person brought is told from what their client has, one record is asked about as one of
//! its collection, and which person or record it is by nobody.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use reqwest::Method;
use serde_json::{Value, json};
use strongroom::policy::{PolicySet, run_cases};

use crate::parts::Folder;
use crate::support::clinic::{Clinic, send};
use crate::support::people::claims;
use crate::support::samples::message;
use crate::support::{copy_folder, policy_directory, problem, request_id};

/// The rule of `policy/README.md`, "Person and Record": staff at a desk delete letters; the desk by itself does not, nor whoever
/// comes there without being staff.
static DELETES_LETTERS: LazyLock<String> = LazyLock::new(|| {
    let readme = std::fs::read_to_string(policy_directory().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("**Person and Record.**").unwrap();
    let (_, rest) = rest.split_once("```cedar\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
});

/// The shipped folder with these texts added to these files.
fn with(name: &str, additions: &[(&str, &str)]) -> Folder {
    let folder = Folder::new(&format!("entities-{name}"));
    copy_folder(&policy_directory(), folder.path());
    for (file, text) in additions {
        let path = folder.path().join(file);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, before + "\n" + text).unwrap();
    }
    folder
}

fn load(folder: &Folder) -> Result<PolicySet, String> {
    PolicySet::load(folder.path()).map_err(|error| error.to_string())
}

/// The refusal names `file` and says something like `why`.
#[track_caller]
fn refused(folder: &Folder, file: &str, why: &str) {
    let message = load(folder).err().expect("it is refused");
    assert!(message.contains(file) && message.contains(why), "{message}");
}

/// Exit code and standard output.
fn policy(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let output = command.arg("policy").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_of_a_record_is_no_collections() {
    let rule = |action: &str, resource: &str| {
        let text = format!(
            "@id(\"extra\") permit (principal in Role::\"portal\", action == Action::\"{action}\", resource) \
             when {{ {resource} }};"
        );
        with("record", &[("extra.cedar", &text)])
    };
    for action in ["delete", "history"] {
        load(&rule(action, "resource in Collection::\"messages\"")).unwrap();
        load(&rule(action, "resource is Record in Collection::\"messages\"")).unwrap();
        for other in [
            "resource == Collection::\"messages\"",
            "[Collection::\"messages\"].contains(resource)",
            "resource in Class::\"phi\"",
        ] {
            refused(&rule(action, other), ".cedar", "extra");
        }
        refused(&rule(action, "resource in Collection::\"letters\""), "extra.cedar", "letters");
    }
    for action in ["list", "read_many", "search"] {
        load(&rule(action, "resource == Collection::\"messages\"")).unwrap();
        refused(&rule(action, "resource is Record in Collection::\"messages\""), ".cedar", "extra");
    }
}

#[test]
fn people_are_asked_for_roles_of_the_schema_and_for_few() {
    let rule = |condition: &str| {
        let text = format!(
            "@id(\"extra\") permit (principal in Role::\"portal\", action == Action::\"list\", resource) \
             when {{ {condition} }};"
        );
        with("asked", &[("extra.cedar", &text)])
    };
    let known = "context has person && context.person";
    load(&rule(&format!("{known} in Role::\"clinician\""))).unwrap();
    load(&rule(&format!("{known} is Person in Role::\"clinician\""))).unwrap();
    refused(&rule(&format!("{known} in Role::\"nurse\"")), ".cedar", "nurse");
    refused(&rule(&format!("{known} in Department::\"oncology\"")), ".cedar", "extra");
    // Without asking whether there is one, and as if there being one were yes or no.
    refused(&rule("context.person in Role::\"clinician\""), ".cedar", "extra");
    refused(&rule(known), ".cedar", "extra");
    let many = |count: usize| {
        let roles: Vec<String> = (0..count).map(|number| format!("\"role_{number}\"")).collect();
        let named: Vec<String> = roles.iter().map(|role| format!("Role::{role}")).collect();
        let folder = rule(&format!("{known} in [{}]", named.join(", ")));
        let schema = folder.path().join("schema.cedarschema");
        let text = std::fs::read_to_string(&schema).unwrap();
        std::fs::write(
            schema,
            text.replacen("\"portal\",", &format!("\"portal\", {},", roles.join(", ")), 1),
        )
        .unwrap();
        folder
    };
    // What ships asks for two.
    load(&many(14)).unwrap();
    refused(&many(15), ".cedar", "16 roles");
}

const CASES: &str = r#"
[[case]]
says = "staff delete a letter of somebody in their care"
roles = ["clinician"]
action = "delete"
collection = "messages"
purpose = "TREAT"
person = true
in_care_team = true
by = ["clinician-deletes-letters"]

[[case]]
says = "no other record"
roles = ["clinician"]
action = "delete"
collection = "patients"
purpose = "TREAT"
person = true
in_care_team = true
denied = "action_not_allowed"

[[case]]
says = "the role is the desk's, and whoever is there brought none"
roles = ["clinician"]
action = "delete"
collection = "messages"
purpose = "TREAT"
person = true
person_roles = []
in_care_team = true
denied = "action_not_allowed"

[[case]]
says = "or another"
roles = ["clinician", "patient"]
action = "delete"
collection = "messages"
purpose = "TREAT"
person = true
person_roles = ["patient"]
is_self = true
in_care_team = true
denied = "action_not_allowed"

[[case]]
says = "the desk by itself"
roles = ["clinician"]
action = "delete"
collection = "messages"
purpose = "TREAT"
denied = "action_not_allowed"
"#;

/// Each case holds, and its opposite does not: a refusal that is expected is not met by a grant, nor the other way about.
#[test]
fn cases_tell_what_a_person_brought() {
    let run = |rules: &str, cases: &str| {
        let folder = with("cases", &[("clinician.cedar", rules), ("tests/clinician.toml", cases)]);
        let set = load(&folder).unwrap();
        run_cases(&set, folder.path()).map(|report| report.failures).map_err(|error| error.to_string())
    };
    assert_eq!(run(&DELETES_LETTERS, CASES).unwrap(), Vec::<String>::new());
    let failures = run("", CASES).unwrap();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(failures.iter().all(|line| line.contains("staff delete a letter")), "{failures:?}");
    let whoever = DELETES_LETTERS.replace("  context.person in Role::\"clinician\" &&\n", "");
    let failures = run(&whoever, CASES).unwrap();
    let [none, other] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(none.contains("brought none: it is permitted") && other.contains("or another: it is permitted"));
    for (from, to, why) in [
        ("person_roles = [\"patient\"]", "person_roles = [\"admin\"]", "among the roles"),
        (
            "person = true\nperson_roles = []\nin_care_team = true",
            "person_roles = []",
            "only a person brings",
        ),
        ("person_roles = []", "person_roles = []\ndepartment = \"oncology\"", "is of a department"),
    ] {
        let error = run(&DELETES_LETTERS, &CASES.replace(from, to)).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn reviewers_see_what_is_for_whom_brings_a_role() {
    let shipped = policy_directory();
    let changed = with("review", &[("clinician.cedar", &DELETES_LETTERS)]);
    let (_, said) = policy(&["diff", text(&shipped), text(changed.path())]);
    assert_eq!(
        said,
        "grants clinician: delete messages, for TREAT, when person break_glass person_role clinician; \
         person in_care_team break_glass person_role clinician; person in_care_team person_role clinician\n"
    );
    let (_, matrix) = policy(&["matrix", "--directory", text(changed.path())]);
    let (_, before) = policy(&["matrix", "--directory", text(&shipped)]);
    assert_eq!(
        matrix.split("\n\n").filter(|section| !before.contains(section)).collect::<Vec<_>>(),
        [
            "clinician delete messages when person break_glass person_role clinician; person in_care_team person_role \
             clinician; person in_care_team break_glass person_role clinician\n  for TREAT"
        ]
    );
    // Of a role that is another's: a portal's rule for the clinicians that it acts for.
    let portal =
        DELETES_LETTERS.replacen("principal in Role::\"clinician\"", "principal in Role::\"portal\"", 1);
    let other = with("review-portal", &[("portal.cedar", &portal)]);
    let (code, said) = policy(&["check", "--directory", text(other.path())]);
    assert_eq!(code, Some(0), "{said}");
    let (_, said) = policy(&["diff", text(&shipped), text(other.path())]);
    assert_eq!(said, "grants portal: delete messages, for TREAT, when person person_role clinician\n");
    // What nobody can be.
    for condition in [
        "!(context has person) && context has person && context.person in Role::\"clinician\"",
        "context has person && context.person in Role::\"clinician\" && !(context.person in Role::\"clinician\")",
    ] {
        let never = DELETES_LETTERS
            .replace("context has person &&\n  context.person in Role::\"clinician\"", condition);
        let (code, said) =
            policy(&["check", "--directory", text(with("never", &[("clinician.cedar", &never)]).path())]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("clinician-deletes-letters: no request is what it asks for"), "{said}");
    }
}

#[test]
fn explain_says_which_role_a_person_would_have_to_bring() {
    let folder = with("explain", &[("clinician.cedar", &DELETES_LETTERS)]);
    let explain = |arguments: &[&str]| {
        let asked =
            ["explain", "--directory", text(folder.path()), "--action", "delete", "--purpose", "TREAT"];
        policy(&[&asked[..], &["--collection", "messages", "--role"], arguments].concat())
    };
    let staff = ["clinician", "--person", "--in-care-team"];
    assert_eq!(explain(&staff).1, "permitted: clinician-deletes-letters\n");
    let (code, said) = explain(&[&staff[..], &["--person-role", "clinician"]].concat());
    assert_eq!((code, said.as_str()), (Some(0), "permitted: clinician-deletes-letters\n"));
    let (_, said) = explain(&[&staff[..], &["--person-role"]].concat());
    assert_eq!(
        said,
        "refused, action_not_allowed: no permit holds\nmore would be given with: person_role clinician\n"
    );
    let (_, said) = explain(&["portal", "--person", "--in-care-team"]);
    assert!(said.ends_with("more would be given with: purpose PATRQT; person_role clinician\n"), "{said}");
    assert_eq!(
        explain(&["clinician", "--person-role", "clinician"]).0,
        Some(2),
        "only a person brings roles"
    );
    assert_eq!(explain(&["clinician", "--person", "--person-role", "patient"]).0, Some(1));
}

/// What one role reads for whoever brings another is kept apart like everything else that comes together.
#[test]
fn what_is_kept_apart_is_kept_apart_for_whoever_brings_a_role() {
    let cards = "name = \"cards\"\nabout = \"Cards\"\nsubject = \"refers\"\nkey_scope = \"record\"\nretired_ids = []\n\
                 [[field]]\nid = 1\nname = \"number\"\ntype = \"code\"\nclass = \"chd\"\nmask = \"last-four\"\n\
                 card = \"number\"\nabout = \"The number\"\n";
    let rule = "@id(\"extra\") permit (principal in Role::\"operator\", action == Action::\"read_masked\", \
                resource in Collection::\"cards\") when { context has purpose && context has person && \
                context.person in Role::\"patient\" && !(context.person in Role::\"clinician\") };";
    let folder = |rule: &str| with("apart", &[("collections/cards.toml", cards), ("extra.cedar", rule)]);
    // A guard keeps values from operators whatever else is said.
    load(&folder(rule)).unwrap();
    let portal = rule.replace("operator", "portal");
    refused(&folder(&portal), ".cedar", "portal reads cardholder data");
}

#[tokio::test]
async fn what_a_person_brings_is_told_from_what_their_client_has() {
    let rule = format!(
        "{}{}",
        *DELETES_LETTERS,
        "@id(\"guard-history\") forbid (principal in Role::\"clinician\", action == Action::\"history\", \
         resource in Collection::\"messages\") unless { context has person && context.person in Role::\"clinician\" };"
    );
    let clinic =
        Clinic::open_with(move |folder| std::fs::write(folder.join("extra.cedar"), rule).unwrap()).await;
    let letter = clinic.portal.create("messages", &message(&clinic.alice)).await;
    let path = format!("/api/v1/messages/{}", letter["id"].as_str().unwrap());
    assert_eq!(clinic.set_team(&clinic.alice, "\"1\"", &["ward-3"]).await.status(), 200);
    let somebody = |sub: &str, roles: &[&str]| {
        clinic.signer.sign(&claims(&json!({ "sub": sub, "roles": roles, "teams": ["ward-3"] })))
    };
    let history = format!("{path}/history");
    // The role is the desk's, and stays it whoever comes.
    let alone = clinic.desk.request(Method::DELETE, &path).header("if-match", "\"1\"").send().await.unwrap();
    assert_eq!(problem(alone).await, (403, "action_not_allowed".into()));
    assert_eq!(problem(clinic.desk.get(&history).await).await, (403, "action_not_allowed".into()));
    let gardener = somebody("p-1", &["gardener"]);
    for (method, path) in [(Method::GET, &history), (Method::DELETE, &path)] {
        let answer = send(&clinic.desk, method, path, &gardener, None).await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (403, "action_not_allowed".into()));
        let entry = clinic.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "action_not_allowed" }));
    }
    // Two doctors, of whom the rules know the same.
    let doctors = [somebody("p-2", &["doctor"]), somebody("p-3", &["doctor"])];
    for doctor in &doctors {
        assert_eq!(send(&clinic.desk, Method::GET, &history, doctor, None).await.status(), 200);
    }
    let answer = send(&clinic.desk, Method::DELETE, &path, &doctors[1], None).await;
    let request = request_id(&answer);
    assert_eq!(answer.status(), 204);
    let entry: Value = clinic.strongroom.entry_of(&request).await;
    assert_eq!(entry["basis"]["policy"], json!(["clinician-deletes-letters"]));
}
