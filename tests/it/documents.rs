//! README.md and SECURITY.md speak of what exists: every path and every test that they name is in the tree.

use std::path::Path;

const DOCUMENTS: [&str; 2] = ["README.md", "SECURITY.md"];

#[test]
fn every_path_that_is_named_exists() {
    let missing: Vec<String> = words()
        .into_iter()
        .filter_map(|(document, word)| Some((document, path_of(&word)?.to_owned())))
        .filter(|(_, path)| !root().join(path).exists())
        .map(|(document, path)| format!("{document} names {path}"))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_test_that_is_named_exists() {
    let named: Vec<(&str, String)> = words().into_iter().filter(|(_, word)| word.contains(".rs::")).collect();
    let missing: Vec<String> = named
        .iter()
        .filter(|(_, word)| !is_test(word))
        .map(|(document, word)| format!("{document} names {word}"))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(
        named.len() > 50,
        "only {} tests are named: are they still written as `file.rs::name`?",
        named.len()
    );
}

/// What stands between backticks, and the targets of links, with the document it stands in.
fn words() -> Vec<(&'static str, String)> {
    let mut words = Vec::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let prose = text.split("```").step_by(2);
        for part in prose {
            words.extend(part.split('`').skip(1).step_by(2).map(|word| (document, word.to_owned())));
            let targets = part.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            words.extend(targets.map(|target| (document, target.to_owned())));
        }
    }
    words
}

/// The part of a word that is a path of the project, if it looks like one.
fn path_of(word: &str) -> Option<&str> {
    let path = word.split("::").next()?;
    let is_pattern = path.contains(['*', '{', ' ']);
    let folders =
        ["src/", "policy/", "audit/", "migrations/", "infra/", "tests/", "benches/", "examples/", ".ci/"];
    let top = ["README.md", "SECURITY.md", "LICENSE", "Cargo.toml", "Makefile", "clippy.toml", "deny.toml"];
    let is_path = folders.iter().any(|folder| path.starts_with(folder)) || top.contains(&path);
    (is_path && !is_pattern).then_some(path)
}

/// `file.rs::name` is in `tests/it`; with a path before it, there.
fn is_test(word: &str) -> bool {
    let Some((file, name)) = word.split_once("::") else { return false };
    let file = if file.contains('/') { root().join(file) } else { root().join("tests/it").join(file) };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let declaration = format!("fn {name}(");
    let mut lines_above = [""; 3];
    for line in text.lines() {
        if line.contains(&declaration) && lines_above.iter().any(|above| above.contains("test]")) {
            return true;
        }
        // In `proptest!` the attribute may be a few lines up, behind a comment.
        if !line.trim_start().starts_with("//") {
            lines_above.rotate_left(1);
            lines_above[2] = line;
        }
    }
    false
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
