//! Who comes through the handshake, and how it is agreed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, NamedGroup};
use strongroom::config::LimitsConfig;
use strongroom::http::door::HandshakeFailure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::door_pki::{Crl, Folder, Issued, Leaf, Pki};
use crate::door_stand::{MOBILE, PORTAL, Stand, client_config, eventually, get_request, limits, live_tls};

/// The client must see nothing but the end of the connection, and the door must say why.
async fn expect_refusal(stand: &Stand, client: Option<&Issued>, why: HandshakeFailure) {
    let mut byte = [0];
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let heard = match stand.connect(client, b"h2").await {
        Ok(mut stream) => stream.read(&mut byte).await,
        Err(error) => Err(error),
    };
    assert!(matches!(heard, Err(_) | Ok(0)), "not one byte of answer");
    assert_eq!(stand.failure().await, why);
    assert_eq!(stand.counters.handshake_failures.load(Ordering::SeqCst), 1);
    assert_eq!(stand.open_connections(), 0);
}

#[tokio::test]
async fn without_a_certificate_nobody_comes_in() {
    let stand = Stand::open().await;
    expect_refusal(&stand, None, HandshakeFailure::NoCertificate).await;
}

/// In TLS 1.3 a client may speak before it is refused. Closing with that unread would reset the connection, and the
/// client would learn nothing.
#[tokio::test]
async fn who_is_refused_hears_why_even_when_it_has_begun_to_speak() {
    let stand = Stand::open().await;
    let mut stream = stand.connect(None, b"http/1.1").await.unwrap();
    stream.write_all(&[b'x'; 16 * 1024]).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(stand.failure().await, HandshakeFailure::NoCertificate);
    // Still open to what comes late.
    stream.write_all(&[b'x'; 1024]).await.unwrap();
    stream.flush().await.unwrap();
    let heard = stream.read(&mut [0]).await.unwrap_err();
    let alert = heard.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let required = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
    assert_eq!(alert, Some(&required), "{heard}");
}

#[tokio::test]
async fn another_ca_is_not_believed() {
    let stand = Stand::open().await;
    let client = Pki::named("Other").leaf(&Leaf::client(PORTAL));
    expect_refusal(&stand, Some(&client), HandshakeFailure::UnknownIssuer).await;
}

#[tokio::test]
async fn another_ca_under_the_same_name_is_not_believed() {
    let stand = Stand::open().await;
    let client = Pki::new().leaf(&Leaf::client(PORTAL));
    expect_refusal(&stand, Some(&client), HandshakeFailure::BadSignature).await;
}

#[tokio::test]
async fn a_certificate_without_its_key_is_no_proof() {
    let stand = Stand::open().await;
    let stolen = Issued { chain: stand.client(PORTAL).chain, ..stand.client(MOBILE) };
    expect_refusal(&stand, Some(&stolen), HandshakeFailure::BadSignature).await;
}

#[tokio::test]
async fn a_server_certificate_is_no_client_certificate() {
    let stand = Stand::open().await;
    let leaf = Leaf { purposes: Leaf::server().purposes, ..Leaf::client(PORTAL) };
    expect_refusal(&stand, Some(&stand.pki.leaf(&leaf)), HandshakeFailure::WrongPurpose).await;
}

#[tokio::test]
async fn a_certificate_for_every_purpose_is_no_client_certificate() {
    let stand = Stand::open().await;
    let leaf = Leaf { purposes: vec![], ..Leaf::client(PORTAL) };
    expect_refusal(&stand, Some(&stand.pki.leaf(&leaf)), HandshakeFailure::WrongPurpose).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let stand = Stand::open().await;
    let leaf = Leaf { not_after: (2026, 6, 1), ..Leaf::client(PORTAL) };
    expect_refusal(&stand, Some(&stand.pki.leaf(&leaf)), HandshakeFailure::NotInDate).await;
}

#[tokio::test]
async fn two_names_are_no_name() {
    let stand = Stand::open().await;
    let leaf = Leaf { uris: vec![PORTAL, MOBILE], ..Leaf::client(PORTAL) };
    expect_refusal(&stand, Some(&stand.pki.leaf(&leaf)), HandshakeFailure::NoName).await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let stand = Stand::open().await;
    let client = stand.pki.leaf(&Leaf { serial: &[9, 9], ..Leaf::client(PORTAL) });
    stand.revoke(&[&[9, 9]]);
    expect_refusal(&stand, Some(&client), HandshakeFailure::Revoked).await;
}

#[tokio::test]
async fn a_certificate_of_a_revoked_issuing_ca_is_refused() {
    let stand = Stand::open().await;
    let crl = Crl { number: 2, revoked: &[Pki::ISSUING_SERIAL], ..Crl::first() };
    stand.write("crl/root.crl", &stand.pki.root_crl(&crl));
    stand.reload();
    expect_refusal(&stand, Some(&stand.client(PORTAL)), HandshakeFailure::Revoked).await;
}

