//! `strongroom demo`: the main job on real parts, told as it happens, with every claim checked on the spot. Exit code 1
//! when something is not as it should be. Leaves nothing running and, unless told to keep it, nothing on disk.
//!
//! | file | holds |
//! |---|---|
//! | `fhir` | the FHIR R4 sample as records |
//! | `load`, `reads`, `refusals` | the chapters that talk to the service |
//! | `stored`, `trail`, `files`, `search` | what is in PostgreSQL · in the audit log · in the log as files · in any file |
//! | `tale`, `wire` | the transcript · one TLS connection held by hand |

mod fhir;
mod files;
mod load;
mod reads;
mod refusals;
mod search;
mod stored;
mod tale;
mod trail;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use self::fhir::Sample;
use self::load::{Loaded, Stored};
use self::search::{Findings, Needles};
use self::tale::Tale;
use super::local::{Local, build_site, find_in_project};
use super::output;
use crate::devstack::{self, Stack, StackOptions, choose_directory, told_to_end};
use crate::keys::bootstrap::StepOutcome;
use crate::policy::PolicySet;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Keep data, keys and logs at the end
    #[arg(long)]
    keep: bool,
    /// Where to put them; new or empty [default: a new folder among the temporary files]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The policy directory [default: policy in Strongroom's folder]
    #[arg(long)]
    policy: Option<PathBuf>,
    /// FHIR R4, one resource a line [default: the sample in examples/fhir]
    #[arg(long)]
    sample: Option<PathBuf>,
}

pub(super) async fn demo(args: DemoArgs) -> Result<()> {
    let end = told_to_end()?;
    let directory = choose_directory(args.directory.as_deref(), true, "demo")?;
    let mut tale = Tale::begin();
    let outcome = tokio::select! {
        told = tell(&mut tale, &args, &directory) => told,
        // Dropping the tale's parts ends them.
        () = end => Err(anyhow!("interrupted; everything is stopped")),
    };
    if args.keep {
        output::note(&format!("kept: {}", directory.display()));
    } else {
        devstack::remove(&directory)?;
    }
    let summary = outcome?;
    if !args.keep {
        tale.check(!directory.exists(), "nothing is left on disk")?;
    }
    summary.print(&tale);
    Ok(())
}

async fn tell(tale: &mut Tale, args: &DemoArgs, directory: &Path) -> Result<Summary> {
    let policy = find_in_project(args.policy.as_deref(), "policy")?;
    let sample_file = find_in_project(args.sample.as_deref(), "examples/fhir/fhir-r4-sample.ndjson")?;
    let sample = std::fs::read_to_string(&sample_file).context("cannot read the sample")?;
    let sample = Sample::parse(&sample).context("the sample is not usable")?;

    let mut local = start(tale, directory, policy).await?;
    let told = tell_of_records(tale, &local, &sample).await;
    for trouble in local.log.new_troubles() {
        tale.say(&format!("the service warned: {trouble}"));
    }
    let (loaded, entries, findings) = told?;

    tale.chapter("The end");
    tale.check(local.log.errors() == 0, "the service logged no error")?;
    let processes = processes(&local).await;
    let (ended_well, stack) = local.stop().await;
    tale.check(ended_well, "the service drained and ended when it was told to")?;
    stack.stop().await;
    tale.check(!processes.iter().any(|id| runs(*id)), "nothing is left running")?;
    Ok(Summary { loaded, left_out: sample.left_out, entries, findings })
}

