//! A Vault of one's own for a test that seals it, kills it or changes its policies: the real server in its in-memory
//! development mode, with TLS, on loopback, gone when the test ends.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::Value;
use strongroom::config::VaultConfig;
use strongroom::domain::random::SystemRandom;
use strongroom::domain::secret::SecretBytes;
use strongroom::keys::Transit;
use strongroom::keys::bootstrap::{Bootstrap, BootstrapSettings};

use crate::support::ports::free_port;

pub const ENVIRONMENT: &str = "test";
pub const ROOT_TOKEN: &str = "root-of-a-test";

pub struct PrivateVault {
    child: Child,
    pub directory: PathBuf,
    address: String,
    client: reqwest::Client,
    unseal_key: mpsc::Receiver<String>,
}

impl PrivateVault {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let directory =
            std::env::temp_dir().join(format!("strongroom-it-vault-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let port = free_port();
        let program = crate::support::parts().text("/vault/program");
        let mut child = Command::new(program)
            .args(["server", "-dev", "-dev-tls", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .arg(format!("-dev-tls-cert-dir={}", directory.display()))
            .env("HOME", &directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program that the parts run");
        let unseal_key = unseal_key(&mut child);
        let address = format!("https://127.0.0.1:{port}");
        let roots = Self::roots(&directory).await;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(roots)
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let vault = Self { child, directory, address, client, unseal_key };
        let up = async {
            while vault.status("GET", "sys/health", ROOT_TOKEN, None).await != Some(200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), up).await.expect("the server starts");
        vault
    }

    /// The server writes its CA while it starts.
    async fn roots(directory: &std::path::Path) -> rustls::ClientConfig {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let file = directory.join(CA_FILE);
        let written = async {
            loop {
                if let Ok(certificate) = CertificateDer::from_pem_file(&file) {
                    return certificate;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let certificate = tokio::time::timeout(Duration::from_secs(20), written).await.expect("a CA file");
        let mut store = rustls::RootCertStore::empty();
        store.add(certificate).unwrap();
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth()
    }

    /// With `AppRole` files in the test's directory, which may not exist yet.
    pub fn config(&self) -> VaultConfig {
        toml::from_str(&format!(
            "address = \"{}\"\nroots_file = \"{}\"\ntimeout_ms = 3000\n\
             auth = {{ method = \"approle\", role_id_file = \"{}\", secret_id_file = \"{}\" }}",
            self.address,
            self.directory.join(CA_FILE).display(),
            self.directory.join("role-id").display(),
            self.directory.join("secret-id").display(),
        ))
        .unwrap()
    }

    pub fn bootstrap(&self) -> Bootstrap {
        let token = SecretBytes::new(ROOT_TOKEN.as_bytes().to_vec());
        Bootstrap::new(&self.config(), token, BootstrapSettings::default()).unwrap()
    }

    /// Set up, and the service's credentials in their files.
    #[expect(clippy::disallowed_methods, reason = "a secret id goes into its file")]
    pub async fn set_up(&self) {
        let bootstrap = self.bootstrap();
        bootstrap.run().await.unwrap();
        let credentials = bootstrap.new_service_credentials().await.unwrap();
        std::fs::write(self.directory.join("role-id"), &credentials.role_id).unwrap();
        std::fs::write(self.directory.join("secret-id"), credentials.secret_id.expose()).unwrap();
    }

    /// The service's client.
    pub fn service(&self) -> Transit {
        Transit::connect(&self.config(), ENVIRONMENT, Arc::new(SystemRandom::default())).unwrap()
    }

    /// The administrator's client.
    pub fn root(&self) -> Transit {
        let token = SecretBytes::new(ROOT_TOKEN.as_bytes().to_vec());
        Transit::with_token(&self.config(), ENVIRONMENT, token, Arc::new(SystemRandom::default())).unwrap()
    }

    /// Any request with any token; the status, or nothing when there was no answer.
    pub async fn status(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Option<u16> {
        self.send(method, path, token, body).await.map(|response| response.status().as_u16())
    }

    /// An administrator's request that must succeed; its answer.
    pub async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let response = self.send(method, path, ROOT_TOKEN, body).await.expect("an answer");
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub async fn seal(&self) {
        self.admin("PUT", "sys/seal", None).await;
    }

    /// Once: the key is read from the server's greeting.
    pub async fn unseal(&self) {
        let key = self.unseal_key.recv_timeout(Duration::from_secs(5)).unwrap();
        self.admin("PUT", "sys/unseal", Some(serde_json::json!({ "key": key }))).await;
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Option<reqwest::Response> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request =
            self.client.request(method, format!("{}/v1/{path}", self.address)).header("x-vault-token", token);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await.ok()
    }
}

const CA_FILE: &str = "vault-ca.pem";

impl Drop for PrivateVault {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Reads on to the end: a full pipe would stop the server. The development server prints its unseal key.
fn unseal_key(child: &mut Child) -> mpsc::Receiver<String> {
    let output = child.stdout.take().unwrap();
    let (found, key) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(key) = line.strip_prefix("Unseal Key: ") {
                let _ = found.send(key.trim().to_owned());
            }
        }
    });
    key
}

/// Waits for a condition, with a deadline.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(15), wait).await.is_ok(), "{what}");
}
