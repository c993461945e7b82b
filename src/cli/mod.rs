//! The `strongroom` command. Each subcommand has a file; here is only what they take.

mod audit;
mod bootstrap;
mod certificate;
mod demo;
mod dev;
mod doctor;
mod harden;
mod local;
mod log_thread;
mod migrate;
mod openapi;
mod output;
mod policy;
mod serve;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::telemetry::{self, LogFormat};

/// How long work in the background that nobody waits for may take to end once the command is done.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A private data vault: sealed records behind mutual TLS, with every access on record.
#[derive(Parser)]
#[command(name = "strongroom", version, after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the interface until SIGTERM; logs are JSON lines on standard error
    Serve(ConfigArgs),
    /// Set Vault up: keys, certificate authorities, policies, logins; safe to run again
    Bootstrap(bootstrap::BootstrapArgs),
    /// Bring both databases to this build's schema and let the service's roles log in
    Migrate(migrate::MigrateArgs),
    /// Look at everything the service would run on, change nothing, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Issue and revoke certificates
    #[command(subcommand)]
    Cert(certificate::CertCommand),
    /// Read the audit log, and verify an exported one
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Watch that logs only grow, and cosign their checkpoints; on another host than theirs
    #[command(subcommand)]
    Witness(witness::WitnessCommand),
    /// Check the policy files, or print who may see what
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print the interface under a policy as an OpenAPI 3.1 document
    Openapi(openapi::OpenApiArgs),
    /// Run everything on this machine, for developing against: prints curl lines, keeps data and keys
    Dev(dev::DevArgs),
    /// Show the whole service at work on real parts with made-up patients, check it, and leave nothing behind
    Demo(demo::DemoArgs),
}

/// Which configuration to use.
#[derive(Args, Clone)]
pub(crate) struct ConfigArgs {
    /// The configuration file; see infra/strongroom.sample.toml
    #[arg(long, default_value = "strongroom.toml", env = "STRONGROOM_CONFIG")]
    pub config: PathBuf,
}

/// Runs the command line of this process. Errors go to standard error as one line and what to do about it.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let is_server =
        matches!(cli.command, Command::Serve(_) | Command::Witness(witness::WitnessCommand::Serve(_)));
    let format = if is_server { LogFormat::Json } else { LogFormat::Text };
    telemetry::init(format);
    telemetry::hush_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let ended = runtime.block_on(dispatch(cli.command));
    // Before the last word is said, so that no task has another one after it.
    runtime.shutdown_timeout(LAST_MOMENT);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&error),
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => serve::serve(&args.config).await,
        Command::Migrate(args) => migrate::migrate(args).await,
        Command::Doctor(args) => doctor::doctor(args).await,
        Command::Cert(command) => certificate::run(command).await,
        Command::Audit(command) => audit::run(command).await,
        Command::Witness(command) => witness::run(command).await,
        Command::Policy(command) => policy::run(command),
        Command::Openapi(args) => openapi::run(&args),
        Command::Bootstrap(args) => bootstrap::bootstrap(args).await,
        Command::Demo(args) => demo::demo(args).await,
        Command::Dev(args) => dev::dev(args).await,
    }
}
