//! `strongroom witness`: a process that signs only what continues what it signed before. It needs no part of the service:
//! a folder, a key, and certificates.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::harden::harden;
use super::output;
use crate::audit::checkpoint::{KeyName, Trust};
use crate::audit::witness::{Ledger, Witness, WitnessKey};
use crate::config::{self, WitnessConfig};
use crate::domain::clock::{SharedClock, SystemClock};
use crate::domain::random::SystemRandom;
use crate::http::{WitnessApp, door, witness_router};
use crate::tls::{LiveTls, TlsFiles};

/// How often changed files are looked for.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(crate) enum WitnessCommand {
    /// Serve the C2SP tlog-witness interface until SIGTERM; logs are JSON lines on standard error
    Serve(WitnessArgs),
    /// Print the public key; make the key where there is none
    Key(WitnessArgs),
    /// Watch a log of which nothing is known yet, from its first entry on; only ever once for a log
    Begin(BeginArgs),
}

#[derive(Args)]
pub(crate) struct WitnessArgs {
    /// The configuration file; see infra/witness.sample.toml
    #[arg(long, default_value = "witness.toml", env = "STRONGROOM_CONFIG")]
    config: PathBuf,
}

#[derive(Args)]
pub(crate) struct BeginArgs {
    /// The log's origin, as in its checkpoints
    origin: String,
    #[command(flatten)]
    witness: WitnessArgs,
}

pub(super) async fn run(command: WitnessCommand) -> Result<()> {
    match command {
        WitnessCommand::Serve(args) => serve(&config::load_witness(&args.config)?).await,
        WitnessCommand::Key(args) => key(&config::load_witness(&args.config)?),
        WitnessCommand::Begin(args) => begin(&config::load_witness(&args.witness.config)?, &args.origin),
    }
}

fn key(config: &WitnessConfig) -> Result<()> {
    if !config.key_file.exists() {
        let pem = WitnessKey::generate(&SystemRandom::default())?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(&config.key_file).and_then(|mut file| {
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        });
        written.with_context(|| format!("cannot write {}", config.key_file.display()))?;
    }
    output::line(&read_key(config)?.verifier().to_string());
    Ok(())
}

fn begin(config: &WitnessConfig, origin: &str) -> Result<()> {
    let logs = read_logs(config)?;
    if !logs.logs().iter().any(|key| key.name().as_str() == origin) {
        bail!("{} has no key of this name", config.logs_file.display());
    }
    let ledger = Ledger::create(&config.state_directory).context("the witness's state cannot be used")?;
    ledger.begin(origin).context("the log cannot be watched")?;
    output::line("watched from its first entry on");
    Ok(())
}

/// Runs until SIGTERM or SIGINT, then drains.
async fn serve(config: &WitnessConfig) -> Result<()> {
    for weakness in harden().messages {
        tracing::warn!(weakness, "process.not_hardened");
    }
    let clock: SharedClock = Arc::new(SystemClock);
    let ledger = Ledger::open(&config.state_directory).context("the witness's state cannot be used")?;
    let witness = Arc::new(Witness::new(read_key(config)?, read_logs(config)?, ledger));
    let tls = LiveTls::open(TlsFiles::from(&config.server), Arc::clone(&clock), Box::new(|_| Ok(())))
        .context("the door's files are not usable")?;
    let listener = TcpListener::bind(config.server.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.server.listen))?;
    let admission = Arc::clone(tls.admission());
    let app = WitnessApp { witness, admission, clock: Arc::clone(&clock) };
    let door = door::Door::new(Arc::clone(&tls), &config.limits, clock);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = take_up_files(tls) => {}
        }
        tracing::info!("witness.stopping");
    };
    tracing::info!(listen = %listener.local_addr()?, "witness.listening");
    let drained = door::serve(door, listener, witness_router(Arc::new(app)), end).await;
    if drained.cut > 0 {
        tracing::warn!(connections = drained.cut, "door.cut");
    }
    Ok(())
}

/// Never ends. What is refused stays out, and the last good files in force.
async fn take_up_files(tls: Arc<LiveTls>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut refused = Vec::new();
    loop {
        ticks.tick().await;
        let tls = Arc::clone(&tls);
        // It fails only if that thread panicked; the next look is soon.
        let Ok((changes, errors)) = tokio::task::spawn_blocking(move || tls.poll()).await else { continue };
        for change in changes {
            tracing::info!(part = change.part.as_str(), "witness.file_taken_up");
        }
        for error in errors.iter().filter(|error| !refused.contains(*error)) {
            tracing::error!(error = %error, "witness.file_refused");
        }
        refused = errors;
    }
}

fn read_key(config: &WitnessConfig) -> Result<WitnessKey> {
    let name = KeyName::parse(&config.name).context("name: no spaces and no plus signs, and not empty")?;
    WitnessKey::read(name, &config.key_file).context("key_file")
}

fn read_logs(config: &WitnessConfig) -> Result<Trust> {
    let bytes = std::fs::read(&config.logs_file)
        .with_context(|| format!("cannot read {}", config.logs_file.display()))?;
    Trust::parse(&bytes).context("logs_file")
}
