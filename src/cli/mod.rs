//! The command line: what is asked for becomes a call into the library, errors become one line and an exit status.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::devstack::{PartsOptions, run_parts};

/// A private data vault for health records and card data.
#[derive(Parser)]
#[command(name = "strongroom", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine, for development
    Dev(DevArguments),
}

#[derive(Args)]
struct DevArguments {
    /// Start PostgreSQL and the Vault API only, print where they are as a line of JSON, run until standard input closes
    #[arg(long, required = true)]
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
}

/// Parses the arguments and does what they say.
pub fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.command {
        Command::Dev(dev) => runtime.block_on(run_parts(PartsOptions {
            directory: dev.directory,
            one_cluster: dev.one_cluster,
            ephemeral: dev.ephemeral,
        }))?,
    }
    Ok(())
}
