//! One client connection: TLS 1.3 with a client certificate, one request at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::response::read_head;

/// Where to connect and as whom.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub server_name: ServerName<'static>,
    /// Holds the client certificate; its ALPN list has one protocol, which decides how requests are written.
    pub tls: Arc<rustls::ClientConfig>,
    /// Sent as `X-Purpose-Of-Use` with every request, to the bare server too.
    pub purpose: &'static str,
    /// Sent with every request, to this server only.
    pub fixed_headers: Vec<(&'static str, String)>,
}

/// A request, in buffers that are used again.
#[derive(Default)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub if_match: Option<u32>,
    /// Of the body; JSON when empty.
    pub media_type: &'static str,
    pub body: Vec<u8>,
}

impl Call {
    const fn media_type(&self) -> &'static str {
        if self.media_type.is_empty() { "application/json" } else { self.media_type }
    }
}

/// A connection that stays open between requests.
pub enum Connection {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

pub struct Http1 {
    stream: TlsStream<TcpStream>,
    fixed_headers: String,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
    incoming: Vec<u8>,
}

impl Connection {
    /// Connects and shakes hands.
    pub async fn open(target: &Target) -> Result<Self> {
        let socket = TcpStream::connect(target.address).await.context("connecting")?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&target.tls));
        let stream = connector.connect(target.server_name.clone(), socket).await.context("shaking hands")?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let io = TokioIo::new(stream);
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            // An error here fails the request that waits for it.
            tokio::spawn(connection);
            return Ok(Self::Http2(Box::new(Http2 { sender, target: target.clone(), incoming: Vec::new() })));
        }
        let mut fixed_headers =
            format!("host: {}\r\nx-purpose-of-use: {}\r\n", target.server_name.to_str(), target.purpose);
        for (name, value) in &target.fixed_headers {
            fixed_headers.extend([name, ": ", value, "\r\n"]);
        }
        let (outgoing, incoming) = (Vec::with_capacity(8 * 1024), Vec::with_capacity(32 * 1024));
        Ok(Self::Http1(Box::new(Http1 { stream, fixed_headers, outgoing, incoming })))
    }

    /// Sends a request and reads the whole answer: its status and body.
    pub async fn exchange(&mut self, call: &Call) -> Result<(u16, &[u8])> {
        match self {
            Self::Http1(connection) => connection.exchange(call).await,
            Self::Http2(connection) => connection.exchange(call).await,
        }
    }
}

impl Http1 {
    async fn exchange(&mut self, call: &Call) -> Result<(u16, &[u8])> {
        self.write_request(call)?;
        self.stream.write_all(&self.outgoing).await.context("sending")?;
        self.stream.flush().await.context("sending")?;
        self.incoming.clear();
        let mut head = None;
        loop {
            if self.stream.read_buf(&mut self.incoming).await.context("receiving")? == 0 {
                bail!("the server closed the connection");
            }
            if head.is_none() {
                head = read_head(&self.incoming)?;
            }
            let Some(head) = head else { continue };
            let wanted = head.body_start + head.body_bytes;
            if self.incoming.len() > wanted {
                bail!("the answer is longer than it said");
            }
            if self.incoming.len() == wanted {
                return Ok((head.status, self.incoming.get(head.body_start..).unwrap_or_default()));
            }
        }
    }

    fn write_request(&mut self, call: &Call) -> Result<()> {
        use std::io::Write;
        let out = &mut self.outgoing;
        out.clear();
        write!(out, "{} {} HTTP/1.1\r\n{}", call.method, call.path, self.fixed_headers)?;
        if let Some(version) = call.if_match {
            write!(out, "if-match: \"{version}\"\r\n")?;
        }
        if !call.body.is_empty() {
            let (media_type, length) = (call.media_type(), call.body.len());
            write!(out, "content-type: {media_type}\r\ncontent-length: {length}\r\n")?;
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&call.body);
        Ok(())
    }
}

impl Http2 {
    async fn exchange(&mut self, call: &Call) -> Result<(u16, &[u8])> {
        let authority = self.target.server_name.to_str();
        let mut request = hyper::Request::builder()
            .method(call.method)
            .uri(format!("https://{authority}{}", call.path))
            .header("x-purpose-of-use", self.target.purpose);
        for (name, value) in &self.target.fixed_headers {
            request = request.header(*name, value);
        }
        if let Some(version) = call.if_match {
            request = request.header("if-match", format!("\"{version}\""));
        }
        if !call.body.is_empty() {
            request = request.header("content-type", call.media_type());
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(&call.body)))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        self.incoming.clear();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                self.incoming.extend_from_slice(&data);
            }
        }
        Ok((status, &self.incoming))
    }
}
