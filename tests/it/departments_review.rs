//! What reviewers see of departments: the example of `policy/README.md` as it is printed, dead rules, explanations.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::parts::Folder;
use crate::support::{copy_folder, policy_directory};

/// The blocks of this language in README.md, "A department".
pub fn readme_example(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(policy_directory().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("**A department.**").unwrap();
    let (text, _) = rest.split_once("**A field.**").unwrap();
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).map(str::to_owned).collect()
}

/// Exit code and standard output.
fn policy(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let output = command.arg("policy").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The shipped folder with these texts added to these files.
fn with(name: &str, additions: &[(&str, &str)]) -> Folder {
    let folder = Folder::new(name);
    copy_folder(&policy_directory(), folder.path());
    for (file, text) in additions {
        let path = folder.path().join(file);
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, before + "\n" + text).unwrap();
    }
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_example_of_the_readme_does_what_it_says() {
    let (rules, tables, said) = (readme_example("cedar"), readme_example("toml"), readme_example(""));
    assert_eq!((rules.len(), tables.len(), said.len()), (1, 2, 1));
    assert!(tables[0].contains("[issuer.departments]"));
    let shipped = policy_directory();
    let changed = with("department", &[("clinician.cedar", &rules[0]), ("tests/clinician.toml", &tables[1])]);
    let (code, found) = policy(&["check", "--directory", text(changed.path())]);
    assert_eq!(code, Some(0), "{found}");
    let (_, found) = policy(&["diff", text(&shipped), text(changed.path())]);
    assert_eq!(found, said[0]);
    // Its cases hold for nothing else.
    let without = with("without", &[("tests/clinician.toml", &tables[1])]);
    let (code, found) = policy(&["check", "--directory", text(without.path())]);
    assert_eq!(code, Some(1));
    assert!(
        found.contains("the pharmacy sees what its patients are insured for: insurance is absent"),
        "{found}"
    );
    let everybody = rules[0].replace("context.person.department == Department::\"pharmacy\" &&", "");
    let everybody =
        with("everybody", &[("clinician.cedar", &everybody), ("tests/clinician.toml", &tables[1])]);
    let (code, found) = policy(&["check", "--directory", text(everybody.path())]);
    assert_eq!(code, Some(1));
    assert!(found.contains("who treats them does not: insurance is plain"), "{found}");
}

/// Of the departments that nobody names one stands for all, so that a long list is no long matrix.
#[test]
fn the_matrix_names_departments_that_rules_name_and_the_others_together() {
    let matrix = |folder: &Path| policy(&["matrix", "--directory", text(folder)]).1;
    let before = matrix(&policy_directory());
    let changed = with("matrix", &[("clinician.cedar", &readme_example("cedar")[0])]);
    let after = matrix(changed.path());
    assert!(!before.contains("department"));
    let sections = |matrix: &str| {
        let all = matrix.split("\n\n").map(str::to_owned);
        all.filter(|section| section.contains("department")).collect::<Vec<_>>()
    };
    let told: Vec<String> = sections(&after);
    // What the rule is not about is as it was.
    assert!(
        before
            .split("\n\n")
            .filter(|section| !section.starts_with("clinician read patients"))
            .all(|section| after.contains(section))
    );
    assert!(told.iter().all(|section| section.starts_with("clinician read patients when ")), "{told:?}");
    let gives = |words: &str, field: &str| {
        let is_when = |title: &str| title.split_once(" when ").unwrap().1.split("; ").any(|one| one == words);
        let section = told.iter().find(|section| is_when(section.lines().next().unwrap())).unwrap();
        section.lines().any(|line| line.trim_start().starts_with(field))
    };
    assert!(gives("person in_care_team department pharmacy", "insurance "));
    assert!(!gives("person in_care_team another department", "insurance "));
    assert!(gives("person in_care_team another department", "given_name "));
    for unnamed in ["cardiology", "radiology"] {
        assert!(!after.contains(unnamed), "{unnamed}");
    }
}

#[test]
fn what_no_department_can_be_is_found() {
    let rule = |condition: &str| {
        format!(
            "@id(\"extra\") permit (principal in Role::\"billing\", action == Action::\"list\", \
             resource == Collection::\"messages\") when {{ {condition} && context has purpose && \
             context.purpose == Purpose::\"HPAYMT\" }};"
        )
    };
    let named = "context has person && context.person has department && \
                 context.person.department == Department::\"surgery\"";
    let good = with("dead-not", &[("billing.cedar", &rule(named))]);
    let (code, found) = policy(&["check", "--directory", text(good.path())]);
    assert_eq!(code, Some(0), "{found}");
    for (name, condition) in [
        ("dead-alone", format!("!(context has person) && {named}")),
        ("dead-two", format!("{named} && context.person.department == Department::\"oncology\"")),
    ] {
        let folder = with(name, &[("billing.cedar", &rule(&condition))]);
        let (code, found) = policy(&["check", "--directory", text(folder.path())]);
        assert_eq!(code, Some(1), "{name}");
        assert!(found.contains("extra: no request is what it asks for"), "{found}");
    }
}

/// A department that is added is somebody to rules that ask for any.
#[test]
fn diff_knows_that_the_list_grew() {
    let rule = |condition: &str| {
        format!(
            "@id(\"extra\") permit (principal in Role::\"billing\", action == Action::\"list\", \
             resource == Collection::\"messages\") when {{ context has person && context.person has department && {condition} }};"
        )
    };
    let schema = |folder: &Folder, list: &str| {
        let path = folder.path().join("schema.cedarschema");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once("entity Department enum [").unwrap();
        let (_, after) = rest.split_once("];").unwrap();
        std::fs::write(path, format!("{before}entity Department enum [{list}];{after}")).unwrap();
    };
    let any = rule("true");
    let (old, new) =
        (with("grew-old", &[("billing.cedar", &any)]), with("grew-new", &[("billing.cedar", &any)]));
    schema(&old, "\"surgery\"");
    schema(&new, "\"surgery\", \"oncology\"");
    let (_, found) = policy(&["diff", text(old.path()), text(new.path())]);
    assert_eq!(found, "nobody is given or loses anything\n", "another department is another department");
    let named = rule("[Department::\"surgery\"].contains(context.person.department)");
    std::fs::write(new.path().join("billing.cedar"), "").unwrap();
    let text_of = |folder: &Folder| std::fs::read_to_string(folder.path().join("billing.cedar")).unwrap();
    let shipped = std::fs::read_to_string(policy_directory().join("billing.cedar")).unwrap();
    std::fs::write(new.path().join("billing.cedar"), shipped + "\n" + &named).unwrap();
    assert_ne!(text_of(&old), text_of(&new));
    schema(&old, "\"surgery\", \"oncology\"");
    let (_, found) = policy(&["diff", text(old.path()), text(new.path())]);
    let purposes = "(none)";
    let expected = format!("takes from billing: list messages, for {purposes}");
    assert!(
        found.starts_with(&expected) && found.trim_end().ends_with("when person another department"),
        "{found}"
    );
}

#[test]
fn explain_knows_the_department() {
    let folder = with("explain", &[("clinician.cedar", &readme_example("cedar")[0])]);
    let explain = |arguments: &[&str]| {
        let asked =
            ["explain", "--directory", text(folder.path()), "--role", "clinician", "--action", "read"];
        let rest = ["--collection", "patients", "--purpose", "TREAT"];
        policy(&[&asked[..], &rest, arguments].concat())
    };
    let (_, said) = explain(&["--person", "--in-care-team", "--department", "pharmacy", "--json"]);
    let explained: Value = serde_json::from_str(&said).unwrap();
    let insurance =
        explained["fields"].as_array().unwrap().iter().find(|field| field["field"] == "insurance").unwrap();
    assert_eq!(insurance["policies"], json!(["pharmacy-reads-insurance"]));
    let (_, said) = explain(&["--person", "--in-care-team", "--department", "oncology", "--json"]);
    let explained: Value = serde_json::from_str(&said).unwrap();
    let more: Vec<&str> =
        explained["more_with"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(more.contains(&"department pharmacy") && !more.contains(&"department surgery"), "{more:?}");
    assert!(!more.contains(&"without department"), "{more:?}");
    assert_eq!(explain(&["--person", "--department", "catering"]).0, Some(1));
    assert_eq!(explain(&["--department", "pharmacy"]).0, Some(2), "only a person is of a department");
}
