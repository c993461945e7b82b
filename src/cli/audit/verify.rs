//! `strongroom audit verify`: does a log hold, by its files and public keys alone.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::audit::checkpoint::Trust;
use crate::audit::verify::{Finding, Report, Verification};
use crate::cli::output::{self, DoesNotHold};
use crate::domain::clock::{Clock, SystemClock, Timestamp};

pub(super) const EXIT_CODES: &str =
    "Exit codes: 0 it holds, 1 it could not be verified, 2 wrong usage, 3 it does not hold.";

/// Whose signatures count.
#[derive(Args)]
pub(super) struct TrustArgs {
    /// The keys of the log and its witnesses, and the quorum: a C2SP tlog-policy file from a source you trust
    #[arg(long, value_name = "FILE")]
    pub keys: PathBuf,
    /// How many of these witnesses must have seen a checkpoint, besides the quorum
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub witnesses: usize,
}

impl TrustArgs {
    pub fn read(&self) -> Result<Trust> {
        let bytes = read(&self.keys)?;
        Trust::parse(&bytes).with_context(|| format!("cannot use {}", self.keys.display()))
    }
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The exported log
    #[arg(value_name = "DIR")]
    log: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// A checkpoint that was verified before: what it covers is not read again, and must not be less now
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<PathBuf>,
    /// For how many years entries are kept: older ones may be missing at the beginning of the log
    #[arg(long, value_name = "YEARS", default_value_t = 6)]
    kept_years: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn verify(args: &VerifyArgs) -> Result<()> {
    let trust = args.trust.read()?;
    let from = args.from.as_deref().map(read).transpose()?;
    let verification = Verification {
        log: &args.log,
        trust: &trust,
        witnesses: args.trust.witnesses,
        from: from.as_deref(),
        kept_from: SystemClock.now().years_ago(args.kept_years),
        threads: threads(),
    };
    let bar = progress_bar()?;
    let report = verification.run(&mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = report.context("the log could not be verified")?;
    if args.json {
        output::line(&serde_json::to_string(&as_json(&report))?);
    } else {
        output::line(&verdict(&report));
        report.findings.iter().for_each(|finding| output::line(&format!("  {finding}")));
        let more = report.findings_total.saturating_sub(u64::try_from(report.findings.len()).unwrap_or(0));
        if more > 0 {
            output::line(&format!("  and {more} more"));
        }
        report.notes.iter().for_each(|note| output::line(&format!("note: {note}")));
    }
    if report.holds() { Ok(()) } else { Err(DoesNotHold.into()) }
}

/// Draws nothing where standard error is no terminal.
pub(super) fn progress_bar() -> Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = "{wide_bar} {human_pos} of {human_len} entries, {per_sec:.0}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template)?);
    Ok(bar)
}

/// The whole of it in one line.
pub(crate) fn verdict(report: &Report) -> String {
    if let Some(first) = report.findings.first() {
        let (count, things) =
            (report.findings_total, if report.findings_total == 1 { "finding" } else { "findings" });
        return format!("does not hold: {count} {things}, the first: {first}");
    }
    let Report { entries, start, size, checkpoints, chains, chains_ended, origin, root, .. } = report;
    let from = if *start == 0 { String::new() } else { format!(" from {start} on") };
    format!(
        "holds: {entries} entries{from}, {chains} chains ({chains_ended} ended in order), {checkpoints} checkpoints; {origin} has {size} entries and \
         the root {root}, {}",
        seen(&report.witnesses)
    )
}

/// Who has seen a checkpoint, and when.
pub(super) fn seen(witnesses: &[(String, u64)]) -> String {
    if witnesses.is_empty() {
        return String::from("seen by no known witness");
    }
    let each: Vec<String> =
        witnesses.iter().map(|(name, time_s)| format!("{name} at {}", time(*time_s))).collect();
    format!("seen by {}", each.join(", "))
}

fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    Timestamp::from_micros(at).to_rfc3339()
}

fn as_json(report: &Report) -> Value {
    json!({
        "holds": report.holds(),
        "origin": report.origin,
        "size": report.size,
        "root": report.root.to_string(),
        "witnesses": witnesses_json(&report.witnesses),
        "start": report.start,
        "entries": report.entries,
        "checkpoints": report.checkpoints,
        "chains": report.chains,
        "chains_ended": report.chains_ended,
        "findings_total": report.findings_total,
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "notes": report.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

pub(super) fn witnesses_json(witnesses: &[(String, u64)]) -> Value {
    witnesses.iter().map(|(name, time_s)| json!({ "name": name, "time": time(*time_s) })).collect()
}

fn finding_json(finding: &Finding) -> Value {
    let mut value = json!({ "kind": finding.kind(), "text": finding.to_string() });
    if let (Some(members), Some(entries)) = (value.as_object_mut(), finding.entries()) {
        members.insert(String::from("first_entry"), json!(entries.start()));
        members.insert(String::from("last_entry"), json!(entries.end()));
    }
    if let (Some(members), Some(path)) = (value.as_object_mut(), finding.path()) {
        members.insert(String::from("path"), json!(path));
    }
    value
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
