//! The shipped policy folder, as a whole.

#![cfg(test)]

use std::path::Path;

use strongroom::policy::{PolicySet, matrix, run_cases};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"))
}

#[test]
fn the_shipped_cases_hold() {
    let set = PolicySet::load(folder()).unwrap();
    let report = run_cases(&set, folder()).unwrap();
    assert!(report.cases > 0);
    assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
}

/// `strongroom policy matrix > policy/matrix.golden` writes the file anew; review the difference.
#[test]
fn the_matrix_is_what_was_reviewed() {
    let found = matrix(&PolicySet::load(folder()).unwrap());
    let reviewed = std::fs::read_to_string(folder().join("matrix.golden")).unwrap();
    assert!(found == reviewed, "policy/matrix.golden differs: see policy/README.md, Changing it");
}
