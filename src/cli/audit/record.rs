//! What a command does to the log, or reads of it, is in the log: by a committer of its own, whose key Vault vouches for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::audit::checkpoint::KeyName;
use crate::audit::{Committer, Drain, Scribe};
use crate::config::{Config, DatabaseConfig};
use crate::domain::clock::SystemClock;
use crate::domain::random::{SharedRandom, SystemRandom};
use crate::keys::Transit;
use crate::service::attest;
use crate::storage::{AuditStore, Database};

/// How long the last entries may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who may do what the service's roles may not.
#[derive(Args)]
pub(super) struct AdministratorArgs {
    /// A role of the data server that may act for the tables' owner, as the one that migrates
    #[arg(long, default_value = "postgres")]
    administrator: String,
    /// A file with its password
    #[arg(long, value_name = "FILE")]
    data_password_file: PathBuf,
}

impl AdministratorArgs {
    /// The data database, as the administrator.
    pub fn database(&self, config: &Config) -> DatabaseConfig {
        DatabaseConfig {
            user: self.administrator.clone(),
            password_file: self.data_password_file.clone(),
            ..config.database.data.clone()
        }
    }
}

/// Puts entries on record for as long as it lives.
pub(super) struct Recorder {
    pub committer: Committer,
    drain: Drain,
}

impl Recorder {
    /// An error where Vault does not vouch for this process: what it says would be nobody's word.
    pub async fn start(config: &Config) -> Result<Self> {
        let random = Arc::new(SystemRandom::default());
        let scribe =
            Scribe::new(Arc::new(SystemClock), Arc::clone(&random) as SharedRandom, &config.server.instance);
        let store = AuditStore::new(Database::open(&config.database.data)?);
        let (committer, drain) = Committer::start(store, scribe, &config.audit)?;
        let transit = Transit::connect(&config.vault, &config.environment, random)
            .context("cannot prepare the connection to Vault")?;
        let origin = KeyName::parse(&config.audit.origin).context("audit.origin is no name for a key")?;
        attest(&committer, &transit, &origin).await.context("Vault does not sign for this command")?;
        Ok(Self { committer, drain })
    }

    /// Waits until everything is durable, with the ends of its chains.
    pub async fn finish(self) -> Result<()> {
        drop(self.committer);
        let left = self.drain.finish(PATIENCE).await;
        left.map_err(|left| anyhow!("the log did not take {left} entries of this command in time"))
    }
}
