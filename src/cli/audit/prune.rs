//! `strongroom audit prune`: old months leave the database, when the files have them.

use anyhow::{Context, Result, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::record::{AdministratorArgs, Recorder};
use super::verify::read;
use crate::audit::checkpoint::Trust;
use crate::cli::ConfigArgs;
use crate::cli::audit::public_keys;
use crate::cli::output::{self, DoesNotHold};
use crate::config::{self, Config};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::month::Month;
use crate::jobs::prune::{Examined, Pruner, Refusal, divide};
use crate::storage::{MonthFacts, Retention, StorageError, StoredMonth};

pub(super) const AFTER_HELP: &str = "\
A month may go when its last day is older than audit.retention.online_months, nobody holds it (`audit hold`), each of its \
entries has a number, and the exported log of [audit.export], read now and by the log's keys, has exactly these entries in whole \
bundles. It goes with an entry of its own (audit.prune), all of it or nothing; a month that stays keeps those after it, and the \
report says why and what to do. The service goes on meanwhile. `audit print`, `audit prove` and `audit verify` go on reading \
pruned months in the files. Broken off at any moment, run it again.

Codes: month_too_young, month_unknown, month_held, month_incomplete, month_changed, entries_unnumbered, not_exported, \
export_behind, export_distrusted, export_differs, database_differs, log_in_use.

Exit codes: 0 every month that is old enough has gone (or would go), or there was none; 1 it could not be found out or done; \
2 wrong usage; 3 a month stays, for the reason given.";

#[derive(Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    administrator: AdministratorArgs,
    /// The last month to drop; without it every month that is old enough
    #[arg(long, value_name = "YYYY-MM", value_parser = month)]
    through: Option<Month>,
    /// Look at everything and drop nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn month(text: &str) -> Result<Month, &'static str> {
    Month::parse(text).ok_or("give a month as YYYY-MM")
}

/// What became of a month.
struct Told {
    month: Month,
    facts: Option<MonthFacts>,
    stays: Option<Refusal>,
}

pub(super) async fn prune(args: PruneArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let database = args.administrator.database(&config);
    let mut retention = open(Retention::open(&database).await)?;
    if !retention.lock(&database).await? {
        return Err(anyhow!(
            "another `audit prune`, `audit expire` or `migrate` is under way: wait for its end"
        ));
    }
    let (months, next) = choose(&retention, &config, args.through).await?;
    let told = match months {
        Ok(months) if months.is_empty() => Vec::new(),
        Ok(months) => work(&config, retention, &months, args.dry_run).await?,
        Err(told) => vec![told],
    };
    if args.json {
        output::line(&as_json(&told, next, args.dry_run).to_string());
    } else {
        print(&told, next, args.dry_run);
    }
    if told.iter().any(|told| told.stays.is_some()) { Err(DoesNotHold.into()) } else { Ok(()) }
}

/// With a word about what the two usual mistakes look like.
pub(super) fn open(opened: Result<Retention, StorageError>) -> Result<Retention> {
    opened.map_err(|error| {
        let advice = match &error {
            StorageError::Refused { code } if code == "28P01" => "the password does not fit --administrator",
            StorageError::Refused { code } if code == "42501" => {
                "this role may not act for strongroom_owner: use the one that migrates"
            }
            _ => "cannot open the data database as the administrator",
        };
        anyhow::Error::new(error).context(advice)
    })
}

type Next = Option<(Month, jiff::civil::Date)>;

/// The months to drop, or the refusal of the one that was named; and the first that is not old enough.
async fn choose(
    retention: &Retention,
    config: &Config,
    through: Option<Month>,
) -> Result<(Result<Vec<StoredMonth>, Told>, Next)> {
    let today = retention.today(SystemClock.now()).await?;
    let all = retention.months().await.context("cannot find the log's months")?;
    let (mut old, next) = divide(&all, today, config.audit.retention.online_months);
    let Some(last) = through else { return Ok((Ok(old), next)) };
    let refused = |refusal| Told { month: last, facts: None, stays: Some(refusal) };
    old.retain(|stored| stored.month <= last);
    let is_there = all.iter().any(|stored| stored.month == last);
    let is_old = old.iter().any(|stored| stored.month == last);
    let chosen = match is_there {
        true if !is_old => {
            let from = last.next().later(config.audit.retention.online_months).first_day();
            Err(refused(Refusal::TooYoung { from }))
        }
        false if old.is_empty() => Err(refused(Refusal::Unknown)),
        _ => Ok(old),
    };
    Ok((chosen, next))
}

