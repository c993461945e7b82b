//! An outside service: HTTPS on loopback, with a certificate of its own CA. It notes each request and answers as it is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::door_pki::{Leaf, Pki};

/// What it does with a request.
#[derive(Clone)]
pub enum Does {
    /// A status line's words and a JSON body; the connection stays.
    Answers(&'static str, String),
    /// These bytes, whatever they are, and an end.
    Writes(Vec<u8>),
    /// It reads the request and ends the connection.
    HangsUp,
    /// It reads the request, sends these bytes, and nothing more until it is dropped.
    Stalls(&'static str),
}

/// A request as it came.
#[derive(Clone)]
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
}

impl Received {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Answers until it is dropped.
pub struct Destination {
    pub address: SocketAddr,
    pub roots_pem: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    does: Mutex<Does>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
}

impl Destination {
    pub async fn start(does: Does) -> Self {
        Self::with(&Leaf::server(), does).await
    }

    /// With a certificate of this kind.
    pub async fn with(leaf: &Leaf<'_>, does: Does) -> Self {
        super::install_provider();
        let pki = Pki::named("A destination");
        let leaf = pki.leaf(leaf);
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(leaf.chain, leaf.key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            does: Mutex::new(does),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&shared)));
            }
        });
        Self { address, roots_pem: pki.root_pem(), state, task }
    }

    /// Its address with this path.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// Writes its roots into a file of this folder.
    pub fn roots_file(&self, folder: &Path) -> PathBuf {
        let file = folder.join("destination-roots.pem");
        std::fs::write(&file, &self.roots_pem).unwrap();
        file
    }

    pub fn does(&self, does: Does) {
        *self.state.does.lock().unwrap() = does;
    }

    /// All requests that came whole, in their order.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// How many connections it took.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, state: Arc<State>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    while let Some(received) = read(&mut stream).await {
        state.received.lock().unwrap().push(received);
        let does = state.does.lock().unwrap().clone();
        // Whoever asked may be gone.
        match does {
            Does::Answers(status, body) => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
                );
                if stream.write_all((head + &body).as_bytes()).await.is_err() {
                    return;
                }
            }
            Does::Writes(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Does::HangsUp => return,
            Does::Stalls(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                let _ = stream.flush().await;
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                return;
            }
        }
    }
}

async fn read(stream: &mut TlsStream<TcpStream>) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut received = Received { head: String::from_utf8(head).ok()?, body: Vec::new() };
    let length = received.header("content-length").first().map_or(0, |length| length.parse().unwrap());
    received.body.resize(length, 0);
    stream.read_exact(&mut received.body).await.ok()?;
    Some(received)
}
