//! Clients with a good certificate and bad manners, over HTTP/2: each is stopped, and everybody else is served meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use strongroom::config::LimitsConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::door_stand::{MOBILE, PORTAL, Stand, eventually, get_request, limits, text};

/// RFC 9113 section 6 and 7.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(5);
/// Far more than any buffer on the way holds.
const FLOOD_BYTES: usize = 64 << 20;

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error of a `GOAWAY` or `RST_STREAM`.
    fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// RFC 7541: indexed method and scheme, literal path and authority, nothing put into the table.
fn get_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(0x04, path), (0x01, "localhost")] {
        block.extend_from_slice(&[name, u8::try_from(value.len()).unwrap()]);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_block(path))
}

/// One connection after preface and settings.
struct Peer {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
}

impl Peer {
    async fn connect(stand: &Stand) -> Self {
        let stream = stand.connect(Some(&stand.client(PORTAL)), b"h2").await.unwrap();
        let (reader, mut writer) = tokio::io::split(stream);
        writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self { reader, writer }
    }

    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.reader.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], stream, payload })
    }

    /// Everything until the server closes, which it must.
    async fn until_closed(&mut self, what: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        let all = async {
            while let Some(frame) = self.frame().await {
                frames.push(frame);
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what}: it is closed"));
        frames
    }

    async fn say(&mut self, bytes: &[u8]) {
        // The server may have closed already.
        let _ = self.writer.write_all(bytes).await;
    }
}

async fn others_are_served(stand: &Stand) {
    let mut other = stand.http2(&stand.client(MOBILE)).await;
    let asked = other.send_request(get_request("/who"));
    let answer = tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time").unwrap();
    assert!(text(answer).await.starts_with("mobile "));
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let stand = Stand::open().await;
    let mut peer = Peer::connect(&stand).await;
    let mut flood = Vec::new();
    for stream in (1..4_000).step_by(2) {
        flood.extend(get(stream, "/slow"));
        flood.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    peer.say(&flood).await;
    others_are_served(&stand).await;
    let frames = peer.until_closed("rapid reset").await;
    let goodbye = frames.iter().find(|frame| frame.kind == GOAWAY).expect("a goodbye");
    assert_eq!(goodbye.error(), 11, "ENHANCE_YOUR_CALM");
    assert!(stand.doings.asked.load(Ordering::SeqCst) < 200, "most of it was never asked");
    eventually("it is gone", || stand.open_connections() <= 1).await;
}

#[tokio::test]
async fn a_header_block_that_never_ends_is_cut() {
    let stand = Stand::open().await;
    let mut peer = Peer::connect(&stand).await;
    peer.say(&frame(HEADERS, END_STREAM, 1, &get_block("/slow"))).await;
    // Literal fields of 1 KiB, sixteen to a frame.
    let mut field = vec![0x00, 3, b'x', b'-', b'a', 0x7f, 0x81, 0x07];
    field.extend_from_slice(&[b'v'; 1_024]);
    let more = frame(CONTINUATION, 0, 1, &field.repeat(15));
    for _ in 0..1_000 {
        if peer.writer.write_all(&more).await.is_err() {
            break;
        }
    }
    others_are_served(&stand).await;
    let _ = peer.until_closed("continuation").await;
    assert_eq!(stand.doings.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn headers_that_unfold_are_refused_before_they_do() {
    let stand = Stand::open().await;
    let mut peer = Peer::connect(&stand).await;
    // One field of 3 KiB goes into the table; then it is named five thousand times, a byte each.
    let mut block = get_block("/slow");
    block.extend_from_slice(&[0x40, 3, b'x', b'-', b'a', 0x7f, 0x81, 0x17]);
    block.extend_from_slice(&[b'v'; 3_072]);
    block.extend_from_slice(&[0xbe; 5_000]);
    peer.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
    peer.say(&get(3, "/who")).await;
    others_are_served(&stand).await;
    let answered = async {
        while let Some(frame) = peer.frame().await {
            if frame.stream == 1 || frame.kind == GOAWAY {
                return Some(frame.kind);
            }
        }
        None
    };
    let answered = tokio::time::timeout(PATIENCE, answered).await.expect("an answer in time");
    assert!(answered.is_some_and(|kind| [HEADERS, RST_STREAM, GOAWAY].contains(&kind)));
    assert_eq!(stand.doings.asked.load(Ordering::SeqCst), 0, "no handler saw it");
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_answered() {
    let stand = Stand::open_with(LimitsConfig { streams_per_connection: 4, ..limits() }).await;
    let mut peer = Peer::connect(&stand).await;
    let asked: Vec<u8> = [1, 3, 5, 7, 9, 11].into_iter().flat_map(|stream| get(stream, "/slow")).collect();
    peer.say(&asked).await;
    eventually("four are under way", || stand.doings.asked.load(Ordering::SeqCst) == 4).await;
    let mut refused = Vec::new();
    while refused.len() < 2 {
        let frame = tokio::time::timeout(PATIENCE, peer.frame()).await.unwrap().unwrap();
        if frame.kind == RST_STREAM {
            assert_eq!(frame.error(), REFUSED_STREAM);
            refused.push(frame.stream);
        }
    }
    assert_eq!(refused, [9, 11]);
    stand.doings.go_on.notify_waiters();
    let mut done = Vec::new();
    while done.len() < 4 {
        let frame = tokio::time::timeout(PATIENCE, peer.frame()).await.unwrap().unwrap();
        if frame.kind == DATA && frame.payload == b"done" {
            done.push(frame.stream);
        }
    }
    done.sort_unstable();
    assert_eq!(done, [1, 3, 5, 7]);
}

/// Each frame wants an answer, and the client reads none: the server stops reading and keeps nothing.
#[tokio::test]
async fn floods_that_want_answers_stop_at_what_the_network_holds() {
    let stand = Stand::open().await;
    for (what, one) in [("settings", frame(SETTINGS, 0, 0, &[])), ("ping", frame(PING, 0, 0, &[7; 8]))] {
        let mut peer = Peer::connect(&stand).await;
        let part = one.repeat(4_096);
        let flood = async {
            for _ in 0..FLOOD_BYTES / part.len() {
                peer.writer.write_all(&part).await?;
            }
            std::io::Result::Ok(())
        };
        let ended = tokio::time::timeout(Duration::from_secs(2), flood).await;
        assert!(!matches!(ended, Ok(Ok(()))), "{what}: the server took all of it");
        others_are_served(&stand).await;
    }
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let stand = Stand::open().await;
    let too_long = [&[0x01, 0x00, 0x01, DATA, 0][..], &1_u32.to_be_bytes()].concat();
    for (what, bytes) in [
        ("data of no stream", frame(DATA, 0, 0, b"x")),
        ("a stream of the server's", get(2, "/slow")),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a window that opens by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window beyond all", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        ("a ping of four bytes", frame(PING, 0, 0, &[0; 4])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, b"")),
        ("a header block that is none", frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 12])),
        ("a frame longer than agreed", too_long),
    ] {
        let mut peer = Peer::connect(&stand).await;
        peer.say(&bytes).await;
        let frames = peer.until_closed(what).await;
        assert!(frames.iter().any(|frame| frame.kind == GOAWAY && frame.error() != 0), "{what}: it says why");
    }
    others_are_served(&stand).await;
    assert_eq!(stand.doings.asked.load(Ordering::SeqCst), 0);
    eventually("they are gone", || stand.open_connections() <= 1).await;
}
