//! A running service: the real program, on databases of its own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use strongroom::devstack::{ClientFiles, Site};
use strongroom::tls::Identities;

use super::ports::free_port;
use super::{Bucket, Client, Databases, NORTH, Raw, Rig, eventually, fresh_databases, site};

/// Before the names of applications in certificates.
const CLIENTS: &str = "spiffe://strongroom.internal/client";

/// Changes the files in a folder.
pub type PolicyChange = Box<dyn FnOnce(&Path) + Send>;

/// How a service differs from the usual one.
#[derive(Default)]
pub struct ServiceOptions {
    /// `STRONGROOM__SECTION__KEY` and its value, over the site's configuration.
    pub settings: Vec<(String, String)>,
    /// Default: fresh copies of the template, or the rig's own.
    pub databases: Option<Databases>,
    /// Parts to run on; default: the shared ones.
    pub rig: Option<Arc<Rig>>,
    /// Where it runs, with cores allowed that are as large as they like.
    pub core_directory: Option<PathBuf>,
    /// Changes its copy of the policy before it starts.
    pub policy: Option<PolicyChange>,
    /// Where its log goes, instead of a directory.
    pub bucket: Option<Bucket>,
}

/// A service that ends with this value.
pub struct Strongroom {
    child: Mutex<Child>,
    pub address: SocketAddr,
    /// Its own copy of the policy, for tests that change it.
    pub policy_directory: PathBuf,
    pub databases: Databases,
    rig: Option<Arc<Rig>>,
    config_file: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    core_directory: Option<PathBuf>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Strongroom {
    /// Starts the usual service and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(ServiceOptions::default()).await
    }

    pub async fn start_with(options: ServiceOptions) -> Self {
        let service = Self::spawn(options).await;
        service.wait_until_ready().await;
        service
    }

    /// Starts a service and waits until it listens, ready or not.
    pub async fn spawn(options: ServiceOptions) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let rig = options.rig;
        let site = site_of(rig.as_deref()).await;
        let databases = match (options.databases, &rig) {
            (Some(databases), _) => databases,
            (None, Some(rig)) => rig.databases(),
            (None, None) => fresh_databases().await,
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = site.directory.join(format!("service-{number}"));
        let policy_directory = directory.join("policy");
        copy_folder(&super::policy_directory(), &policy_directory);
        if let Some(change) = options.policy {
            change(&policy_directory);
        }
        std::fs::create_dir_all(directory.join("crl")).unwrap();
        let setting = |key: &str, value: String| (format!("STRONGROOM__{key}"), value);
        let listen = format!("127.0.0.1:{}", free_port());
        let mut environment = vec![
            setting("SERVER__LISTEN", listen),
            setting("DATABASE__DATA__NAME", databases.data.name.clone()),
            setting("DATABASE__AUDIT_EXPORT__NAME", databases.data.name.clone()),
            setting("DATABASE__AUDIT_SEQUENCER__NAME", databases.data.name.clone()),
            setting("DATABASE__KEYS__NAME", databases.keys.name.clone()),
            setting("DATABASE__KEY_ERASER__NAME", databases.keys.name.clone()),
            setting("DATABASE__KEY_ROTATOR__NAME", databases.keys.name.clone()),
            setting("POLICY__DIRECTORY", policy_directory.display().to_string()),
            setting("SERVER__CRL_DIRECTORY", directory.join("crl").display().to_string()),
        ];
        let config_file = match &options.bucket {
            Some(bucket) => with_bucket(site, bucket, &format!("service-{number}.toml")),
            None => {
                let log = directory.join("log").display().to_string();
                environment.push(setting("AUDIT__EXPORT__DIRECTORY", log));
                site.config_file.clone()
            }
        };
        environment.extend(options.settings);
        let log = Arc::new(Mutex::new(Vec::new()));
        let core_directory = options.core_directory;
        let (child, address) = launch(&config_file, &environment, core_directory.as_deref(), &log).await;
        let child = Mutex::new(child);
        Self {
            child,
            address,
            policy_directory,
            databases,
            rig,
            config_file,
            directory,
            environment,
            core_directory,
            log,
        }
    }

    /// Waits until `/readyz` says so.
    pub async fn wait_until_ready(&self) {
        let client = self.client("operator").await;
        eventually("the service is ready", async || {
            client.try_get("/readyz").await.is_some_and(|answer| answer.status() == 200)
        })
        .await;
    }

    /// A client of clinic-north by its name in `identities.toml`, with a certificate of its own.
    pub async fn client(&self, name: &str) -> Client {
        self.client_of(NORTH, name).await
    }

