//! An identity provider's key endpoint: HTTPS on loopback, with a certificate of its own CA.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::door_pki::{Leaf, Pki};

/// What it answers.
#[derive(Clone)]
pub enum Says {
    Keys(String),
    /// A status with these header lines.
    Status(&'static str, String),
    /// It takes the connection and closes it.
    Nothing,
}

/// Answers until it is dropped.
pub struct Provider {
    pub address: SocketAddr,
    pub roots_pem: String,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Provider {
    pub async fn start(says: Says) -> Self {
        super::install_provider();
        let pki = Pki::named("A provider");
        let leaf = pki.leaf(&Leaf::server());
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(leaf.chain, leaf.key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let (saying, asking) = (Arc::clone(&says), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                asking.fetch_add(1, Ordering::SeqCst);
                let says = saying.lock().unwrap().clone();
                tokio::spawn(answer(acceptor.clone(), stream, says));
            }
        });
        Self { address, roots_pem: pki.root_pem(), says, asked, task }
    }

    pub fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// How many connections it took.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Its lines in `people.toml`, where its roots are in `roots.pem`.
    pub fn lines(&self) -> String {
        format!("jwks_url = \"https://localhost:{}/keys\"\nroots_file = \"roots.pem\"", self.address.port())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream, says: Says) {
    let (head, body) = match says {
        Says::Keys(keys) => ("200 OK\r\ncontent-type: application/json".to_owned(), keys),
        Says::Status(status, lines) => (format!("{status}{lines}"), String::new()),
        Says::Nothing => return,
    };
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return;
        }
        asked.push(byte[0]);
    }
    let length = body.len();
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    // Whoever asked may be gone.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
