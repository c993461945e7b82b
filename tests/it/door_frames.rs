//! HTTP/2 by the frame, for clients that no library would be.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::door_stand::{PORTAL, Stand};

/// RFC 9113 section 6 and 7.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const PATIENCE: Duration = Duration::from_secs(5);

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error of a `GOAWAY` or `RST_STREAM`.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// RFC 7541: indexed method and scheme, literal path and authority, nothing put into the table.
pub fn get_block(path: &str) -> Vec<u8> {
    block(0x82, path, &[])
}

/// The same of a POST, with further headers.
pub fn post_block(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    block(0x83, path, headers)
}

fn block(method: u8, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![method, 0x87];
    let text = |block: &mut Vec<u8>, text: &str| {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    };
    for (name, value) in [(0x04, path), (0x01, "localhost")] {
        block.push(name);
        text(&mut block, value);
    }
    for (name, value) in headers {
        block.push(0x00);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_block(path))
}

/// The status of a header block: an entry of the static table (RFC 7541 appendix A), or its name and three digits in the
/// Huffman code (appendix B: 0, 1 and 2 in five bits, the others in six).
fn status_of(block: &[u8]) -> u16 {
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x48, length, code @ ..] if length & 0x80 != 0 => {
            let code = &code[..usize::from(length & 0x7f)];
            let mut bits =
                code.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
            (0..3).fold(0, |status, _| {
                let five = bits.by_ref().take(5).fold(0, |bits, bit| bits << 1 | bit);
                let digit = if five < 3 { five } else { (five << 1 | bits.next().unwrap()) - 22 };
                status * 10 + digit
            })
        }
        _ => panic!("a status in another form: {block:?}"),
    }
}

/// One connection after preface and settings.
pub struct Peer {
    pub reader: ReadHalf<TlsStream<TcpStream>>,
    pub writer: WriteHalf<TlsStream<TcpStream>>,
}

impl Peer {
    pub async fn connect(stand: &Stand) -> Self {
        Self::over(stand.connect(Some(&stand.client(PORTAL)), b"h2").await.unwrap()).await
    }

    pub async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (reader, mut writer) = tokio::io::split(stream);
        writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self { reader, writer }
    }

    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.reader.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Everything until the server closes, which it must.
    pub async fn until_closed(&mut self, what: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        let all = async {
            while let Some(frame) = self.frame().await {
                frames.push(frame);
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what}: it is closed"));
        frames
    }

    /// Status and JSON of the answer on a stream.
    pub async fn answer(&mut self, stream: u32) -> (u16, serde_json::Value) {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.frame()).await.unwrap().expect("an answer");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS => status = status_of(&frame.payload),
                DATA => body.extend_from_slice(&frame.payload),
                kind => panic!("frame {kind} instead of an answer"),
            }
            if frame.flags & END_STREAM != 0 {
                return (status, serde_json::from_slice(&body).unwrap());
            }
        }
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        // The server may have closed already.
        let _ = self.writer.write_all(bytes).await;
    }
}
