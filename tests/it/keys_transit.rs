//! The client against a real server: places, versions, tokens, outages.

use std::sync::Arc;

use serde_json::json;
use strongroom::config::VaultAuth;
use strongroom::domain::class::DataClass;
use strongroom::domain::id::{KeyId, TenantId};
use strongroom::domain::random::SystemRandom;
use strongroom::domain::secret::Key256;
use strongroom::keys::bootstrap::SERVICE;
use strongroom::keys::transit::{CertificateRequest, Health};
use strongroom::keys::{TenantKeyKind, TenantKeyPlace, Transit, TransitError};
use uuid::Uuid;

use crate::keys_vault::{ENVIRONMENT, PrivateVault, ROOT_TOKEN, eventually};

fn place(tenant: u128, class: DataClass, key_id: i64) -> TenantKeyPlace {
    TenantKeyPlace {
        tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
        kind: TenantKeyKind::Seal(class),
        key_id: KeyId::new(key_id).unwrap(),
    }
}

fn key() -> Key256 {
    Key256::copied_from(&[0x5a; 32]).unwrap()
}

async fn error_of(transit: &Transit, place: &TenantKeyPlace, wrapped: &str) -> Option<TransitError> {
    transit.decrypt(place, wrapped).await.err()
}

#[tokio::test]
async fn a_wrapped_key_opens_in_its_place_only() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let transit = vault.service();
    let home = place(1, DataClass::Phi, 1);
    let wrapped = transit.encrypt(&home, &key()).await.unwrap();
    assert!(wrapped.starts_with("vault:v1:"));
    assert_eq!(transit.decrypt(&home, &wrapped).await.ok().unwrap().expose(), key().expose());
    for elsewhere in [place(2, DataClass::Phi, 1), place(1, DataClass::Pii, 1), place(1, DataClass::Phi, 2)] {
        assert_eq!(error_of(&transit, &elsewhere, &wrapped).await, Some(TransitError::Unusable));
    }
    let elsewhere = Transit::connect(&vault.config(), "another", Arc::new(SystemRandom::default())).unwrap();
    assert_eq!(error_of(&elsewhere, &home, &wrapped).await, Some(TransitError::Unusable));
}

#[tokio::test]
async fn versions_that_are_gone_are_told_apart() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let transit = vault.service();
    let home = place(1, DataClass::Chd, 1);
    let old = transit.encrypt(&home, &key()).await.unwrap();
    vault.admin("POST", "transit/keys/strongroom-chd/rotate", None).await;
    assert_eq!(error_of(&transit, &home, &old).await, None);
    let minimum = json!({ "min_decryption_version": 2 });
    vault.admin("POST", "transit/keys/strongroom-chd/config", Some(minimum)).await;
    assert_eq!(error_of(&transit, &home, &old).await, Some(TransitError::TooOld));
    let future = old.replacen("vault:v1:", "vault:v9:", 1);
    assert_eq!(error_of(&transit, &home, &future).await, Some(TransitError::Missing));
    vault
        .admin("POST", "transit/keys/strongroom-chd/config", Some(json!({ "deletion_allowed": true })))
        .await;
    vault.admin("DELETE", "transit/keys/strongroom-chd", None).await;
    assert_eq!(error_of(&transit, &home, &old).await, Some(TransitError::Missing));
}

#[tokio::test]
async fn a_revoked_token_costs_one_login_and_a_destroyed_secret_id_the_access() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let transit = vault.service();
    let home = place(1, DataClass::Phi, 1);
    let wrapped = transit.encrypt(&home, &key()).await.unwrap();
    vault.admin("POST", "sys/leases/revoke-prefix/auth/approle/login", None).await;
    assert_eq!(error_of(&transit, &home, &wrapped).await, None);

    let accessors =
        vault.admin("GET", &format!("auth/approle/role/{SERVICE}/secret-id?list=true"), None).await;
    for accessor in accessors["data"]["keys"].as_array().unwrap() {
        let path = format!("auth/approle/role/{SERVICE}/secret-id-accessor/destroy");
        vault.admin("POST", &path, Some(json!({ "secret_id_accessor": accessor }))).await;
    }
    vault.admin("POST", "sys/leases/revoke-prefix/auth/approle/login", None).await;
    assert_eq!(error_of(&transit, &home, &wrapped).await, Some(TransitError::Denied));
    // New credentials in the files are enough.
    vault.set_up().await;
    assert_eq!(error_of(&transit, &home, &wrapped).await, None);
}