async fn start(tale: &mut Tale, directory: &Path, policy: PathBuf) -> Result<Local> {
    tale.chapter("Real parts: two PostgreSQL clusters and a Vault API, on loopback");
    let mut options = StackOptions::new(directory);
    options.progress = Arc::new(|text: &str| output::line(&format!("   {text}")));
    let stack = Stack::start(options).await?;
    tale.say(&format!(
        "data   postgresql://127.0.0.1:{}  {}",
        stack.data.port(),
        stack.data.data_directory().display()
    ));
    tale.say(&format!(
        "keys   postgresql://127.0.0.1:{}  {}",
        stack.keys.port(),
        stack.keys.data_directory().display()
    ));
    tale.say(&format!("vault  {}", stack.vault.address()));

    tale.chapter("Setting up: bootstrap, migrate, certificates");
    let site = build_site(&stack, policy, |_| {}).await?;
    for outcome in [StepOutcome::Done, StepOutcome::AlreadyThere] {
        let steps: Vec<&str> =
            site.steps.iter().filter(|step| step.outcome == outcome).map(|step| step.what.as_str()).collect();
        if !steps.is_empty() {
            let word = super::bootstrap::word(outcome);
            wrap(tale, &format!("Vault, {} steps {word}: {}", steps.len(), steps.join(", ")));
        }
    }
    for (database, applied) in &site.migrations {
        tale.say(&format!("migrations of {database}: {}", applied.join(", ")));
    }

    tale.chapter("The service: `strongroom serve`, TLS 1.3 with a client certificate or nothing");
    let local = Local::open(stack, site).await?;
    tale.say(&format!("https://{}  process {}", local.address(), local.service.process_id()));
    tale.say(&format!(
        "{} client certificates, one for each client in policy/identities.toml",
        local.certificates()
    ));
    tale.check(true, "/readyz says that every part answers")?;
    Ok(local)
}

async fn tell_of_records(
    tale: &mut Tale,
    local: &Local,
    sample: &Sample,
) -> Result<(Loaded, usize, Findings)> {
    tale.chapter("Loading the FHIR R4 sample over mutual TLS");
    tale.say(&format!("{} resources, made-up people (examples/fhir/README.md)", sample.resources));
    let loaded = load::load(tale, local, sample).await?;
    tale.say(&format!(
        "{} patients as portal, {} encounters as records-import, {} messages as portal and clinician-desk",
        loaded.people.len(),
        loaded.encounters,
        loaded.messages.len()
    ));
    tale.check(
        loaded.people.len() == sample.people.len() && loaded.encounters == sample.encounters(),
        &format!(
            "{} records stored in {:.1} s, each answered 201",
            loaded.records(),
            loaded.took.as_secs_f64()
        ),
    )?;
    for (reason, count) in &sample.left_out {
        tale.say(&format!("left out: {count} {reason}"));
    }
    let (Some(person), Some(stored)) = (sample.people.first(), loaded.people.first()) else {
        bail!("the sample has no patients");
    };

    tale.chapter(&format!("Reading one patient, {}: each sees what policy gives", person.full_name()));
    reads::patient(tale, local, person, stored).await?;
    reads::visit(tale, local, person, stored).await?;

    tale.chapter("Refusals");
    refusals::all(tale, local, stored).await?;

    tale.chapter("The row as PostgreSQL holds it");
    show_storage(tale, local, stored).await?;

    tale.chapter("The audit log, as an auditor reads it");
    let values = marked_values(sample);
    trail::of_patient(tale, local, &stored.patient).await?;
    trail::of_strangers(tale, local).await?;
    let entries = trail::holds_no_value(tale, local, &values).await?;

    tale.chapter(
        "The audit log as files: `strongroom audit keys > keys`, `strongroom audit verify DIR --keys keys`",
    );
    files::verified(tale, local, entries).await?;

    tale.chapter("Looking for values in every file");
    let findings = search_files(tale, local, values, &stored.patient).await?;
    Ok((loaded, entries, findings))
}

async fn show_storage(tale: &mut Tale, local: &Local, stored: &Stored) -> Result<()> {
    let policy = PolicySet::load(&local.site.config.policy.directory)?;
    let patients = policy.collection("patients").context("the policy has no patients")?;
    stored::row(tale, local, patients, &stored.patient).await?;
    stored::keys(tale, local, &stored.subject).await
}

/// What must not be found anywhere: names, identifiers, contacts, sentences of notes and messages.
fn marked_values(sample: &Sample) -> Vec<String> {
    let mut values =
        vec![load::QUESTION.to_owned(), load::ANSWER.to_owned(), String::from("# Chief Complaint")];
    for person in &sample.people {
        values.push(person.full_name());
        for field in ["family_name", "ssn", "email", "phone", "drivers_licence"] {
            values.push(person.text(field).to_owned());
        }
        values.push(person.text("ssn").replace('-', ""));
        values.push(format!("+1{}", person.text("phone").replace('-', "")));
        let street = person.fields.get("address").and_then(|address| address.pointer("/line/0")?.as_str());
        values.extend(street.map(str::to_owned));
    }
    // Short names occur by chance; the full name and the numbers of their bearers are looked for all the same.
    values.retain(|value| value.len() >= 6);
    values.sort();
    values.dedup();
    values
}

