//! A door on a loopback port with a private CA behind it, and clients for it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::routing::get;
use axum::{Router, http::StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use strongroom::config::LimitsConfig;
use strongroom::domain::actor::CertificateFacts;
use strongroom::domain::clock::{Clock, Timestamp};
use strongroom::http::door::{Counters, Door, Drained, HandshakeFailure, PeerAddress, serve};
use strongroom::tls::{IdentityError, LiveTls, ReloadError, TlsFiles};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::door_pki::{Crl, Folder, Issued, Leaf, Pki};

pub const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";
pub const MOBILE: &str = "spiffe://strongroom.internal/client/clinic-north/mobile";
pub const STRANGER: &str = "spiffe://strongroom.internal/client/clinic-north/stranger";
/// Within the first CRLs' time.
const NOON: &str = "2026-06-01T12:00:00Z";
/// A role that the stand's policy does not know.
pub const UNKNOWN_ROLE: &str = "nobody-knows-this";
const IDENTITIES: &str = include_str!("../../policy/identities.toml");

/// A clock that a test sets.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn set(&self, rfc3339: &str) {
        let at = Timestamp::parse_rfc3339(rfc3339).unwrap();
        self.0.store(at.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// What the routes of the stand share with the test.
#[derive(Default)]
pub struct Doings {
    pub asked: AtomicUsize,
    pub go_on: Notify,
}

/// An open door. Dropped, it stops with its runtime.
pub struct Stand {
    pub pki: Pki,
    pub folder: Folder,
    pub clock: Arc<TestClock>,
    pub tls: Arc<LiveTls>,
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    pub doings: Arc<Doings>,
    failures: Arc<Mutex<Vec<HandshakeFailure>>>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<Drained>>,
}

/// Of `/long`.
pub const LONG_BYTES: usize = 512 * 1024;

/// Limits for tests: a sweep every 20 ms, nothing that runs out on its own.
pub fn limits() -> LimitsConfig {
    LimitsConfig { sweep_interval_ms: 20, ..LimitsConfig::default() }
}

impl Stand {
    pub async fn open() -> Self {
        Self::open_with(limits()).await
    }

    pub async fn open_with(limits: LimitsConfig) -> Self {
        let (pki, folder) = (Pki::new(), Folder::new());
        let clock = Arc::new(TestClock(AtomicI64::new(0)));
        clock.set(NOON);
        write(&folder, "root.pem", pki.root_pem().as_bytes());
        write(&folder, "identities.toml", IDENTITIES.as_bytes());
        std::fs::create_dir(folder.path().join("crl")).unwrap();
        write(&folder, "crl/root.crl", &pki.root_crl(&Crl::first()));
        write(&folder, "crl/issuing.crl", &pki.issuing_crl(&Crl::first()));
        let shown = pki.leaf(&Leaf::server());
        write(&folder, "server.pem", shown.chain_pem.as_bytes());
        write(&folder, "server.key", shown.key_pem.as_bytes());
        let tls = live_tls(&folder, &clock).unwrap();
        let failures: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = Arc::clone(&failures);
        let door = Door::new(Arc::clone(&tls), &limits, Arc::clone(&clock) as _)
            .on_refused_handshake(move |_, failure| seen.lock().unwrap().push(failure));
        let counters = door.counters();
        let doings: Arc<Doings> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(Arc::clone(&tls), Arc::clone(&clock), Arc::clone(&doings));
        let served = tokio::spawn(serve(door, listener, router, async {
            let _ = stopped.await;
        }));
        let (stop, served) = (Some(stop), Some(served));
        Self { pki, folder, clock, tls, address, counters, doings, failures, stop, served }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        write(&self.folder, name, bytes);
    }

    /// Takes up what was written; every part must be good.
    pub fn reload(&self) {
        let (_, errors) = self.tls.reload();
        assert_eq!(errors, []);
    }

    pub fn revoke(&self, serials: &[&[u8]]) {
        let crl = Crl { number: 2, revoked: serials, ..Crl::first() };
        self.write("crl/issuing.crl", &self.pki.issuing_crl(&crl));
        self.reload();
    }

    pub fn client(&self, uri: &str) -> Issued {
        self.pki.leaf(&Leaf::client(uri))
    }

    pub async fn connect(&self, client: Option<&Issued>, alpn: &[u8]) -> io::Result<TlsStream<TcpStream>> {
        self.connect_as(client_config(&self.pki, client, alpn)).await
    }

    pub async fn connect_as(&self, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    pub async fn http1(&self, client: &Issued) -> http1::SendRequest<Empty<Bytes>> {
        let stream = self.connect(Some(client), b"http/1.1").await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn http2(&self, client: &Issued) -> http2::SendRequest<Empty<Bytes>> {
        let stream = self.connect(Some(client), b"h2").await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Waits for the first refused handshake and says why it was.
    pub async fn failure(&self) -> HandshakeFailure {
        eventually("a handshake is refused", || !self.failures.lock().unwrap().is_empty()).await;
        self.failures.lock().unwrap()[0]
    }

    pub fn begin_shutdown(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub async fn ended(&mut self) -> Drained {
        let served = self.served.take().unwrap();
        tokio::time::timeout(Duration::from_secs(10), served).await.expect("the door closes").unwrap()
    }

    pub fn open_connections(&self) -> u64 {
        self.counters.open.load(Ordering::SeqCst)
    }
}

pub fn live_tls(folder: &Folder, clock: &Arc<TestClock>) -> Result<Arc<LiveTls>, ReloadError> {
    let at = |name: &str| folder.path().join(name);
    let files = TlsFiles {
        certificate: at("server.pem"),
        private_key: at("server.key"),
        client_roots: at("root.pem"),
        crl_directory: at("crl"),
        identities: at("identities.toml"),
    };
    let check = |identities: &strongroom::tls::Identities| {
        let unknown = identities.roles().find(|role| *role == UNKNOWN_ROLE);
        unknown.map_or(Ok(()), |role| Err(IdentityError::Client(role.into(), "the policy has no such role")))
    };
    LiveTls::open(files, Arc::clone(clock) as _, Box::new(check))
}

/// Replaces a file as an operator's tools would.
pub fn write(folder: &Folder, name: &str, bytes: &[u8]) {
    let aside = folder.path().join("aside");
    std::fs::write(&aside, bytes).unwrap();
    std::fs::rename(aside, folder.path().join(name)).unwrap();
}

/// A client that trusts the stand's root and, like the stand, lives in 2026.
pub fn client_config(pki: &Pki, client: Option<&Issued>, alpn: &[u8]) -> ClientConfig {
    #[derive(Debug)]
    struct Noon;
    impl rustls::time_provider::TimeProvider for Noon {
        fn current_time(&self) -> Option<UnixTime> {
            let noon = Timestamp::parse_rfc3339(NOON)?.as_seconds();
            Some(UnixTime::since_unix_epoch(Duration::from_secs(noon.unsigned_abs())))
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Noon))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(Arc::<RootCertStore>::clone(&pki.roots()));
    let mut config = match client.cloned() {
        // Not checked to belong together here: that is the server's to find out.
        Some(client) => {
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&client.key).unwrap();
            let certified = CertifiedKey::new(client.chain, key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

pub fn get_request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}")).header("host", "localhost").body(Empty::new()).unwrap()
}

pub async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Looks again until `condition` holds, for at most five seconds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn router(tls: Arc<LiveTls>, clock: Arc<TestClock>, doings: Arc<Doings>) -> Router {
    let who = move |Extension(facts): Extension<Arc<CertificateFacts>>,
                    Extension(peer): Extension<PeerAddress>| {
        let admitted = tls.admission().admit(&facts, clock.now());
        async move {
            match admitted {
                Ok(identity) => (StatusCode::OK, format!("{} {} {}", identity.client, facts.san, peer.0)),
                Err(refusal) => (StatusCode::FORBIDDEN, refusal.code().to_owned()),
            }
        }
    };
    Router::new()
        .route("/who", get(who))
        .route("/slow", get(slow))
        .route("/stream", get(stream))
        .route("/long", get(|| async { Body::from(vec![b'x'; LONG_BYTES]) }))
        .route("/flood", get(flood))
        .with_state(doings)
}

async fn slow(State(doings): State<Arc<Doings>>) -> &'static str {
    doings.asked.fetch_add(1, Ordering::SeqCst);
    doings.go_on.notified().await;
    "done"
}

/// An answer that never ends, as fast as it is taken.
async fn flood() -> Body {
    let piece = Bytes::from(vec![b'x'; 65_536]);
    Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, Infallible>(piece.clone())))
}

/// An answer that never ends: one byte, then nothing.
async fn stream() -> Body {
    Body::new(OneByte(false))
}

struct OneByte(bool);

impl hyper::body::Body for OneByte {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 {
            return Poll::Pending;
        }
        self.0 = true;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}
