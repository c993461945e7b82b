//! `strongroom bootstrap`: sets Vault up, as its administrator. Running it again changes only what is missing or wrong.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::certificate::{read_token, write_whole};
use super::{ConfigArgs, output};
use crate::config::{self, VaultAuth};
use crate::keys::bootstrap::{Bootstrap, BootstrapSettings, Step, StepOutcome};

#[derive(Args)]
pub(crate) struct BootstrapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file with a Vault token that may mount engines and write policies; it is needed here and nowhere else
    #[arg(long)]
    token_file: PathBuf,
    /// Make a new secret id and write it, with the role id, where vault.auth names them (mode 0600)
    #[arg(long)]
    credentials: bool,
    /// The trust domain of the names in certificates
    #[arg(long, default_value = "strongroom.internal")]
    trust_domain: String,
    /// A DNS name that server certificates may carry besides localhost [default: the trust domain]
    #[arg(long)]
    server_name: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn bootstrap(args: BootstrapArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let files = match (&config.vault.auth, args.credentials) {
        (_, false) => None,
        (VaultAuth::AppRole { role_id_file, secret_id_file }, true) => Some((role_id_file, secret_id_file)),
        (VaultAuth::Certificate { .. }, true) => bail!(
            "--credentials is for vault.auth with method = \"approle\"; for a certificate login, issue one with \
             `strongroom cert issue --role service`"
        ),
    };
    let server_names =
        if args.server_name.is_empty() { vec![args.trust_domain.clone()] } else { args.server_name };
    let settings = BootstrapSettings { trust_domain: args.trust_domain, server_names };
    let bootstrap = Bootstrap::new(&config.vault, read_token(&args.token_file)?, settings)?;
    let steps = bootstrap.run().await.context("Vault is not set up")?;
    let mut written = Vec::new();
    if let Some((role_id_file, secret_id_file)) = files {
        let credentials =
            bootstrap.new_service_credentials().await.context("cannot make the service's credentials")?;
        write_whole(role_id_file, credentials.role_id.as_bytes(), 0o600)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the secret id goes to the service's file and nowhere else"
        )]
        write_whole(secret_id_file, credentials.secret_id.expose(), 0o600)?;
        written.extend([role_id_file.clone(), secret_id_file.clone()]);
    }
    report(&steps, &written, args.json);
    Ok(())
}

fn report(steps: &[Step], written: &[PathBuf], as_json: bool) {
    if as_json {
        let steps: Vec<_> = steps
            .iter()
            .map(|step| json!({ "step": step.what, "outcome": word(step.outcome).replace(' ', "_") }))
            .collect();
        output::line(&json!({ "steps": steps, "written": written }).to_string());
        return;
    }
    let width = steps.iter().map(|step| step.what.len()).max().unwrap_or_default();
    for step in steps {
        output::line(&format!("{:<width$}  {}", step.what, word(step.outcome)));
    }
    for path in written {
        output::line(&format!("{:<width$}  {}", "wrote", path.display()));
    }
    let done = steps.iter().filter(|step| step.outcome == StepOutcome::Done).count();
    output::line(&format!("{done} done, {} already there", steps.len() - done));
}

/// How a step ended, in words.
pub(super) const fn word(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done => "done",
        StepOutcome::AlreadyThere => "already there",
    }
}
