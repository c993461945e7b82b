//! `strongroom policy` on the command line: what a reviewer sees of files before they are live.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::{copy_folder, policy_directory};

/// Exit code and standard output.
fn policy(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let output = command.arg("policy").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// A copy of the shipped folder with one file changed.
struct Changed(PathBuf);

impl Changed {
    fn new(file: &str, change: impl FnOnce(String) -> String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("strongroom-review-{}-{number}", std::process::id()));
        copy_folder(&policy_directory(), &folder);
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text);
        std::fs::write(&path, changed).unwrap();
        Self(folder)
    }

    fn with(policy: &str) -> Self {
        let policy = policy.to_owned();
        Self::new("billing.cedar", |text| text + &policy)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shipped() -> String {
    policy_directory().to_str().unwrap().to_owned()
}

#[test]
fn check_refuses_permits_that_give_nothing() {
    let check = |folder: &str| policy(&["check", "--directory", folder]);
    let (code, said) = check(&shipped());
    assert_eq!(code, Some(0), "{said}");
    // What a guard forbids whatever the circumstances.
    let forbidden = Changed::with(
        "@id(\"extra\") permit (principal in Role::\"admin\", action == Action::\"update\", resource in Collection::\"patients\");",
    );
    let (code, said) = check(forbidden.path());
    assert_eq!(code, Some(1));
    assert!(said.contains("extra: forbids hold wherever it does"), "{said}");
    // What cannot be, though each half of it can.
    let impossible = Changed::with(
        "@id(\"extra\") permit (principal in Role::\"billing\", action == Action::\"read_plain\", resource in Collection::\"messages\") \
         when { context has purpose && context.purpose == Purpose::\"HPAYMT\" && context.is_self && !(context has person) };",
    );
    let (code, said) = check(impossible.path());
    assert_eq!(code, Some(1));
    assert!(said.contains("extra: no request is what it asks for"), "{said}");
    // A list of clients that does not go with it.
    let together = Changed::new("identities.toml", |text| {
        text.replace("roles = [\"auditor\"]", "roles = [\"auditor\", \"portal\"]")
    });
    assert_eq!(check(together.path()).0, Some(1));
    let unknown =
        Changed::new("identities.toml", |text| text.replace("roles = [\"mobile\"]", "roles = [\"pager\"]"));
    assert_eq!(check(unknown.path()).0, Some(1));
    // A case that does not hold.
    let failing = Changed::new("tests/billing.toml", |text| {
        text.replacen("denied = \"purpose_not_allowed\"", "others = \"plain\"", 1)
    });
    let (code, said) = check(failing.path());
    assert_eq!(code, Some(1));
    assert!(said.contains("tests/billing.toml: treatment is not billing's purpose"), "{said}");
}

/// Roles that nobody has together are explained by what they would join.
#[test]
fn explain_says_what_roles_would_join() {
    let asked =
        ["explain", "--directory", &shipped(), "--role", "auditor", "--role", "portal", "--kind", "auditor"];
    let read = ["--action", "read", "--collection", "patients", "--purpose", "TREAT", "--second-factor"];
    let (code, said) = policy(&[&asked[..], &read[..]].concat());
    assert_eq!(code, Some(0));
    assert_eq!(
        said,
        "refused, roles_conflict: isolation:keepers\n\
         auditor and portal together keep the service or its log and are given values: give them to different clients\n"
    );
}

#[test]
fn diff_says_what_a_change_grants_and_takes_away() {
    let (code, said) = policy(&["diff", &shipped(), &shipped()]);
    assert_eq!((code, said.as_str()), (Some(0), "nobody is given or loses anything\n"));
    let edited = Changed::new("billing.cedar", |text| {
        let text = text.replacen("    Field::\"patients.phone\",\n", "", 1);
        text.replacen(
            "[Field::\"patients.email\", Field::\"patients.ssn\",",
            "[Field::\"patients.email\", Field::\"patients.phone\",",
            1,
        ) + "@id(\"extra\") permit (principal in Role::\"billing\", action == Action::\"list\", resource == Collection::\"encounters\") \
               when { context has purpose && context.purpose == Purpose::\"HPAYMT\" };"
    });
    let (code, said) = policy(&["diff", &shipped(), edited.path()]);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let expected = [
        "grants billing: list encounters, for HPAYMT",
        "takes from billing: read patients.phone masked (in plain before), for HPAYMT",
        "takes from billing: read patients.ssn not at all (masked before), for HPAYMT",
    ];
    assert_eq!((code, lines.as_slice()), (Some(0), expected.as_slice()));
    // The other way round it is the other way round.
    let (_, said) = policy(&["diff", edited.path(), &shipped(), "--json"]);
    let changes: Vec<Value> = serde_json::from_str(&said).unwrap();
    let phone = json!({
        "change": "grants", "role": "billing", "action": "read", "collection": "patients", "field": "phone",
        "destination": null, "before": "masked", "after": "plain", "purposes": ["HPAYMT"], "when": [],
    });
    assert_eq!(changes.len(), 3);
    assert!(changes.contains(&phone), "{said}");
    // In which circumstances.
    let guard = Changed::new("guards.cedar", |text| {
        text.replacen(
            "\nunless { context.in_care_team || context.break_glass };",
            "\nunless { context.break_glass };",
            1,
        )
    });
    let (_, said) = policy(&["diff", &shipped(), guard.path()]);
    let sentence = "takes from clinician: read encounters.note not at all (in plain before), for COC ETREAT TREAT, when person in_care_team";
    assert!(said.lines().any(|line| line == sentence), "{said}");
    assert!(said.lines().all(|line| line.starts_with("takes from clinician: ")), "{said}");
    let (code, _) = policy(&["diff", &shipped(), "/nonexistent"]);
    assert_eq!(code, Some(1));
}

const PROVIDER: &str = r#"
[[issuer]]
name = "staff-login"
tenant = "clinic-north"
issuer = "https://login.clinic-north.internal/realms/staff"
audience = ["strongroom"]
algorithms = ["ES256"]
jwks_url = "https://login.clinic-north.internal/realms/staff/certs"
roots_file = "people/login-roots.pem"
roles_claim = "roles"
department_claim = "department"
[issuer.roles]
doctor = "clinician"
[issuer.departments]
"Cardiology (2 West)" = "cardiology"
"#;

/// Hours, networks, limits, masks, clients and providers are rules as much as rules are.
#[test]
fn diff_says_what_tables_set_anew() {
    let said = |file: &str, from: &str, to: &str| {
        let edited = Changed::new(file, |text| text.replacen(from, to, 1));
        let (code, said) = policy(&["diff", &shipped(), edited.path()]);
        assert_eq!(code, Some(0));
        said
    };
    assert_eq!(
        said("bands.toml", "from = \"05:00\"", "from = \"05:30\""),
        "sets bands.toml: hour day from = \"05:30\" (\"05:00\" before)\n"
    );
    assert_eq!(
        said(
            "collections/patients.toml",
            "name = \"ssn\"\ntype = \"ssn\"\nclass = \"pii\"\nmask = \"last-four\"",
            "name = \"ssn\"\ntype = \"ssn\"\nclass = \"pii\"\nmask = \"full\""
        ),
        "sets collections/patients.toml: field ssn mask = \"full\" (\"last-four\" before)\n"
    );
    let client = "\n[[client]]\nname = \"kiosk\"\ntenant = \"clinic-north\"\nkind = \"app\"\n\
                  san = \"spiffe://strongroom.internal/client/clinic-north/kiosk\"\nroles = [\"mobile\"]\n";
    let edited = Changed::new("identities.toml", |text| text + client);
    let (_, added) = policy(&["diff", &shipped(), edited.path()]);
    assert!(added.starts_with("adds identities.toml: client clinic-north/kiosk = {"), "{added}");
    assert!(added.contains("roles = [\"mobile\"]") && added.lines().count() == 1, "{added}");
    let (_, removed) = policy(&["diff", edited.path(), &shipped(), "--json"]);
    let removed: Value = serde_json::from_str(&removed).unwrap();
    let expected = json!(["client", "clinic-north/kiosk"]);
    assert_eq!((&removed[0]["setting"], &removed[0]["after"]), (&expected, &Value::Null));
    assert_eq!((&removed[0]["change"], &removed[0]["file"]), (&json!("sets"), &json!("identities.toml")));
    // Which claims make somebody somebody.
    let edited = Changed::new("people.toml", |text| text + PROVIDER);
    let (code, said) = policy(&["diff", &shipped(), edited.path()]);
    assert!(code == Some(0) && said.starts_with("adds people.toml: issuer"), "{said}");
}

#[test]
fn check_looks_at_the_people_file() {
    let edited = Changed::new("people.toml", |text| text + PROVIDER);
    assert_eq!(policy(&["check", "--directory", edited.path()]).0, Some(0));
    for (from, to) in
        [("\"clinician\"", "\"chief\""), ("\"cardiology\"", "\"astrology\""), ("clinic-north", "clinic-far")]
    {
        let edited = Changed::new("people.toml", |text| text + &PROVIDER.replace(from, to));
        assert_eq!(policy(&["check", "--directory", edited.path()]).0, Some(1), "{to}");
    }
}

#[test]
fn explain_says_which_policy_decides_and_what_would_change_it() {
    let folder = shipped();
    let explain = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["explain", "--directory", &folder].into_iter().chain(arguments.iter().copied()).collect();
        policy(&all)
    };
    let doctor =
        ["--role", "clinician", "--action", "read", "--collection", "patients", "--purpose", "TREAT"];
    let (code, said) = explain(&[&doctor[..], &["--person", "--in-care-team"]].concat());
    assert_eq!(code, Some(0));
    assert!(said.starts_with("permitted: clinician-masked-identifiers clinician-reads\n"), "{said}");
    let line = |name: &str| {
        said.lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(line("ssn "), ["ssn", "masked", "clinician-masked-identifiers"]);
    assert_eq!(line("insurance "), ["insurance", "absent", "no", "permit", "holds"]);
    let (code, said) = explain(&[&doctor[..], &["--person"]].concat());
    assert_eq!(code, Some(0));
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "refused, relationship_required: guard-clinician-care-team",
            "more would be given with: without person; in_care_team; break_glass",
        ]
    );
    let auditor = ["--role", "auditor", "--kind", "auditor", "--action", "read_audit", "--json"];
    let (_, said) = explain(&auditor);
    let explained: Value = serde_json::from_str(&said).unwrap();
    let expected = json!({
        "permitted": false, "code": "second_factor_required", "policies": ["guard-auditor-second-factor"], "fields": [],
        "more_with": ["second_factor"],
    });
    assert_eq!(explained, expected);
    let (_, said) = explain(&[
        "--role",
        "billing",
        "--action",
        "read",
        "--collection",
        "encounters",
        "--purpose",
        "TREAT",
        "--json",
    ]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["more_with"], json!(["purpose HPAYMT"]));
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let folder = shipped();
    let explain = |arguments: &[&str]| {
        let all: Vec<&str> =
            ["explain", "--directory", &folder].into_iter().chain(arguments.iter().copied()).collect();
        policy(&all).0
    };
    for bad in [
        &["--role", "nurse", "--action", "read", "--collection", "patients"][..],
        &["--role", "billing", "--action", "steal"],
        &["--role", "billing", "--action", "read"],
        &["--role", "billing", "--action", "read", "--collection", "patients", "--hour", "noon"],
    ] {
        assert_eq!(explain(bad), Some(1), "{bad:?}");
    }
    let nobodys = ["--role", "clinician", "--action", "read", "--collection", "patients", "--is-self"];
    assert_eq!(explain(&nobodys), Some(2), "only a person has to do with somebody");
}

#[test]
fn of_two_folders_the_one_that_is_not_valid_is_named() {
    let broken = Changed::with("permit (principal, action, resource);");
    let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["policy", "diff", &shipped(), broken.path()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(broken.path()) && said.contains("@id"), "{said}");
}