    pub async fn client_of(&self, tenant: &str, name: &str) -> Client {
        let identities = Identities::load(&super::policy_directory().join("identities.toml")).unwrap();
        let tenant_id = identities.tenant(tenant).unwrap();
        let (san, identity) = identities
            .iter()
            .find(|(_, identity)| identity.tenant == tenant_id && &*identity.client == name)
            .unwrap_or_else(|| panic!("{tenant} has no client {name}"));
        let role = match identity.kind.as_str() {
            "app" => "client",
            "auditor" => "auditor",
            "custodian" => "custodian",
            _ => "operator",
        };
        self.client_with(role, san).await.0
    }

    /// A tenant's id, by its name in `identities.toml`.
    pub fn tenant(&self, name: &str) -> uuid::Uuid {
        let identities = Identities::load(&self.policy_directory.join("identities.toml")).unwrap();
        *identities.tenant(name).unwrap().as_uuid()
    }

    /// A client with a fresh certificate for any URI, and the certificate's files.
    pub async fn client_with(&self, role: &'static str, uri: &str) -> (Client, ClientFiles) {
        self.client_for(role, uri, 3_600).await
    }

    /// The same, with a certificate that lives so long.
    pub async fn client_for(
        &self,
        role: &'static str,
        uri: &str,
        life_seconds: u64,
    ) -> (Client, ClientFiles) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let site = self.site().await;
        let name = format!("client-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let uri = uri.to_owned();
        let rig = self.rig.clone();
        let issue = async move {
            let site = site_of(rig.as_deref()).await;
            site.issue_for(&name, role, &uri, life_seconds).await.unwrap()
        };
        let files = super::on_shared_runtime(issue).await;
        (Client::new(self.address, site.roots_file(), Some(&files)), files)
    }

    /// A connection of a client, byte by byte; HTTP/1.1.
    pub async fn raw_client(&self, name: &str) -> Raw {
        let (_, files) = self.client_with("client", &format!("{CLIENTS}/{NORTH}/{name}")).await;
        Raw::new(self.address, self.site().await.roots_file(), &files)
    }

    /// A client without a certificate.
    pub async fn stranger(&self) -> Client {
        Client::new(self.address, self.site().await.roots_file(), None)
    }

    /// Runs another command of the program on this service's configuration: exit code, standard output and error.
    pub async fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.program(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Such a command, not yet begun.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(arguments).arg("--config").arg(&self.config_file);
        command.envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// The most memory that the process has had so far (`VmHWM`).
    pub fn peak_memory_kib(&self) -> u64 {
        self.process_status("VmHWM").unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// A line of proc(5), `/proc/pid/status`, behind its name.
    pub fn process_status(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id())).unwrap();
        status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// Waits until a line of the service's log is the one. The log comes through a pipe: a line may be read only after the
    /// answer that was given behind it.
    pub async fn logs(&self, what: &str, is_it: impl Fn(&str) -> bool) {
        eventually(what, async || self.log().iter().any(|line| is_it(line))).await;
    }

    /// What the service has logged so far, a JSON text a line. Not all that it will have: see [`Self::logs`].
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Where it writes its log as files.
    pub fn log_directory(&self) -> PathBuf {
        self.directory.join("log")
    }

    pub fn process_id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// SIGKILL, then the same service again on the same port.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.restart().await;
    }

