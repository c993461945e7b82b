//! The way out to another service: what it is sent, whom the client believes, and which answers go on.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use rcgen::ExtendedKeyUsagePurpose;
use reqwest::Url;
use serde_json::{Value, json};
use strongroom::config::RelayConfig;
use strongroom::domain::secret::SecretBytes;
use strongroom::relay::{
    Answer, Filled, Pointer, RelayClient, RelayClientFault, RevealedValue, SendFailure, Target, Template,
    credential_header,
};
use strongroom::tls::OutgoingFault;

use crate::door_pki::{Folder, Leaf};
use crate::support::{Destination, Does, install_provider};

const VALUE: &str = "951-47-8263";
const PATIENCE: Duration = Duration::from_secs(10);

fn client_of(ca_file: PathBuf) -> Result<RelayClient, RelayClientFault> {
    install_provider();
    RelayClient::open(&RelayConfig { ca_file: Some(ca_file) }).map(|client| client.expect("roots are named"))
}

fn pointers(texts: &[&str]) -> Vec<Pointer> {
    texts.iter().map(|text| Pointer::parse(text).unwrap()).collect()
}

/// A body with one value in it.
fn filled() -> Filled {
    let body = json!({ "amount": 12, "member": "{{019b76da-0000-7000-8000-00000000000c}}" }).to_string();
    let template = Template::parse(body.as_bytes(), &[&pointers(&["/member"])[0]]).unwrap();
    let value = RevealedValue::of_json(json!(VALUE).to_string().as_bytes()).unwrap();
    template.fill(vec![value]).unwrap()
}

/// A destination and a client that believes it.
struct Scene {
    destination: Destination,
    client: RelayClient,
    answer: Vec<Pointer>,
}

impl Scene {
    async fn start(does: Does) -> Self {
        let destination = Destination::start(does).await;
        let folder = Folder::new();
        let client = client_of(destination.roots_file(folder.path())).unwrap();
        Self { destination, client, answer: pointers(&["/status", "/coverage/plan", "/echo"]) }
    }

    async fn send(&self) -> Result<Answer, SendFailure> {
        self.send_with(&self.destination.url("/v1/eligibility"), HeaderMap::new(), PATIENCE).await
    }

