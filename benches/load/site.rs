//! One installation on this machine, from nothing: parts, schema, keys, certificates and a configuration file, set up
//! with the calls that `strongroom migrate`, `bootstrap` and `cert` make.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use strongroom::config::{self, Config, DatabaseConfig};
use strongroom::devstack::{ADMINISTRATOR, Cluster, Stack, StackOptions};
use strongroom::domain::random::{Random, SystemRandom};
use strongroom::domain::secret::SecretBytes;
use strongroom::keys::bootstrap::{Bootstrap, BootstrapSettings};
use strongroom::keys::{CertificateRequest, IssuedCertificate, Transit};
use strongroom::storage::migrate::{Which, migrate, set_login};

use crate::connection::Target;
use crate::processor::Meter;

/// The app whose certificate the generator shows: it may create, read and change patients and messages.
const CLIENT: &str = "spiffe://strongroom.internal/client/clinic-north/portal";
const PURPOSE: &str = "TREAT";
const HOST: &str = "localhost";

pub struct Site {
    pub stack: Stack,
    pub config: Config,
    pub config_file: PathBuf,
    client: IssuedCertificate,
}

impl Site {
    /// Builds everything that `strongroom serve` needs. `directory` must not hold an older site.
    pub async fn build(directory: &Path) -> Result<Self> {
        let stack = Stack::start(StackOptions::new(directory)).await.context("starting the parts")?;
        let directory = stack.directory().to_owned();
        for folder in ["tls", "crl", "secrets"] {
            std::fs::create_dir_all(directory.join(folder))?;
        }
        let config_file = write_config(&stack, &directory)?;
        let config = config::load(&config_file)?;
        migrate_both(&stack, &config).await?;
        let client = certify(&stack, &config).await?;
        Ok(Self { stack, config, config_file, client })
    }

    /// A server of this site as the generator sees it.
    pub fn target(&self, address: SocketAddr, protocol: &'static [u8]) -> Result<Target> {
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(&self.config.server.client_roots_file)? {
            roots.add(root?)?;
        }
        let chain =
            CertificateDer::pem_slice_iter(self.client.chain_pem.as_bytes()).collect::<Result<_, _>>()?;
        #[expect(clippy::disallowed_methods, reason = "the generator is the client whose key this is")]
        let key = PrivateKeyDer::from_pem_slice(self.client.private_key_pem.expose())?;
        let mut tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![protocol.to_vec()];
        Ok(Target { address, server_name: ServerName::try_from(HOST)?, tls: Arc::new(tls), purpose: PURPOSE })
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

fn write_config(stack: &Stack, directory: &Path) -> Result<PathBuf> {
    // A TOML basic string with JSON's escapes (TOML 1.0, "String").
    let policy = serde_json::to_string(&std::env::current_dir()?.join("policy"))?;
    let listen = crate::child::free_address()?;
    let (data, keys, vault) = (stack.data.port(), stack.keys.port(), stack.vault.address());
    for name in ["data", "keys", "audit"] {
        write_secret(&directory.join(format!("secrets/{name}.password")), &random_text()?)?;
    }
    let database = |section: &str, port: u16, name: &str, user: &str, password: &str| {
        format!(
            "[database.{section}]\nhost = \"127.0.0.1\"\nport = {port}\nname = \"{name}\"\nuser = \"{user}\"\n\
             password_file = \"secrets/{password}.password\"\n"
        )
    };
    let text = format!(
        "environment = \"bench\"\n\
         [server]\nlisten = \"{listen}\"\ninstance = \"bench-1\"\ncertificate_file = \"tls/server.pem\"\n\
         private_key_file = \"tls/server.key\"\nclient_roots_file = \"tls/roots.pem\"\ncrl_directory = \"crl\"\n\
         {}{}{}\
         [vault]\naddress = \"{vault}\"\n\
         auth = {{ method = \"approle\", role_id_file = \"secrets/role-id\", secret_id_file = \"secrets/secret-id\" }}\n\
         [policy]\ndirectory = {policy}\n",
        database("data", data, "strongroom_data", "strongroom_app", "data"),
        database("keys", keys, "strongroom_keys", "strongroom_keys", "keys"),
        database("audit_export", data, "strongroom_data", "strongroom_audit_reader", "audit"),
    );
    let path = directory.join("strongroom.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

async fn migrate_both(stack: &Stack, config: &Config) -> Result<()> {
    let databases = &config.database;
    let administrator = |database: &DatabaseConfig, cluster: &Cluster| DatabaseConfig {
        user: ADMINISTRATOR.to_owned(),
        password_file: cluster.password_file().to_owned(),
        ..database.clone()
    };
    let data = administrator(&databases.data, &stack.data);
    let keys = administrator(&databases.keys, &stack.keys);
    migrate(&data, Which::Data).await.context("migrating the data database")?;
    migrate(&keys, Which::Keys).await.context("migrating the key database")?;
    for (server, login) in
        [(&data, &databases.data), (&data, &databases.audit_export), (&keys, &databases.keys)]
    {
        set_login(server, &login.user, &login.password_file).await.context("letting the service log in")?;
    }
    Ok(())
}

/// Sets the Vault API up and issues the certificates of the server and of the generator.
async fn certify(stack: &Stack, config: &Config) -> Result<IssuedCertificate> {
    let bootstrap = Bootstrap::new(&config.vault, stack.vault.root_token()?, BootstrapSettings::default())?;
    bootstrap.run().await.context("setting the Vault API up")?;
    let credentials = bootstrap.new_service_credentials().await?;
    let config::VaultAuth::AppRole { role_id_file, secret_id_file } = &config.vault.auth else {
        anyhow::bail!("the bench's own configuration has another login");
    };
    write_secret(role_id_file, credentials.role_id.as_bytes())?;
    write_secret(secret_id_file, exposed(&credentials.secret_id))?;
    let issuer = Transit::with_token(
        &config.vault,
        &config.environment,
        stack.vault.root_token()?,
        Arc::new(SystemRandom::default()),
    )?;
    let life_seconds = 24 * 3_600;
    let server = CertificateRequest {
        role: "server",
        dns_names: vec![HOST.to_owned()],
        life_seconds,
        ..CertificateRequest::default()
    };
    let server = issuer.issue(&server).await.context("issuing the server's certificate")?;
    std::fs::write(&config.server.certificate_file, &server.chain_pem)?;
    write_secret(&config.server.private_key_file, exposed(&server.private_key_pem))?;
    std::fs::write(
        &config.server.client_roots_file,
        issuer.ca_certificate(strongroom::keys::PkiMount::Root).await?,
    )?;
    let uri = Some(CLIENT.to_owned());
    let client = CertificateRequest { role: "client", uri, life_seconds, ..CertificateRequest::default() };
    issuer.issue(&client).await.context("issuing the generator's certificate")
}

#[expect(clippy::disallowed_methods, reason = "into a file that only the service's owner reads")]
fn exposed(secret: &SecretBytes) -> &[u8] {
    secret.expose()
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(bytes)?)
}

fn random_text() -> Result<Vec<u8>> {
    let mut bytes = [0; 24];
    SystemRandom::default().fill(&mut bytes).context("no randomness")?;
    Ok(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect())
}
