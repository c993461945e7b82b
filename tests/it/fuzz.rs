//! Each fuzz target for a moment: its seeds, and mutations of them from a fixed start, so that a failure comes back.
//! `fuzz/README.md` says how to run them for longer.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

use bodies::TARGETS;

use crate::support::dice::Dice;

/// Enough to find what is easily found; the rest is libFuzzer's.
const MUTATIONS: u64 = 20_000;
/// A slow parser gets fewer.
const MOMENT: Duration = Duration::from_millis(1_500);

/// What mutations put in: what parsers look for.
const WORDS: [&[u8]; 16] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"1e400",
    b"-0",
    b"\\ud800",
    b"\0",
    b"\xff",
    b"\x80",
    b"\x00\x00\x00\xff",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = folder("seeds").join(target);
    names_in(&directory).into_iter().map(|name| fs::read(directory.join(name)).unwrap()).collect()
}

fn mutate(input: &mut Vec<u8>, all: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(input.len() + 1);
    let byte = u8::try_from(dice.below(256)).unwrap();
    match dice.below(7) {
        0 if at < input.len() => input[at] = byte,
        1 if at < input.len() => input[at] ^= 1 << (byte % 8),
        2 => input.insert(at, byte),
        3 if at < input.len() => drop(input.remove(at)),
        4 => input.truncate(at),
        5 => drop(input.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
        _ => {
            let other = &all[dice.below(all.len())];
            let from = dice.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
fn every_target_stands_its_seeds_and_mutations_of_them() {
    for (number, (name, body)) in TARGETS.iter().enumerate() {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seed");
        let run = |input: &[u8]| {
            let held = catch_unwind(AssertUnwindSafe(|| body(input)));
            assert!(held.is_ok(), "{name} does not stand this input: {input:02x?}");
        };
        for seed in &seeds {
            run(seed);
        }
        let mut dice = Dice(u64::try_from(number).unwrap());
        let started = Instant::now();
        let mut input = Vec::new();
        for round in 0..MUTATIONS {
            if round % 8 == 0 {
                input.clone_from(&seeds[dice.below(seeds.len())]);
            }
            mutate(&mut input, &seeds, &mut dice);
            run(&input);
            if started.elapsed() > MOMENT {
                break;
            }
        }
    }
}

/// A target that is not run under libFuzzer, or a seed of no target, would go unnoticed.
#[test]
fn targets_files_and_seeds_belong_together() {
    let mut names: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(names_in(&folder("seeds")), names);
    let files: Vec<String> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in(&folder("fuzz_targets")), files);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        let file = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(file.contains(&format!("== \"{name}\"")), "{name}.rs calls another target");
    }
}
