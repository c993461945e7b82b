//! `strongroom dev --parts-only`: the parts without the service, for tests and for whoever runs the service by hand.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::cluster::{ADMINISTRATOR, Cluster};
use super::error::DevStackError;
use super::place::{self, random_text};
use super::stack::{Stack, StackOptions};
use crate::domain::random::SystemRandom;

const DEFAULT_DIRECTORY: &str = ".strongroom";

/// How the command was called.
pub struct PartsOptions {
    /// Default: `.strongroom`; with `ephemeral`, a new folder among the temporary files.
    pub directory: Option<PathBuf>,
    pub one_cluster: bool,
    /// Remove the directory at the end; it must be new or empty.
    pub ephemeral: bool,
}

/// The one line on standard output. Paths are absolute; no secret is in it.
#[derive(Serialize)]
struct Ready<'a> {
    directory: &'a Path,
    data: ReadyCluster<'a>,
    keys: ReadyCluster<'a>,
    vault: ReadyVault<'a>,
}

#[derive(Serialize)]
struct ReadyCluster<'a> {
    host: &'static str,
    port: u16,
    user: &'static str,
    password_file: &'a Path,
    data_directory: &'a Path,
    process_id: Option<u32>,
}

#[derive(Serialize)]
struct ReadyVault<'a> {
    program: &'a Path,
    address: &'a str,
    token_file: &'a Path,
    process_id: Option<u32>,
}

/// Starts the parts, prints where they are as one line of JSON, and runs until standard input closes or SIGINT, SIGTERM
/// or SIGHUP arrives; then stops them all. Progress goes to standard error.
pub async fn run_parts(options: PartsOptions) -> Result<(), DevStackError> {
    let end = told_or_closed()?;
    tokio::pin!(end);
    let directory = choose_directory(options.directory.as_deref(), options.ephemeral, "stack")?;
    let mut stack_options = StackOptions::new(&directory);
    stack_options.separate_key_cluster = !options.one_cluster;
    stack_options.progress = Arc::new(say);
    let stack = tokio::select! {
        () = &mut end => {
            // Dropping the start ended what it had begun.
            say("told to end before everything was up");
            return remove_if(options.ephemeral, &directory);
        }
        started = Stack::start(stack_options) => match started {
            Ok(stack) => stack,
            Err(error) => {
                remove_if(options.ephemeral, &directory)?;
                return Err(error);
            }
        },
    };
    print(&stack).await?;
    end.await;
    say("stopping");
    if options.ephemeral {
        stack.remove().await
    } else {
        stack.stop().await;
        Ok(())
    }
}

/// The directory to use: the one that was asked for, else `.strongroom`, else, for an ephemeral stack, a new folder among
/// the temporary files with `kind` in its name. An ephemeral stack refuses a directory that holds anything.
pub fn choose_directory(
    wanted: Option<&Path>,
    ephemeral: bool,
    kind: &str,
) -> Result<PathBuf, DevStackError> {
    let directory = match (wanted, ephemeral) {
        (Some(directory), _) => directory.to_owned(),
        (None, false) => DEFAULT_DIRECTORY.into(),
        (None, true) => {
            let name = random_text(&SystemRandom::default())?;
            std::env::temp_dir().join(format!("strongroom-{kind}-{}", &*name))
        }
    };
    let mut entries = std::fs::read_dir(&directory).into_iter().flatten();
    if ephemeral && entries.next().is_some() {
        return Err(DevStackError::NotEmpty(directory));
    }
    Ok(directory)
}

fn remove_if(ephemeral: bool, directory: &Path) -> Result<(), DevStackError> {
    if ephemeral { place::remove(directory) } else { Ok(()) }
}

async fn print(stack: &Stack) -> Result<(), DevStackError> {
    let ready = Ready {
        directory: stack.directory(),
        data: describe(&stack.data).await,
        keys: describe(&stack.keys).await,
        vault: ReadyVault {
            program: stack.vault.program(),
            address: stack.vault.address(),
            token_file: stack.vault.token_file(),
            process_id: stack.vault.process_id().await,
        },
    };
    let line = serde_json::to_string(&ready).unwrap_or_default();
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .map_err(DevStackError::file("write to", Path::new("standard output")))
}

async fn describe(cluster: &Cluster) -> ReadyCluster<'_> {
    ReadyCluster {
        host: "127.0.0.1",
        port: cluster.port(),
        user: ADMINISTRATOR,
        password_file: cluster.password_file(),
        data_directory: cluster.data_directory(),
        process_id: cluster.process_id().await,
    }
}

fn say(text: &str) {
    // Nobody may be reading; the parts are what matters.
    let _ = writeln!(std::io::stderr(), "strongroom dev: {text}");
}

/// Standard input closing, or a signal.
fn told_or_closed() -> Result<impl Future<Output = ()>, DevStackError> {
    let told = told_to_end()?;
    let closed = stdin_closed();
    Ok(async move {
        tokio::select! {
            () = told => {}
            _ = closed => {}
        }
    })
}

/// SIGINT, SIGTERM or SIGHUP. Listens from this call on, not from the first poll: a signal that comes early must not end
/// the process by itself.
pub fn told_to_end() -> Result<impl Future<Output = ()>, DevStackError> {
    let listen = |kind| signal(kind).map_err(DevStackError::file("listen to", Path::new("signals")));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// On a thread of its own, left behind at the end: a read that the runtime waited for would keep the process alive.
fn stdin_closed() -> tokio::sync::oneshot::Receiver<()> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 1024];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        // The receiver is gone when a signal came first.
        let _ = sender.send(());
    });
    receiver
}
