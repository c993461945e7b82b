//! Real parts shared by the tests of this binary, a site on them, databases of one's own, and running services.

pub mod clearinghouse;
mod client;
pub mod clinic;
pub mod contract;
pub mod custody;
mod destination;
pub mod dice;
pub mod disk;
pub mod export;
pub mod large_log;
pub mod line;
pub mod log;
pub mod office;
pub mod old_log;
pub mod people;
pub mod ports;
mod provider;
pub mod proxy;
pub mod python;
mod raw;
mod rig;
pub mod samples;
mod service;
mod store;
pub mod tokens;
pub mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use strongroom::config::DatabaseConfig;
use strongroom::devstack::{ServerAddress, Site, SitePlan};
use strongroom::domain::secret::SecretBytes;
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

pub use client::{Client, problem, request_id};
pub use destination::{Destination, Does};
pub use provider::{Provider, Says};
pub use raw::{Raw, RawAnswer};
pub use rig::Rig;
pub use service::{PolicyChange, ServiceOptions, Strongroom, copy_folder, signal_hangup, with_cores};
pub use store::{Bucket, Store};

use crate::parts::Parts;

/// The user that administers the tests' cluster.
pub const ADMINISTRATOR: &str = strongroom::devstack::ADMINISTRATOR;
pub const NORTH: &str = "clinic-north";
const TEMPLATES: [&str; 2] = ["template_data", "template_keys"];

/// One PostgreSQL cluster and one Vault API for the whole run; they end with this process, however it ends.
pub fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| Parts::start(&["--one-cluster", "--ephemeral"]))
}

/// Vault set up, template databases migrated, a certificate for the server: once for the run.
pub async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(|| async {
        install_provider();
        let parts = parts();
        let server = ServerAddress {
            port: port(),
            administrator: ADMINISTRATOR.to_owned(),
            password_file: PathBuf::from(parts.text("/data/password_file")),
        };
        let plan = SitePlan {
            directory: PathBuf::from(parts.text("/directory")).join("site"),
            policy_directory: policy_directory(),
            data: server.clone(),
            keys: server,
            databases: TEMPLATES.map(str::to_owned),
            vault_address: parts.text("/vault/address").to_owned(),
            vault_token: SecretBytes::new(parts.secret("/vault/token_file").trim().as_bytes().to_vec()),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        on_shared_runtime(async { Site::build(plan, |_| {}).await.expect("the site of the tests is built") })
            .await
    })
    .await
}

/// Runs what uses the site's connections where they live on when a test, and with it its runtime, has ended.
pub async fn on_shared_runtime<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    });
    runtime.spawn(work).await.unwrap()
}

/// The two databases of one test, with the current schema.
pub struct Databases {
    pub data: DatabaseConfig,
    pub keys: DatabaseConfig,
}

impl Databases {
    /// The data database, as one of its roles or as its administrator.
    pub fn data_as(&self, role: &str) -> DatabaseConfig {
        as_role(&self.data, role, "data.password")
    }
}

/// Databases made from the migrated templates, used by nobody else.
pub async fn fresh_databases() -> Databases {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let site = site().await;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let names = ["data", "keys"].map(|which| format!("test_{number}_{which}"));
    let client = administrator("postgres").await;
    for (name, template) in names.iter().zip(TEMPLATES) {
        copy_template(&client, name, template).await;
    }
    let [data, keys] = names;
    Databases {
        data: DatabaseConfig { name: data, ..site.config.database.data.clone() },
        keys: DatabaseConfig { name: keys, ..site.config.database.keys.clone() },
    }
}

/// A superuser's connection to `database`, for what the service may not do.
pub async fn administrator(database: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(port())
        .user(ADMINISTRATOR)
        .password(parts().secret("/data/password_file").trim())
        .dbname(database)
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// The policy that ships.
pub fn policy_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policy")
}

/// rustls needs a provider in this process too.
pub fn install_provider() {
    // Another test may have installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Puts another file in its place, as an operator's editor would: nobody sees half of it.
pub fn replace_file(path: &Path, text: &str) {
    // In a folder of its own: whoever looks at the files of this one would see it come and go.
    let aside = path.with_extension("new");
    std::fs::create_dir_all(&aside).unwrap();
    let draft = aside.join("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, path).unwrap();
    std::fs::remove_dir(aside).unwrap();
}

impl Strongroom {
    /// Makes a change to the policy's files and waits until it is in force: that is on record before, and in the service's log
    /// after.
    pub async fn adopts(&self, change: impl FnOnce()) {
        let adopted = || self.log().iter().filter(|line| line.contains("policy.reloaded")).count();
        let before = adopted();
        change();
        eventually("the policy is in force", async || adopted() > before).await;
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Waits until `is_so` holds, looking again every 20 ms. Panics with `what` when 20 s are over.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let wait = async {
        while !is_so().await {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(), "not in time: {what}");
}

fn port() -> u16 {
    u16::try_from(parts().number("/data/port")).unwrap()
}

fn as_role(config: &DatabaseConfig, role: &str, password: &str) -> DatabaseConfig {
    let password_file = match role {
        ADMINISTRATOR => PathBuf::from(parts().text("/data/password_file")),
        "strongroom_audit_reader" => config.password_file.with_file_name("audit.password"),
        "strongroom_sequencer" => config.password_file.with_file_name("sequencer.password"),
        _ => config.password_file.with_file_name(password),
    };
    DatabaseConfig { user: role.to_owned(), password_file, ..config.clone() }
}

/// A template can be copied when nobody is connected to it; whoever built it may still be leaving.
async fn copy_template(client: &tokio_postgres::Client, name: &str, template: &str) {
    eventually("the template is free", async || {
        match client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await {
            Ok(()) => true,
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE) => false,
            Err(error) => panic!("cannot copy {template}: {error}"),
        }
    })
    .await;
}
