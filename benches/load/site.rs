//! One installation on this machine, from nothing, as the demo and the tests have it; and the two ways in that the bench
//! needs: the generator's certificate, and the database administrator.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use strongroom::config::Config;
use strongroom::devstack::{
    ADMINISTRATOR, ClientFiles, Cluster, ServerAddress, Site as Installation, SitePlan, Stack, StackOptions,
};

use crate::child::free_address;
use crate::connection::Target;
use crate::processor::Meter;

/// The app whose certificate the generator shows: it may create, read and change patients and messages.
const CLIENT: &str = "spiffe://strongroom.internal/client/clinic-north/portal";
const PURPOSE: &str = "TREAT";
const HOST: &str = "localhost";

pub struct Site {
    pub stack: Stack,
    pub installation: Installation,
    client: ClientFiles,
}

impl Site {
    /// Builds everything that `strongroom serve` needs. `directory` must not hold an older site.
    pub async fn build(directory: &Path, progress: impl FnMut(&str)) -> Result<Self> {
        let stack = Stack::start(StackOptions::new(directory)).await.context("starting the parts")?;
        let address = |cluster: &Cluster| ServerAddress {
            port: cluster.port(),
            administrator: ADMINISTRATOR.to_owned(),
            password_file: cluster.password_file().to_owned(),
        };
        let plan = SitePlan {
            directory: stack.directory().to_owned(),
            policy_directory: policy_of_the_bench(&stack.directory().join("policy-of-the-bench"))?,
            data: address(&stack.data),
            keys: address(&stack.keys),
            databases: ["strongroom_data".to_owned(), "strongroom_keys".to_owned()],
            vault_address: stack.vault.address().to_owned(),
            vault_token: stack.vault.root_token()?,
            listen: free_address()?,
        };
        let installation = Installation::build(plan, progress).await?;
        let client = installation.issue("generator", "client", CLIENT).await?;
        Ok(Self { stack, installation, client })
    }

    pub fn config(&self) -> &Config {
        &self.installation.config
    }

    /// A server of this site as the generator sees it.
    pub fn target(&self, address: SocketAddr, protocol: &'static [u8]) -> Result<Target> {
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(self.installation.roots_file())? {
            roots.add(root?)?;
        }
        let chain = CertificateDer::pem_file_iter(&self.client.certificate)?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&self.client.private_key)?;
        let mut tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![protocol.to_vec()];
        let server_name = ServerName::try_from(HOST)?;
        let (tls, fixed_headers) = (Arc::new(tls), Vec::new());
        Ok(Target { address, server_name, tls, purpose: PURPOSE, fixed_headers })
    }

    /// The administrator's access to the data server.
    pub fn data_server(&self) -> Result<tokio_postgres::Config> {
        let mut server = tokio_postgres::Config::new();
        let password = std::fs::read(self.stack.data.password_file())?;
        server.host("127.0.0.1").port(self.stack.data.port()).user(ADMINISTRATOR).password(password);
        Ok(server)
    }

    /// Both PostgreSQL servers.
    pub async fn postgres(&self) -> Result<Meter> {
        let data = self.stack.data.process_id().await.context("the data server has ended")?;
        let keys = self.stack.keys.process_id().await.context("the key server has ended")?;
        Ok(Meter::Families(if data == keys { vec![data] } else { vec![data, keys] }))
    }
}

/// The shipped policy, with limits that no generator reaches, which are counted like any other, and with patients in batches for
/// the generator's app, which it may otherwise read one by one.
fn policy_of_the_bench(directory: &Path) -> Result<PathBuf> {
    let shipped = std::env::current_dir()?.join("policy");
    for folder in ["", "collections"] {
        std::fs::create_dir_all(directory.join(folder))?;
        for entry in std::fs::read_dir(shipped.join(folder))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), directory.join(folder).join(entry.file_name()))?;
            }
        }
    }
    let numbers = "requests_per_minute = 60_000_000\nrequests_at_once = 60_000_000\n\
                   records_per_hour = 1_000_000_000\nrecords_at_once = 1_000_000_000\n";
    let limits = format!("[default.client]\n{numbers}[default.person]\n{numbers}");
    std::fs::write(directory.join("limits.toml"), limits)?;
    let batches = "@id(\"bench-reads-patients-together\")\n\
                   permit (principal in Role::\"portal\", action == Action::\"read_many\", \
                   resource == Collection::\"patients\")\n\
                   when { context has purpose && context.purpose == Purpose::\"TREAT\" };\n";
    std::fs::write(directory.join("bench.cedar"), batches)?;
    Ok(directory.to_owned())
}
