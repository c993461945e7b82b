//! `strongroom audit hold`: months of the log that stay in the database, whatever their age.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::prune::{month, open};
use super::record::{AdministratorArgs, Recorder};
use crate::audit::{Act, EntryDraft, HoldObject, Outcome};
use crate::cli::{ConfigArgs, output};
use crate::config;
use crate::domain::break_glass::Reference;
use crate::domain::clock::SystemClock;
use crate::domain::id::uuid_v7;
use crate::domain::month::Month;
use crate::domain::random::SystemRandom;
use crate::storage::{Hold, Retention, StorageError};

#[derive(Subcommand)]
pub(crate) enum HoldCommand {
    /// Place a hold: from now on `audit prune` leaves these months, and those after them, where they are
    Add(AddArgs),
    /// Release a hold; it stays on record
    Release(ReleaseArgs),
    /// List every hold there ever was
    List(ListArgs),
}

#[derive(Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    administrator: AdministratorArgs,
    /// The first month
    #[arg(long, value_name = "YYYY-MM", value_parser = month)]
    from: Month,
    /// The last month; without it the hold has no end
    #[arg(long, value_name = "YYYY-MM", value_parser = month)]
    until: Option<Month>,
    /// The number of the case: 1 to 64 letters, digits and . _ / -, since it stands in the log; no names, no prose
    #[arg(long, value_parser = reason)]
    reason: Reference,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    administrator: AdministratorArgs,
    /// The hold, as `add` and `list` print it
    #[arg(value_name = "HOLD_ID")]
    hold: Uuid,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    administrator: AdministratorArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn reason(text: &str) -> Result<Reference, &'static str> {
    Reference::parse(text.to_owned()).ok_or("give 1 to 64 letters, digits and . _ / -")
}

pub(super) async fn run(command: HoldCommand) -> Result<()> {
    match command {
        HoldCommand::Add(args) => add(args).await,
        HoldCommand::Release(args) => release(args).await,
        HoldCommand::List(args) => list(args).await,
    }
}

async fn add(args: AddArgs) -> Result<()> {
    let AddArgs { config, administrator, from, until, reason, json } = args;
    if until.is_some_and(|until| until < from) {
        bail!("--until is before --from");
    }
    let config = config::load(&config.config)?;
    let mut retention = open(Retention::open(&administrator.database(&config)).await)?;
    let recorder = Recorder::start(&config).await?;
    let id = uuid_v7(&SystemClock, &SystemRandom::default())?;
    let object =
        HoldObject { id, by: Arc::from(retention.administrator()), from, until, reason: reason.clone() };
    let draft = EntryDraft::of_service(Act::AuditHold, Outcome::SUCCESS).hold(object);
    let entry = recorder.committer.outbox_entry(&draft)?;
    let placed = entry
        .commit_with(async |outbox| retention.place_hold(id, (from, until), &reason, outbox).await)
        .await;
    let ((), _receipt) = placed.context("the hold could not be placed")?;
    recorder.finish().await?;
    tell(&retention, id, "placed", json).await
}

async fn release(args: ReleaseArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let mut retention = open(Retention::open(&args.administrator.database(&config)).await)?;
    let Some(hold) = find(&retention, args.hold).await? else { bail!("there is no such hold") };
    if hold.released.is_some() {
        bail!("the hold was released before");
    }
    let recorder = Recorder::start(&config).await?;
    let by = Arc::from(retention.administrator());
    let object = HoldObject { id: hold.id, by, from: hold.from, until: hold.until, reason: hold.reason };
    let draft = EntryDraft::of_service(Act::AuditRelease, Outcome::SUCCESS).hold(object);
    let entry = recorder.committer.outbox_entry(&draft)?;
    let released = entry.commit_with(async |outbox| retention.release_hold(hold.id, outbox).await).await;
    let ((), _receipt) = released.context("the hold could not be released")?;
    recorder.finish().await?;
    tell(&retention, hold.id, "released", args.json).await
}

async fn list(args: ListArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let retention = open(Retention::open(&args.administrator.database(&config)).await)?;
    let holds = retention.holds().await?;
    if args.json {
        let all: Value = holds.iter().map(as_json).collect();
        output::line(&all.to_string());
        return Ok(());
    }
    if holds.is_empty() {
        output::line("no month was ever held");
        return Ok(());
    }
    output::line(&format!("{:<36} {:<18} {:<20} {}", "HOLD", "MONTHS", "REASON", "WHO AND WHEN"));
    for hold in &holds {
        let months = match hold.until {
            Some(until) => format!("{} to {until}", hold.from),
            None => format!("{} on", hold.from),
        };
        let released = match &hold.released {
            Some((at, by)) => format!(", released by {by} {}", at.to_rfc3339()),
            None => String::new(),
        };
        let placed = format!("{} {}{released}", hold.placed_by, hold.placed_at.to_rfc3339());
        output::line(&format!("{:<36} {months:<18} {:<20} {placed}", hold.id, hold.reason.as_str()));
    }
    Ok(())
}

async fn find(retention: &Retention, id: Uuid) -> Result<Option<Hold>, StorageError> {
    Ok(retention.holds().await?.into_iter().find(|hold| hold.id == id))
}

/// As it is stored now.
async fn tell(retention: &Retention, id: Uuid, what: &str, json: bool) -> Result<()> {
    let hold = find(retention, id).await?.context("the hold is not there")?;
    if json {
        output::line(&as_json(&hold).to_string());
    } else {
        output::line(&format!("{what} {id}"));
    }
    Ok(())
}

fn as_json(hold: &Hold) -> Value {
    json!({
        "hold": hold.id,
        "from": hold.from.to_string(),
        "until": hold.until.map(|until| until.to_string()),
        "reason": hold.reason.as_str(),
        "placed_at": hold.placed_at.to_rfc3339(),
        "placed_by": hold.placed_by,
        "released_at": hold.released.as_ref().map(|(at, _)| at.to_rfc3339()),
        "released_by": hold.released.as_ref().map(|(_, by)| by),
    })
}
