//! Certificates and identities that are withdrawn while their connections are open, and callers who were never admitted.

use std::sync::Arc;

use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use strongroom::devstack::ClientFiles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use x509_parser::prelude::FromDer;

use crate::support::line::{Line, alert};
use crate::support::{
    Client, Rig, ServiceOptions, Strongroom, eventually, hex, on_shared_runtime, parts, problem,
    replace_file, site,
};

const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";
const MOBILE: &str = "spiffe://strongroom.internal/client/clinic-north/mobile";

/// A portal with two connections that are open and let in.
struct Scene {
    strongroom: Strongroom,
    files: ClientFiles,
    path: String,
    /// HTTP/2, asking.
    busy: Line,
    /// HTTP/1.1, silent from now on.
    idle: Line,
}

impl Scene {
    async fn set() -> Self {
        let strongroom = Strongroom::start().await;
        let (client, files) = strongroom.client_with("client", PORTAL).await;
        let fields =
            json!({ "family_name": "Abe", "given_name": "Kōbō", "birth_date": "1924-03-07", "mrn": "MRN-1" });
        let id = client.with_purpose("TREAT").create_patient(fields).await;
        let path = format!("/api/v1/patients/{id}");
        let roots = site().await.roots_file();
        let mut busy = Line::http2(strongroom.address, roots, &files).await;
        let mut idle = Line::http1(strongroom.address, roots, &files).await;
        for line in [&mut busy, &mut idle] {
            assert_eq!(line.get(&path).await.unwrap().0, 200);
        }
        Self { strongroom, files, path, busy, idle }
    }

    /// Asks on the busy connection until it is refused or ended, then sees both closed. What it was told, if anything.
    async fn ends(&mut self) -> Option<(u16, String)> {
        let mut last = None;
        let (busy, idle, path) = (&mut self.busy, &self.idle, &self.path);
        eventually("the open connection is refused", async || {
            last = busy.get(path).await;
            last.as_ref().is_none_or(|(status, _)| *status != 200)
        })
        .await;
        assert!(last.as_ref().is_none_or(|(_, body)| body["fields"].is_null()));
        assert!(busy.get(path).await.is_none_or(|(status, _)| status == 403), "let in again");
        eventually("both connections are closed", async || busy.is_closed() && idle.is_closed()).await;
        last.map(|(status, body)| (status, body["code"].as_str().unwrap_or_default().to_owned()))
    }
}

/// How a certificate is called in the log.
fn sha256_of(files: &ClientFiles) -> String {
    let leaf = CertificateDer::from_pem_file(&files.certificate).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &leaf);
    hex(digest.as_ref())
}

/// Revocation at the CA reaches connections that are open, asking or idle, and nobody else's; the new list is on record
/// and so is the next attempt to come in.
#[tokio::test]
async fn a_revoked_certificate_is_out_on_open_connections_too() {
    let mut scene = Scene::set().await;
    let other = scene.strongroom.client("portal").await.with_purpose("TREAT");
    let before = scene.strongroom.entries_of("revocation.load").await.len();
    let serial = scene.files.serial.clone();
    on_shared_runtime(async move { site().await.revoke(&serial).await.unwrap() }).await;
    if let Some(told) = scene.ends().await {
        assert_eq!(told, (403, "certificate_revoked".into()));
        let entries = scene.strongroom.entries_of("authentication.failed").await;
        assert_eq!(entries[0]["client"]["cert_sha256"], sha256_of(&scene.files));
        assert_eq!(entries[0]["out"]["status"], "refused");
    }
    let roots = site().await.roots_file();
    let refusal = alert(scene.strongroom.address, roots, Some(&scene.files)).await;
    assert_eq!(refusal, AlertDescription::CertificateRevoked);
    eventually("the new list and the attempt are on record", async || {
        let loads = scene.strongroom.entries_of("revocation.load").await;
        let attempts = scene.strongroom.entries_of("authentication.failed").await;
        let is_attempt = |entry: &Value| entry["out"] == json!({ "status": "refused", "code": "revoked" });
        loads.len() > before && loads[before]["out"]["status"] == "success" && attempts.iter().any(is_attempt)
    })
    .await;
    assert_eq!(other.get(&scene.path).await.status(), 200, "the same client's other certificate");
}

