//! A directory's parts, started and stopped together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::account::{self, Account};
use super::cluster::{Cluster, StopMode};
use super::cluster_files::{ClusterFiles, data_major};
use super::error::DevStackError;
use super::keeper::{CloseOnDrop, Keeper};
use super::place::{self, Place, State, free_port};
use super::programs::{Postgres, VaultProgram, find_postgres, find_vault};
use super::service::ServiceProcess;
use super::vault_server::{VaultFiles, VaultServer};
use super::wheel::Tools;
use crate::domain::random::{SharedRandom, SystemRandom};

/// Where wheels go; the default is beside the default stack.
const TOOLS_VARIABLE: &str = "STRONGROOM_TOOLS";
const TOOLS_DEFAULT: &str = ".strongroom/tools";

/// Told what takes long, in a line each.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What to start and where.
pub struct StackOptions {
    /// Holds data, keys, logs and passwords; a later start with the same directory goes on with them.
    pub directory: PathBuf,
    /// Two PostgreSQL servers, as in production, so that backups and custody of the key database are apart.
    pub separate_key_cluster: bool,
    /// Where programs are kept that this machine lacks.
    pub tools_directory: PathBuf,
    pub progress: Progress,
    pub random: SharedRandom,
}

impl StackOptions {
    /// Two clusters, the usual tools folder (`STRONGROOM_TOOLS`, else `.strongroom/tools`), no progress text.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let tools = std::env::var_os(TOOLS_VARIABLE).unwrap_or_else(|| TOOLS_DEFAULT.into());
        Self {
            directory: directory.into(),
            separate_key_cluster: true,
            tools_directory: tools.into(),
            progress: Arc::new(|_| {}),
            random: Arc::new(SystemRandom::default()),
        }
    }
}

/// Running parts. Dropping it stops them and waits for that, as does the end of this process for whatever reason.
pub struct Stack {
    pub data: Cluster,
    /// The same cluster as `data` unless two were asked for.
    pub keys: Cluster,
    pub vault: VaultServer,
    // Before the lock: another owner gets in only when nothing runs here.
    keeper: CloseOnDrop,
    place: Place,
}

impl Stack {
    /// Starts everything and waits until it takes requests. What was started is stopped again when this fails or is
    /// cancelled. Needs `/proc`: Linux.
    pub async fn start(options: StackOptions) -> Result<Self, DevStackError> {
        // reqwest looks for it even when it only speaks HTTP; installed already in the service and its tests.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let account = account::for_postgres()?;
        let place = Place::hold(&options.directory, account.as_ref())?;
        let mut state = place.state()?;
        let keeper = CloseOnDrop(Keeper::start()?);
        let tools = Tools {
            directory: options.tools_directory,
            keeper: Arc::clone(&keeper.0),
            progress: Arc::clone(&options.progress),
        };
        let home = place.cluster_home(&mut state, account.as_ref(), &*options.random)?;
        let postgres = find_postgres(&tools, account.as_ref(), &home, data_major(&home.join("data"))).await?;
        let program = find_vault(&tools).await?;
        announce(&options.progress, &postgres, &program, account.as_ref());

        let site = Site { place: &place, home: &home, postgres, account };
        let random = &*options.random;
        let data = Cluster::open(site.cluster("data"), state.data_port, Arc::clone(&keeper.0), random);
        let keys = async {
            if !options.separate_key_cluster {
                return Ok(None);
            }
            Cluster::open(site.cluster("keys"), state.keys_port, Arc::clone(&keeper.0), random)
                .await
                .map(Some)
        };
        let wanted = (state.vault_port, state.vault_peer_port);
        let vault = VaultServer::open(site.vault(program), wanted, Arc::clone(&keeper.0));
        let (data, keys, vault) = tokio::try_join!(data, keys, vault)?;

        place.save(&State {
            data_port: Some(data.port()),
            keys_port: keys.as_ref().map(Cluster::port).or(state.keys_port),
            vault_port: Some(vault.ports().api),
            vault_peer_port: Some(vault.ports().peer),
            service_port: state.service_port,
            cluster_home: state.cluster_home,
        })?;
        let keys = keys.unwrap_or_else(|| data.clone());
        Ok(Self { data, keys, vault, keeper, place })
    }

    /// The directory, as an absolute path.
    pub fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// A loopback port for the service: the one it had before, unless somebody else listens there now.
    pub fn service_port(&self) -> Result<u16, DevStackError> {
        let mut state = self.place.state()?;
        let port = free_port(state.service_port)?;
        state.service_port = Some(port);
        self.place.save(&state)?;
        Ok(port)
    }

    /// Starts `strongroom serve`, this same program, with a configuration. It ends with this stack at the latest.
    pub async fn serve(&self, config_file: &Path) -> Result<ServiceProcess, DevStackError> {
        ServiceProcess::start(&self.keeper.0, config_file, self.place.directory()).await
    }

    /// Stops everything cleanly. Handles that were cloned refer to stopped servers afterwards.
    pub async fn stop(self) {
        self.stop_parts().await;
    }

    /// Stops everything and removes data, keys and directory for good.
    pub async fn remove(self) -> Result<(), DevStackError> {
        self.stop_parts().await;
        place::remove(self.place.directory())
    }

    async fn stop_parts(&self) {
        // One after the other would be as right; together is quicker. Stopping twice does nothing.
        tokio::join!(self.data.stop(StopMode::Fast), self.keys.stop(StopMode::Fast), self.vault.stop());
    }
}

struct Site<'a> {
    place: &'a Place,
    home: &'a Path,
    postgres: Postgres,
    account: Option<Account>,
}

impl Site<'_> {
    fn cluster(&self, name: &str) -> ClusterFiles {
        ClusterFiles {
            programs: self.postgres.clone(),
            account: self.account.clone(),
            data: self.home.join(name),
            password_file: self.place.path(&format!("{name}.password")),
            log: self.place.path(&format!("{name}.log")),
        }
    }

    fn vault(&self, program: VaultProgram) -> VaultFiles {
        VaultFiles {
            program,
            storage: self.place.path("vault"),
            config: self.place.path("vault.json"),
            pid_file: self.place.path("vault.pid"),
            token_file: self.place.path("vault.token"),
            unseal_file: self.place.path("vault.unseal"),
            log: self.place.path("vault.log"),
        }
    }
}

fn announce(progress: &Progress, postgres: &Postgres, program: &VaultProgram, account: Option<&Account>) {
    let owner = account.map(|account| format!(" as {}", account.name())).unwrap_or_default();
    progress(&format!("PostgreSQL {}{owner}: {}", postgres.major, postgres.server.display()));
    progress(&format!("Vault API: {}", program.path.display()));
}
