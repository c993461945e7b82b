//! `strongroom cert`: certificates of the private CA.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{ConfigArgs, output};
use crate::config::{self, Config};
use crate::domain::random::SystemRandom;
use crate::domain::secret::SecretBytes;
use crate::keys::{CertificateRequest, IssuedCertificate, Transit};

#[derive(Subcommand)]
pub(crate) enum CertCommand {
    /// Issue a certificate and write NAME.pem (chain) and NAME.key (mode 0600)
    Issue(IssueArgs),
    /// Revoke a certificate; open connections that use it are closed at the next refresh of the lists
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(crate) struct IssueArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file with a Vault token that has the issuer policy
    #[arg(long)]
    token_file: PathBuf,
    /// What the certificate is for
    #[arg(long)]
    role: Role,
    /// The URI that policy/identities.toml lists, for every role but server
    #[arg(long)]
    uri: Option<String>,
    /// A DNS name, for the server role
    #[arg(long)]
    dns: Vec<String>,
    /// An IP address, for the server role
    #[arg(long)]
    ip: Vec<IpAddr>,
    /// How long it is valid, hours
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// Where to write the files
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Base name of the files
    #[arg(long)]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file with a Vault token that has the issuer policy
    #[arg(long)]
    token_file: PathBuf,
    /// The serial number as `cert issue` printed it (3f:0a:…)
    #[arg(long)]
    serial: String,
}

/// Roles of the issuing CA, as bootstrap makes them.
#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Server,
    Service,
    Client,
    Auditor,
    Custodian,
    Operator,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Service => "service",
            Self::Client => "client",
            Self::Auditor => "auditor",
            Self::Custodian => "custodian",
            Self::Operator => "operator",
        }
    }
}

pub(super) async fn run(command: CertCommand) -> Result<()> {
    match command {
        CertCommand::Issue(args) => issue(args).await,
        CertCommand::Revoke(args) => {
            let config = config::load(&args.config.config)?;
            let transit = issuer(&config, &args.token_file)?;
            transit.revoke(&args.serial).await.context("cannot revoke the certificate")?;
            output::line(&format!("revoked {}", args.serial));
            Ok(())
        }
    }
}

async fn issue(args: IssueArgs) -> Result<()> {
    let config = config::load(&args.config.config)?;
    let is_server = matches!(args.role, Role::Server);
    if is_server == args.uri.is_some() {
        bail!("give --uri for every role but server, and --dns or --ip for server");
    }
    let request = CertificateRequest {
        role: args.role.as_str(),
        uri: args.uri,
        dns_names: args.dns,
        ip_addresses: args.ip,
        life_seconds: args.hours.saturating_mul(3_600),
    };
    let issued =
        issuer(&config, &args.token_file)?.issue(&request).await.context("cannot issue the certificate")?;
    let (chain, key) = write_certificate(&args.directory, &args.name, &issued)?;
    if args.json {
        let report = json!({
            "serial": issued.serial,
            "not_after": issued.not_after.to_rfc3339(),
            "certificate": chain,
            "private_key": key,
        });
        output::line(&report.to_string());
    } else {
        output::line(&format!("serial      {}", issued.serial));
        output::line(&format!("valid until {}", issued.not_after.to_rfc3339()));
        output::line(&format!("certificate {}", chain.display()));
        output::line(&format!("private key {}", key.display()));
    }
    Ok(())
}

fn issuer(config: &Config, token_file: &Path) -> Result<Transit> {
    let token = read_token(token_file)?;
    let random = Arc::new(SystemRandom::default());
    Ok(Transit::with_token(&config.vault, &config.environment, token, random)?)
}

/// A token from a file, without the line end.
pub(crate) fn read_token(path: &Path) -> Result<SecretBytes> {
    let mut token = zeroize::Zeroizing::new(
        std::fs::read(path).with_context(|| format!("cannot read the token file {}", path.display()))?,
    );
    while token.last().is_some_and(u8::is_ascii_whitespace) {
        token.pop();
    }
    Ok(SecretBytes::from(token))
}

/// Writes `NAME.pem` and `NAME.key`, each whole or not at all; the key is readable by its owner only.
pub(crate) fn write_certificate(
    directory: &Path,
    name: &str,
    issued: &IssuedCertificate,
) -> Result<(PathBuf, PathBuf)> {
    let chain = directory.join(format!("{name}.pem"));
    let key = directory.join(format!("{name}.key"));
    #[expect(
        clippy::disallowed_methods,
        reason = "a new private key goes to its owner's file and nowhere else"
    )]
    let key_pem = issued.private_key_pem.expose();
    write_whole(&key, key_pem, 0o600)?;
    write_whole(&chain, issued.chain_pem.as_bytes(), 0o644)?;
    Ok((chain, key))
}

/// Writes a file whole or not at all, with exactly `mode` for a new one.
pub(super) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    use std::io::Write;
    let draft = path.with_extension("new");
    let open = || std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft);
    open()
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
