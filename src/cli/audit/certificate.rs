//! `strongroom audit certificate`: a certificate of erasure, by itself and the log's public keys.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::verify::read;
use crate::audit::checkpoint::{CertificateFault, Trust, certified};
use crate::cli::output::{self, DoesNotHold};

#[derive(Args)]
pub(crate) struct CertificateArgs {
    /// The certificate, as the service answered it
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
    /// The keys of the log: a C2SP tlog-policy file from a source you trust
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn check(args: &CertificateArgs) -> Result<()> {
    let trust = Trust::parse(&read(&args.keys)?);
    let trust = trust.with_context(|| format!("cannot use {}", args.keys.display()))?;
    let outcome = certified(&read(&args.certificate)?, &trust);
    output::line(&if args.json { report(&outcome).to_string() } else { sentence(&outcome) });
    outcome.map(drop).map_err(|_| DoesNotHold.into())
}

fn report(outcome: &Result<Value, CertificateFault>) -> Value {
    match outcome {
        Ok(statement) => json!({ "holds": true, "statement": statement }),
        Err(why) => json!({ "holds": false, "why": why.to_string() }),
    }
}

fn sentence(outcome: &Result<Value, CertificateFault>) -> String {
    let member = |statement: &Value, name: &str| statement[name].as_str().unwrap_or_default().to_owned();
    match outcome {
        Ok(said) => format!(
            "holds: subject {} was erased at {}; from {} on no backup brings it back",
            member(said, "subject"),
            member(said, "erased_at"),
            member(said, "unrecoverable_from")
        ),
        Err(why) => format!("does not hold: {why}"),
    }
}
