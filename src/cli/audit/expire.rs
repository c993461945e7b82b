//! `strongroom audit expire`: what the exported files have kept for long enough is removed from them.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;

use super::prune::{open, trust};
use super::record::{AdministratorArgs, Recorder};
use super::verify::{progress_bar, threads, verdict};
use crate::audit::verify::{Expiry, Report, Verification};
use crate::audit::{Act, EntryDraft, ExpiredObject, Outcome};
use crate::cli::ConfigArgs;
use crate::cli::output::{self, DoesNotHold};
use crate::config::{self, Config};
use crate::domain::clock::{Clock, SystemClock, Timestamp};
use crate::domain::id::SubjectId;
use crate::domain::month::Month;
use crate::storage::{Hold, Retention};

pub(super) const AFTER_HELP: &str = "\
For the directory of [audit.export]; in a bucket files end with their locks (audit/README.md). First all files are verified, as \
`audit verify` does. Then whole bundles of 256 entries go, from the first on, as far as each entry is older than \
audit.retention.file_years, is in no month that somebody holds (`audit hold`), is about nobody of whom something is held (a legal \
hold), and has left the database (`audit prune`); the last such bundle stays, so that whoever verifies the log sees that what is \
gone was old enough. Tiles go with the entries that they are the hashes of, as the C2SP specification has it, and every \
checkpoint stays. An entry of the log (audit.expire) says so before the first file goes. Broken off at any moment, the log holds; \
run it again.

Exit codes: 0 what was old enough has gone (or would go), or there was nothing; 1 it could not be found out or done; 2 wrong usage; \
3 the files do not hold, and nothing was removed.";

#[derive(Args)]
pub(crate) struct ExpireArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    administrator: AdministratorArgs,
    /// Look at everything and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn expire(args: ExpireArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let directory = config.audit.export.as_ref().and_then(|export| export.directory());
    let directory =
        directory.context("[audit.export] names no directory: in a bucket files end with their locks")?;
    let database = args.administrator.database(&config);
    let mut retention = open(Retention::open(&database).await)?;
    if !retention.lock(&database).await? {
        bail!("`audit prune`, `audit expire` or `migrate` is under way: wait for its end");
    }
    let today = Timestamp::of_day(retention.today(SystemClock.now()).await?);
    let kept_from = today.years_ago(config.audit.retention.file_years);
    let report = verify(&config, directory, kept_from).await?;
    if !report.holds() {
        output::line(&verdict(&report));
        return Err(DoesNotHold.into());
    }
    let below = retention.boundary().await?.min(report.size);
    let (holds, people) = (retention.holds().await?, retention.held_people().await?);
    let may_go = |at: Timestamp, entry: &[u8]| {
        at < kept_from && !is_held(&holds, at) && (people.is_empty() || !is_about(&people, entry))
    };
    let expiry = Expiry::find(directory, below, &may_go).context("the exported log cannot be read")?;
    if !args.dry_run && expiry.files() > 0 {
        remove(&config, &retention, &expiry, directory, &report).await?;
    }
    if args.json {
        let state = if args.dry_run { "may_go" } else { "expired" };
        let minimum_index = expiry.minimum_index();
        let told = json!({
            "state": state,
            "kept_from": kept_from.to_rfc3339(),
            "first": expiry.first(),
            "minimum_index": minimum_index,
            "entries": minimum_index.saturating_sub(expiry.first()),
            "files": expiry.files(),
        });
        output::line(&told.to_string());
    } else {
        output::line(&told(&expiry, kept_from, args.dry_run));
    }
    Ok(())
}

fn is_held(holds: &[Hold], at: Timestamp) -> bool {
    let month = Month::at(at);
    holds.iter().any(|hold| month.is_none_or(|month| hold.covers(month)))
}

/// Of a person of whom something is held; what does not read might be.
fn is_about(people: &HashSet<SubjectId>, entry: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct About<'a> {
        subj: Option<&'a str>,
    }
    serde_json::from_slice::<About<'_>>(entry).map_or(true, |About { subj }| {
        subj.is_some_and(|subject| SubjectId::parse(subject).is_none_or(|id| people.contains(&id)))
    })
}

async fn verify(config: &Config, directory: &Path, kept_from: Timestamp) -> Result<Report> {
    let (trust, log) = (trust(config).await?, directory.to_owned());
    let work = move || {
        let verification = Verification {
            log: &log,
            trust: &trust,
            witnesses: 0,
            from: None,
            kept_from,
            threads: threads(),
        };
        let bar = progress_bar()?;
        let report = verification.run(&mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        report.context("the log could not be verified")
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| anyhow!("the reader of files has ended"))?
}

/// On record before the first file goes.
async fn remove(
    config: &Config,
    retention: &Retention,
    expiry: &Expiry,
    directory: &Path,
    report: &Report,
) -> Result<()> {
    let object = ExpiredObject {
        by: retention.administrator().into(),
        first: expiry.first(),
        end: expiry.minimum_index(),
        checkpoint_size: report.size,
        checkpoint_root: *report.root.as_bytes(),
    };
    let recorder = Recorder::start(config).await?;
    let draft = EntryDraft::of_service(Act::AuditExpire, Outcome::SUCCESS).expired(object);
    let submitted = recorder.committer.submit(vec![draft]).await;
    let _receipt = submitted.context("the log cannot record it, so nothing is removed")?;
    recorder.finish().await?;
    let bar = ProgressBar::with_draw_target(u64::try_from(expiry.files()).ok(), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} files, {eta} left")?);
    let removed = expiry.remove(directory, &mut |done| bar.set_position(u64::try_from(done).unwrap_or(0)));
    bar.finish_and_clear();
    removed.context("the log holds as it is now; run this again when files can be removed")
}

fn told(expiry: &Expiry, kept_from: Timestamp, dry_run: bool) -> String {
    let (first, minimum) = (expiry.first(), expiry.minimum_index());
    let day = kept_from.to_rfc3339();
    let day = day.split_once('T').map_or(day.as_str(), |(day, _)| day);
    match (minimum.checked_sub(first).filter(|count| *count > 0), expiry.files()) {
        (None, 0) => format!("nothing goes: no whole bundle before the last of those from before {day} may"),
        (None, files) => format!(
            "{files} files that an earlier run had left {}",
            if dry_run { "would go" } else { "are gone" }
        ),
        (Some(count), files) => format!(
            "{count} entries from before {day} {}: numbers {first} to {}, {files} files; the log begins at {minimum}",
            if dry_run { "would go" } else { "are gone" },
            minimum.saturating_sub(1)
        ),
    }
}