    /// SIGKILL.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGABRT, as of a defect that aborts; how it ended.
    pub async fn crash(&self) -> ExitStatus {
        signal(self.process_id(), rustix::process::Signal::ABORT);
        let mut status = None;
        eventually("the service crashes", async || {
            status = self.child.lock().unwrap().try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        signal(self.process_id(), rustix::process::Signal::STOP);
    }

    /// Lets a frozen service go on.
    pub fn thaw(&self) {
        signal(self.process_id(), rustix::process::Signal::CONT);
    }

    /// Starts it again after it ended, on the same port, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.relaunch().await;
        self.wait_until_ready().await;
    }

    /// Starts it again after it ended, on the same port, ready or not.
    pub async fn relaunch(&mut self) {
        let cores = self.core_directory.as_deref();
        let (child, address) = launch(&self.config_file, &self.environment, cores, &self.log).await;
        assert_eq!(address, self.address);
        *self.child.lock().unwrap() = child;
    }

    /// Waits until it ends by itself, and gives its exit code.
    pub async fn ended(&self) -> Option<i32> {
        let mut status = None;
        eventually("the service ends", async || {
            status = self.child.lock().unwrap().try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }

    /// SIGTERM; whether it ended well.
    pub async fn stop(&self) -> bool {
        terminate(self.process_id());
        let mut status = None;
        eventually("the service stops", async || {
            status = self.child.lock().unwrap().try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.is_some_and(|status| status.success())
    }

    /// What its parts and certificates belong to.
    pub async fn site(&self) -> &Site {
        site_of(self.rig.as_deref()).await
    }

    /// A superuser's connection to its data database.
    pub async fn data(&self) -> tokio_postgres::Client {
        match &self.rig {
            Some(rig) => rig.data().await,
            None => super::administrator(&self.databases.data.name).await,
        }
    }

    /// A superuser's connection to its key database.
    pub async fn keys(&self) -> tokio_postgres::Client {
        match &self.rig {
            Some(rig) => rig.keys().await,
            None => super::administrator(&self.databases.keys.name).await,
        }
    }

    /// What was done, oldest first: every entry but those that chains have about themselves and those of new revocation lists,
    /// which other tests publish: they come when they come.
    pub async fn entries(&self) -> Vec<Value> {
        let mut entries = self.all_entries().await;
        let others = ["instance.attest", "chain.flush", "chain.end", "revocation.load"];
        entries.retain(|entry| !others.iter().any(|act| entry["act"] == *act));
        entries
    }

    /// Every audit entry of the service's own database, read around the service: oldest first, and those of one batch as
    /// they are chained. Ids that were made within one millisecond are in no order.
    pub async fn all_entries(&self) -> Vec<Value> {
        let client = self.data().await;
        let rows = client
            .query(
                "SELECT entry FROM (SELECT entry_id, entry FROM audit_entry UNION ALL \
                 SELECT entry_id, entry FROM audit_outbox) AS every ORDER BY entry_id",
                &[],
            )
            .await
            .unwrap();
        let mut entries: Vec<Value> =
            rows.iter().map(|row| serde_json::from_slice(row.get::<_, &[u8]>(0)).unwrap()).collect();
        entries.sort_by_cached_key(|entry| {
            (entry["ts"].as_str().unwrap().to_owned(), entry["chain"]["seq"].as_u64())
        });
        entries
    }

    /// Entries of one request, by the id in its answer.
    pub async fn entries_of_request(&self, id: &str) -> Vec<Value> {
        self.entries().await.into_iter().filter(|entry| entry["req"]["id"] == id).collect()
    }

    /// The one entry of a request.
    pub async fn entry_of(&self, id: &str) -> Value {
        let mut entries = self.entries_of_request(id).await;
        assert_eq!(entries.len(), 1, "{entries:#?}");
        entries.remove(0)
    }

    /// Entries of one act.
    pub async fn entries_of(&self, act: &str) -> Vec<Value> {
        self.all_entries().await.into_iter().filter(|entry| entry["act"] == act).collect()
    }
}

impl Drop for Strongroom {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let tail: Vec<String> = self.log.lock().unwrap().iter().rev().take(20).rev().cloned().collect();
            eprintln!("the service's last log lines:\n{}", tail.join("\n"));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The site's configuration with the log in this bucket: a file beside it, since it names others from there.
fn with_bucket(site: &Site, bucket: &Bucket, name: &str) -> PathBuf {
    let text = std::fs::read_to_string(&site.config_file).unwrap();
    let (before, rest) = text.split_once("[audit.export]").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let file = site.config_file.with_file_name(name);
    std::fs::write(&file, format!("{before}{}{after}", bucket.section())).unwrap();
    file
}

async fn site_of(rig: Option<&Rig>) -> &Site {
    match rig {
        Some(rig) => &rig.site,
        None => site().await,
    }
}

async fn launch(
    config_file: &Path,
    environment: &[(String, String)],
    core_directory: Option<&Path>,
    log: &Arc<Mutex<Vec<String>>>,
) -> (Child, SocketAddr) {
    let variables: HashMap<_, _> = environment.iter().cloned().collect();
    let program = env!("CARGO_BIN_EXE_strongroom");
    let mut command = match core_directory {
        None => Command::new(program),
        Some(directory) => with_cores(directory, &[program]),
    };
    let mut child = command
        .arg("serve")
        .arg("--config")
        .arg(config_file)
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test starts");
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let kept = Arc::clone(log);
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut tell = Some(tell);
        for line in lines.map_while(Result::ok) {
            if let Some(address) = listening(&line)
                && let Some(tell) = tell.take()
            {
                let _ = tell.send(address);
            }
            kept.lock().unwrap().push(line);
        }
    });
    let address = tokio::time::timeout(std::time::Duration::from_secs(30), told).await;
    match address {
        Ok(Ok(address)) => (child, address),
        _ => panic!("the service did not listen: {}", log.lock().unwrap().join("\n")),
    }
}

/// A program that may leave a core in `directory`, as far as this user may allow it.
pub fn with_cores(directory: &Path, program: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited || ulimit -c \"$(ulimit -H -c)\"; exec \"$@\"", "sh"]);
    command.args(program).current_dir(directory);
    command
}

fn listening(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["message"] == "service.listening").then(|| event["listen"].as_str()?.parse().ok()).flatten()
}

fn terminate(process_id: u32) {
    signal(process_id, rustix::process::Signal::TERM);
}

/// SIGHUP.
pub fn signal_hangup(process_id: u32) {
    signal(process_id, rustix::process::Signal::HUP);
}

fn signal(process_id: u32, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(i32::try_from(process_id).unwrap()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

/// A folder and what is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
