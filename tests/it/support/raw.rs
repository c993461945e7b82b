//! Requests that no well-behaved client library sends: bytes over mutual TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use strongroom::devstack::ClientFiles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Opens a new HTTP/1.1 connection for each exchange.
pub struct Raw {
    address: SocketAddr,
    config: ClientConfig,
}

/// An answer, taken apart.
pub struct RawAnswer {
    pub status: u16,
    /// The status line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Raw {
    pub fn new(address: SocketAddr, roots: &Path, files: &ClientFiles) -> Self {
        super::install_provider();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(CertificateDer::pem_file_iter(roots).unwrap().map(Result::unwrap));
        let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&files.private_key).unwrap();
        let config =
            ClientConfig::builder().with_root_certificates(store).with_client_auth_cert(chain, key).unwrap();
        Self { address, config }
    }

    /// Sends `head` (its lines by LF, without the last empty one), then `body`, and reads until the server closes.
    /// Host and `Connection: close` are added.
    pub async fn send(&self, head: &str, body: &[u8]) -> RawAnswer {
        let lines = head.trim().replace('\n', "\r\n");
        let mut request = format!("{lines}\r\nhost: localhost\r\nconnection: close\r\n\r\n").into_bytes();
        request.extend_from_slice(body);
        self.send_bytes(&request).await
    }

    /// A connection over HTTP/1.1, for what is sent piece by piece or not read.
    pub async fn open(&self) -> TlsStream<TcpStream> {
        self.open_for(b"http/1.1").await
    }

    pub async fn open_for(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        self.shake(self.connect().await, protocol).await
    }

    /// A connection whose handshake is still to come.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub async fn shake(&self, socket: TcpStream, protocol: &[u8]) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    pub async fn send_bytes(&self, request: &[u8]) -> RawAnswer {
        let (mut reader, mut writer) = tokio::io::split(self.open().await);
        let mut bytes = Vec::new();
        // The server may answer and close before it has heard everything.
        let (_, _) = tokio::join!(writer.write_all(request), reader.read_to_end(&mut bytes));
        RawAnswer::parse(&bytes)
    }
}

impl RawAnswer {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    /// Status and code of a problem document, whose form is checked.
    pub fn problem(&self) -> (u16, String) {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        (self.status, document["code"].as_str().unwrap().to_owned())
    }
}
