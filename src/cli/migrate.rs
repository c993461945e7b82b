//! `strongroom migrate`: schema and logins of both databases, as an administrator.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::{ConfigArgs, output};
use crate::config::{self, Config, DatabaseConfig};
use crate::storage::migrate::{Which, migrate as apply, set_login};

#[derive(Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A role of both servers that may create databases and roles
    #[arg(long, default_value = "postgres")]
    administrator: String,
    /// A file with the administrator's password on the data server
    #[arg(long)]
    data_password_file: PathBuf,
    /// A file with the administrator's password on the keys server
    #[arg(long)]
    keys_password_file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn migrate(args: MigrateArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let report =
        migrate_all(&config, &args.administrator, &args.data_password_file, &args.keys_password_file).await?;
    if args.json {
        let report: Vec<_> =
            report.iter().map(|(which, applied)| json!({ "database": which, "applied": applied })).collect();
        output::line(&serde_json::to_string(&report)?);
        return Ok(());
    }
    for (which, applied) in report {
        if applied.is_empty() {
            output::line(&format!("{which:<6} is current"));
        }
        for migration in applied {
            output::line(&format!("{which:<6} applied {migration}"));
        }
    }
    Ok(())
}

/// Migrates both databases and gives the three login roles the passwords in the configuration's files.
pub(crate) async fn migrate_all(
    config: &Config,
    administrator: &str,
    data_password_file: &std::path::Path,
    keys_password_file: &std::path::Path,
) -> Result<Vec<(&'static str, Vec<String>)>> {
    let databases = &config.database;
    let as_administrator = |database: &DatabaseConfig, password_file: &std::path::Path| DatabaseConfig {
        user: administrator.to_owned(),
        password_file: password_file.to_owned(),
        // Building an index takes longer than answering a request.
        timeout_ms: 600_000,
        ..database.clone()
    };
    let data = as_administrator(&databases.data, data_password_file);
    let keys = as_administrator(&databases.keys, keys_password_file);
    let mut report = Vec::new();
    for (which, database) in [(Which::Data, &data), (Which::Keys, &keys)] {
        let applied = apply(database, which)
            .await
            .with_context(|| format!("cannot migrate the {} database", which.as_str()))?;
        report.push((which.as_str(), applied));
    }
    let logins = [
        (&data, &databases.data),
        (&data, &databases.audit_export),
        (&keys, &databases.keys),
    ];
    for (administrator, login) in logins {
        set_login(administrator, &login.user, &login.password_file)
            .await
            .with_context(|| format!("cannot let the role {} log in", login.user))?;
    }
    Ok(report)
}
