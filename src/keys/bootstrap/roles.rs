//! The certificate roles: what a certificate of the private CA may say, and for what it may be used.
//!
//! Not here: who is listed (`policy/identities.toml`); a certificate alone opens nothing.

use serde_json::{Value, json};

use super::{SERVICE, overlay};

/// 30 days: machines renew by themselves.
pub(super) const MACHINE_LIFE_SECONDS: u64 = 30 * 86_400;
/// 90 days: people fetch theirs.
pub(super) const PERSON_LIFE_SECONDS: u64 = 90 * 86_400;

/// Name and settings of every role, for a trust domain (`strongroom.internal`) and the service's own DNS names.
pub(super) fn all(trust_domain: &str, server_names: &[String]) -> Vec<(&'static str, Value)> {
    let uri = |path: &str| format!("spiffe://{trust_domain}/{path}");
    vec![
        ("server", server(server_names)),
        ("service", service(&uri("service"))),
        ("client", client(&uri("client/*"), MACHINE_LIFE_SECONDS)),
        ("auditor", client(&uri("auditor/*"), PERSON_LIFE_SECONDS)),
        ("custodian", client(&uri("custodian/*"), PERSON_LIFE_SECONDS)),
        ("operator", client(&uri("operator/*"), PERSON_LIFE_SECONDS)),
    ]
}

/// DNS and address names, server use only.
fn server(names: &[String]) -> Value {
    overlay(
        common(MACHINE_LIFE_SECONDS),
        json!({
            "server_flag": true,
            "allowed_domains": names,
            "allow_bare_domains": true,
            "allow_localhost": true,
            "allow_ip_sans": true,
        }),
    )
}

/// One URI name, client use only.
fn client(uri: &str, life_seconds: u64) -> Value {
    overlay(common(life_seconds), json!({ "client_flag": true, "allowed_uri_sans": [uri] }))
}

/// The service itself, for its login to Vault, which needs a common name to call it by.
fn service(uri: &str) -> Value {
    overlay(
        client(uri, MACHINE_LIFE_SECONDS),
        json!({ "require_cn": true, "allowed_domains": [SERVICE], "allow_bare_domains": true }),
    )
}

/// Everything a role does not say is refused: Vault's defaults allow more.
fn common(life_seconds: u64) -> Value {
    json!({
        "key_type": "ec",
        "key_bits": 256,
        "signature_bits": 256,
        "ttl": life_seconds,
        "max_ttl": life_seconds,
        "not_before_duration": 60,
        "server_flag": false,
        "client_flag": false,
        "code_signing_flag": false,
        "email_protection_flag": false,
        // RFC 8446, 4.4.2.2: TLS 1.3 authenticates with signatures only.
        "key_usage": ["DigitalSignature"],
        "ext_key_usage": [],
        "ext_key_usage_oids": [],
        "allow_any_name": false,
        "allowed_domains": [],
        "allow_bare_domains": false,
        "allow_subdomains": false,
        "allow_glob_domains": false,
        "allow_wildcard_certificates": false,
        "allow_localhost": false,
        "allow_ip_sans": false,
        "allowed_uri_sans": [],
        "allowed_other_sans": [],
        "enforce_hostnames": true,
        "require_cn": false,
        "use_csr_common_name": false,
        "use_csr_sans": false,
        "basic_constraints_valid_for_non_ca": false,
        "no_store": false,
        "generate_lease": false,
    })
}
