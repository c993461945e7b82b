//! `strongroom openapi`: the interface under a policy, for generators of clients and for people, without a running service.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::output;
use crate::http::openapi::document;
use crate::policy::PolicySet;

#[derive(Args)]
pub(crate) struct OpenApiArgs {
    /// The policy directory
    #[arg(long, default_value = "policy")]
    directory: PathBuf,
}

pub(super) fn run(args: &OpenApiArgs) -> Result<()> {
    let set = PolicySet::load(&args.directory).context("the policy is not valid")?;
    let text = serde_json::to_string_pretty(&document(&set)).context("cannot write the document")?;
    output::line(&text);
    Ok(())
}
