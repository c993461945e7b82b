//! Parts of one's own, for tests that stop, kill, freeze or seal them, or look at their files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use strongroom::devstack::{Cluster, ServerAddress, Site, SitePlan, Stack, StackOptions};
use tokio_postgres::{Client, NoTls};

use super::{ADMINISTRATOR, Databases, install_provider, policy_directory};
use crate::parts::Folder;

/// Two clusters and a Vault with a site on them; nobody else uses them, and they end with this value.
pub struct Rig {
    pub stack: Stack,
    pub site: Site,
    // After the stack, which lives in it.
    folder: Folder,
}

impl Rig {
    pub async fn start(name: &str) -> Self {
        install_provider();
        let folder = Folder::new(name);
        let stack = Stack::start(StackOptions::new(folder.path().join("stack"))).await.unwrap();
        let server = |cluster: &Cluster| ServerAddress {
            port: cluster.port(),
            administrator: ADMINISTRATOR.to_owned(),
            password_file: cluster.password_file().to_owned(),
        };
        let plan = SitePlan {
            directory: folder.path().join("site"),
            policy_directory: policy_directory(),
            data: server(&stack.data),
            keys: server(&stack.keys),
            databases: ["strongroom_data", "strongroom_keys"].map(str::to_owned),
            vault_address: stack.vault.address().to_owned(),
            vault_token: stack.vault.root_token().unwrap(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let site = Site::build(plan, |_| {}).await.unwrap();
        Self { stack, site, folder }
    }

    /// The migrated databases of the site.
    pub fn databases(&self) -> Databases {
        let database = &self.site.config.database;
        Databases { data: database.data.clone(), keys: database.keys.clone() }
    }

    /// A superuser's connection to the data database.
    pub async fn data(&self) -> Client {
        self.connect(&self.stack.data, "strongroom_data").await
    }

    /// A superuser's connection to the key database.
    pub async fn keys(&self) -> Client {
        self.connect(&self.stack.keys, "strongroom_keys").await
    }

    /// Holds everything that is on disk except the clusters' own folders.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    pub fn secret(&self, name: &str) -> PathBuf {
        self.site.directory.join("secrets").join(name)
    }

    /// Writes to Vault as its root.
    pub async fn write_vault(&self, path: &str, body: &serde_json::Value) {
        let token = std::fs::read_to_string(self.stack.vault.token_file()).unwrap();
        let url = format!("{}/v1/{path}", self.stack.vault.address());
        let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
        let answer = request.header("x-vault-token", token.trim()).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    async fn connect(&self, cluster: &Cluster, database: &str) -> Client {
        let password = std::fs::read_to_string(cluster.password_file()).unwrap();
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(cluster.port())
            .user(ADMINISTRATOR)
            .password(password.trim())
            .dbname(database)
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }
}
