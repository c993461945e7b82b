//! Files that operators write.

use std::path::Path;

use strongroom::config;
use strongroom::tls::Identities;

pub fn identities(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(identities) = Identities::parse(text) else { return };
    for (san, identity) in identities.iter() {
        // The name says whose it is; a slip of the pen cannot hand it to another tenant.
        let rest = san.strip_prefix("spiffe://").expect("a SPIFFE id");
        let tenant = rest.split('/').nth(2).and_then(|name| identities.tenant(name));
        assert_eq!(tenant, Some(identity.tenant), "a name of one tenant with the identity of another");
        assert!(identity.roles.windows(2).all(|pair| pair[0] < pair[1]), "a role twice");
    }
}

pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(text, std::iter::empty(), Path::new("/etc/strongroom")) {
        Ok(config) => {
            let vault = &config.vault.address;
            let is_loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
            let is_plain = vault.starts_with("http://");
            assert!(!is_plain || is_loopback.iter().any(|start| vault.starts_with(start)), "{vault}");
        }
        // What is wrong is told without what was written: it may be a password in the wrong place.
        Err(error) => assert!(error.to_string().len() < 400),
    }
}
