//! The shape of the project: who may import whom, how long a file may be, where `unsafe` may stand, and a README in
//! every folder. The reasons are in `src/lib.rs` and the folders' READMEs.

use std::path::{Path, PathBuf};

use crate::source::{code_only, files_under, modules_named};

/// Imports go to an equal or lower rank. `main` is the binary.
const RANKS: [(&str, u8); 17] = [
    ("domain", 0),
    ("config", 0),
    ("telemetry", 0),
    ("crypto", 1),
    ("policy", 1),
    ("audit", 1),
    ("tls", 1),
    ("people", 1),
    ("relay", 1),
    ("keys", 2),
    ("storage", 2),
    ("service", 3),
    ("jobs", 3),
    ("http", 4),
    ("cli", 5),
    ("devstack", 5),
    ("main", 5),
];

/// Pairs that the ranks would allow and the design does not: sealing, deciding and recording know nothing of each other,
/// a route reaches data, and sends it out, only through a use case, and what sends it out knows nothing of who may.
const NEVER: [(&str, &str); 18] = [
    ("policy", "crypto"),
    ("policy", "audit"),
    ("crypto", "policy"),
    ("crypto", "audit"),
    ("audit", "policy"),
    ("audit", "crypto"),
    ("http", "storage"),
    ("http", "keys"),
    ("http", "crypto"),
    ("http", "relay"),
    ("relay", "policy"),
    ("relay", "crypto"),
    ("relay", "audit"),
    ("relay", "people"),
    ("crypto", "relay"),
    ("audit", "relay"),
    ("tls", "relay"),
    ("people", "relay"),
];

/// Files that may contain `unsafe`: locking memory, and nothing else.
const MAY_BE_UNSAFE: [&str; 0] = [];

const LONGEST_LINES: usize = 500;

#[test]
fn imports_follow_the_ranks() {
    let mut broken = Vec::new();
    for file in rust_files("src") {
        let path = module_path(&file);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        // `lib.rs` declares the modules and uses none.
        let Some(own) = path.first() else { continue };
        let own_rank =
            rank(own).unwrap_or_else(|| panic!("{own} has no rank: give it one here and in lib.rs"));
        for other in modules_named(&std::fs::read_to_string(&file).unwrap(), &path) {
            let Some(other_rank) = rank(&other) else { continue };
            if other_rank > own_rank || NEVER.contains(&(own, &other)) {
                broken.push(format!("{} must not import {other}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_module_of_the_library_has_a_rank() {
    let library = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let unranked: Vec<&str> = declared.filter(|module| rank(module).is_none()).collect();
    assert!(unranked.is_empty(), "give these a rank here and in lib.rs: {unranked:?}");
}

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        if lines > LONGEST_LINES {
            long.push(format!(
                "{}: {lines} lines, at most {LONGEST_LINES}; split it by meaning",
                file.display()
            ));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    let allowed = MAY_BE_UNSAFE.map(|file| root().join(file));
    let found: Vec<PathBuf> = rust_files("src")
        .into_iter()
        .filter(|file| !allowed.contains(file))
        .filter(|file| {
            let code = code_only(&std::fs::read_to_string(file).unwrap());
            code.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe" || word == "unsafe_code")
        })
        .collect();
    assert!(found.is_empty(), "unsafe in {found:?}");
}

/// No time limit of PostgreSQL's ends a COPY that waits for rows: an instance that stands still within one would keep its locks, and
/// the lead of the log.
#[test]
fn nothing_goes_into_a_table_by_copy() {
    let files = rust_files("src").into_iter();
    let copying = files.filter(|file| std::fs::read_to_string(file).unwrap().contains(".copy_in("));
    assert_eq!(copying.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn every_folder_outside_src_says_what_it_is() {
    let mut silent = Vec::new();
    for entry in std::fs::read_dir(root()).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let name = name.to_str().unwrap();
        let is_output = ["src", "target", "node_modules"].contains(&name);
        let is_hidden = name.starts_with('.') && name != ".ci";
        if entry.path().is_dir() && !is_output && !is_hidden && !entry.path().join("README.md").is_file() {
            silent.push(name.to_owned());
        }
    }
    assert!(
        silent.is_empty(),
        "no README.md in {silent:?}: what is here, who reviews it, how to change it, why"
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let files = files_under(&root().join(folder));
    files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// `src/http/door.rs` and `src/http/door/mod.rs` are `["http", "door"]`; `src/lib.rs` is the root.
fn module_path(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut path: Vec<String> =
        relative.components().map(|part| part.as_os_str().to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|last| last == "mod" || last == "lib") {
        path.pop();
    }
    path
}

fn rank(module: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}
