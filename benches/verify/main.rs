//! `cargo bench --bench verify`: how many entries a second the offline verifier gets through, on one core and on all.
//!
//! The log is made by the real encoder and the real writer, in a folder of its own that is removed; its files are in the
//! page cache, as they are for an auditor who has just copied them.

#[path = "../../tests/it/support/log.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the tests' own support, where a fault ends the run"
)]
mod log;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use strongroom::audit::checkpoint::Trust;
use strongroom::audit::verify::Verification;
use strongroom::domain::clock::Timestamp;

use crate::log::{LogKeys, log_entries, write_log};

/// What DESIGN asks of a core.
const TARGET_PER_S: f64 = 300_000.0;
const ENTRIES: usize = 500_000;
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this as well, without the option.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("verify: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let folder = Folder(std::env::temp_dir().join(format!("strongroom-bench-{}", std::process::id())));
    let keys = LogKeys::new(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let entries = runtime.block_on(log_entries(ENTRIES));
    let bytes: usize = entries.iter().map(Vec::len).sum();
    write_log(&folder.0, &entries, &[ENTRIES / 3, ENTRIES], &keys);
    say(&format!("{ENTRIES} entries of {} bytes", bytes / ENTRIES));
    let cores = std::thread::available_parallelism()?.get();
    for threads in [1, cores] {
        let fastest = rounds(&folder.0, &keys, threads)?;
        let (per_s, mib) = (per_second(ENTRIES, fastest), per_second(bytes, fastest) / f64::from(1 << 20));
        let target = TARGET_PER_S * f64::from(u32::try_from(threads)?);
        say(&format!(
            "{threads} threads: {per_s:.0} entries/s, {mib:.0} MiB/s, {:.2} of the target",
            per_s / target
        ));
    }
    Ok(())
}

/// The fastest of some rounds: what the machine does when nothing else runs.
fn rounds(log: &Path, keys: &LogKeys, threads: usize) -> Result<Duration> {
    let trust = Trust::parse(keys.policy().as_bytes())?;
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let verification = Verification {
            log,
            trust: &trust,
            witnesses: 1,
            from: None,
            kept_from: Timestamp::from_micros(0),
            threads,
        };
        let started = Instant::now();
        let report = verification.run(&mut |_, _| {})?;
        fastest = fastest.min(started.elapsed());
        ensure!(report.holds() && report.entries == u64::try_from(ENTRIES)?, "the log does not hold");
    }
    Ok(fastest)
}

fn per_second(count: usize, time: Duration) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from) / time.as_secs_f64()
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
