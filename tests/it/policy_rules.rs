//! The shipped policy folder, as a whole.

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

/// `STRONGROOM_UPDATE_GOLDEN=1 cargo test policy_rules` writes the file anew; review the difference.
#[test]
fn the_matrix_is_what_was_reviewed() {
    let found = matrix(&PolicySet::load(folder()).unwrap());
    let path = folder().join("matrix.golden");
    if std::env::var_os("STRONGROOM_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == reviewed, "policy/matrix.golden differs: see policy/README.md, The matrix");
}
