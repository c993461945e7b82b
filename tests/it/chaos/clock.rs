//! The service's clock is set forward and back by minutes under load, as by somebody who corrects it: entries say what the clock
//! said, and none is lost, numbered twice, or in another place of its chain for that.
//!
//! The clock is stepped for the one process, below the C library's calls (`tests/interop/clock`); the database's own goes on as
//! it does, and time that is only counted (deadlines, sessions) as well, as on a host whose clock is set.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strongroom::domain::clock::Timestamp;

use super::load::Load;
use super::{plan, proof};
use crate::parts::Folder;
use crate::support::dice::Dice;
use crate::support::export::Exported;
use crate::support::{ServiceOptions, Strongroom};

/// In seconds. Certificates of the clients are good for an hour.
const STEPS: [i64; 4] = [30, 90, 400, 1_500];
const MOST_AHEAD: i64 = 2_400;

/// How far the service's clock is ahead of the machine's.
struct Ahead {
    folder: Folder,
    seconds: i64,
}

impl Ahead {
    fn new() -> Self {
        let ahead = Self { folder: Folder::new("clock"), seconds: 0 };
        std::fs::write(ahead.file(), 0_i64.to_ne_bytes()).unwrap();
        ahead
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    /// Steps the clock of whoever has the file open.
    fn step(&mut self, seconds: i64) {
        self.seconds += seconds;
        // In place: it is mapped into memory there.
        let file = std::fs::OpenOptions::new().write(true).open(self.file()).unwrap();
        let nanoseconds = self.seconds * 1_000_000_000;
        std::os::unix::fs::FileExt::write_all_at(&file, &nanoseconds.to_ne_bytes(), 0).unwrap();
    }

    /// The library that a process is started with.
    fn library(&self) -> PathBuf {
        let library = self.folder.path().join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/clock/clock.c");
        let mut compiler = Command::new("cc");
        let built =
            compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
        let built = built.output().expect("no cc: install build-essential");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    }
}

#[tokio::test]
async fn a_clock_that_is_set_loses_and_doubles_nothing() {
    let (rounds, seed) = plan();
    let mut dice = Dice(seed);
    let mut ahead = Ahead::new();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let settings = vec![
        ("LD_PRELOAD".to_owned(), text(ahead.library())),
        ("CLOCK_AHEAD_FILE".to_owned(), text(ahead.file())),
    ];
    let strongroom = Strongroom::start_with(ServiceOptions { settings, ..Default::default() }).await;
    let load = Load::start(&strongroom, seed).await;
    load.tally.goes_on("a first load").await;
    let (mut most, mut least) = (0, 0);
    for round in 1..=rounds.div_ceil(2) {
        let size = STEPS[dice.below(STEPS.len())];
        let is_back = ahead.seconds + size > MOST_AHEAD || (ahead.seconds >= size && dice.below(2) == 0);
        let step = if is_back { -size } else { size };
        let what = format!("seed {seed}, round {round}: {step} s");
        ahead.step(step);
        (most, least) = (most.max(step), least.min(step));
        load.tally.attempts(dice.below(40)).await;
        load.is_alive(&what);
        load.tally.goes_on(&what).await;
        strongroom.wait_until_ready().await;
        println!("{what}, {} s ahead", ahead.seconds);
    }
    // Back to the machine's time, whatever was drawn.
    let rest = -ahead.seconds;
    ahead.step(rest);
    least = least.min(rest);
    load.tally.goes_on("back in time").await;
    let mut told = load.end().await;
    proof::every_write_is_there(&strongroom, &mut told).await;
    proof::every_answer_is_on_record(&strongroom, &told).await;
    let data = strongroom.data().await;
    proof::chains_have_no_gap(&data).await;
    let exported = Exported::of(&strongroom).await;
    exported.has_everything(&strongroom).await;
    proof::every_entry_has_one_number(&data).await;
    exported.verify();
    let (forward, back) = jumps(&data).await;
    assert!(least < 0 && most > 0, "seed {seed} steps one way only");
    // From one entry to the next time goes on as well.
    assert!(forward >= most - 1 && back <= least + 10, "entries have the clock's time: {forward} {back}");
}

/// The largest step forward and back, in seconds, from one entry of a chain to the next.
async fn jumps(data: &tokio_postgres::Client) -> (i64, i64) {
    let rows = data.query("SELECT src::text, entry FROM audit_entry ORDER BY src, seq", &[]).await.unwrap();
    let times = rows.iter().map(|row| {
        let entry: Value = serde_json::from_slice(row.get(1)).unwrap();
        let at = Timestamp::parse_rfc3339(entry["ts"].as_str().unwrap()).unwrap();
        (row.get::<_, String>(0), at.as_seconds())
    });
    let times: Vec<(String, i64)> = times.collect();
    let jumps = times.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1 - pair[0].1);
    jumps.fold((0, 0), |(most, least), jump| (most.max(jump), least.min(jump)))
}
