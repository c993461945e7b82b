//! What becomes of connections once they are open.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use strongroom::config::LimitsConfig;
use strongroom::http::door::Drained;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::door_pki::{Crl, Leaf, Pki};
use crate::door_stand::{MOBILE, PORTAL, STRANGER, Stand, eventually, get_request, limits, text};

#[tokio::test]
async fn a_request_carries_the_certificate_and_the_address() {
    let stand = Stand::open().await;
    let client = stand.client(PORTAL);
    let answer = stand.http1(&client).await.send_request(get_request("/who")).await.unwrap();
    let answer = text(answer).await;
    assert!(answer.starts_with(&format!("portal {PORTAL} 127.0.0.1:")), "{answer}");
    let mut http2 = stand.http2(&client).await;
    for _ in 0..3 {
        let answer = text(http2.send_request(get_request("/who")).await.unwrap()).await;
        assert!(answer.starts_with("portal "), "{answer}");
    }
    assert_eq!(stand.counters.accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stranger_hears_one_answer() {
    let stand = Stand::open().await;
    let client = stand.client(STRANGER);
    let mut http1 = stand.http1(&client).await;
    let answer = http1.send_request(get_request("/who")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(text(answer).await, "unlisted");
    eventually("the connection is closed", || http1.is_closed()).await;
    let mut http2 = stand.http2(&client).await;
    let answer = http2.send_request(get_request("/who")).await.unwrap();
    assert_eq!(text(answer).await, "unlisted");
    eventually("the connection is closed", || http2.is_closed()).await;
    eventually("nobody is in", || stand.open_connections() == 0).await;
}

#[tokio::test]
async fn a_stranger_is_not_swept_before_its_answer() {
    let stand = Stand::open().await;
    let mut stranger = stand.http2(&stand.client(STRANGER)).await;
    let asked = tokio::spawn(stranger.send_request(get_request("/slow")));
    eventually("it is under way", || stand.doings.asked.load(Ordering::SeqCst) == 1).await;
    // Another connection is swept meanwhile, both rounds of it.
    let leaf = Leaf { serial: &[9], ..Leaf::client(PORTAL) };
    let mut revoked = stand.http2(&stand.pki.leaf(&leaf)).await;
    let mut stream = revoked.send_request(get_request("/stream")).await.unwrap().into_body();
    assert!(stream.frame().await.unwrap().is_ok());
    stand.revoke(&[&[9]]);
    let cut = tokio::time::timeout(Duration::from_secs(5), stream.frame()).await.expect("it is cut");
    assert!(cut.is_none_or(|frame| frame.is_err()));
    stand.doings.go_on.notify_waiters();
    assert_eq!(text(asked.await.unwrap().unwrap()).await, "done");
}

#[tokio::test]
async fn a_stranger_that_asks_nothing_is_sent_away() {
    let stand = Stand::open_with(LimitsConfig { header_timeout_ms: 100, ..limits() }).await;
    let http2 = stand.http2(&stand.client(STRANGER)).await;
    eventually("the connection is closed", || http2.is_closed()).await;
}

#[tokio::test]
async fn revocation_closes_an_open_connection() {
    let stand = Stand::open().await;
    let leaf = Leaf { serial: &[9], ..Leaf::client(PORTAL) };
    let mut revoked = stand.http2(&stand.pki.leaf(&leaf)).await;
    let mut other = stand.http2(&stand.client(MOBILE)).await;
    assert_eq!(revoked.send_request(get_request("/who")).await.unwrap().status(), 200);
    stand.revoke(&[&[9]]);
    eventually("the connection is closed", || revoked.is_closed()).await;
    assert_eq!(other.send_request(get_request("/who")).await.unwrap().status(), 200);
    assert_eq!(stand.counters.swept.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn revocation_cuts_an_answer_that_does_not_end() {
    let stand = Stand::open().await;
    let leaf = Leaf { serial: &[9], ..Leaf::client(PORTAL) };
    let mut sender = stand.http2(&stand.pki.leaf(&leaf)).await;
    let mut answer = sender.send_request(get_request("/stream")).await.unwrap().into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    stand.revoke(&[&[9]]);
    let next = tokio::time::timeout(Duration::from_secs(5), answer.frame()).await.expect("it is cut");
    assert!(next.is_none_or(|frame| frame.is_err()));
}

#[tokio::test]
async fn revoking_the_issuing_ca_closes_its_clients_connections() {
    let stand = Stand::open().await;
    let mut sender = stand.http2(&stand.client(PORTAL)).await;
    assert_eq!(sender.send_request(get_request("/who")).await.unwrap().status(), 200);
    let crl = Crl { number: 2, revoked: &[Pki::ISSUING_SERIAL], ..Crl::first() };
    stand.write("crl/root.crl", &stand.pki.root_crl(&crl));
    stand.reload();
    eventually("the connection is closed", || sender.is_closed()).await;
}

#[tokio::test]
async fn the_roots_list_running_out_closes_connections() {
    let stand = Stand::open().await;
    let long = Crl { number: 2, next_update: (2026, 7, 1), ..Crl::first() };
    stand.write("crl/issuing.crl", &stand.pki.issuing_crl(&long));
    stand.reload();
    let sender = stand.http2(&stand.client(PORTAL)).await;
    eventually("it is in", || stand.open_connections() == 1).await;
    stand.clock.set("2026-06-03T00:00:00Z");
    eventually("the connection is closed", || sender.is_closed()).await;
}

#[tokio::test]
async fn a_certificate_that_expires_closes_its_connection() {
    let stand = Stand::open().await;
    let leaf = Leaf { not_after: (2026, 6, 2), ..Leaf::client(PORTAL) };
    let sender = stand.http2(&stand.pki.leaf(&leaf)).await;
    eventually("it is in", || stand.open_connections() == 1).await;
    stand.clock.set("2026-06-02T00:00:01Z");
    eventually("the connection is closed", || sender.is_closed()).await;
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away() {
    let stand = Stand::open_with(LimitsConfig { connections: 1, ..limits() }).await;
    let client = stand.client(PORTAL);
    let mut first = stand.http2(&client).await;
    assert_eq!(first.send_request(get_request("/who")).await.unwrap().status(), 200);
    assert!(stand.connect(Some(&client), b"h2").await.is_err());
    assert_eq!(stand.counters.turned_away.load(Ordering::SeqCst), 1);
    assert_eq!(first.send_request(get_request("/who")).await.unwrap().status(), 200);
    drop(first);
    eventually("there is room again", || stand.open_connections() == 0).await;
    let mut second = stand.http2(&client).await;
    assert_eq!(second.send_request(get_request("/who")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_headers_is_cut() {
    let stand = Stand::open_with(LimitsConfig { header_timeout_ms: 50, ..limits() }).await;
    for (alpn, words) in [(&b"http/1.1"[..], &b"GET /who HTTP/1.1\r\nhost: loc"[..]), (b"h2", b"PRI * HT")] {
        let mut stream = stand.connect(Some(&stand.client(PORTAL)), alpn).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut heard = Vec::new();
        // Cut without a closing alert, or closed: either way it ends.
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "it is cut");
        assert!(!heard.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn headers_have_a_limit() {
    let stand = Stand::open_with(LimitsConfig { headers: 8, ..limits() }).await;
    let mut sender = stand.http1(&stand.client(PORTAL)).await;
    let mut request = get_request("/who");
    for number in 0..8 {
        let name = hyper::header::HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, "1".parse().unwrap());
    }
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let mut request = get_request("/who");
    request.headers_mut().insert("x-long", "1".repeat(17_000).parse().unwrap());
    let mut sender = stand.http2(&stand.client(PORTAL)).await;
    let answer = sender.send_request(request).await;
    assert!(answer.is_ok_and(|answer| answer.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
}

#[tokio::test]
async fn shutting_down_lets_a_request_finish() {
    let mut stand = Stand::open().await;
    let client = stand.client(PORTAL);
    let (mut http1, mut http2) = (stand.http1(&client).await, stand.http2(&client).await);
    let asked = [
        tokio::spawn(http1.send_request(get_request("/slow"))),
        tokio::spawn(http2.send_request(get_request("/slow"))),
    ];
    eventually("both are under way", || stand.doings.asked.load(Ordering::SeqCst) == 2).await;
    stand.begin_shutdown();
    eventually("the door is closed to others", || std::net::TcpStream::connect(stand.address).is_err()).await;
    stand.doings.go_on.notify_waiters();
    for answer in asked {
        assert_eq!(text(answer.await.unwrap().unwrap()).await, "done");
    }
    assert_eq!(stand.ended().await, Drained { cut: 0 });
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_ever() {
    let mut stand = Stand::open_with(LimitsConfig { drain_timeout_ms: 50, ..limits() }).await;
    let mut sender = stand.http2(&stand.client(PORTAL)).await;
    let asked = tokio::spawn(sender.send_request(get_request("/slow")));
    eventually("it is under way", || stand.doings.asked.load(Ordering::SeqCst) == 1).await;
    stand.begin_shutdown();
    assert_eq!(stand.ended().await, Drained { cut: 1 });
    assert!(asked.await.unwrap().is_err());
    assert_eq!(stand.open_connections(), 0);
}
