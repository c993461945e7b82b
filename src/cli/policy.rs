//! `strongroom policy`: what the files say, before they are live.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};

use super::output;
use crate::domain::actor::ClientKind;
use crate::domain::relationship::Relationship;
use crate::people::{self, Known};
use crate::policy::{
    Change, Described, PolicySet, SettingChange, differences, explain, idle_permits, matrix, run_cases,
    setting_changes,
};
use crate::service::{check_clients, with_known};
use crate::tls::Identities;

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Validate the files, run policy/tests and look for permits without effect; exit 1 when anything does not hold
    Check {
        /// The policy directory
        #[arg(long, default_value = "policy")]
        directory: PathBuf,
    },
    /// Print every role, action, field and purpose with what it gives
    Matrix {
        /// The policy directory
        #[arg(long, default_value = "policy")]
        directory: PathBuf,
    },
    /// Print what a change would grant or take away, and what of hours, limits, masks, clients and providers it sets, a sentence each
    Diff {
        /// The policy directory as it was
        old: PathBuf,
        /// The policy directory as it would be
        new: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print why a request would be allowed or refused, and what would change it
    Explain(Box<ExplainArgs>),
}

/// A request, described.
#[derive(Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a circumstance of its own, and an option of the command"
)]
pub(crate) struct ExplainArgs {
    /// The policy directory
    #[arg(long, default_value = "policy")]
    directory: PathBuf,
    /// A role of the caller's; may be given again
    #[arg(long, required = true)]
    role: Vec<String>,
    /// The kind of the client: app, auditor, custodian or operator
    #[arg(long, default_value = "app")]
    kind: String,
    /// What is asked for, such as read
    #[arg(long)]
    action: String,
    /// In which collection, where the action is of one
    #[arg(long)]
    collection: Option<String>,
    /// To which destination, where the action is relay
    #[arg(long)]
    destination: Option<String>,
    /// Why, as in X-Purpose-Of-Use
    #[arg(long)]
    purpose: Option<String>,
    /// The client acts for a person
    #[arg(long)]
    person: bool,
    /// A role that the person brought, of those of --role; may be given again. Without it all; alone, none
    #[arg(long, requires = "person", num_args = 0..=1)]
    person_role: Option<Vec<String>>,
    /// There is a second factor
    #[arg(long)]
    second_factor: bool,
    /// It is the person's own record
    #[arg(long, requires = "person")]
    is_self: bool,
    /// The person is in a care team of whose record it is
    #[arg(long, requires = "person")]
    in_care_team: bool,
    /// The person broke the glass for whose record it is
    #[arg(long, requires = "person")]
    break_glass: bool,
    /// The person's department, of those in the schema
    #[arg(long, requires = "person")]
    department: Option<String>,
    /// A band of bands.toml; without it the first
    #[arg(long)]
    hour: Option<String>,
    /// A band of bands.toml; without it the first
    #[arg(long)]
    source: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Check { directory } => check(&directory)?,
        PolicyCommand::Matrix { directory } => output::line(matrix(&load(&directory)?).trim_end()),
        PolicyCommand::Diff { old, new, json } => diff(&old, &new, json)?,
        PolicyCommand::Explain(asked) => explained(*asked)?,
    }
    Ok(())
}

fn load(directory: &Path) -> Result<PolicySet> {
    PolicySet::load(directory).context("the policy is not valid")
}

/// Of two, the error says which.
fn load_one_of(directory: &Path) -> Result<PolicySet> {
    load(directory).with_context(|| format!("look at {}", directory.display()))
}

fn check(directory: &Path) -> Result<()> {
    let set = load(directory)?;
    let identities = Identities::load(&directory.join("identities.toml")).context("identities.toml")?;
    check_clients(&set, &identities).context("identities.toml does not go with the policy")?;
    check_people(&set, &identities, directory)?;
    let report = run_cases(&set, directory).context("the policy's tests cannot be run")?;
    let idle = idle_permits(&set);
    for fault in report.failures.iter().chain(&idle) {
        output::line(fault);
    }
    if !report.failures.is_empty() {
        bail!("{} of {} cases do not hold", report.failures.len(), report.cases);
    }
    if !idle.is_empty() {
        bail!("{} permits give nothing to anybody", idle.len());
    }
    output::line(&format!("valid: {} cases hold, hash {}", report.cases, set.hash()));
    Ok(())
}

/// As the service would read it, but for the keys of the providers: those `strongroom doctor` looks at.
fn check_people(set: &PolicySet, identities: &Identities, directory: &Path) -> Result<()> {
    let text = std::fs::read_to_string(directory.join(people::FILE)).context("people.toml")?;
    let parse = |known: &Known<'_>| people::parse(&text, directory, known).map(|_| ());
    with_known(set, identities, parse).context("people.toml does not go with the policy")
}

fn diff(old: &Path, new: &Path, json: bool) -> Result<()> {
    let changes = differences(&load_one_of(old)?, &load_one_of(new)?);
    let settings = setting_changes(old, new).context("the files cannot be compared")?;
    if json {
        let all = changes.iter().map(Change::to_json).chain(settings.iter().map(SettingChange::to_json));
        output::line(&all.collect::<serde_json::Value>().to_string());
        return Ok(());
    }
    let sentences = changes.iter().map(Change::sentence).chain(settings.iter().map(SettingChange::sentence));
    sentences.for_each(|sentence| output::line(&sentence));
    if changes.is_empty() && settings.is_empty() {
        output::line("nobody is given or loses anything");
    }
    Ok(())
}

fn explained(asked: ExplainArgs) -> Result<()> {
    let set = load(&asked.directory)?;
    let kinds = [ClientKind::App, ClientKind::Auditor, ClientKind::Custodian, ClientKind::Operator];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == asked.kind);
    let ExplainArgs { is_self, in_care_team, break_glass, .. } = asked;
    let described = Described {
        roles: asked.role,
        kind: kind.context("there is no such kind of client")?,
        action: asked.action,
        collection: asked.collection,
        destination: asked.destination,
        purpose: asked.purpose,
        person: asked.person,
        person_roles: asked.person_role,
        second_factor: asked.second_factor,
        relationship: Relationship { is_self, in_care_team, break_glass },
        department: asked.department,
        hour: asked.hour,
        source: asked.source,
    };
    let explanation = explain(&set, &described).map_err(|why| anyhow!(why))?;
    if asked.json {
        output::line(&explanation.to_json().to_string());
    } else {
        explanation.lines().iter().for_each(|line| output::line(line));
    }
    Ok(())
}
