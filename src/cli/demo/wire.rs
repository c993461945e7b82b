//! One TLS connection, held by hand: the demo shows what happens on a connection that is open, and which alert ends one.
//! Plain HTTP/1.1 with `Content-Length`, which is all that the service answers here.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::devstack::ClientFiles;

const LIMIT: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: usize = 1 << 20;

/// An open connection.
pub(super) struct Wire {
    stream: TlsStream<TcpStream>,
    host: SocketAddr,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence {
    #[error("TLS alert {}, {}", u8::from(*.0), alert_name(*.0))]
    Alert(AlertDescription),
    #[error("the service closed the connection")]
    Closed,
    #[error("no answer in time")]
    Late,
    #[error("{0}")]
    Broken(&'static str),
}

impl Wire {
    /// Connects with a certificate, or with none. In TLS 1.3 a client has finished its handshake before the server has
    /// looked at its certificate (RFC 8446, figure 1): a refusal may come with the first read.
    pub async fn open(host: SocketAddr, roots: &Path, files: Option<&ClientFiles>) -> Result<Self, Silence> {
        let connector = TlsConnector::from(Arc::new(configuration(roots, files)?));
        let shake = async {
            let socket = TcpStream::connect(host).await?;
            connector.connect(ServerName::from(host.ip()), socket).await
        };
        let stream = within(shake).await?;
        Ok(Self { stream, host })
    }

    /// Status and JSON body of a GET on this very connection.
    pub async fn get(&mut self, path: &str, purpose: &str) -> Result<(u16, Value), Silence> {
        let host = self.host;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Purpose-Of-Use: {purpose}\r\nAccept: */*\r\n\r\n"
        );
        let written = within(async {
            self.stream.write_all(request.as_bytes()).await?;
            self.stream.flush().await
        })
        .await;
        if let Err(Silence::Late) = written {
            return Err(Silence::Late);
        }
        // A connection that cannot be written to may still hold the reason.
        let mut answer = Vec::new();
        loop {
            if let Some(found) = parse(&answer) {
                return found;
            }
            self.read_some(&mut answer).await?;
        }
    }

    /// Asks nothing and waits for what the service says by itself: to a client that it refuses, an alert.
    pub async fn listen(mut self) -> Silence {
        let mut heard = Vec::new();
        match self.read_some(&mut heard).await {
            Err(silence) => silence,
            Ok(()) => Silence::Broken("the service spoke first"),
        }
    }

    async fn read_some(&mut self, answer: &mut Vec<u8>) -> Result<(), Silence> {
        let mut some = [0_u8; 4096];
        let count = within(self.stream.read(&mut some)).await?;
        if count == 0 || answer.len() > LARGEST_ANSWER {
            return Err(Silence::Closed);
        }
        answer.extend_from_slice(some.get(..count).unwrap_or_default());
        Ok(())
    }
}

fn configuration(roots: &Path, files: Option<&ClientFiles>) -> Result<ClientConfig, Silence> {
    let unusable = |_| Silence::Broken("a certificate file is not usable");
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(roots).map_err(unusable)? {
        store.add(root.map_err(unusable)?).map_err(|_| Silence::Broken("a root is not usable"))?;
    }
    let builder = ClientConfig::builder().with_root_certificates(store);
    let Some(files) = files else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(unusable)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_file(&files.private_key).map_err(unusable)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|_| Silence::Broken("the client's certificate is not usable"))
}

/// `None` while the answer is not whole.
fn parse(answer: &[u8]) -> Option<Result<(u16, Value), Silence>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(answer.get(..end)?);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else {
        return Some(Err(Silence::Broken("the answer is not HTTP/1.1 with a length")));
    };
    let body = answer.get(end + 4..)?.get(..length)?;
    Some(Ok((status, serde_json::from_slice(body).unwrap_or_default())))
}

async fn within<T>(work: impl Future<Output = std::io::Result<T>>) -> Result<T, Silence> {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(result) => result.map_err(|error| silence(&error)),
        Err(_) => Err(Silence::Late),
    }
}

fn silence(error: &std::io::Error) -> Silence {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => Silence::Alert(*alert),
        Some(_) => Silence::Broken("the TLS connection failed on this side"),
        None => Silence::Closed,
    }
}

/// The name in RFC 8446 section 6.
fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::AccessDenied => "access_denied",
        _ => "another one",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let text =
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{\"code\":\"x\"}";
        for short in 0..text.len() {
            assert!(parse(&text[..short]).is_none(), "{short}");
        }
        let (status, body) = parse(text).unwrap().unwrap();
        assert_eq!((status, body["code"].as_str()), (403, Some("x")));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().is_err());
    }
}
