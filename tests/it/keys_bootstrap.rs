//! Setting Vault up: once, again, after drift; and what each credential may do afterwards.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use strongroom::keys::TransitError;
use strongroom::keys::bootstrap::{SERVICE, Step, StepOutcome};
use strongroom::keys::transit::{CertificateRequest, IssuedCertificate, PkiMount};
use x509_parser::prelude::*;

use crate::keys_vault::PrivateVault;

fn outcomes(steps: &[Step], outcome: StepOutcome) -> Vec<&str> {
    steps.iter().filter(|step| step.outcome == outcome).map(|step| step.what.as_str()).collect()
}

#[tokio::test]
async fn a_second_run_changes_nothing_and_drift_is_repaired() {
    let vault = PrivateVault::start().await;
    let bootstrap = vault.bootstrap();
    let first = bootstrap.run().await.unwrap();
    assert_eq!(outcomes(&first, StepOutcome::AlreadyThere), Vec::<&str>::new());
    let second = bootstrap.run().await.unwrap();
    assert_eq!(outcomes(&second, StepOutcome::Done), Vec::<&str>::new());
    assert_eq!(first.len(), second.len());

    vault
        .admin("POST", "pki/roles/client", Some(json!({ "allow_any_name": true, "server_flag": true })))
        .await;
    let policy = json!({ "policy": "path \"transit/*\" { capabilities = [\"sudo\", \"create\"] }" });
    vault.admin("POST", &format!("sys/policies/acl/{SERVICE}"), Some(policy)).await;
    vault.admin("POST", &format!("auth/approle/role/{SERVICE}"), Some(json!({ "token_ttl": 9_999 }))).await;
    let third = bootstrap.run().await.unwrap();
    let repaired = outcomes(&third, StepOutcome::Done);
    assert_eq!(
        repaired,
        ["certificate role client", "policy strongroom-service", "AppRole strongroom-service"]
    );
}

#[tokio::test]
async fn an_unsafe_key_is_refused_by_set_up_and_by_the_service() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let service = vault.service();
    service.check_keys().await.unwrap();
    for (change, back) in [("deletion_allowed", Some(false)), ("exportable", None)] {
        vault.admin("POST", "transit/keys/strongroom-pii/config", Some(json!({ change: true }))).await;
        let refused = TransitError::UnsafeKey { key: "strongroom-pii", why: "" };
        for error in [service.check_keys().await.unwrap_err(), vault.bootstrap().run().await.unwrap_err()] {
            assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&refused), "{change}: {error}");
        }
        if let Some(value) = back {
            vault.admin("POST", "transit/keys/strongroom-pii/config", Some(json!({ change: value }))).await;
            service.check_keys().await.unwrap();
        }
    }
}

/// Made before the set-up, without derivation: Vault would ignore the context, so nothing may be sealed under it.
#[tokio::test]
async fn a_key_that_is_not_derived_is_refused() {
    let vault = PrivateVault::start().await;
    vault.admin("POST", "sys/mounts/transit", Some(json!({ "type": "transit" }))).await;
    vault.admin("POST", "transit/keys/strongroom-phi", Some(json!({ "derived": false }))).await;
    let error = vault.bootstrap().run().await.unwrap_err();
    assert_eq!(error, TransitError::UnsafeKey { key: "strongroom-phi", why: "it must be derived" });
}

