//! `strongroom dev`: everything on this machine, for developing against.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::devstack::{PartsOptions, run_parts};

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
}

pub(super) async fn dev(args: DevArgs) -> Result<()> {
    let options =
        PartsOptions { directory: args.directory, one_cluster: args.one_cluster, ephemeral: args.ephemeral };
    Ok(run_parts(options).await?)
}
