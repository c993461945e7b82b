//! What a TLS scanner meets, with OpenSSL's own client (`openssl s_client`), which is another implementation than ours. The
//! rest of a scan is `make scan`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use strongroom::devstack::ClientFiles;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::parts::Folder;
use crate::support::Strongroom;

const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const ALIVE: &str = "{\"status\":\"alive\"}";
const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";

/// Alerts (RFC 8446 section 6.2).
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const NO_APPLICATION_PROTOCOL: u8 = 120;

struct Scanner {
    strongroom: Strongroom,
    roots: PathBuf,
    files: ClientFiles,
}

impl Scanner {
    async fn start() -> Self {
        let version = Command::new("openssl").arg("version").output().await;
        assert!(version.expect("this test needs openssl on the machine").status.success());
        let strongroom = Strongroom::start().await;
        let (_, files) = strongroom.client_with("client", PORTAL).await;
        let roots = strongroom.site().await.roots_file().to_owned();
        Self { strongroom, roots, files }
    }

    /// Everything that `s_client` says when it shakes hands in this way, asks whether the service lives, and reads until it
    /// is closed.
    async fn say(&self, options: &str) -> String {
        let connect = format!("localhost:{}", self.strongroom.address.port());
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &connect, "-ign_eof", "-verify_return_error", "-CAfile"])
            .arg(&self.roots)
            .args(options.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // A client that was refused may have ended already.
        let _ = input.write_all(REQUEST).await;
        let output = child.wait_with_output();
        let output = tokio::time::timeout(Duration::from_secs(20), output).await.expect("it ends").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }

    /// The same with a good client certificate.
    async fn say_as_client(&self, options: &str) -> String {
        let [certificate, key] =
            [&self.files.certificate, &self.files.private_key].map(|path| path.display().to_string());
        self.say(&format!("-cert {certificate} -cert_chain {certificate} -key {key} {options}")).await
    }
}

#[tokio::test]
async fn a_full_handshake_shows_what_it_must_and_no_more() {
    let scanner = Scanner::start().await;
    let folder = Folder::new("scan-session");
    let session = folder.path().join("session");
    let said = scanner.say_as_client(&format!("-sess_out {}", session.display())).await;
    // Versions of OpenSSL write names with and without spaces, in capitals or not.
    let said = said.to_lowercase().replace("cn = ", "cn=");
    // Any word of a few letters may be in the text of a certificate.
    let (head, certificate) = said.split_once("-----begin certificate-----").unwrap();
    let said = head.to_owned() + certificate.split_once("-----end certificate-----").unwrap().1;
    for is_there in [
        ALIVE,
        "new, tlsv1.3, cipher is tls_aes_",
        // RFC 8446 section 4.3.2: a certificate is asked for, from our root, with signatures that are listed.
        "acceptable client certificate ca names\ncn=strongroom root ca\nrequested signature algorithms: ecdsa",
        "peer signature type: ecdsa",
        "x25519",
        "secure renegotiation is not supported",
        "compression: none",
        "early data was not sent",
        "verify return code: 0 (ok)",
    ] {
        assert!(said.contains(is_there), "{is_there}: {said}");
    }
    // A ticket would come before the answer, and be written down.
    for is_not_there in ["new session ticket", "reused", "max early data", "tlsv1.2", "sha1"] {
        assert!(!said.contains(is_not_there), "{is_not_there}: {said}");
    }
    assert!(!session.exists(), "a session to resume was given out");
}

#[tokio::test]
async fn without_a_certificate_the_answer_is_an_alert() {
    let scanner = Scanner::start().await;
    let said = scanner.say("").await;
    assert!(said.contains("SSL alert number 116") && !said.contains("HTTP/1.1"), "{said}");
}

/// Versions, suites, groups, signatures and protocols that are not ours end in an alert; each of ours is taken.
#[tokio::test]
async fn nothing_is_spoken_but_what_is_written_down() {
    let scanner = Scanner::start().await;
    for ours in [
        "-ciphersuites TLS_AES_128_GCM_SHA256",
        "-ciphersuites TLS_AES_256_GCM_SHA384",
        "-ciphersuites TLS_CHACHA20_POLY1305_SHA256",
        "-groups X25519",
        "-groups P-256",
        // Not the first choice of either: the server asks for another share.
        "-groups P-521:P-256",
        "-sigalgs ECDSA+SHA256",
        "-alpn http/1.1",
        "-noservername",
    ] {
        let said = scanner.say_as_client(ours).await;
        assert!(said.contains(ALIVE), "{ours}: {said}");
    }
    for (others, alert) in [
        ("-tls1_2", PROTOCOL_VERSION),
        ("-no_tls1_3", PROTOCOL_VERSION),
        ("-tls1_2 -cipher ALL:@SECLEVEL=0 -legacy_renegotiation", PROTOCOL_VERSION),
        ("-ciphersuites TLS_AES_128_CCM_SHA256", HANDSHAKE_FAILURE),
        ("-ciphersuites TLS_AES_128_CCM_8_SHA256", HANDSHAKE_FAILURE),
        ("-groups P-384", HANDSHAKE_FAILURE),
        ("-groups P-521", HANDSHAKE_FAILURE),
        ("-groups X448", HANDSHAKE_FAILURE),
        ("-groups ffdhe2048", HANDSHAKE_FAILURE),
        ("-sigalgs RSA+SHA256:RSA-PSS+SHA256", HANDSHAKE_FAILURE),
        ("-alpn h3", NO_APPLICATION_PROTOCOL),
        ("-alpn spdy/3", NO_APPLICATION_PROTOCOL),
    ] {
        let said = scanner.say_as_client(others).await;
        assert!(said.contains(&format!("SSL alert number {alert}\n")), "{others}: {said}");
        assert!(!said.contains("HTTP/1.1"), "{others}: {said}");
    }
}

/// One certificate, whatever name is asked for; a client that checks names sees that it is not the one that it wants.
#[tokio::test]
async fn another_name_is_shown_the_same_certificate() {
    let scanner = Scanner::start().await;
    let shown = |said: &str| {
        let start = said.find("-----BEGIN CERTIFICATE-----").unwrap();
        said[start..said.find("-----END CERTIFICATE-----").unwrap()].to_owned()
    };
    let ours = scanner.say_as_client("-servername localhost -verify_hostname localhost").await;
    let other = scanner.say_as_client("-servername admin.example").await;
    assert!(ours.contains(ALIVE) && other.contains(ALIVE));
    assert_eq!(shown(&ours), shown(&other));
    let wrong = scanner.say_as_client("-servername admin.example -verify_hostname admin.example").await;
    assert!(wrong.contains("hostname mismatch") && !wrong.contains(ALIVE), "{wrong}");
}

/// A key that both sides would know beforehand opens nothing: it is passed over, and the certificate is asked for.
#[tokio::test]
async fn a_shared_key_is_no_way_in() {
    let scanner = Scanner::start().await;
    let psk = "-psk 00112233445566778899aabbccddeeff -psk_identity portal";
    let said = scanner.say(psk).await;
    assert!(said.contains("SSL alert number 116") && !said.contains("HTTP/1.1"), "{said}");
    let said = scanner.say_as_client(psk).await;
    assert!(said.contains(ALIVE) && said.contains("New, TLSv1.3") && !said.contains("Reused"), "{said}");
}
