//! `strongroom dev`: everything on this machine, for developing against. Data, keys and ports are kept for the next
//! start; certificates are issued anew at each.

mod curl;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::local::{Local, build_site, find_in_project};
use super::output;
use crate::config::AuditExportConfig;
use crate::devstack::{self, PartsOptions, Stack, StackOptions, choose_directory, run_parts, told_to_end};

#[derive(Args)]
pub(crate) struct DevArgs {
    /// Start PostgreSQL and the Vault API only, print where they are as a line of JSON, run until standard input closes
    #[arg(long)]
    parts_only: bool,
    /// Where data, keys and logs are kept [default: .strongroom]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Keep both databases in one PostgreSQL server
    #[arg(long)]
    one_cluster: bool,
    /// Remove the directory at the end
    #[arg(long)]
    ephemeral: bool,
    /// The policy directory [default: policy in Strongroom's folder]
    #[arg(long)]
    policy: Option<PathBuf>,
}

pub(super) async fn dev(args: DevArgs) -> Result<()> {
    if args.parts_only {
        let options = PartsOptions {
            directory: args.directory,
            one_cluster: args.one_cluster,
            ephemeral: args.ephemeral,
        };
        return Ok(run_parts(options).await?);
    }
    let end = told_to_end()?;
    tokio::pin!(end);
    let policy = find_in_project(args.policy.as_deref(), "policy")?;
    let directory = choose_directory(args.directory.as_deref(), args.ephemeral, "dev")?;
    let outcome = tokio::select! {
        // Dropping the start ends what it had begun.
        () = &mut end => Ok(None),
        opened = open(&directory, &args, policy) => opened.map(Some),
    };
    let outcome = match outcome {
        Ok(Some(mut local)) => {
            let ran = run(&mut local, end).await;
            output::note("strongroom dev: stopping");
            let (_, stack) = local.stop().await;
            stack.stop().await;
            ran
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if args.ephemeral {
        devstack::remove(&directory)?;
    }
    outcome
}

async fn open(directory: &Path, args: &DevArgs, policy: PathBuf) -> Result<Local> {
    let mut options = StackOptions::new(directory);
    options.separate_key_cluster = !args.one_cluster;
    options.progress = Arc::new(say);
    let stack = Stack::start(options).await?;
    let site = build_site(&stack, policy, say).await?;
    say("starting the service");
    Local::open(stack, site).await
}

/// Shows where everything is, then the service's warnings, until told to end.
async fn run(local: &mut Local, end: impl Future<Output = ()>) -> Result<()> {
    greet(local)?;
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            _ = tick.tick() => {}
        }
        for trouble in local.log.new_troubles() {
            output::note(&format!("service: {trouble}"));
        }
        if let Some(status) = local.service.ended() {
            bail!("the service ended by itself ({status}); its log is {}", local.log.path().display());
        }
    }
}

fn greet(local: &Local) -> Result<()> {
    let stack = &local.stack;
    let rows = [
        ("service", format!("https://{}", local.address()), local.log.path()),
        (
            "data",
            format!("postgresql://127.0.0.1:{}/strongroom_data", stack.data.port()),
            stack.data.log_file(),
        ),
        (
            "keys",
            format!("postgresql://127.0.0.1:{}/strongroom_keys", stack.keys.port()),
            stack.keys.log_file(),
        ),
        ("vault", stack.vault.address().to_owned(), stack.vault.token_file()),
    ];
    output::line("");
    for (name, address, file) in rows {
        output::line(&format!("{name:<8} {address:<48} {}", file.display()));
    }
    if let Some(log) = local.site.config.audit.export.as_ref().and_then(AuditExportConfig::directory) {
        let what = "the audit log as files, for `strongroom audit verify`";
        output::line(&format!("{:<8} {what:<48} {}", "log", log.display()));
    }
    output::line(&format!(
        "{} client certificates in {}",
        local.certificates(),
        local.site.directory.join("tls").display()
    ));
    output::line("");
    for example in curl::examples(local)? {
        output::line(&format!("# {}", example.says));
        output::line(&example.command);
        output::line("");
    }
    output::line("Ctrl-C stops everything; data and keys stay for the next start.");
    Ok(())
}

fn say(text: &str) {
    output::note(&format!("strongroom dev: {text}"));
}
