//! The door: the accept loop, from a TCP connection to a request that carries its certificate's facts.
//!
//! `axum::serve` hides hyper's builder and accepts one by one, so the loop is ours: handshakes run in tasks of their own
//! under a deadline and a limit, every connection is registered, and a sweep closes those whose certificate no longer
//! passes. Each request reaches the router with two extensions: `Arc<CertificateFacts>` and [`PeerAddress`].
//!
//! Not here: what a request may do. The router asks [`crate::tls::Admission`] again for each one; a connection whose
//! name is not listed is let through to hear that answer, once, and is closed after it.

mod connection;
mod handshake;
mod limits;
mod pace;
mod registry;
mod sweep;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

pub use handshake::HandshakeFailure;
pub use pace::PROGRESS_BYTES;

use crate::config::LimitsConfig;
use crate::domain::clock::SharedClock;
use crate::telemetry::metrics;
use crate::tls::LiveTls;
use connection::Connection;
use limits::{Builders, Limits};
use registry::Registry;

/// The peer's address as the socket says it; a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// Called for every handshake that is refused. It must not block: it runs where connections are accepted.
pub type RefusedHandshake = Box<dyn Fn(SocketAddr, HandshakeFailure) + Send + Sync>;

/// What the door has seen since it opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// TCP connections taken from the listener.
    pub accepted: AtomicU64,
    /// Handshakes that did not end in a connection, whatever the reason.
    pub handshake_failures: AtomicU64,
    /// Connections that were closed because there were too many.
    pub turned_away: AtomicU64,
    /// Connections that were closed because their certificate no longer passed.
    pub swept: AtomicU64,
    /// Connections that were closed because their client did not go on: it asked nothing, did not finish asking, or did not
    /// take its answers.
    pub stalled: AtomicU64,
    /// Connections that are open now, handshakes not counted.
    pub open: AtomicU64,
}

/// What is left when [`serve`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that did not end within `drain_timeout_ms` and were cut.
    pub cut: usize,
}

/// Everything the accept loop needs.
pub struct Door {
    tls: Arc<LiveTls>,
    clock: SharedClock,
    limits: Limits,
    counters: Arc<Counters>,
    on_refused: RefusedHandshake,
}

impl Door {
    pub fn new(tls: Arc<LiveTls>, limits: &LimitsConfig, clock: SharedClock) -> Self {
        let limits = Limits::of(limits);
        Self { tls, clock, limits, counters: Arc::default(), on_refused: Box::new(|_, _| {}) }
    }

    #[must_use]
    pub fn on_refused_handshake(
        mut self,
        hook: impl Fn(SocketAddr, HandshakeFailure) + Send + Sync + 'static,
    ) -> Self {
        self.on_refused = Box::new(hook);
        self
    }

    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

/// Accepts until `shutdown` ends, then drains: no new connections, `GOAWAY` and `Connection: close` on the open ones,
/// requests under way run to their end or to `drain_timeout_ms`, whichever is first.
///
/// Stop it through `shutdown`; when the future is dropped instead, connections that are open stay open, unswept.
pub async fn serve(
    door: Door,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let hall = Arc::new(Hall::new(door, router));
    // Dropped, and with it stopped, when this function ends.
    let mut sweeper = JoinSet::new();
    sweeper.spawn(sweep::run(Arc::clone(&hall)));
    tokio::select! {
        biased;
        () = shutdown => {}
        () = accept(&hall, &listener) => {}
    }
    drop(listener);
    drain(&hall).await
}

/// The door in use.
struct Hall {
    door: Door,
    router: Router,
    builders: Builders,
    registry: Arc<Registry>,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Hall {
    fn new(door: Door, router: Router) -> Self {
        let builders = Builders::new(&door.limits);
        let handshakes = Arc::new(Semaphore::new(door.limits.handshakes));
        let connections = Arc::new(Semaphore::new(door.limits.connections as usize));
        let registry = Arc::new(Registry::new(Arc::clone(&door.counters)));
        Self { door, router, builders, registry, handshakes, connections }
    }

    fn refuse(&self, peer: SocketAddr, failure: HandshakeFailure) {
        self.door.counters.handshake_failures.fetch_add(1, Ordering::Relaxed);
        metrics::handshake_failure(failure.code());
        tracing::info!(door.peer = %peer, door.failure = failure.code(), "door.handshake_refused");
        (self.door.on_refused)(peer, failure);
    }

    fn turn_away(&self, peer: SocketAddr) {
        self.door.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(door.peer = %peer, "door.full");
    }
}

/// Ends only if the semaphore is closed, which nobody does.
async fn accept(hall: &Arc<Hall>, listener: &TcpListener) {
    loop {
        // Taken first: with every handshake slot in use, newcomers wait in the kernel's backlog.
        let Ok(slot) = Arc::clone(&hall.handshakes).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, peer)) => {
                hall.door.counters.accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(receive(Arc::clone(hall), socket, peer, slot));
            }
            Err(error) if is_the_peers(error.kind()) => {}
            Err(error) => {
                tracing::error!(door.error = %error.kind(), "door.accept_failed");
                // Out of descriptors or memory: connections that end give some back.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_the_peers(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(kind, ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// From a socket to the end of its connection. A client costs a handshake slot until it has proved who it is, and a
/// connection slot only from then on.
async fn receive(hall: Arc<Hall>, socket: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
    if hall.connections.available_permits() == 0 {
        return hall.turn_away(peer);
    }
    let limit = hall.door.limits.handshake_timeout;
    let shaken = match tokio::time::timeout(limit, handshake::shake(&hall.door, socket)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(HandshakeFailure::Timeout.into()),
    };
    let guest = match shaken {
        Ok(guest) => guest,
        Err(refused) => {
            hall.refuse(peer, refused.failure);
            // In its slot, so that those who are leaving are bounded as well.
            return refused.say_farewell().await;
        }
    };
    let Ok(_place) = Arc::clone(&hall.connections).try_acquire_owned() else {
        return hall.turn_away(peer);
    };
    let connection = Connection::enter(&hall, guest, peer);
    // Given back only now: whoever has all slots and all places knows that nobody is in between.
    drop(slot);
    connection.run(&hall).await;
}

async fn drain(hall: &Hall) -> Drained {
    hall.registry.close();
    let mut cut = 0;
    if !has_emptied(hall, hall.door.limits.drain_timeout).await {
        cut = hall.registry.cut_all();
        has_emptied(hall, Duration::from_secs(1)).await;
    }
    tracing::info!(door.cut = cut, "door.closed");
    Drained { cut }
}

/// Every handshake and every connection holds a permit, so having all of them means that all have ended. Handshakes first:
/// a client whose connection was taken before the stop is told that the door closes, by `GOAWAY`, and not cut off. Who was
/// still in the kernel's backlog is reset and has sent nothing that was read.
async fn has_emptied(hall: &Hall, limit: Duration) -> bool {
    let handshakes = u32::try_from(hall.door.limits.handshakes).unwrap_or(u32::MAX);
    let all = async {
        drop(hall.handshakes.acquire_many(handshakes).await);
        drop(hall.connections.acquire_many(hall.door.limits.connections).await);
    };
    tokio::time::timeout(limit, all).await.is_ok()
}