/// A certificate that ends while its connection is open is told so; and whoever asks nothing is sent away by the sweep.
#[tokio::test]
async fn a_certificate_that_ends_is_out_on_open_connections_too() {
    let slow_sweep = ("STRONGROOM__LIMITS__SWEEP_INTERVAL_MS".to_owned(), "600000".to_owned());
    for (settings, is_swept) in [(vec![slow_sweep], false), (vec![], true)] {
        let strongroom = Strongroom::start_with(ServiceOptions { settings, ..Default::default() }).await;
        let (_, files) = strongroom.client_for("client", PORTAL, 10).await;
        let mut line = Line::http2(strongroom.address, site().await.roots_file(), &files).await;
        let path = "/api/v1/patients/0192f0c1-0000-7000-8000-000000000001";
        assert_eq!(line.get(path).await.unwrap().1["code"], "record_not_found");
        if is_swept {
            eventually("its connection is closed", async || line.is_closed()).await;
            continue;
        }
        let mut told = json!("record_not_found");
        eventually("it is refused", async || {
            told = line.get(path).await.unwrap().1["code"].clone();
            told != "record_not_found"
        })
        .await;
        assert_eq!(told, "certificate_expired");
        assert_eq!(
            line.get("/livez").await.unwrap(),
            (403, line.get(path).await.unwrap().1),
            "and so is all else"
        );
        let entries = strongroom.entries_of("authentication.failed").await;
        assert_eq!(entries[0]["out"], json!({ "status": "refused", "code": "certificate_expired" }));
        assert_eq!(entries[0]["client"]["cert_sha256"], sha256_of(&files));
    }
}

/// When the lists run out and Vault gives no new ones, nobody's standing is known: nobody is let in, and whoever is in hears
/// why. With Vault back, they go on.
#[tokio::test]
async fn without_fresh_lists_nobody_is_served() {
    let rig = Arc::new(Rig::start("lists").await);
    let settings = vec![("STRONGROOM__LIMITS__SWEEP_INTERVAL_MS".to_owned(), "600000".to_owned())];
    let options = ServiceOptions { rig: Some(Arc::clone(&rig)), settings, ..Default::default() };
    let strongroom = Strongroom::start_with(options).await;
    let (_, files) = strongroom.client_with("client", PORTAL).await;
    let mut line = Line::http2(strongroom.address, rig.site.roots_file(), &files).await;
    let path = "/api/v1/patients/0192f0c1-0000-7000-8000-000000000001";
    assert_eq!(line.get(path).await.unwrap().1["code"], "record_not_found");

    // The next list is made when a certificate is revoked, and lives for seconds.
    rig.write_vault("pki/config/crl", &json!({ "expiry": "8s", "auto_rebuild": false })).await;
    let loads = strongroom.entries_of("revocation.load").await.len();
    let (_, other) = strongroom.client_with("client", MOBILE).await;
    rig.site.revoke(&other.serial).await.unwrap();
    eventually("the new list is taken up", async || {
        strongroom.entries_of("revocation.load").await.len() > loads
    })
    .await;
    rig.stack.vault.seal().await.unwrap();
    let mut told = (200, Value::Null);
    eventually("the list has run out", async || {
        told = line.get("/livez").await.unwrap();
        told.0 != 200
    })
    .await;
    assert_eq!((told.0, &told.1["code"]), (503, &json!("revocation_unknown")));
    let client = Client::new(strongroom.address, rig.site.roots_file(), Some(&files));
    assert!(client.try_get("/livez").await.is_none(), "let in by a handshake");

    rig.stack.vault.unseal().await.unwrap();
    rig.write_vault("pki/config/crl", &json!({ "expiry": "72h" })).await;
    let (_, another) = strongroom.client_with("client", MOBILE).await;
    rig.site.revoke(&another.serial).await.unwrap();
    eventually("they go on", async || line.get("/livez").await.unwrap().0 == 200).await;
}

/// A client that is taken out of `identities.toml` is out within seconds, without a new list from the CA; put back, it is
/// in again with the certificate it had.
#[tokio::test]
async fn an_identity_that_is_taken_away_is_out_on_open_connections_too() {
    let mut scene = Scene::set().await;
    let file = scene.strongroom.policy_directory.join("identities.toml");
    let whole = std::fs::read_to_string(&file).unwrap();
    let client = whole.split("[[client]]").find(|client| client.contains(PORTAL)).unwrap();
    replace_file(&file, &whole.replace(&format!("[[client]]{client}"), ""));
    if let Some(told) = scene.ends().await {
        assert_eq!(told, (403, "identity_unlisted".into()));
    }
    // The handshake still succeeds: the certificate is good. What it is told is on record.
    let roots = site().await.roots_file();
    let returned = Client::new(scene.strongroom.address, roots, Some(&scene.files)).with_purpose("TREAT");
    assert_eq!(problem(returned.get(&scene.path).await).await, (403, "identity_unlisted".into()));
    let refused = scene.strongroom.entries_of("authentication.failed").await;
    assert_eq!(refused.last().unwrap()["client"]["cert_sha256"], sha256_of(&scene.files));
    eventually("the load is on record", async || {
        let loads = scene.strongroom.entries_of("identity.load").await;
        loads.len() == 1 && loads[0]["out"]["status"] == "success" && loads[0]["basis"]["loaded"].is_string()
    })
    .await;
    replace_file(&file, &whole);
    eventually("it is in again", async || returned.get(&scene.path).await.status() == 200).await;
}

