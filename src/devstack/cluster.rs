//! One PostgreSQL server: started, stopped, killed or frozen, always on the same port with the same data.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::NoTls;
use zeroize::Zeroizing;

use super::cluster_files::ClusterFiles;
use super::error::DevStackError;
use super::keeper::{Keeper, Kept};
use super::place::{free_port, is_free};
use super::processes::settle_orphan;
use super::slot::{Slot, end};
use super::wheel::append;
use crate::domain::random::Random;

/// The superuser of every cluster here; its password is in the cluster's password file.
pub const ADMINISTRATOR: &str = "administrator";

const NAME: &str = "PostgreSQL";
const READY_LIMIT: Duration = Duration::from_mins(1);
const PORT_TRIES: u32 = 5;

/// How PostgreSQL is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Transactions are rolled back, everything is written: a clean stop.
    Fast,
    /// Connections are cut and nothing is written; the next start recovers from the log.
    Immediate,
}

/// A handle to one server on 127.0.0.1. Clones are the same server.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    files: ClusterFiles,
    keeper: Arc<Keeper>,
    port: u16,
    slot: Slot,
}

impl Cluster {
    /// Makes the data directory if there is none, and starts it on `wanted` or, if that is taken, another free port.
    pub(super) async fn open(
        files: ClusterFiles,
        wanted: Option<u16>,
        keeper: Arc<Keeper>,
        random: &dyn Random,
    ) -> Result<Self, DevStackError> {
        files.prepare(&keeper, random).await?;
        // First, so that a leftover does not keep its port from its successor.
        settle_orphan(&files.data.join("postmaster.pid"), &files.data).await?;
        let mut wanted = wanted;
        let mut tries = 0;
        loop {
            tries += 1;
            let port = free_port(wanted.take())?;
            match launch(&files, port, &keeper).await {
                Ok(kept) => {
                    return Ok(Self(Arc::new(Inner { files, keeper, port, slot: Slot::new(NAME, kept) })));
                }
                // Somebody took the port between the look and the start.
                Err(DevStackError::Failed { .. }) if tries < PORT_TRIES && !is_free(port) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The TCP port on 127.0.0.1; it stays the same over `stop` and `start`.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Where the [`ADMINISTRATOR`]'s password is, in a file only the owner can read.
    pub fn password_file(&self) -> &Path {
        &self.0.files.password_file
    }

    /// The data directory, for tests that look at what is on disk. Only its owner and root can.
    pub fn data_directory(&self) -> &Path {
        &self.0.files.data
    }

    /// What the server logs.
    pub fn log_file(&self) -> &Path {
        &self.0.files.log
    }

    /// The postmaster's process id, or `None` while it is stopped.
    pub async fn process_id(&self) -> Option<u32> {
        self.0.slot.process_id().await
    }

    /// Starts a stopped or killed server and waits until it takes connections, crash recovery included.
    pub async fn start(&self) -> Result<(), DevStackError> {
        self.0.slot.start(launch(&self.0.files, self.0.port, &self.0.keeper)).await
    }

    /// Stops the server and waits until it has ended; after a minute, by force. A paused server is resumed for it. A
    /// server that does not run is left so.
    pub async fn stop(&self, mode: StopMode) {
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        self.0.slot.stop(signal).await;
    }

    /// Kills the server and every backend with SIGKILL, as a power cut would, and waits until they are gone.
    pub async fn kill9(&self) {
        self.0.slot.stop(Signal::KILL).await;
    }

    /// Freezes the server and every backend: connections stay open and nothing answers.
    pub async fn pause(&self) -> Result<(), DevStackError> {
        self.0.slot.signal(Signal::STOP).await
    }

    /// Lets a paused server go on.
    pub async fn resume(&self) -> Result<(), DevStackError> {
        self.0.slot.signal(Signal::CONT).await
    }
}

async fn launch(files: &ClusterFiles, port: u16, keeper: &Arc<Keeper>) -> Result<Kept, DevStackError> {
    settle_orphan(&files.data.join("postmaster.pid"), &files.data).await?;
    files.set_port(port)?;
    let output = append(&files.log)?;
    let errors = output.try_clone().map_err(DevStackError::file("open", &files.log))?;
    let mut kept = keeper.spawn(&files.programs.server, |command| {
        command.arg("-D").arg(&files.data).env_clear().env("LC_ALL", "C").current_dir("/");
        command.stdout(output).stderr(errors);
        if let Some(account) = &files.account {
            account.apply(command);
        }
    })?;
    let ready = wait_until_ready(&mut kept, files, port).await;
    if ready.is_err() {
        end(&mut kept, Signal::QUIT).await;
    }
    ready.map(|()| kept)
}

async fn wait_until_ready(kept: &mut Kept, files: &ClusterFiles, port: u16) -> Result<(), DevStackError> {
    let password = std::fs::read(&files.password_file)
        .map(Zeroizing::new)
        .map_err(DevStackError::file("read", &files.password_file))?;
    let mut target = tokio_postgres::Config::new();
    target.host("127.0.0.1").port(port).user(ADMINISTRATOR).dbname("postgres").password(password.as_slice());
    target.connect_timeout(Duration::from_secs(2));
    let deadline = Instant::now() + READY_LIMIT;
    while Instant::now() < deadline {
        if kept.ended().is_some() {
            return Err(DevStackError::Failed { program: NAME, log: files.log.clone() });
        }
        // To be let in with the password proves that it is this server, and ready.
        let connected = tokio::time::timeout(Duration::from_secs(5), target.connect(NoTls)).await;
        if let Ok(Ok((client, connection))) = connected {
            drop(client);
            // Says goodbye; that the server was there is all that matters.
            let _ = connection.await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Err(DevStackError::NotReady { program: NAME, log: files.log.clone() })
}
