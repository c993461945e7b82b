//! `strongroom migrate`: schema and logins of both databases, as an administrator.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use super::{ConfigArgs, output};
use crate::config;
use crate::storage::migrate::migrate_all;

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
    let administrators = [&args.data_password_file, &args.keys_password_file]
        .map(|password_file| (args.administrator.as_str(), password_file.as_path()));
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.enable_steady_tick(Duration::from_millis(120));
    let progress = |step: &str| bar.set_message(step.to_owned());
    let report = migrate_all(&config.database, administrators, progress).await.context("cannot migrate")?;
    bar.finish_and_clear();
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