async fn token_with(vault: &PrivateVault, policy: &str) -> String {
    let asked = json!({ "policies": [policy], "no_default_policy": true });
    let answer = vault.admin("POST", "auth/token/create", Some(asked)).await;
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_service_uses_keys_and_does_nothing_else_to_them() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let token = token_with(&vault, SERVICE).await;
    let sealed = json!({ "plaintext": "AAAA", "context": "AAAA" });
    let encrypt = vault.status("POST", "transit/encrypt/strongroom-phi", &token, Some(sealed.clone())).await;
    assert_eq!(encrypt, Some(200));
    for (method, path, body) in [
        // Transit would make the key: the policy has no "create".
        ("POST", "transit/encrypt/strongroom-new", Some(sealed.clone())),
        ("POST", "transit/keys/strongroom-new", Some(json!({}))),
        ("POST", "transit/keys/strongroom-phi/rotate", Some(json!({}))),
        ("POST", "transit/keys/strongroom-phi/config", Some(json!({ "deletion_allowed": true }))),
        ("POST", "transit/keys/strongroom-phi/trim", Some(json!({ "min_available_version": 1 }))),
        ("DELETE", "transit/keys/strongroom-phi", None),
        ("GET", "transit/export/encryption-key/strongroom-phi", None),
        ("GET", "transit/backup/strongroom-phi", None),
        ("POST", "transit/datakey/plaintext/strongroom-phi", Some(json!({ "context": "AAAA" }))),
        ("GET", "transit/keys?list=true", None),
        ("POST", "pki/issue/client", Some(json!({ "uri_sans": "spiffe://strongroom.internal/client/x" }))),
        ("POST", "pki/revoke", Some(json!({ "serial_number": "00" }))),
        ("GET", "sys/policies/acl/strongroom-service", None),
        ("POST", "auth/token/create", Some(json!({}))),
        ("POST", &format!("auth/approle/role/{SERVICE}/secret-id"), Some(json!({}))),
    ] {
        assert_eq!(vault.status(method, path, &token, body).await, Some(403), "{method} {path}");
    }
    let keys: Value = vault.admin("GET", "transit/keys?list=true", None).await;
    assert_eq!(keys["data"]["keys"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn the_rewrapper_rewraps_and_cannot_open() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let token = token_with(&vault, "strongroom-rewrapper").await;
    let sealed = json!({ "plaintext": "AAAA", "context": "AAAA" });
    let answer = vault.admin("POST", "transit/encrypt/strongroom-chd", Some(sealed.clone())).await;
    let wrapped = json!({ "ciphertext": answer["data"]["ciphertext"], "context": "AAAA" });
    let rewrap = "transit/rewrap/strongroom-chd";
    assert_eq!(vault.status("POST", rewrap, &token, Some(wrapped.clone())).await, Some(200));
    for path in
        ["transit/decrypt/strongroom-chd", "transit/encrypt/strongroom-chd", "transit/sign/strongroom-audit"]
    {
        assert_eq!(vault.status("POST", path, &token, Some(wrapped.clone())).await, Some(403), "{path}");
    }
}

fn request(role: &'static str, uri: &str) -> CertificateRequest {
    CertificateRequest { role, uri: Some(uri.to_owned()), life_seconds: 3_600, ..Default::default() }
}

fn leaf(issued: &IssuedCertificate) -> Vec<u8> {
    parse_x509_pem(issued.chain_pem.as_bytes()).unwrap().1.contents
}

#[tokio::test]
async fn each_role_names_its_own_and_serves_one_use() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let root = vault.root();
    for (role, uri) in [
        ("client", "spiffe://strongroom.internal/client/portal"),
        ("auditor", "spiffe://strongroom.internal/auditor/kim"),
        ("custodian", "spiffe://strongroom.internal/custodian/lee"),
        ("operator", "spiffe://strongroom.internal/operator/ops"),
        ("service", "spiffe://strongroom.internal/service"),
    ] {
        let issued = root.issue(&request(role, uri)).await.unwrap();
        let der = leaf(&issued);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(names, [GeneralName::URI(uri)]);
        let use_of = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(use_of.client_auth && !use_of.server_auth && !use_of.any, "{role}");
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.key_encipherment(), "{role}");
        assert!(!certificate.is_ca());
        assert_eq!(issued.not_after.as_seconds(), certificate.validity().not_after.timestamp());

        for other in ["client", "auditor", "custodian", "operator", "service", "server"] {
            if other != role {
                assert!(root.issue(&request(other, uri)).await.is_err(), "{other} issued {uri}");
            }
        }
        let mut with_name = request(role, uri);
        with_name.dns_names = vec![String::from("localhost")];
        assert!(root.issue(&with_name).await.is_err(), "{role} with a DNS name");
        let mut addressed = request(role, uri);
        addressed.ip_addresses = vec!["127.0.0.1".parse().unwrap()];
        assert!(root.issue(&addressed).await.is_err(), "{role} with an address");
    }
    let server = CertificateRequest {
        role: "server",
        dns_names: vec![String::from("strongroom.internal"), String::from("localhost")],
        ip_addresses: vec!["127.0.0.1".parse().unwrap()],
        life_seconds: 3_600,
        ..Default::default()
    };
    let der = leaf(&root.issue(&server).await.unwrap());
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let use_of = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(use_of.server_auth && !use_of.client_auth && !use_of.any);
    let foreign = CertificateRequest { dns_names: vec![String::from("example.com")], ..server };
    assert!(root.issue(&foreign).await.is_err());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the key is handed to rustls")]
async fn certificates_chain_to_the_root_and_their_keys_are_theirs() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let root = vault.root();
    let issued = root.issue(&request("client", "spiffe://strongroom.internal/client/portal")).await.unwrap();
    let chain = root.ca_chain().await.unwrap();
    assert_eq!(Pem::iter_from_buffer(chain.as_bytes()).count(), 2, "issuing CA and root");
    assert_eq!(Pem::iter_from_buffer(issued.chain_pem.as_bytes()).count(), 2, "leaf and issuing CA");
    assert_eq!(root.ca_certificate(PkiMount::Root).await.unwrap().matches("BEGIN").count(), 1);

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).map(Result::unwrap).collect();
    let mut roots = rustls::RootCertStore::empty();
    let top = root.ca_certificate(PkiMount::Root).await.unwrap();
    roots.add(CertificateDer::from_pem_slice(top.as_bytes()).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    verifier.verify_client_cert(&certificates[0], &certificates[1..], UnixTime::now()).unwrap();

    // rustls takes a key only if it belongs to the certificate.
    let key = PrivateKeyDer::from_pem_slice(issued.private_key_pem.expose()).unwrap();
    assert!(matches!(key, PrivateKeyDer::Pkcs8(_)));
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(certificates, key)
        .unwrap();
}

#[tokio::test]
async fn a_revocation_is_in_the_crl_at_once() {
    let vault = PrivateVault::start().await;
    vault.set_up().await;
    let root = vault.root();
    let issued = root.issue(&request("client", "spiffe://strongroom.internal/client/portal")).await.unwrap();
    let before = root.crl(PkiMount::Issuing).await.unwrap();
    assert_eq!(
        CertificateRevocationList::from_der(&before).unwrap().1.iter_revoked_certificates().count(),
        0
    );
    root.revoke(&issued.serial).await.unwrap();
    let after = root.crl(PkiMount::Issuing).await.unwrap();
    let (_, list) = CertificateRevocationList::from_der(&after).unwrap();
    let serials: Vec<String> =
        list.iter_revoked_certificates().map(RevokedCertificate::raw_serial_as_string).collect();
    assert_eq!(serials, [issued.serial]);
    let life = list.next_update().unwrap().timestamp() - list.last_update().timestamp();
    assert_eq!(life, 24 * 3_600);
    assert!(CertificateRevocationList::from_der(&root.crl(PkiMount::Root).await.unwrap()).is_ok());
}
