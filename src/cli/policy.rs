//! `strongroom policy`: what the files say, before they are live.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::output;
use crate::policy::{PolicySet, idle_permits, matrix, run_cases};

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
}

pub(super) fn run(command: PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Check { directory } => {
            let set = PolicySet::load(&directory).context("the policy is not valid")?;
            let report = run_cases(&set, &directory).context("the policy's tests cannot be run")?;
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
        }
        PolicyCommand::Matrix { directory } => {
            let set = PolicySet::load(&directory).context("the policy is not valid")?;
            output::line(matrix(&set).trim_end());
        }
    }
    Ok(())
}
