//! `strongroom audit`: the log on the operator's terminal, where looking is itself an entry, and on the auditor's, from
//! files alone.

mod certificate;
mod expire;
mod hold;
mod keys;
mod print;
mod prove;
mod prune;
mod record;
mod verify;

pub(crate) use keys::public_keys;
pub(crate) use verify::verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use self::record::Recorder;
use super::{ConfigArgs, output};
use crate::audit::{Act, AuditQuery, EntryDraft, Filter, Order, Outcome, PageSize, Scope};
use crate::config::{self, Config};
use crate::domain::id::SubjectId;
use crate::storage::{AuditReader, Database};

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the newest entries, oldest of them first
    Tail(TailArgs),
    /// Print the log's public keys, as the file that verifiers read (C2SP tlog-policy)
    Keys(ConfigArgs),
    /// Verify an exported log with its files and public keys alone
    #[command(after_help = verify::EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// Drop months from the database that are old enough, when the exported log has every entry of them
    #[command(after_help = prune::AFTER_HELP)]
    Prune(prune::PruneArgs),
    /// Remove entries from the exported files that have been kept long enough
    #[command(after_help = expire::AFTER_HELP)]
    Expire(expire::ExpireArgs),
    /// Keep months of the log from being pruned, and their entries in the files, for a legal case
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Print an exported log as a table, JSON lines, FHIR or OCSF, each entry with its number in the log
    Print(print::PrintArgs),
    /// Write the proof that one entry is in an exported log (C2SP tlog-proof), and the entry
    Prove(prove::ProveArgs),
    /// Check such a proof against the entry and public keys
    #[command(after_help = verify::EXIT_CODES)]
    Check(prove::CheckArgs),
    /// Check a certificate of erasure against public keys
    #[command(after_help = verify::EXIT_CODES)]
    Certificate(certificate::CertificateArgs),
}

#[derive(Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How many entries, 1 to 500
    #[arg(long, short = 'n', default_value_t = 20)]
    lines: u16,
    /// Keep printing entries as they are committed, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only this act, for example record.read
    #[arg(long)]
    act: Option<String>,
    /// Only entries about this subject
    #[arg(long)]
    subject: Option<String>,
    /// Print the entries as they are stored, one JSON text a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: AuditCommand) -> Result<()> {
    match command {
        AuditCommand::Tail(args) => tail(args).await,
        AuditCommand::Keys(args) => keys::print(&args).await,
        AuditCommand::Verify(args) => verify::verify(&args),
        AuditCommand::Prune(args) => prune::prune(args).await,
        AuditCommand::Expire(args) => expire::expire(args).await,
        AuditCommand::Hold(command) => hold::run(command).await,
        AuditCommand::Print(args) => print::print(args),
        AuditCommand::Prove(args) => prove::prove_entry(&args),
        AuditCommand::Check(args) => prove::check(&args),
        AuditCommand::Certificate(args) => certificate::check(&args),
    }
}

/// Of ten thousand entries each that are looked at: some seconds of looking for what is not there.
const MOST_PAGES: u32 = 200;

async fn tail(args: TailArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let mut query = query(&args)?;
    let reader = AuditReader::new(Database::open_for_searches(&config.database.audit_export)?);
    let mut position = reader.position().await.context("cannot read the audit log")?;
    let mut entries = Vec::new();
    // A page that asks for several things at once may be short, and the next one have what is wanted.
    for pages in 1.. {
        let page = reader.page(&query).await.context("cannot read the audit log")?;
        entries.extend(page.entries);
        query.after = page.next.filter(|_| entries.len() < usize::from(args.lines));
        if query.after.is_none() {
            break;
        }
        if pages == MOST_PAGES {
            output::note("looked back through two million entries; there may be more: ask for less at once");
            break;
        }
    }
    entries.truncate(args.lines.into());
    note_reading(&config, entries.len()).await?;
    if !args.json {
        output::line(&heading());
    }
    for entry in entries.iter().rev() {
        print(entry, args.json);
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        let (entries, next) =
            reader.since(Scope::Everything, &position).await.context("cannot read the audit log")?;
        position = next;
        for entry in entries.iter().filter(|entry| matches(&args, entry)) {
            print(entry, args.json);
        }
    }
}

fn query(args: &TailArgs) -> Result<AuditQuery> {
    let Some(size) = PageSize::new(args.lines) else { bail!("--lines takes 1 to 500") };
    let filter = Filter {
        act: match &args.act {
            Some(word) => Some(Act::parse(word).context("--act is not an act of audit/events.toml")?),
            None => None,
        },
        subject: match &args.subject {
            Some(id) => Some(SubjectId::parse(id).context("--subject takes a UUID")?),
            None => None,
        },
        ..Filter::default()
    };
    Ok(AuditQuery { filter, size, order: Order::NewestFirst, ..AuditQuery::new(Scope::Everything) })
}

/// One entry for the whole reading, before anything is printed.
async fn note_reading(config: &Config, entries: usize) -> Result<()> {
    let recorder = Recorder::start(config).await.context("nothing is shown")?;
    let draft = EntryDraft::of_service(Act::AuditRead, Outcome::SUCCESS)
        .count(u32::try_from(entries).unwrap_or(u32::MAX));
    let _receipt = recorder
        .committer
        .submit(vec![draft])
        .await
        .context("the log cannot record this reading, so nothing is shown")?;
    recorder.finish().await
}

fn heading() -> String {
    format!(
        "{:<27} {:<22} {:<8} {:<16} {:<8} {:<52} {}",
        "TIME (UTC)", "ACT", "OUTCOME", "WHO", "PURPOSE", "WHAT", "FIELDS"
    )
}

fn print(entry: &[u8], json: bool) {
    if json {
        output::line(&String::from_utf8_lossy(entry));
    } else if let Ok(value) = serde_json::from_slice::<Value>(entry) {
        output::line(&row(&value));
    }
}

/// One line of the table.
pub(crate) fn row(entry: &Value) -> String {
    let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
    let list = |pointer: &str| match entry.pointer(pointer).and_then(Value::as_array) {
        Some(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        None => String::new(),
    };
    let what = match (text("/obj/0/collection"), text("/obj/0/record")) {
        ("-", _) => String::from("-"),
        (collection, "-") => collection.to_owned(),
        (collection, record) => format!("{collection}/{record}"),
    };
    let fields: BTreeMap<&str, String> = [("", list("/obj/0/fields")), ("masked:", list("/obj/0/masked"))]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .collect();
    let fields = fields.iter().map(|(kind, names)| format!("{kind}{names}")).collect::<Vec<_>>().join(" ");
    let outcome = match entry.pointer("/out/code").and_then(Value::as_str) {
        Some(code) => format!("{} ({code})", text("/out/status")),
        None => text("/out/status").to_owned(),
    };
    format!(
        "{:<27} {:<22} {:<8} {:<16} {:<8} {:<52} {}",
        text("/ts"),
        text("/act"),
        outcome,
        text("/who/uid"),
        text("/purpose"),
        what,
        fields
    )
}

fn matches(args: &TailArgs, entry: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(entry) else { return true };
    let is = |name: &str, wanted: &Option<String>| {
        wanted.as_deref().is_none_or(|wanted| value.get(name).and_then(Value::as_str) == Some(wanted))
    };
    is("act", &args.act) && is("subj", &args.subject)
}
