//! A whole installation on this machine, from the parts to a service that is ready: what `dev` and `demo` share.

mod client;
mod log;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

pub(super) use client::{Answer, Application};
pub(super) use log::ServiceLog;

use crate::devstack::{
    ADMINISTRATOR, ClientFiles, Cluster, ServerAddress, ServiceProcess, Site, SitePlan, Stack,
};

/// The tenant that `dev` and `demo` act as.
pub(super) const TENANT: &str = "clinic-north";

/// A start on two cores in a debug build takes about three seconds.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// A running service on running parts.
pub(super) struct Local {
    // Before the stack, which would end it less kindly.
    pub service: ServiceProcess,
    pub log: ServiceLog,
    pub site: Site,
    pub stack: Stack,
    clients: BTreeMap<String, ClientFiles>,
}

impl Local {
    /// Starts the service on `site` and waits until it is ready. Stops everything when it fails.
    pub async fn open(stack: Stack, site: Site) -> Result<Self> {
        let clients = site.issue_all().await?.into_iter().collect();
        let service = stack.serve(&site.config_file).await?;
        let log = ServiceLog::of(&service);
        let mut local = Self { service, log, site, stack, clients };
        local.wait_until_ready().await?;
        Ok(local)
    }

    /// Where the service listens.
    pub fn address(&self) -> SocketAddr {
        self.site.config.server.listen
    }

    /// Certificate and key of a client of [`TENANT`].
    pub fn files(&self, client: &str) -> Result<&ClientFiles> {
        self.files_of(TENANT, client)
    }

    /// Certificate and key of any tenant's client.
    pub fn files_of(&self, tenant: &str, client: &str) -> Result<&ClientFiles> {
        let found = self.clients.get(&format!("{tenant}-{client}"));
        found.with_context(|| format!("policy/identities.toml has no client {client} of {tenant}"))
    }

    /// An application with the certificate of a client of [`TENANT`].
    pub fn application(&self, client: &str) -> Result<Application> {
        self.application_with(self.files(client)?)
    }

    /// An application with any certificate.
    pub fn application_with(&self, files: &ClientFiles) -> Result<Application> {
        Application::new(self.address(), self.site.roots_file(), files)
    }

    /// How many certificates were issued.
    pub fn certificates(&self) -> usize {
        self.clients.len()
    }

    /// Drains the service, then stops the parts. Whether the service ended well.
    pub async fn stop(mut self) -> (bool, Stack) {
        let ended_well = self.service.stop().await;
        (ended_well, self.stack)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let operator = self.application("operator")?;
        let deadline = Instant::now() + READY_LIMIT;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            if operator.get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.service.ended() {
                return Err(self.failed(&format!("the service ended ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.failed("the service was not ready in time"));
            }
        }
    }

    fn failed(&mut self, what: &str) -> anyhow::Error {
        let last = self.log.new_troubles().pop().unwrap_or_else(|| String::from("nothing"));
        anyhow!("{what}; its log {} ends with: {last}", self.log.path().display())
    }
}

/// Sets up Vault, the databases and the certificates of a stack, in `site` beside the parts.
pub(super) async fn build_site(stack: &Stack, policy: PathBuf, progress: impl FnMut(&str)) -> Result<Site> {
    let server = |cluster: &Cluster| ServerAddress {
        port: cluster.port(),
        administrator: ADMINISTRATOR.to_owned(),
        password_file: cluster.password_file().to_owned(),
    };
    let plan = SitePlan {
        directory: stack.directory().join("site"),
        policy_directory: policy,
        data: server(&stack.data),
        keys: server(&stack.keys),
        databases: ["strongroom_data", "strongroom_keys"].map(str::to_owned),
        vault_address: stack.vault.address().to_owned(),
        vault_token: stack.vault.root_token()?,
        listen: SocketAddr::from(([127, 0, 0, 1], stack.service_port()?)),
    };
    Ok(Site::build(plan, progress).await?)
}

/// A file or folder of the project: what was asked for, else the one below the working directory, below the package that
/// cargo runs, or beside the program (`target/debug/strongroom` is below its project). Absolute.
pub(super) fn find_in_project(wanted: Option<&Path>, relative: &str) -> Result<PathBuf> {
    if let Some(path) = wanted {
        return path.canonicalize().with_context(|| format!("cannot find {}", path.display()));
    }
    let mut bases = vec![PathBuf::from(".")];
    bases.extend(std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from));
    if let Ok(program) = std::env::current_exe() {
        bases.extend(program.ancestors().skip(1).map(Path::to_owned));
    }
    let found = bases.iter().map(|base| base.join(relative)).find(|path| path.exists());
    match found {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {relative}")),
        None => bail!("there is no {relative} here; run this in Strongroom's folder, or say where it is"),
    }
}
