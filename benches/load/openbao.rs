//! The Vault API's own key-value store, as somebody would use it in place of Strongroom: KV version 2 behind TLS with
//! client certificates, a file audit device, Raft storage with one member.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::child::{Server, free_address};
use crate::connection::{Call, Connection, Target};
use crate::site::Site;

/// The server, and where and how the generator reaches it.
pub struct OpenBao {
    pub server: Server,
    pub target: Target,
}

impl OpenBao {
    /// Starts it with certificates of the site, initialises and unseals it, and mounts the store. To be called on the main
    /// thread; see [`Server::start`].
    pub fn start(site: &Site, protocol: &'static [u8], runtime: &tokio::runtime::Runtime) -> Result<Self> {
        let directory = site.stack.directory().join("openbao");
        std::fs::create_dir_all(directory.join("raft")).context("making OpenBao's directory")?;
        let (listen, peer) = (free_address()?, free_address()?);
        let config = directory.join("config.json");
        std::fs::write(&config, config_text(site, &directory, listen, peer).to_string())?;
        let config = config.to_str().context("the bench's directory is not UTF-8")?;
        let arguments = ["server".to_owned(), format!("-config={config}")];
        let log = directory.join("server.log");
        let mut server = Server::start("OpenBao", site.stack.vault.program(), &arguments, &log)?;
        let mut target = site.target(listen, protocol)?;
        let token = runtime.block_on(set_up(&mut server, &target, &directory.join("audit.log")))?;
        target.fixed_headers.push(("x-vault-token", token));
        runtime.block_on(until_writable(&target))?;
        Ok(Self { server, target })
    }
}

fn config_text(site: &Site, directory: &Path, listen: SocketAddr, peer: SocketAddr) -> Value {
    let tls = &site.config().server;
    let mut config = json!({
        "storage": { "raft": { "path": directory.join("raft"), "node_id": "bench", "performance_multiplier": 1 } },
        "listener": { "tcp": {
            "address": listen.to_string(),
            "cluster_address": peer.to_string(),
            "tls_cert_file": tls.certificate_file,
            "tls_key_file": tls.private_key_file,
            "tls_client_ca_file": tls.client_roots_file,
            "tls_require_and_verify_client_cert": true,
            "tls_min_version": "tls13",
        } },
        "api_addr": format!("https://{listen}"),
        "cluster_addr": format!("https://{peer}"),
        "ui": false,
        "log_level": "warn",
    });
    let is_openbao = site.stack.vault.program().file_name().is_some_and(|name| name == "bao");
    // OpenBao makes audit devices over the API only where it is told to; Vault locks memory unless it is told not to.
    let own = if is_openbao { "unsafe_allow_api_audit_creation" } else { "disable_mlock" };
    if let Some(members) = config.as_object_mut() {
        members.insert(own.to_owned(), true.into());
    }
    config
}

/// Returns the root token.
async fn set_up(server: &mut Server, target: &Target, audit_file: &Path) -> Result<String> {
    let start = std::time::Instant::now();
    let secrets = loop {
        server.check()?;
        match ask(target, "PUT", "/v1/sys/init", &json!({ "secret_shares": 1, "secret_threshold": 1 })).await
        {
            Ok(secrets) => break secrets,
            Err(error) if start.elapsed() > crate::stage::READY_LIMIT => return Err(error),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };
    let text = |path: &str| -> Result<String> {
        Ok(secrets.pointer(path).and_then(Value::as_str).context("an answer of OpenBao")?.to_owned())
    };
    ask(target, "PUT", "/v1/sys/unseal", &json!({ "key": text("/keys/0")? })).await?;
    let token = text("/root_token")?;
    let mut known = target.clone();
    known.fixed_headers.push(("x-vault-token", token.clone()));
    let device = json!({ "type": "file", "options": { "file_path": audit_file } });
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    for (path, body) in [("/v1/sys/audit/file", &device), ("/v1/sys/mounts/secret", &mount)] {
        let start = std::time::Instant::now();
        // It takes a moment until the one member has elected itself.
        while let Err(error) = ask(&known, "POST", path, body).await {
            if start.elapsed() > crate::stage::READY_LIMIT {
                return Err(error);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(token)
}

/// A new mount is made ready in the background.
async fn until_writable(target: &Target) -> Result<()> {
    let start = std::time::Instant::now();
    while let Err(error) = ask(target, "POST", "/v1/secret/data/ready", &json!({ "data": {} })).await {
        if start.elapsed() > crate::stage::READY_LIMIT {
            return Err(error);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn ask(target: &Target, method: &'static str, path: &str, body: &Value) -> Result<Value> {
    let call = Call { method, path: path.to_owned(), body: body.to_string().into_bytes(), ..Call::default() };
    let mut connection = Connection::open(target).await?;
    let (status, answer) = connection.exchange(&call).await?;
    ensure!((200..300).contains(&status), "OpenBao answered {status} to {path}");
    Ok(if answer.is_empty() { Value::Null } else { serde_json::from_slice(answer)? })
}
