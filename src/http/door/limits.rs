//! What one client may cost, as settings of hyper.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

use crate::config::LimitsConfig;

/// Streams that a client opened and reset at once ("rapid reset", CVE-2023-44487), and that the server reset because of
/// the client's mistakes: beyond these the connection is closed.
const RESET_STREAMS: usize = 20;
/// An HTTP/2 peer that answers no ping for interval and timeout together is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that wait for a slow reader, for each stream.
const SEND_BUFFER_BYTES: usize = 65_536;
/// hyper takes no smaller buffer.
const SMALLEST_BUFFER_BYTES: usize = 8_192;

/// [`LimitsConfig`], as far as it is the door's, with nothing that would lock everybody out.
pub(super) struct Limits {
    pub connections: u32,
    pub handshakes: usize,
    pub handshake_timeout: Duration,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub stall_timeout: Duration,
    pub sweep_interval: Duration,
    pub drain_timeout: Duration,
    headers: usize,
    header_bytes: u32,
    streams: u32,
}

impl Limits {
    pub fn of(config: &LimitsConfig) -> Self {
        Self {
            connections: u32::try_from(config.connections).unwrap_or(u32::MAX).clamp(1, 1 << 20),
            handshakes: config.handshakes.clamp(1, 1 << 16),
            handshake_timeout: Duration::from_millis(config.handshake_timeout_ms),
            header_timeout: Duration::from_millis(config.header_timeout_ms),
            idle_timeout: Duration::from_millis(config.idle_timeout_ms),
            stall_timeout: Duration::from_millis(config.stall_timeout_ms),
            sweep_interval: Duration::from_millis(config.sweep_interval_ms.max(1)),
            drain_timeout: Duration::from_millis(config.drain_timeout_ms),
            headers: config.headers,
            header_bytes: config.header_bytes,
            streams: config.streams_per_connection,
        }
    }
}

/// One builder for each protocol that ALPN can choose. hyper is not left to guess from the first bytes: its guessing
/// knows no deadline.
pub(super) struct Builders {
    pub http1: auto::Builder<TokioExecutor>,
    pub http2: auto::Builder<TokioExecutor>,
}

impl Builders {
    pub fn new(limits: &Limits) -> Self {
        Self { http1: builder(limits).http1_only(), http2: builder(limits).http2_only() }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let buffer_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper counts from the end of the request before; who is slow and who is idle is told apart by the sweep.
        .header_read_timeout(limits.idle_timeout + limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(buffer_bytes.max(SMALLEST_BUFFER_BYTES))
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(RESET_STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}
