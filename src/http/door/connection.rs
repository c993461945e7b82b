//! One connection, from its first request to its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower::Service as _;

use super::handshake::Guest;
use super::pace::{Paced, UnderWay};
use super::registry::{Entry, Open, Order};
use super::watched::Watched;
use super::{Hall, PeerAddress};

/// A registered connection; it is taken off the registry when this is dropped.
pub(super) struct Connection {
    stream: TlsStream<Watched<TcpStream>>,
    entry: Entry,
    speaks_http2: bool,
}

impl Connection {
    pub fn enter(hall: &Hall, mut guest: Guest, peer: SocketAddr) -> Self {
        let entry = hall.registry.enter(&mut guest, peer);
        Self { stream: guest.stream, entry, speaks_http2: guest.speaks_http2 }
    }

    /// Serves requests until the client or an order ends it.
    pub async fn run(self, hall: &Hall) {
        let open = &self.entry.open;
        let mut orders = open.orders();
        // An order may have come before anybody listened.
        orders.mark_changed();
        let builder = if self.speaks_http2 { &hall.builders.http2 } else { &hall.builders.http1 };
        let preface_left = if self.speaks_http2 { PREFACE_BYTES } else { 0 };
        let io = TokioIo::new(Heard { stream: self.stream, speaks_http2: self.speaks_http2, preface_left });
        let visit = Visit { router: hall.router.clone(), open: Arc::clone(open) };
        let mut serving = std::pin::pin!(builder.serve_connection(io, visit));
        loop {
            tokio::select! {
                // How it ended is the client's affair: what it asked for was logged by the router.
                _ = serving.as_mut() => return,
                _ = orders.changed() => match *orders.borrow_and_update() {
                    Order::Stay => {}
                    Order::Leave => serving.as_mut().graceful_shutdown(),
                    Order::Cut => return,
                },
            }
        }
    }
}

/// RFC 9113 section 3.4. hyper waits for it without a deadline of its own.
const PREFACE_BYTES: usize = 24;

/// Hands each request of a connection to the router, with who is asking and from where.
struct Visit {
    router: Router,
    open: Arc<Open>,
}

impl hyper::service::Service<Request<Incoming>> for Visit {
    type Response = Response<Paced>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.open.facts));
        request.extensions_mut().insert(PeerAddress(self.open.peer));
        let under_way = UnderWay::begin(&self.open.pace);
        let answer = self.router.clone().call(request);
        let open = Arc::clone(&self.open);
        Box::pin(async move {
            let answer = answer.await?;
            open.note_answer();
            Ok(answer.map(|body| Paced::new(body, under_way)))
        })
    }
}

/// Notes when the client begins to say something.
struct Heard {
    stream: TlsStream<Watched<TcpStream>>,
    speaks_http2: bool,
    preface_left: usize,
}

impl Heard {
    fn note(&mut self, bytes: usize) {
        let pace = self.stream.get_ref().0.pace();
        if !self.speaks_http2 {
            pace.note_head();
        } else if self.preface_left > 0 {
            self.preface_left = self.preface_left.saturating_sub(bytes);
            if self.preface_left == 0 {
                pace.note_head_done();
            }
        }
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.note(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
