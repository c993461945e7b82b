//! One Vault API server: HashiCorp Vault or OpenBao, on loopback, in clear, with one unseal key that lies beside its data.
//! Right for a development machine, and nothing like `infra`.
//!
//! Raft with a single member keeps the keys: OpenBao dropped file storage in 2.7, and both servers have this one.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use zeroize::Zeroizing;

use super::error::DevStackError;
use super::keeper::{Keeper, Kept};
use super::place::{free_port, is_free, write_private};
use super::processes::settle_orphan;
use super::programs::VaultProgram;
use super::slot::{Slot, end};
use super::vault_api::VaultApi;
use super::wheel::append;
use crate::domain::secret::SecretBytes;

const NAME: &str = "the Vault API";
const READY_LIMIT: Duration = Duration::from_mins(1);
const PORT_TRIES: u32 = 5;

/// A handle to one server. Clones are the same server.
#[derive(Clone)]
pub struct VaultServer(Arc<Inner>);

struct Inner {
    files: VaultFiles,
    api: VaultApi,
    ports: VaultPorts,
    keeper: Arc<Keeper>,
    slot: Slot,
}

/// The program and where its files go.
pub(super) struct VaultFiles {
    pub(super) program: VaultProgram,
    pub(super) storage: PathBuf,
    pub(super) config: PathBuf,
    pub(super) pid_file: PathBuf,
    pub(super) token_file: PathBuf,
    pub(super) unseal_file: PathBuf,
    pub(super) log: PathBuf,
}

/// Raft wants a second port, although it has nobody to talk to.
#[derive(Clone, Copy)]
pub(super) struct VaultPorts {
    pub(super) api: u16,
    pub(super) peer: u16,
}