#[tokio::test]
async fn an_expired_crl_keeps_everybody_out() {
    let stand = Stand::open().await;
    let client = stand.client(PORTAL);
    assert_eq!(stand.http1(&client).await.send_request(get_request("/who")).await.unwrap().status(), 200);
    eventually("the first connection ends", || stand.open_connections() == 0).await;
    stand.clock.set("2026-06-03T00:00:00Z");
    expect_refusal(&stand, Some(&client), HandshakeFailure::StatusUnknown).await;
}

#[tokio::test]
async fn a_missing_crl_of_the_root_keeps_everybody_out() {
    let stand = Stand::open().await;
    std::fs::remove_file(stand.folder.path().join("crl/root.crl")).unwrap();
    stand.reload();
    expect_refusal(&stand, Some(&stand.client(PORTAL)), HandshakeFailure::StatusUnknown).await;
}

#[tokio::test]
async fn without_crls_the_door_does_not_open() {
    let stand = Stand::open().await;
    let folder: &Folder = &stand.folder;
    for name in ["crl/root.crl", "crl/issuing.crl"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let refused = live_tls(folder, &stand.clock).err().unwrap();
    assert_eq!(refused.to_string(), "crls: there is no crl, fetch those of the root and of the issuing ca");
    // One that is open keeps the lists it has, and says so.
    assert_eq!(stand.tls.reload().1, [refused]);
    assert_eq!(
        stand.http1(&stand.client(PORTAL)).await.send_request(get_request("/who")).await.unwrap().status(),
        200
    );
}

/// A hello as TLS 1.2 wrote it: no `supported_versions` extension, one suite of TLS 1.2 and one of TLS 1.3.
const HELLO_TLS_1_2: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x3d, // record: handshake, 61 bytes
    0x01, 0x00, 0x00, 0x39, // client hello, 57 bytes
    0x03, 0x03, // TLS 1.2
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 32,   // random
    0x00, // no session
    0x00, 0x04, 0xc0, 0x2f, 0x13, 0x01, // suites
    0x01, 0x00, // compression: none
    0x00, 0x0c, // extensions, 12 bytes
    0x00, 0x0d, 0x00, 0x08, 0x00, 0x06, 0x04, 0x03, 0x08, 0x04, 0x04, 0x01, // signature_algorithms
];

#[tokio::test]
async fn tls_1_2_is_refused() {
    let stand = Stand::open().await;
    let mut socket = TcpStream::connect(stand.address).await.unwrap();
    socket.write_all(HELLO_TLS_1_2).await.unwrap();
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).await.unwrap();
    // Alert, fatal, protocol_version (RFC 8446 section 4.2.1).
    assert_eq!(heard, [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 70]);
    assert_eq!(stand.failure().await, HandshakeFailure::NothingInCommon);
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    let stand = Stand::open().await;
    let mut socket = TcpStream::connect(stand.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(stand.failure().await, HandshakeFailure::Malformed);
    assert!(!HandshakeFailure::Malformed.is_authentication());
}

#[tokio::test]
async fn a_slow_handshake_is_cut_at_its_deadline() {
    let stand = Stand::open_with(LimitsConfig { handshake_timeout_ms: 50, ..limits() }).await;
    let mut socket = TcpStream::connect(stand.address).await.unwrap();
    socket.write_all(&HELLO_TLS_1_2[..20]).await.unwrap();
    assert_eq!(stand.failure().await, HandshakeFailure::Timeout);
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).await.unwrap();
    assert!(heard.is_empty());
}

#[tokio::test]
async fn a_slow_handshake_does_not_keep_others_waiting() {
    let stand = Stand::open().await;
    let _silent = TcpStream::connect(stand.address).await.unwrap();
    let mut sender = stand.http2(&stand.client(PORTAL)).await;
    assert_eq!(sender.send_request(get_request("/who")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_key_exchange_is_hybrid_and_the_protocol_is_chosen() {
    let stand = Stand::open().await;
    let client = stand.client(PORTAL);
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let stream = stand.connect(Some(&client), alpn).await.unwrap();
        let session = stream.get_ref().1;
        let group = session.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name);
        assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
        assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(session.alpn_protocol(), Some(alpn));
    }
}

#[tokio::test]
async fn nothing_is_ever_resumed() {
    let stand = Stand::open().await;
    let tickets: Arc<Tickets> = Arc::default();
    let mut config = client_config(&stand.pki, Some(&stand.client(PORTAL)), b"http/1.1");
    config.resumption = Resumption::store(Arc::clone(&tickets) as _);
    for _ in 0..2 {
        let mut stream = stand.connect_as(config.clone()).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // Everything the server had to say was read: a ticket would have been among it.
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    assert_eq!(*tickets.received.lock().unwrap(), 0);
}

/// Remembers whether it was given a ticket.
#[derive(Debug, Default)]
struct Tickets {
    received: Mutex<usize>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        *self.received.lock().unwrap() += 1;
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
