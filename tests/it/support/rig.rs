//! Parts of one's own, for tests that stop, kill, freeze or seal them, or look at their files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use strongroom::devstack::{Cluster, ServerAddress, Site, SitePlan, Stack, StackOptions, StopMode};
use tokio_postgres::{Client, NoTls};

use super::disk::SmallDisk;
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

    /// Moves the data cluster, restarted for it, to a file system of its own of so many bytes. `None` where this user may
    /// not mount one.
    pub async fn put_data_on_a_small_disk(&self, bytes: u64) -> Option<SmallDisk> {
        let data = &self.stack.data;
        let superuser = self.data().await;
        // Else PostgreSQL keeps up to a gigabyte of WAL.
        for setting in ["max_wal_size = '64MB'", "min_wal_size = '32MB'"] {
            superuser.execute(&format!("ALTER SYSTEM SET {setting}"), &[]).await.unwrap();
        }
        data.stop(StopMode::Fast).await;
        let disk = SmallDisk::under(data.data_directory(), bytes);
        data.start().await.unwrap();
        disk
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

    /// Every record has its subject and its entry, and the other way round: nothing is half written.
    pub async fn is_whole(&self, what: &str) {
        const SQL: &str = "SELECT (SELECT count(*) FROM record r LEFT JOIN audit_outbox o \
             ON o.tenant_id = r.tenant_id AND o.entry_id = r.audit_entry_id WHERE o.entry_id IS NULL), \
             (SELECT count(*) FROM audit_outbox o LEFT JOIN \
              (SELECT tenant_id, audit_entry_id FROM record UNION ALL \
               SELECT tenant_id, audit_entry_id FROM record_history) r \
             ON o.tenant_id = r.tenant_id AND o.entry_id = r.audit_entry_id WHERE r.audit_entry_id IS NULL), \
             (SELECT count(*) FROM subject s LEFT JOIN record r \
             ON s.tenant_id = r.tenant_id AND s.subject_id = r.subject_id WHERE r.record_id IS NULL)";
        let row = self.data().await.query_one(SQL, &[]).await.unwrap();
        let odd: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        assert_eq!(
            odd, [0; 3],
            "{what}: records without entries, entries without records, subjects without records"
        );
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
