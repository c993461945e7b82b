//! `strongroom witness` as a process.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use strongroom::audit::checkpoint::VerifierKey;

use super::ports::free_port;
use super::{Client, Strongroom};

/// Who may ask it.
pub const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";

/// A witness that shares the certificates and revocation lists of a service; of that it needs nothing else.
pub struct WitnessProcess {
    folder: PathBuf,
    child: Child,
    address: SocketAddr,
}

impl WitnessProcess {
    /// In a new folder, for one log from its first entry on.
    pub async fn start(strongroom: &Strongroom, folder: &Path, log_key: &VerifierKey, origin: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let server = &strongroom::config::load(&strongroom.site().await.config_file).unwrap().server;
        let crls = strongroom.policy_directory.parent().unwrap().join("crl");
        let identities = strongroom.policy_directory.join("identities.toml");
        let text = format!(
            "name = \"audit.test/w1\"\nkey_file = \"key\"\nlogs_file = \"logs\"\nstate_directory = \"state\"\n\
             [server]\nlisten = \"127.0.0.1:0\"\ncertificate_file = {:?}\nprivate_key_file = {:?}\n\
             client_roots_file = {:?}\ncrl_directory = {crls:?}\nidentities_file = {identities:?}\n",
            server.certificate_file, server.private_key_file, server.client_roots_file
        );
        let config = folder.join("witness.toml");
        std::fs::write(&config, text).unwrap();
        std::fs::write(folder.join("logs"), format!("log {log_key}\nquorum none\n")).unwrap();
        let key = command(&config, &["witness", "key"]);
        assert_eq!(command(&config, &["witness", "key"]), key, "made once");
        command(&config, &["witness", "begin", origin]);
        let (child, address) = launch(&config, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        Self { folder: folder.to_owned(), child, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a log finds it.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.address.port())
    }

    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its public key, as it prints it.
    pub fn verifier(&self) -> VerifierKey {
        let printed = command(&self.folder.join("witness.toml"), &["witness", "key"]);
        VerifierKey::parse(printed.trim()).unwrap()
    }

    /// Somebody with a certificate of this name.
    pub async fn client(&self, strongroom: &Strongroom, uri: &str) -> Client {
        let (_, files) = strongroom.client_with("client", uri).await;
        Client::new(self.address, strongroom.site().await.roots_file(), Some(&files))
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// At the same address.
    pub fn restart(&mut self) {
        (self.child, self.address) = launch(&self.folder.join("witness.toml"), self.address);
    }
}

impl Drop for WitnessProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(config: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    let output = command.args(arguments).arg("--config").arg(config).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Starts it and waits until it says where it listens.
fn launch(config: &Path, address: SocketAddr) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(["witness", "serve", "--config"]).arg(config);
    command.env("STRONGROOM__SERVER__LISTEN", address.to_string());
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.by_ref().find_map(|line| {
        let event: Value = serde_json::from_str(&line).ok()?;
        event["listen"].as_str()?.parse().ok()
    });
    // Read to the end, so that it never waits for somebody to read.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address.expect("the witness listens"))
}