    async fn send_with(
        &self,
        url: &str,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Answer, SendFailure> {
        let url = Url::parse(url).unwrap();
        let target = Target { url: &url, method: Method::POST, timeout, headers, answer: &self.answer };
        self.client.send(target, filled()).await
    }

    async fn failure(&self) -> Option<SendFailure> {
        self.send().await.err()
    }
}

fn body_of(answer: &Answer) -> Value {
    serde_json::from_str(answer.body.get()).unwrap()
}

fn answers(body: &Value) -> Does {
    Does::Answers("200 OK", body.to_string())
}

#[tokio::test]
async fn a_body_arrives_with_its_value_and_what_is_declared_comes_back() {
    let said = json!({ "status": "active", "trace": "internal", "coverage": { "plan": "gold", "id": 1 } });
    let scene = Scene::start(answers(&said)).await;
    let mut headers = HeaderMap::new();
    headers.insert("idempotency-key", "k-1".parse().unwrap());
    // What the client says itself it says once, whatever it was given.
    headers.insert("content-type", "text/plain".parse().unwrap());
    headers.insert("accept-encoding", "gzip".parse().unwrap());
    headers.insert("accept", "*/*".parse().unwrap());
    let credential = SecretBytes::new(b"s3cret".to_vec());
    headers.insert("authorization", credential_header("Bearer ", &credential).unwrap());
    let answer =
        scene.send_with(&scene.destination.url("/v1/eligibility"), headers, PATIENCE).await.ok().unwrap();
    assert_eq!((answer.status, answer.withheld.len()), (200, 0));
    assert_eq!(body_of(&answer), json!({ "status": "active", "coverage": { "plan": "gold" } }));

    let received = scene.destination.received();
    let [request] = &received[..] else { panic!("{} requests", received.len()) };
    assert!(request.head.starts_with("POST /v1/eligibility HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.json(), json!({ "amount": 12, "member": VALUE }));
    let host = format!("localhost:{}", scene.destination.address.port());
    let length = request.body.len().to_string();
    let expected = [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("authorization", "Bearer s3cret"),
        ("content-length", &length),
        ("content-type", "application/json"),
        ("host", &host),
        ("idempotency-key", "k-1"),
    ];
    for (name, value) in expected {
        assert_eq!(request.header(name), [value], "{name}");
    }
    let lines = request.head.lines().skip(1).filter(|line| !line.is_empty()).count();
    assert_eq!(lines, expected.len(), "nothing else is said: {}", request.head);
}

/// The processor's own refusals are answers, and a connection serves more than one request.
#[tokio::test]
async fn a_destinations_status_is_its_own() {
    let said = json!({ "status": "declined", "echo": [VALUE.replace('-', " ")] }).to_string();
    let scene = Scene::start(Does::HangsUp).await;
    for (line, status) in [
        ("200 OK", 200),
        ("201 Created", 201),
        ("400 Bad Request", 400),
        ("401 Unauthorized", 401),
        ("402 Payment Required", 402),
        ("404 Not Found", 404),
        ("429 Too Many Requests", 429),
        ("500 Internal Server Error", 500),
        ("503 Service Unavailable", 503),
    ] {
        scene.destination.does(Does::Answers(line, said.clone()));
        let answer = scene.send().await.ok().unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(body_of(&answer), json!({ "status": "declined" }), "what repeats the value stays out");
        assert_eq!(answer.withheld, [2]);
    }
    assert_eq!(scene.destination.connections(), 1);
    scene.destination.does(Does::Writes(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_vec()));
    let answer = scene.send().await.ok().unwrap();
    assert_eq!((answer.status, body_of(&answer)), (204, json!({})));
}

fn raw(head: &str, body: &[u8]) -> Does {
    let mut bytes = format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    bytes.write_all(body).unwrap();
    Does::Writes(bytes)
}

#[tokio::test]
async fn answers_that_are_none_do_not_go_on() {
    let elsewhere = Destination::start(answers(&json!({ "status": "stolen" }))).await;
    let scene = Scene::start(Does::HangsUp).await;
    let typed = "200 OK\r\ncontent-type: application/json";
    let there = elsewhere.url("/v1/eligibility");
    let large = format!("{{\"status\":\"{}\"}}", "x".repeat(1024 * 1024));
    let moved = |status: &str| {
        raw(&format!("{status}\r\nlocation: {there}\r\ncontent-type: application/json"), b"{}")
    };
    let chunked = format!("{typed}\r\ntransfer-encoding: chunked");
    for (what, does) in [
        ("a redirect", moved("302 Found")),
        ("one that keeps the method", moved("307 Temporary Redirect")),
        ("one for good", moved("308 Permanent Redirect")),
        ("nothing", Does::HangsUp),
        ("no http", Does::Writes(b"220 smtp.example ESMTP\r\n".to_vec())),
        ("html", raw("200 OK\r\ncontent-type: text/html", b"<html>")),
        ("no type", raw("200 OK", b"{}")),
        ("two types", raw(&format!("{typed}\r\ncontent-type: text/html"), b"{}")),
        ("another charset", raw("200 OK\r\ncontent-type: application/json; charset=utf-16", b"{}")),
        ("packed", raw(&format!("{typed}\r\ncontent-encoding: gzip"), b"\x1f\x8b\x08")),
        ("no json", raw(typed, b"{\"status\":")),
        ("empty", raw(&format!("{typed}\r\ncontent-length: 0"), b"")),
        ("two answers", raw(typed, b"{\"status\":1,\"status\":2}")),
        ("no utf-8", raw(typed, b"{\"status\":\"\xff\"}")),
        (
            "too large, as announced",
            raw(&format!("{typed}\r\ncontent-length: {}", large.len()), large.as_bytes()),
        ),
        ("too large, unannounced", raw(typed, large.as_bytes())),
        ("an end too early", raw(&format!("{typed}\r\ncontent-length: 99"), b"{\"status\":1}")),
        ("a chunk cut off", raw(&chunked, b"c\r\n{\"status\":1")),
        ("chunks that are none", raw(&chunked, b"zz\r\n{}\r\n0\r\n\r\n")),
        ("lengths that differ", raw(&format!("{typed}\r\ncontent-length: 2\r\ncontent-length: 3"), b"{} ")),
    ] {
        scene.destination.does(does);
        let before = scene.destination.received().len();
        assert_eq!(scene.failure().await, Some(SendFailure::AnswerInvalid), "{what}");
        assert_eq!(scene.destination.received().len(), before + 1, "{what}: sent once");
    }
    assert_eq!(elsewhere.connections(), 0, "a redirect was followed");
    let fits = format!("{{\"status\":\"{}\"}}", "x".repeat(1024 * 1024 - 13));
    scene.destination.does(raw(typed, fits.as_bytes()));
    assert_eq!(scene.send().await.ok().map(|answer| answer.status), Some(200));
}

#[tokio::test]
async fn a_destination_that_says_nothing_is_waited_for_so_long_and_no_longer() {
    let scene = Scene::start(Does::HangsUp).await;
    for stalled in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"status\":",
    ] {
        scene.destination.does(Does::Stalls(stalled));
        let started = Instant::now();
        let url = scene.destination.url("/");
        let failure = scene.send_with(&url, HeaderMap::new(), Duration::from_secs(2)).await.err();
        assert_eq!(failure, Some(SendFailure::TimedOut), "{stalled}");
        assert!(started.elapsed() >= Duration::from_secs(2));
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(scene.destination.received().len(), 3, "each was sent once");
}

/// Nothing is sent to whom the roots do not vouch for, under this name, for this use, now.
#[tokio::test]
async fn nothing_is_sent_to_strangers() {
    let trusted = Scene::start(answers(&json!({ "status": "active" }))).await;
    let stranger = Destination::start(answers(&json!({ "status": "stolen" }))).await;
    let failure = async |url: &str| trusted.send_with(url, HeaderMap::new(), PATIENCE).await.err();
    assert_eq!(failure(&stranger.url("/")).await, Some(SendFailure::Unreachable), "another's roots");
    assert_eq!(stranger.connections(), 1);
    assert!(stranger.received().is_empty());
    // Its certificate names localhost only.
    let by_address = format!("https://{}/", trusted.destination.address);
    assert_eq!(failure(&by_address).await, Some(SendFailure::Unreachable));
    let plain = trusted.destination.url("/").replace("https", "http");
    assert_eq!(failure(&plain).await, Some(SendFailure::Unreachable), "never in clear");
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    assert_eq!(failure(&format!("https://localhost:{closed}/")).await, Some(SendFailure::Unreachable));
    assert!(trusted.destination.received().is_empty());

    for leaf in [
        Leaf { not_after: (2021, 1, 1), ..Leaf::server() },
        Leaf { purposes: vec![ExtendedKeyUsagePurpose::ClientAuth], ..Leaf::server() },
    ] {
        let destination = Destination::with(&leaf, answers(&json!({}))).await;
        let folder = Folder::new();
        let client = client_of(destination.roots_file(folder.path())).unwrap();
        let (url, method) = (Url::parse(&destination.url("/")).unwrap(), Method::PUT);
        let headers = HeaderMap::new();
        let target = Target { url: &url, method, timeout: PATIENCE, headers, answer: &[] };
        assert_eq!(client.send(target, filled()).await.err(), Some(SendFailure::Unreachable));
        assert!(destination.received().is_empty());
    }
    assert!(trusted.send().await.is_ok(), "the one that is trusted still is");
}

#[test]
fn roots_that_are_none_are_refused() {
    let folder = Folder::new();
    let file = folder.path().join("roots.pem");
    assert_eq!(client_of(file.clone()).err(), Some(RelayClientFault::Roots(OutgoingFault::Pem)));
    for text in ["", "not pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, text).unwrap();
        assert!(matches!(client_of(file.clone()).err(), Some(RelayClientFault::Roots(_))), "{text}");
    }
}
