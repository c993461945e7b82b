//! A network that a test can cut: a relay on loopback between the service and one of its parts.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections, those that are open and those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Up,
    /// Every connection ends at once.
    Cut,
    /// Connections stay open and not a byte passes.
    Silent,
}

/// Ends with this value, and all its connections with it.
pub struct Proxy {
    pub port: u16,
    state: watch::Sender<Network>,
    relay: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// To a port on loopback.
    pub async fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, seen) = watch::channel(Network::Up);
        let relay = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let seen = seen.clone();
                // Whichever side ends it, the other one hears of it by an end, as of a lost connection.
                connections.spawn(async move { relay(client, upstream, seen).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, state, relay }
    }

    pub fn set(&self, network: Network) {
        self.state.send_replace(network);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(client: TcpStream, upstream: u16, mut network: watch::Receiver<Network>) -> io::Result<()> {
    passes(&mut network).await?;
    let server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        ended = pump(client_reads, server_writes, network.clone()) => ended,
        ended = pump(server_reads, client_writes, network) => ended,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        passes(&mut network).await?;
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            _ = network.changed() => continue,
        };
        if read == 0 {
            return Ok(());
        }
        // What was read before the network fell silent arrives when it is back.
        passes(&mut network).await?;
        to.write_all(&buffer[..read]).await?;
    }
}

/// Returns when a byte may pass; an error ends the connection.
async fn passes(network: &mut watch::Receiver<Network>) -> io::Result<()> {
    let now = network.wait_for(|now| *now != Network::Silent).await.map_err(io::Error::other)?;
    if *now == Network::Cut { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}