async fn search_files(tale: &mut Tale, local: &Local, values: Vec<String>, id: &str) -> Result<Findings> {
    stored::flush(&local.stack.data).await?;
    stored::flush(&local.stack.keys).await?;
    let mut folders = vec![local.stack.directory().to_owned()];
    for cluster in [&local.stack.data, &local.stack.keys] {
        if !cluster.data_directory().starts_with(local.stack.directory()) {
            folders.push(cluster.data_directory().to_owned());
        }
    }
    tale.say(
        "data directories and WAL of both clusters, Vault's storage, every log and file of the installation;",
    );
    tale.say(&format!(
        "{} marked values (names, numbers, addresses, sentences of notes), as UTF-8, hexadecimal and base64",
        values.len()
    ));
    let mut needles = Needles::default();
    for value in &values {
        needles.add(value);
    }
    let control = needles.add(id).context("a record id is too short")?;
    let findings = tokio::task::spawn_blocking(move || needles.search(&folders)).await??;
    let controls: Vec<&PathBuf> =
        findings.hits.iter().filter(|(text, _)| *text == control).map(|(_, path)| path).collect();
    let is_in =
        |folder: &str| controls.iter().any(|path| path.components().any(|part| part.as_os_str() == folder));
    tale.check(
        is_in("base") && is_in("pg_wal"),
        &format!(
            "the search works: the record's id, no secret, was found {} times, in tables and in the WAL",
            controls.len()
        ),
    )?;
    let leaks: Vec<String> = findings
        .hits
        .iter()
        .filter(|(text, _)| *text != control)
        .map(|(_, path)| path.display().to_string())
        .collect();
    for path in &leaks {
        tale.say(&format!("found in {path}"));
    }
    tale.check(leaks.is_empty(), &format!("{} found in {}", leaks.len(), extent(&findings)))?;
    Ok(findings)
}

fn extent(findings: &Findings) -> String {
    format!("{} files, {} MB", findings.files, findings.bytes / 1_000_000)
}

struct Summary {
    loaded: Loaded,
    left_out: fhir::LeftOut,
    entries: usize,
    findings: Findings,
}

impl Summary {
    fn print(&self, tale: &Tale) {
        output::line("");
        output::line(&tale.style.bold("Summary"));
        let loaded = &self.loaded;
        tale.say(&format!(
            "stored    {} patients, {} encounters, {} messages in {:.1} s",
            loaded.people.len(),
            loaded.encounters,
            loaded.messages.len(),
            loaded.took.as_secs_f64()
        ));
        let left_out: Vec<String> =
            self.left_out.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        for (number, text) in left_out.iter().enumerate() {
            tale.say(&format!("{}{text}", if number == 0 { "left out  " } else { "          " }));
        }
        for (number, text) in tale.refusals.iter().enumerate() {
            tale.say(&format!("{}{text}", if number == 0 { "refused   " } else { "          " }));
        }
        tale.say(&format!("audited   {} entries", self.entries));
        tale.say(&format!("on disk   0 values found in {}", extent(&self.findings)));
        tale.say(&format!(
            "checked   {} claims, all hold; {:.1} s in all",
            tale.checks(),
            tale.elapsed().as_secs_f64()
        ));
    }
}

async fn processes(local: &Local) -> Vec<u32> {
    let mut ids = vec![local.service.process_id()];
    let stack = &local.stack;
    ids.extend(stack.data.process_id().await);
    ids.extend(stack.keys.process_id().await);
    ids.extend(stack.vault.process_id().await);
    ids
}

/// Whether a process is there and has not ended; one that waits to be reaped has.
fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

/// Says a long text over several lines, broken at spaces.
fn wrap(tale: &Tale, text: &str) {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + word.chars().count() + 1 > tale::WIDTH - 3 {
            tale.say(&line);
            line = String::from("  ");
        }
        if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    tale.say(&line);
}
