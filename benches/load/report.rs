//! What is printed: lines while it runs, a table or JSON at the end.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::series::{Comparison, Figures, Sample};

/// Everything a run found, and under what conditions.
#[derive(Serialize)]
pub struct Report {
    pub date: String,
    pub conditions: Conditions,
    pub comparisons: Vec<Comparison>,
}

#[derive(Serialize)]
pub struct Conditions {
    pub build: &'static str,
    pub processors: usize,
    pub postgres: String,
    pub fsync: String,
    pub synchronous_commit: String,
    pub protocol: &'static str,
    pub records: usize,
    pub stored_row_bytes: usize,
    pub answer_bytes: usize,
    pub entry_bytes: usize,
    pub pool_connections: usize,
    pub rounds: usize,
    pub round_seconds: f64,
    /// Both sides are the bare server: every ratio should be 1.
    pub calibration: bool,
    /// From connecting to loading and reading back all records through the API.
    pub loaded_per_second: f64,
}

/// Writes a line to standard output. A closed pipe ends the output quietly.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line to standard error, where progress goes.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Above this share of the machine for others, a round says little.
pub const DISTURBED_PERCENT: f64 = 15.0;

/// A round of both servers, as it ends.
pub fn round(scenario: &str, connections: usize, number: usize, bare: &Sample, strongroom: &Sample) {
    let others = bare.others_percent.max(strongroom.others_percent);
    note(&format!(
        "  {scenario:<9} {connections:>3} connections, round {number}: bare {:>7.0}/s, strongroom {:>7.0}/s, ratio {:.2}{}",
        bare.per_second,
        strongroom.per_second,
        crate::series::ratio(strongroom.per_second, bare.per_second),
        if others > DISTURBED_PERCENT { format!(" (others took {others:.0} %)") } else { String::new() },
    ));
}

impl Report {
    pub fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            line(&serde_json::to_string_pretty(self)?);
        } else {
            line(&self.table());
        }
        Ok(())
    }

    fn table(&self) -> String {
        let c = &self.conditions;
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "\n{}: {} build, {} processors, {}, fsync {}, synchronous_commit {}, {}",
            self.date, c.build, c.processors, c.postgres, c.fsync, c.synchronous_commit, c.protocol
        );
        let _ = writeln!(
            out,
            "{} records (stored row {} bytes, answer {} bytes, audit entry {} bytes), pool of {}, {} rounds of {} s in turn{}",
            c.records,
            c.stored_row_bytes,
            c.answer_bytes,
            c.entry_bytes,
            c.pool_connections,
            c.rounds,
            c.round_seconds,
            if c.calibration { "; calibration, bare against bare" } else { "" }
        );
        let _ = writeln!(out, "loaded {:.0} records/s over the API", c.loaded_per_second);
        let _ = writeln!(
            out,
            "\n{:<9} {:>4} {:<10} {:>9} {:>8} {:>8} {:>8} {:>7} {:>9} {:>5} {:>6} {:>6}  ratio (rounds)",
            "",
            "conn",
            "",
            "req/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "cpu µs",
            "pg cpu µs",
            "load",
            "others",
            "MiB"
        );
        for comparison in &self.comparisons {
            rows(&mut out, comparison);
        }
        let _ = write!(
            out,
            "\ncpu µs: processor time a request of the server; pg: of all PostgreSQL processes; load: of the generator;\nothers: share of the machine that went to anything else (above 15 %: disturbed);\nentries: of 500 a request, counted one by one but for the latency, beside one INSERT a request of the same bytes"
        );
        out
    }
}

/// The servers of one comparison, each in a line.
fn rows(out: &mut String, row: &Comparison) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:<9} {:>4} {}", row.scenario, row.connections, figures("bare", &row.bare));
    let _ = writeln!(
        out,
        "{:<9} {:>4} {}  {:.2} ({:.2}–{:.2})",
        "",
        "",
        figures("strongroom", &row.strongroom),
        row.ratio,
        row.ratio_lowest,
        row.ratio_highest
    );
    if let Some(after) = row.numbered_after_ms {
        let _ = writeln!(out, "{:<26}every entry had its number {after:.0} ms after the last answer", "");
    }
    if let (Some(openbao), Some(over)) = (&row.openbao, row.over_openbao) {
        let _ =
            writeln!(out, "{:<9} {:>4} {}  strongroom is {over:.2} ×", "", "", figures("openbao", openbao));
    }
}

fn figures(name: &str, f: &Figures) -> String {
    format!(
        "{name:<10} {:>9.0} {:>8.2} {:>8.2} {:>8.2} {:>7.0} {:>9.0} {:>5.0} {:>5.0}% {:>6.0}",
        f.per_second,
        f.p50_ms,
        f.p99_ms,
        f.p999_ms,
        f.server_cpu_us,
        f.postgres_cpu_us,
        f.generator_cpu_us,
        f.others_percent,
        f.resident_mib
    )
}
