//! Credentials of the relay's destinations, from a real server: who may read them, and which one is read.

use std::sync::Arc;

use serde_json::{Value, json};
use strongroom::config::VaultConfig;
use strongroom::domain::random::SystemRandom;
use strongroom::domain::secret::SecretBytes;
use strongroom::keys::bootstrap::{Bootstrap, BootstrapSettings, SERVICE};
use strongroom::keys::{Transit, TransitError};
use strongroom::relay::CredentialPlace;

use crate::keys_vault::{ENVIRONMENT, PrivateVault, ROOT_TOKEN, eventually};

const PATH: &str = "strongroom-relay/data/claims/clearinghouse";

/// A store that was just mounted is not ready at once.
async fn write(vault: &PrivateVault, path: &str, data: &Value) {
    eventually("the store takes a secret", async || {
        vault.status("POST", path, ROOT_TOKEN, Some(json!({ "data": data }))).await == Some(200)
    })
    .await;
}

#[expect(clippy::disallowed_methods, reason = "a made-up credential, compared")]
async fn read(transit: &Transit, path: &str, key: &str) -> Result<String, TransitError> {
    let place = CredentialPlace::parse(path, key).unwrap();
    let credential = transit.relay_credential(&place).await?;
    Ok(String::from_utf8(credential.expose().to_vec()).unwrap())
}

#[tokio::test]
async fn the_newest_version_of_a_credential_is_read_and_one_that_is_gone_is_missing() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let service = vault.service();
    let credential = async || read(&service, "claims/clearinghouse", "token").await;
    service.check_credentials().await.unwrap();
    assert_eq!(credential().await, Err(TransitError::Missing));
    write(&vault, PATH, &json!({ "token": "first \"é\"", "number": 7, "none": null, "empty": "" })).await;
    assert_eq!(credential().await.as_deref(), Ok("first \"é\""));
    assert_eq!(read(&service, "claims/clearinghouse", "other").await, Err(TransitError::Missing));
    assert_eq!(read(&service, "claims", "token").await, Err(TransitError::Missing));
    for key in ["number", "none", "empty"] {
        assert_eq!(read(&service, "claims/clearinghouse", key).await, Err(TransitError::Malformed), "{key}");
    }
    // Replaced and deleted there, it is so here with the next request.
    write(&vault, PATH, &json!({ "token": "second" })).await;
    assert_eq!(credential().await.as_deref(), Ok("second"));
    vault.admin("DELETE", PATH, None).await;
    assert_eq!(credential().await, Err(TransitError::Missing));
    vault.seal().await;
    assert_eq!(credential().await, Err(TransitError::Unavailable));
    assert_eq!(service.check_credentials().await, Err(TransitError::Unavailable));
}

#[tokio::test]
async fn the_service_reads_credentials_by_name_and_does_nothing_else_with_them() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    write(&vault, PATH, &json!({ "token": "t" })).await;
    let asked = json!({ "policies": [SERVICE], "no_default_policy": true });
    let answer = vault.admin("POST", "auth/token/create", Some(asked)).await;
    let token = answer["auth"]["client_token"].as_str().unwrap();
    assert_eq!(vault.status("GET", PATH, token, None).await, Some(200));
    let metadata = PATH.replace("/data/", "/metadata/");
    for (method, path, body) in [
        ("POST", PATH, Some(json!({ "data": { "token": "mine" } }))),
        ("PUT", PATH, Some(json!({ "data": { "token": "mine" } }))),
        ("DELETE", PATH, None),
        ("GET", "strongroom-relay/metadata?list=true", None),
        ("GET", "strongroom-relay/data?list=true", None),
        ("GET", metadata.as_str(), None),
        ("DELETE", metadata.as_str(), None),
        ("POST", "strongroom-relay/destroy/claims/clearinghouse", Some(json!({ "versions": [1] }))),
        ("POST", "strongroom-relay/config", Some(json!({ "max_versions": 1 }))),
        ("GET", "strongroom-relay/config", None),
        ("GET", "secret/data/claims/clearinghouse", None),
    ] {
        assert_eq!(vault.status(method, path, token, body).await, Some(403), "{method} {path}");
    }
    assert_eq!(read(&vault.service(), "claims/clearinghouse", "token").await.as_deref(), Ok("t"));
}

fn bootstrap(config: &VaultConfig) -> Bootstrap {
    let token = SecretBytes::new(ROOT_TOKEN.as_bytes().to_vec());
    Bootstrap::new(config, token, BootstrapSettings::default()).unwrap()
}

/// Where an installation has its mounts elsewhere, the store and the right to read it are there.
#[tokio::test]
async fn the_store_may_be_mounted_elsewhere() {
    let vault = PrivateVault::start().await;
    let config = VaultConfig { credentials_mount: String::from("team-a/outside"), ..vault.config() };
    bootstrap(&config).run().await.unwrap();
    let credentials = bootstrap(&config).new_service_credentials().await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a secret id goes into its file")]
    let secret_id = credentials.secret_id.expose();
    std::fs::write(vault.directory.join("role-id"), &credentials.role_id).unwrap();
    std::fs::write(vault.directory.join("secret-id"), secret_id).unwrap();
    write(&vault, "team-a/outside/data/x", &json!({ "token": "t" })).await;
    let random = Arc::new(SystemRandom::default());
    let service = Transit::connect(&config, ENVIRONMENT, random).unwrap();
    assert_eq!(service.check_credentials().await, Ok(()));
    assert_eq!(read(&service, "x", "token").await.as_deref(), Ok("t"));
    // The place that nobody mounted and nobody may read.
    assert_eq!(vault.service().check_credentials().await, Err(TransitError::Missing));
    assert_eq!(read(&vault.service(), "x", "token").await, Err(TransitError::Denied));
}

/// A store without versions has other paths: it is never taken for the one that is meant.
#[tokio::test]
async fn a_store_without_versions_is_refused_by_set_up_and_by_the_service() {
    let vault = PrivateVault::start().await;
    let old = json!({ "type": "kv", "options": { "version": "1" } });
    vault.admin("POST", "sys/mounts/strongroom-relay", Some(old)).await;
    let refused = vault.bootstrap().run().await.unwrap_err();
    assert_eq!(refused, TransitError::Refused { status: 400 });
    // Somebody puts it there later.
    vault.admin("DELETE", "sys/mounts/strongroom-relay", None).await;
    vault.set_up().await;
    let service = vault.service();
    assert_eq!(service.check_credentials().await, Ok(()));
    for kind in ["kv", "transit"] {
        vault.admin("DELETE", "sys/mounts/strongroom-relay", None).await;
        vault.admin("POST", "sys/mounts/strongroom-relay", Some(json!({ "type": kind }))).await;
        let error = service.check_credentials().await.unwrap_err();
        assert!(matches!(error, TransitError::Setting(why) if why.contains("credentials_mount")), "{error}");
    }
    vault.admin("DELETE", "sys/mounts/strongroom-relay", None).await;
    assert_eq!(service.check_credentials().await, Err(TransitError::Missing));
}
