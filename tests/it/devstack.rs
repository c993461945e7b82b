//! The local stack itself: what it keeps, and that nothing outlives it.

use std::time::Duration;

use serde_json::{Value, json};
use strongroom::devstack::{ADMINISTRATOR, Cluster, Stack, StackOptions, StopMode};
use tokio_postgres::{Client, NoTls};

use crate::parts::{Folder, Parts, eventually};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_restart_keeps_data_keys_and_ports() {
    let folder = Folder::new("restart");
    let arguments = ["--one-cluster", "--directory", folder.path().to_str().unwrap()];
    let parts = Parts::start(&arguments);
    let port = parts.number("/data/port");
    assert_eq!(port, parts.number("/keys/port"), "one cluster was asked for");
    connect(port, &parts.secret("/data/password_file"))
        .await
        .unwrap()
        .batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        .await
        .unwrap();
    vault(&parts, "sys/mounts/transit", json!({ "type": "transit" })).await;
    vault(&parts, "transit/keys/kept", json!({})).await;
    let sealed = vault(&parts, "transit/encrypt/kept", json!({ "plaintext": "c2V2ZW4=" })).await;
    let ciphertext = sealed.pointer("/data/ciphertext").unwrap().clone();
    assert!(parts.end());

    let parts = Parts::start(&arguments);
    assert_eq!(parts.number("/data/port"), port);
    let client = connect(port, &parts.secret("/data/password_file")).await.unwrap();
    let kept: i32 = client.query_one("SELECT n FROM kept", &[]).await.unwrap().get(0);
    assert_eq!(kept, 7);
    let opened = vault(&parts, "transit/decrypt/kept", json!({ "ciphertext": ciphertext })).await;
    assert_eq!(opened.pointer("/data/plaintext").unwrap(), "c2V2ZW4=");
    drop(client);
    assert!(parts.end());
}

#[tokio::test]
async fn nothing_is_left_when_standard_input_closes_or_the_owner_is_killed() {
    let parts = Parts::start(&["--ephemeral"]);
    let (servers, directory) = (parts.process_ids(), parts.text("/directory").to_owned());
    let data = parts.text("/data/data_directory").to_owned();
    assert!(servers.iter().all(|id| runs(*id)));
    assert!(parts.end());
    assert!(!servers.iter().any(|id| runs(*id)), "an orderly end waits for its servers");
    assert!(!std::path::Path::new(&directory).exists() && !std::path::Path::new(&data).exists());

    let folder = Folder::new("killed");
    let arguments = ["--directory", folder.path().to_str().unwrap()];
    let parts = Parts::start(&arguments);
    let servers = parts.process_ids();
    parts.kill_owner();
    eventually("servers of a killed owner are gone", LIMIT, || !servers.iter().any(|id| runs(*id))).await;
    // And what it left on disk does not keep the next one from starting.
    assert!(Parts::start(&arguments).end());
}

#[tokio::test]
async fn one_directory_has_one_owner() {
    let parts = Parts::start(&["--ephemeral", "--one-cluster"]);
    let second = StackOptions::new(parts.text("/directory"));
    let refused = Stack::start(second).await.err().unwrap();
    assert!(refused.to_string().contains("in use"), "{refused}");
    assert!(runs(parts.owner().into()));
}

#[tokio::test]
async fn servers_can_be_killed_frozen_sealed_and_brought_back() {
    let folder = Folder::new("faults");
    let mut options = StackOptions::new(folder.path());
    options.separate_key_cluster = false;
    let stack = Stack::start(options).await.unwrap();
    let (cluster, vault) = (stack.data.clone(), stack.vault.clone());

    let client = login(&cluster).await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
    cluster.kill9().await;
    assert!(login(&cluster).await.is_err());
    cluster.start().await.unwrap();
    let client = login(&cluster).await.unwrap();
    assert_eq!(client.query("SELECT n FROM kept", &[]).await.unwrap().len(), 1, "committed before the kill");

    cluster.pause().await.unwrap();
    let frozen = tokio::time::timeout(Duration::from_millis(300), client.query("SELECT 1", &[])).await;
    assert!(frozen.is_err(), "a frozen server does not answer");
    cluster.resume().await.unwrap();
    client.query("SELECT 1", &[]).await.unwrap();
    cluster.stop(StopMode::Immediate).await;
    assert!(cluster.pause().await.is_err() && cluster.process_id().await.is_none());
    cluster.start().await.unwrap();

    vault.seal().await.unwrap();
    assert_eq!(health(vault.address()).await, 503);
    vault.unseal().await.unwrap();
    assert_eq!(health(vault.address()).await, 200);
    vault.kill9().await;
    vault.start().await.unwrap();
    assert_eq!(health(vault.address()).await, 200);

    let servers = [cluster.process_id().await.unwrap(), vault.process_id().await.unwrap()];
    drop(stack);
    assert!(!servers.iter().any(|id| runs(u64::from(*id))), "dropping a stack waits for its servers");
}

/// Whether a process is there and has not ended; one that waits to be reaped has.
fn runs(id: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

async fn login(cluster: &Cluster) -> Result<Client, tokio_postgres::Error> {
    connect(cluster.port().into(), &std::fs::read_to_string(cluster.password_file()).unwrap()).await
}

async fn connect(port: u64, password: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port.try_into().unwrap()).user(ADMINISTRATOR).password(password);
    let (client, connection) = config.dbname("postgres").connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn vault(parts: &Parts, path: &str, body: Value) -> Value {
    let answer = http()
        .post(format!("{}/v1/{path}", parts.text("/vault/address")))
        .header("X-Vault-Token", parts.secret("/vault/token_file"))
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null)
}

async fn health(address: &str) -> u16 {
    http().get(format!("{address}/v1/sys/health")).send().await.unwrap().status().as_u16()
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
