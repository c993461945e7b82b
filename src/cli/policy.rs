//! `strongroom policy`: what the files say, before they are live.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::output;
use crate::policy::{PolicySet, matrix, run_cases};

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Validate the files and run policy/tests; exit 1 when anything does not hold
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
