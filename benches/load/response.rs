//! The head of an HTTP/1.1 answer, read without copying: the generator shares two cores with what it measures.
//!
//! Only what the servers here send: a status line, `Content-Length`, and a connection that stays open. Anything else is
//! an error, so that a measured answer is a whole one.

/// A head that has arrived, and where its body is in the bytes read so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub body_start: usize,
    pub body_bytes: usize,
}

/// Why an answer cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    #[error("the answer does not begin with an HTTP/1.1 status line")]
    StatusLine,
    #[error("the answer's length is missing or not a number")]
    Length,
    #[error("the server is closing the connection")]
    Closing,
    #[error("the answer's head is too long")]
    TooLong,
}

const LONGEST_HEAD_BYTES: usize = 16 * 1024;

/// Reads a head (RFC 9112, sections 4 and 6.3); `None` until all of it is there.
pub fn read_head(received: &[u8]) -> Result<Option<Head>, BadAnswer> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if received.len() > LONGEST_HEAD_BYTES { Err(BadAnswer::TooLong) } else { Ok(None) };
    };
    let mut lines = received.get(..end).unwrap_or_default().split(|byte| *byte == b'\n');
    let status = status(lines.next().unwrap_or_default())?;
    let mut length = None;
    for line in lines {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (name, value) =
            (halves.next().unwrap_or_default(), halves.next().unwrap_or_default().trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(number(value).ok_or(BadAnswer::Length)?);
        } else if name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"close") {
            return Err(BadAnswer::Closing);
        }
    }
    // RFC 9110, section 8.6: 204 has no content and no length.
    let length = if status == 204 { Some(0) } else { length };
    Ok(Some(Head { status, body_start: end + 4, body_bytes: length.ok_or(BadAnswer::Length)? }))
}

fn status(line: &[u8]) -> Result<u16, BadAnswer> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").ok_or(BadAnswer::StatusLine)?;
    rest.get(..3).and_then(number).and_then(|code| u16::try_from(code).ok()).ok_or(BadAnswer::StatusLine)
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok())
}