/// One month after the other, up to the first that stays.
async fn work(
    config: &Config,
    retention: Retention,
    months: &[StoredMonth],
    dry_run: bool,
) -> Result<Vec<Told>> {
    let mut pruner = Pruner::open(retention, &config.audit, trust(config).await?).await?;
    let recorder = if dry_run { None } else { Some(Recorder::start(config).await?) };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(
        "{msg} {wide_bar} {human_pos} of {human_len} entries, {per_sec:.0}, {eta} left",
    )?);
    let mut told = Vec::new();
    for stored in months {
        let month = stored.month;
        bar.set_message(month.to_string());
        let mut progress = |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        };
        let examined = pruner.examine(*stored, &mut progress);
        let (facts, stays) = match examined.await.with_context(|| format!("cannot look at {month}"))? {
            Examined::Stays(facts, refusal) => (facts, Some(refusal)),
            Examined::MayGo(record) => {
                let stays = match &recorder {
                    None => None,
                    Some(recorder) => pruner.drop_month(&record, &recorder.committer).await.with_context(|| {
                        format!("cannot drop {month}: it is there whole, or gone with its record; run this again")
                    })?,
                };
                (Some(record.facts), stays)
            }
        };
        let is_over = stays.is_some();
        told.push(Told { month, facts, stays });
        if is_over {
            break;
        }
    }
    bar.finish_and_clear();
    if let Some(recorder) = recorder {
        recorder.finish().await?;
    }
    Ok(told)
}

/// Whom to believe: the policy file, where there are witnesses, or the log's own keys.
pub(super) async fn trust(config: &Config) -> Result<Trust> {
    let bytes = match &config.audit.witness {
        Some(witness) => read(&witness.policy_file)?,
        None => public_keys(config).await?.into_bytes(),
    };
    Trust::parse(&bytes).context("the log's keys cannot be used")
}

fn print(told: &[Told], next: Next, dry_run: bool) {
    if !told.is_empty() {
        output::line(&format!("{:<8} {:>12} {:<25} {}", "MONTH", "ENTRIES", "NUMBERS", "WHAT"));
    }
    for Told { month, facts, stays } in told {
        let (entries, numbers) = match facts {
            Some(facts) if facts.numbered > 0 => {
                (facts.entries.to_string(), format!("{} to {}", facts.first, facts.end.saturating_sub(1)))
            }
            Some(facts) => (facts.entries.to_string(), String::from("-")),
            None => (String::from("-"), String::from("-")),
        };
        let what = match stays {
            Some(refusal) => format!("stays ({}): {refusal}; {}", refusal.code(), refusal.advice()),
            None if dry_run => String::from("would go: the files have all of it"),
            None => String::from("gone: the files have all of it"),
        };
        output::line(&format!("{month:<8} {entries:>12} {numbers:<25} {what}", month = month.to_string()));
    }
    match next {
        Some((month, from)) => output::line(&format!("{month} may go from {from} on")),
        None if told.is_empty() => output::line("the log has no months"),
        None => {}
    }
}

fn as_json(told: &[Told], next: Next, dry_run: bool) -> Value {
    let months: Vec<Value> = told
        .iter()
        .map(|Told { month, facts, stays }| {
            let state = match stays {
                Some(_) => "stays",
                None if dry_run => "may_go",
                None => "pruned",
            };
            json!({
                "month": month.to_string(),
                "state": state,
                "entries": facts.map(|facts| facts.entries),
                "first": facts.map(|facts| facts.first),
                "end": facts.map(|facts| facts.end),
                "code": stays.as_ref().map(Refusal::code),
                "why": stays.as_ref().map(ToString::to_string),
                "advice": stays.as_ref().map(Refusal::advice),
            })
        })
        .collect();
    let next = next.map(|(month, from)| json!({ "month": month.to_string(), "from": from.to_string() }));
    json!({ "months": months, "next": next })
}
