//! `strongroom audit keys`: the log's public keys, as the policy file that verifiers read.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::audit::checkpoint::{KeyKind, KeyName, VerifierKey};
use crate::cli::{ConfigArgs, output};
use crate::config::{self, Config};
use crate::domain::random::SystemRandom;
use crate::keys::Transit;

/// Auditors take the lines home once, over a way that they trust, and keep them.
pub(super) async fn print(args: &ConfigArgs) -> Result<()> {
    public_keys(&config::load(&args.config)?).await?.lines().for_each(output::line);
    Ok(())
}

/// A policy (C2SP tlog-policy) of what Vault says to the service.
pub(crate) async fn public_keys(config: &Config) -> Result<String> {
    let random = Arc::new(SystemRandom::default());
    let transit = Transit::connect(&config.vault, &config.environment, random)
        .context("cannot prepare the connection to Vault")?;
    let origin = KeyName::parse(&config.audit.origin).context("audit.origin is no name for a key")?;
    let keys = transit.audit_public_keys().await.context("Vault does not tell the log's public keys")?;
    let each = keys.into_values().map(|public| VerifierKey::new(origin.clone(), KeyKind::Log, public));
    let lines: Vec<String> = each.map(|key| format!("log {key}\n")).collect();
    if lines.is_empty() {
        bail!("Vault has no version of the log's key: run `strongroom bootstrap`");
    }
    Ok(format!("{}quorum none\n", lines.concat()))
}
