//! What may be sent on, as policy decides it: by destination and field, and as Cedar says of any rules; what its files may not
//! say; what a change of them means.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use strongroom::policy::{Change, PolicySet, differences};

use crate::support::{copy_folder, policy_directory};

/// A copy of the shipped folder that a test changes.
struct Folder(PathBuf);

impl Folder {
    fn shipped() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("strongroom-policy-relay-{}-{number}", std::process::id()));
        copy_folder(&policy_directory(), &path);
        Self(path)
    }

    fn edit(self, file: &str, change: impl FnOnce(String) -> String) -> Self {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = change(text.clone());
        assert_ne!(text, changed);
        std::fs::write(path, changed).unwrap();
        self
    }

    fn without(self, file: &str) -> Self {
        std::fs::remove_file(self.0.join(file)).unwrap();
        self
    }

    fn load(&self) -> Result<PolicySet, String> {
        PolicySet::load(&self.0).map_err(|error| error.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The billing role's rule, and all that comes after it.
fn without_rule(text: &str) -> String {
    text.split("\n// Whether somebody is insured").next().unwrap().to_owned()
}

fn policy(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_strongroom")).arg("policy").args(arguments).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn path(folder: &Path) -> &str {
    folder.to_str().unwrap()
}

#[test]
fn the_file_is_part_of_what_is_loaded_and_may_be_left_out() {
    let shipped = Folder::shipped().load().unwrap();
    let slower =
        Folder::shipped().edit("relay.toml", |text| text.replace("10_000", "20_000")).load().unwrap();
    assert_ne!(shipped.hash(), slower.hash());
    // A rule names a destination that is not there.
    let message = Folder::shipped().without("relay.toml").load().err().unwrap();
    assert!(
        message.contains("billing.cedar") && message.contains("no Destination claims-clearinghouse"),
        "{message}"
    );
    let none = Folder::shipped().without("relay.toml").edit("billing.cedar", |text| without_rule(&text));
    let none = none.load().unwrap();
    assert_eq!(none.destinations().count(), 0);
    let message =
        Folder::shipped().edit("relay.toml", |text| text.replacen("\"ssn\"", "\"insurance\"", 1)).load();
    let message = message.err().unwrap();
    assert!(message.contains("relay.toml") && message.contains("patients.insurance is no text"), "{message}");
    // A field of a destination is said by both and never by itself.
    let rule = |resource: &str| {
        format!(
            "@id(\"extra\") permit (principal in Role::\"billing\", action == Action::\"relay\", {resource}) \
             when {{ context has purpose && context.purpose == Purpose::\"HPAYMT\" }};"
        )
    };
    let by_itself = rule("resource == RelayedField::\"claims-clearinghouse/patients.ssn\"");
    let message = Folder::shipped().edit("billing.cedar", |text| text + &by_itself).load().err().unwrap();
    assert!(message.contains("there is no RelayedField"), "{message}");
    let by_both = rule("resource in Destination::\"claims-clearinghouse\"").replacen(
        "when {",
        "when { resource in Field::\"patients.ssn\" &&",
        1,
    );
    assert!(Folder::shipped().edit("billing.cedar", |text| text + &by_both).load().is_ok());
}

#[test]
fn whoever_reads_the_log_or_keeps_the_keys_relays_nothing_whatever_the_files_say() {
    for role in ["auditor", "custodian", "operator"] {
        let guard = format!("guard-{role}-no-values");
        let spared = Folder::shipped().edit("guards.cedar", |text| {
            let (before, rest) = text.split_once(&guard).unwrap();
            let rest = rest.replacen(",\n    Action::\"relay\"", "", 1);
            format!("{before}{guard}{rest}")
        });
        let message = spared.load().err().unwrap();
        assert!(message.contains(&format!("forbid {role} every action on values")), "{message}");
    }
}

#[test]
fn a_change_says_what_is_sent_to_whom() {
    let (shipped, fewer) = (Folder::shipped(), Folder::shipped());
    let fewer = fewer.edit("relay.toml", |text| {
        let (before, rest) =
            text.split_once("[[claims-clearinghouse.field]]\npointer = \"/subscriber/ssn\"").unwrap();
        let (_, after) = rest.split_once("\n\n").unwrap();
        format!("{before}{after}")
    });
    let sentence = "relay patients.ssn to claims-clearinghouse, for HPAYMT";
    let said = policy(&["diff", path(&shipped.0), path(&fewer.0)]);
    assert!(said.contains(&format!("takes from billing: {sentence}")), "{said}");
    // What the file sets is told beside it.
    assert!(said.contains("relay.toml: claims-clearinghouse field"), "{said}");
    let said = policy(&["diff", path(&fewer.0), path(&shipped.0)]);
    assert!(said.contains(&format!("grants billing: {sentence}")), "{said}");
    let changes = differences(&fewer.load().unwrap(), &shipped.load().unwrap());
    let expected = json!({
        "change": "grants", "role": "billing", "action": "relay", "collection": "patients", "field": "ssn",
        "destination": "claims-clearinghouse", "before": "absent", "after": "plain", "purposes": ["HPAYMT"], "when": [],
    });
    assert_eq!(changes.iter().map(Change::to_json).collect::<Vec<Value>>(), [expected]);
    // A destination that is gone takes what was sent there.
    let none = Folder::shipped().without("relay.toml").edit("billing.cedar", |text| without_rule(&text));
    let changes = differences(&shipped.load().unwrap(), &none.load().unwrap());
    assert_eq!(changes.len(), 5);
    assert!(changes.iter().all(|change| !change.is_grant()));
}

#[test]
fn explain_says_why_a_field_is_sent() {
    let asked = |more: &[&str]| {
        let arguments = ["explain", "--role", "billing", "--action", "relay", "--collection", "patients"];
        policy(&[&arguments[..], &["--directory", path(&policy_directory())], more].concat())
    };
    let to = ["--destination", "claims-clearinghouse"];
    let said = asked(&[&to[..], &["--purpose", "HPAYMT"]].concat());
    assert!(said.starts_with("permitted: billing-relays-to-clearinghouse\n"), "{said}");
    let fields: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(
        fields,
        ["family_name", "given_name", "birth_date", "ssn"],
        "what the file does not name is no question"
    );
    let said = asked(&to);
    assert!(said.starts_with("refused, purpose_required") && said.contains("purpose HPAYMT"), "{said}");
    assert!(asked(&[]).contains("name a destination where the action is relay"));
    assert!(asked(&["--destination", "nobody"]).contains("there is no such destination"));
    let read = ["explain", "--role", "billing", "--action", "read", "--collection", "patients"];
    let said = policy(&[&read[..], &["--directory", path(&policy_directory())], &to[..]].concat());
    assert!(said.contains("and only there"), "{said}");
}