/// A certificate of the right CA whose name nobody listed hears why, once, and is on record by its hash.
#[tokio::test]
async fn an_unlisted_certificate_hears_why_and_is_on_record() {
    let strongroom = Strongroom::start().await;
    let unlisted = "spiffe://strongroom.internal/client/clinic-north/nobody-knows";
    let (client, files) = strongroom.client_with("client", unlisted).await;
    for path in ["/api/v1/patients/x", "/livez", "/readyz", "/nowhere"] {
        assert_eq!(problem(client.get(path).await).await, (403, "identity_unlisted".into()), "{path}");
    }
    let entries = strongroom.entries_of("authentication.failed").await;
    assert_eq!(entries.len(), 4);
    let certificate = sha256_of(&files);
    assert!(entries.iter().all(|entry| entry["client"]["cert_sha256"] == *certificate), "{entries:?}");
    // It hears its answer, and then the connection ends.
    let mut line = Line::http1(strongroom.address, site().await.roots_file(), &files).await;
    assert_eq!(line.get("/livez").await.unwrap().1["code"], "identity_unlisted");
    eventually("its connection is closed", async || line.is_closed()).await;
}

/// Without a certificate, or with another CA's, nothing is heard but an alert, and the attempt is on record. What never
/// spoke TLS tried no credentials: it is counted and logged, and does not fill the audit log.
#[tokio::test]
async fn no_certificate_no_byte() {
    let strongroom = Strongroom::start().await;
    let roots = site().await.roots_file();
    let mut scan = TcpStream::connect(strongroom.address).await.unwrap();
    scan.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The server may reset the connection after its alert.
    let _ = scan.read_to_end(&mut answer).await;
    assert!(answer.len() <= 7, "more than an alert: {answer:?}");
    eventually("the scan is in the service's own log", async || {
        strongroom.log().iter().any(|line| line.contains("door.handshake_refused"))
    })
    .await;

    assert_eq!(alert(strongroom.address, roots, None).await, AlertDescription::CertificateRequired);
    let (_, mut foreign) = strongroom.client_with("client", MOBILE).await;
    let pki = crate::door_pki::Pki::new();
    let leaf = pki.leaf(&crate::door_pki::Leaf::client(MOBILE));
    std::fs::write(&foreign.certificate, &leaf.chain_pem).unwrap();
    std::fs::write(&foreign.private_key, &leaf.key_pem).unwrap();
    foreign.serial.clear();
    assert_eq!(alert(strongroom.address, roots, Some(&foreign)).await, AlertDescription::UnknownCA);
    let codes = async || {
        let entries = strongroom.entries_of("authentication.failed").await;
        let code = |entry: &Value| entry["out"]["code"].as_str().unwrap().to_owned();
        entries.iter().map(code).collect::<Vec<_>>()
    };
    eventually("both attempts are on record", async || codes().await.len() >= 2).await;
    assert_eq!(codes().await, ["no_certificate", "unknown_issuer"]);
}

/// Whoever speaks for Vault cannot shut everyone out with a list by a CA of their own: it is not stored, that is told,
/// and the lists that are there stay in force.
#[tokio::test]
async fn a_list_by_a_false_ca_is_not_taken() {
    let first = Strongroom::start().await;
    let kept = first.policy_directory.parent().unwrap().join("crl");
    let directory = first.policy_directory.parent().unwrap().join("crl-of-the-second");
    std::fs::create_dir(&directory).unwrap();
    for name in ["root.crl", "issuing.crl"] {
        std::fs::copy(kept.join(name), directory.join(name)).unwrap();
    }
    // It calls itself as the real one does.
    let issuing = std::fs::read(directory.join("issuing.crl")).unwrap();
    let (_, real) = x509_parser::revocation_list::CertificateRevocationList::from_der(&issuing).unwrap();
    let name = real.issuer().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    write_vault("sys/mounts/pki-false", &json!({ "type": "pki", "config": { "max_lease_ttl": "8760h" } }))
        .await;
    let ca = json!({ "common_name": name, "key_type": "ec", "key_bits": 256, "ttl": "8000h" });
    write_vault("pki-false/root/generate/internal", &ca).await;

    let settings = [
        ("STRONGROOM__VAULT__PKI_ISSUING_MOUNT", "pki-false".to_owned()),
        ("STRONGROOM__SERVER__CRL_DIRECTORY", directory.display().to_string()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value)).to_vec();
    let second = Strongroom::start_with(ServiceOptions { settings, ..Default::default() }).await;
    eventually("the false list was refused more than once", async || {
        let told = second.log().iter().filter(|line| line.contains("revocation.store_failed")).count();
        told >= 2
    })
    .await;
    assert_eq!(std::fs::read(directory.join("issuing.crl")).unwrap(), issuing);
    let client = second.client("portal").await.with_purpose("TREAT");
    let missing = client.get("/api/v1/patients/0192f0c1-0000-7000-8000-000000000001").await;
    assert_eq!(problem(missing).await, (404, "record_not_found".into()));
}

async fn write_vault(path: &str, body: &Value) {
    let url = format!("{}/v1/{path}", parts().text("/vault/address"));
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
    let token = parts().secret("/vault/token_file");
    let answer = request.header("x-vault-token", token.trim()).json(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
}
