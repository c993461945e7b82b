//! The promise to programs: every status and code that this service answers, as people reviewed them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use strongroom::domain::value::ValueError;
use strongroom::http::ProblemKind;
use strongroom::policy::FieldFaultCode;
use strongroom::service::ConditionFaultCode;

use crate::source::files_under;

/// `STRONGROOM_BLESS=1 cargo test --test it problems` writes the table anew; review the difference: a code that goes or
/// changes its status breaks callers.
#[test]
fn the_table_of_problems_is_the_reviewed_one() {
    let mut found = String::from("# status, code, detail\n");
    for kind in ProblemKind::ALL {
        writeln!(found, "{} {}: {}", kind.status().as_u16(), kind.code(), kind.detail()).unwrap();
    }
    found.push_str("# codes of single fields in `errors`\n");
    for fault in fault_codes() {
        writeln!(found, "{fault}").unwrap();
    }
    let golden = folder().join("golden/problems.txt");
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn codes_are_words_and_mean_one_status_each() {
    let mut statuses = std::collections::BTreeMap::new();
    for kind in ProblemKind::ALL {
        assert!(
            kind.code()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        );
        assert!(!kind.detail().ends_with('.') && !kind.detail().contains("openapi"), "{}", kind.detail());
        let status = *statuses.entry(kind.code()).or_insert(kind.status());
        assert_eq!(status, kind.status(), "{}", kind.code());
    }
}

#[test]
fn every_code_is_seen_in_some_test() {
    let tests: String = files_under(&folder())
        .iter()
        .filter(|file| {
            file.extension().is_some_and(|extension| extension == "rs") && !file.ends_with("problems.rs")
        })
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let codes: BTreeSet<&str> =
        ProblemKind::ALL.iter().map(|kind| kind.code()).chain(fault_codes()).collect();
    let unseen: Vec<&str> =
        codes.into_iter().filter(|code| !tests.contains(&format!("\"{code}\""))).collect();
    assert!(unseen.is_empty(), "no test sees {unseen:?}: see each over the wire, or take it out");
}

#[test]
fn the_readme_lists_every_code_beside_its_status() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let is_row = |line: &&str, kind: &ProblemKind| {
        let statuses = line.split('|').nth(1).unwrap_or_default();
        statuses.contains(kind.status().as_str()) && line.contains(&format!("`{}`", kind.code()))
    };
    for kind in ProblemKind::ALL {
        assert!(readme.lines().any(|line| is_row(&line, kind)), "README.md lacks {}", kind.code());
    }
}

fn fault_codes() -> impl Iterator<Item = &'static str> {
    use FieldFaultCode::{DuplicateField, NotAnObject, NothingToChange, Required, UnknownField};
    let own =
        [NotAnObject, UnknownField, DuplicateField, Required, NothingToChange].map(FieldFaultCode::code);
    let searches = ConditionFaultCode::OWN.into_iter().filter(move |code| !own.contains(code));
    own.into_iter()
        .chain(ValueError::ALL.into_iter().map(ValueError::code))
        .chain(["not_allowed"])
        .chain(searches)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")
}