#[tokio::test]
async fn sealed_and_gone_are_outages_and_pass() {
    let mut vault = PrivateVault::start().await;
    vault.set_up().await;
    let transit = vault.service();
    let home = place(1, DataClass::Phi, 1);
    let wrapped = transit.encrypt(&home, &key()).await.unwrap();
    assert_eq!(transit.health().await, Health::Ready);
    vault.seal().await;
    assert_eq!(transit.health().await, Health::Sealed);
    assert_eq!(error_of(&transit, &home, &wrapped).await, Some(TransitError::Unavailable));
    // A service that starts now is alive, and ready as soon as Vault is.
    let late = vault.service();
    assert_eq!(late.ready().await, Err(TransitError::Unavailable));
    vault.unseal().await;
    eventually("unsealed", async || error_of(&transit, &home, &wrapped).await.is_none()).await;
    eventually("logged in", async || late.ready().await.is_ok()).await;
    vault.kill();
    assert_eq!(transit.health().await, Health::Unreachable);
    assert_eq!(error_of(&transit, &home, &wrapped).await, Some(TransitError::Unavailable));
}

#[tokio::test]
async fn tokens_are_renewed_in_the_background() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let short = json!({ "token_ttl": 2, "token_max_ttl": 3_600 });
    vault.admin("POST", &format!("auth/approle/role/{SERVICE}"), Some(short)).await;
    let transit = vault.service();
    transit.ready().await.unwrap();
    eventually("a renewed token", async || {
        let accessors = vault.admin("GET", "auth/token/accessors?list=true", None).await;
        for accessor in accessors["data"]["keys"].as_array().unwrap() {
            let token = json!({ "accessor": accessor });
            let response =
                vault.status("POST", "auth/token/lookup-accessor", ROOT_TOKEN, Some(token.clone())).await;
            if response == Some(200) {
                let found = vault.admin("POST", "auth/token/lookup-accessor", Some(token)).await;
                if found["data"]["last_renewal_time"].is_i64() {
                    return true;
                }
            }
        }
        false
    })
    .await;
    assert!(transit.encrypt(&place(1, DataClass::Pii, 1), &key()).await.is_ok());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the key goes into its file")]
async fn a_client_certificate_logs_in_and_a_foreign_one_does_not() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let uri = |name: &str| format!("spiffe://strongroom.internal/{name}");
    for (role, name, enters) in [("service", "service", true), ("client", "client/portal", false)] {
        let asked =
            CertificateRequest { role, uri: Some(uri(name)), life_seconds: 3_600, ..Default::default() };
        let issued = vault.root().issue(&asked).await.unwrap();
        let (certificate_file, private_key_file) =
            (vault.directory.join(format!("{role}.pem")), vault.directory.join(format!("{role}.key")));
        std::fs::write(&certificate_file, &issued.chain_pem).unwrap();
        std::fs::write(&private_key_file, issued.private_key_pem.expose()).unwrap();
        let mut config = vault.config();
        config.auth =
            VaultAuth::Certificate { role: String::from(SERVICE), certificate_file, private_key_file };
        let transit = Transit::connect(&config, ENVIRONMENT, Arc::new(SystemRandom::default())).unwrap();
        let entered = transit.check_keys().await;
        assert_eq!(entered, if enters { Ok(()) } else { Err(TransitError::Denied) }, "{role}");
    }
}

#[tokio::test]
async fn the_audit_key_signs_and_its_public_key_verifies() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let transit = vault.service();
    let signed = transit.sign_audit(b"a tree head").await.unwrap();
    let public_key = transit.audit_public_keys().await.unwrap()[&signed.key_version];
    let verifier = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public_key);
    verifier.verify(b"a tree head", &signed.signature).unwrap();
}

#[tokio::test]
async fn another_root_is_not_trusted() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let other = vault.directory.join("other-ca.pem");
    std::fs::write(
        &other,
        vault.root().ca_certificate(strongroom::keys::transit::PkiMount::Root).await.unwrap(),
    )
    .unwrap();
    let mut config = vault.config();
    config.roots_file = Some(other);
    let transit = Transit::connect(&config, ENVIRONMENT, Arc::new(SystemRandom::default())).unwrap();
    assert_eq!(transit.health().await, Health::Unreachable);
    assert_eq!(transit.ready().await, Err(TransitError::Unavailable));
}
