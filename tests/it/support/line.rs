//! One connection that stays open between requests, so that a test sees what becomes of it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use serde_json::Value;
use strongroom::devstack::ClientFiles;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An open connection, HTTP/1.1 or HTTP/2.
pub enum Line {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Line {
    pub async fn http1(address: SocketAddr, roots: &Path, files: &ClientFiles) -> Self {
        let stream = shake(address, roots, Some(files), b"http/1.1").await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    pub async fn http2(address: SocketAddr, roots: &Path, files: &ClientFiles) -> Self {
        let stream = shake(address, roots, Some(files), b"h2").await.unwrap();
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    /// Status and body of a GET with purpose TREAT; `None` when the connection ended instead.
    pub async fn get(&mut self, path: &str) -> Option<(u16, Value)> {
        let request = Request::get(format!("https://localhost{path}"))
            .header("host", "localhost")
            .header("x-purpose-of-use", "TREAT")
            .body(Empty::new())
            .unwrap();
        let answer = match self {
            Self::Http1(sender) => {
                sender.ready().await.ok()?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await.ok()?;
                sender.send_request(request).await
            }
        };
        let answer = answer.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// The alert that a handshake ends with. In TLS 1.3 the client is done before the server has looked at its certificate,
/// so the refusal is the first thing that it reads.
pub async fn alert(address: SocketAddr, roots: &Path, files: Option<&ClientFiles>) -> AlertDescription {
    let mut stream = shake(address, roots, files, b"h2").await.unwrap();
    let error = match stream.read_u8().await {
        Ok(byte) => panic!("let in, and told {byte}"),
        Err(error) => error,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert: {error}"),
    }
}

async fn shake(
    address: SocketAddr,
    roots: &Path,
    files: Option<&ClientFiles>,
    alpn: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    super::install_provider();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_file_iter(roots).unwrap().map(Result::unwrap));
    let builder = ClientConfig::builder().with_root_certificates(store);
    let mut config = match files {
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap);
            let key = PrivateKeyDer::from_pem_file(&files.private_key).unwrap();
            builder.with_client_auth_cert(chain.collect(), key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}