impl VaultServer {
    /// Starts the server on the wanted ports or others, initialises it the first time, and unseals it.
    pub(super) async fn open(
        files: VaultFiles,
        wanted: (Option<u16>, Option<u16>),
        keeper: Arc<Keeper>,
    ) -> Result<Self, DevStackError> {
        // First, so that a leftover does not keep its ports from its successor.
        settle_orphan(&files.pid_file, &files.config).await?;
        let (mut wanted_api, mut wanted_peer) = wanted;
        let mut tries = 0;
        loop {
            tries += 1;
            let ports =
                VaultPorts { api: free_port(wanted_api.take())?, peer: free_port(wanted_peer.take())? };
            let api = VaultApi::new(ports.api)?;
            match launch(&files, &api, ports, &keeper).await {
                Ok(kept) => {
                    return Ok(Self(Arc::new(Inner {
                        files,
                        api,
                        ports,
                        keeper,
                        slot: Slot::new(NAME, kept),
                    })));
                }
                Err(DevStackError::Failed { .. })
                    if tries < PORT_TRIES && !(is_free(ports.api) && is_free(ports.peer)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// `http://127.0.0.1:port`; it stays the same over `stop` and `start`.
    pub fn address(&self) -> &str {
        self.0.api.address()
    }

    /// The program that runs: `bao` or `vault`.
    pub fn program(&self) -> &Path {
        &self.0.files.program.path
    }

    pub(super) fn ports(&self) -> VaultPorts {
        self.0.ports
    }

    /// Where the root token is, in a file only the owner can read.
    pub fn token_file(&self) -> &Path {
        &self.0.files.token_file
    }

    /// Reads the root token.
    pub fn root_token(&self) -> Result<SecretBytes, DevStackError> {
        let path = &self.0.files.token_file;
        std::fs::read(path).map(SecretBytes::new).map_err(DevStackError::file("read", path))
    }

    /// The server's process id, or `None` while it is stopped.
    pub async fn process_id(&self) -> Option<u32> {
        self.0.slot.process_id().await
    }

    /// Seals it: every call is refused until [`VaultServer::unseal`].
    pub async fn seal(&self) -> Result<(), DevStackError> {
        let token = read_text(&self.0.files.token_file)?;
        self.0.api.seal(&token).await
    }

    /// Unseals it and waits until it takes requests.
    pub async fn unseal(&self) -> Result<(), DevStackError> {
        self.0.slot.with(async |kept| unseal(&self.0.files, &self.0.api, kept).await).await
    }

    /// Starts a stopped or killed server, unsealed, with the keys it had.
    pub async fn start(&self) -> Result<(), DevStackError> {
        self.0.slot.start(launch(&self.0.files, &self.0.api, self.0.ports, &self.0.keeper)).await
    }

    /// Stops it and waits until it has ended; after a minute, by force. A server that does not run is left so.
    pub async fn stop(&self) {
        self.0.slot.stop(Signal::TERM).await;
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub async fn kill9(&self) {
        self.0.slot.stop(Signal::KILL).await;
    }

    /// Freezes it: connections stay open and nothing answers.
    pub async fn pause(&self) -> Result<(), DevStackError> {
        self.0.slot.signal(Signal::STOP).await
    }

    /// Lets a paused server go on.
    pub async fn resume(&self) -> Result<(), DevStackError> {
        self.0.slot.signal(Signal::CONT).await
    }
}

async fn launch(
    files: &VaultFiles,
    api: &VaultApi,
    ports: VaultPorts,
    keeper: &Arc<Keeper>,
) -> Result<Kept, DevStackError> {
    settle_orphan(&files.pid_file, &files.config).await?;
    write_private(&files.config, config(files, ports).as_bytes())?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&files.storage)
        .map_err(DevStackError::file("make", &files.storage))?;
    let output = append(&files.log)?;
    let errors = output.try_clone().map_err(DevStackError::file("open", &files.log))?;
    let mut kept = keeper.spawn(&files.program.path, |command| {
        // Without the caller's environment: VAULT_* and BAO_* would change what it does.
        command.arg("server").arg("-config").arg(&files.config).env_clear().env("HOME", &files.storage);
        command.current_dir("/").stdout(output).stderr(errors);
    })?;
    write_private(&files.pid_file, kept.id().to_string().as_bytes())?;
    let ready = make_usable(files, api, &mut kept).await;
    if ready.is_err() {
        end(&mut kept, Signal::TERM).await;
    }
    ready.map(|()| kept)
}

fn config(files: &VaultFiles, ports: VaultPorts) -> String {
    let mut config = json!({
        "storage": { "raft": { "path": files.storage, "node_id": "strongroom", "performance_multiplier": 1 } },
        "listener": { "tcp": {
            "address": format!("127.0.0.1:{}", ports.api),
            "cluster_address": format!("127.0.0.1:{}", ports.peer),
            "tls_disable": true,
        } },
        "api_addr": format!("http://127.0.0.1:{}", ports.api),
        "cluster_addr": format!("http://127.0.0.1:{}", ports.peer),
        "ui": false,
    });
    if files.program.is_hashicorp
        && let Some(config) = config.as_object_mut()
    {
        config.insert("disable_mlock".to_owned(), true.into());
    }
    config.to_string()
}

async fn make_usable(files: &VaultFiles, api: &VaultApi, kept: &mut Kept) -> Result<(), DevStackError> {
    let mut status = None;
    until(kept, files, async || {
        status = api.seal_status().await;
        status.is_some()
    })
    .await?;
    if status.is_some_and(|status| !status.initialized) {
        let secrets = api.initialize().await?;
        write_private(&files.unseal_file, secrets.unseal_key.as_bytes())?;
        write_private(&files.token_file, secrets.root_token.as_bytes())?;
    }
    if !files.unseal_file.exists() || !files.token_file.exists() {
        return Err(DevStackError::Spoiled(files.storage.clone()));
    }
    unseal(files, api, kept).await
}

async fn unseal(files: &VaultFiles, api: &VaultApi, kept: &mut Kept) -> Result<(), DevStackError> {
    let key = read_text(&files.unseal_file)?;
    if api.seal_status().await.is_none_or(|status| status.sealed) {
        api.unseal(&key).await?;
    }
    until(kept, files, async || api.is_active().await).await
}

/// Asks until it is so, the server has ended, or a minute is over.
async fn until(
    kept: &mut Kept,
    files: &VaultFiles,
    mut is_so: impl AsyncFnMut() -> bool,
) -> Result<(), DevStackError> {
    let deadline = Instant::now() + READY_LIMIT;
    while !is_so().await {
        if kept.ended().is_some() {
            return Err(DevStackError::Failed { program: NAME, log: files.log.clone() });
        }
        if Instant::now() > deadline {
            return Err(DevStackError::NotReady { program: NAME, log: files.log.clone() });
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, DevStackError> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(DevStackError::file("read", path))
}
