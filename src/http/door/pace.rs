//! How a connection gets on, so that a client that does not can be told from one that is slow.
//!
//! Three things wait for a client: its next request, the socket's other end, and each answer, which over HTTP/2 the client can
//! hold back one by one. They are noted here as they happen and judged by the sweep ([`super::sweep`]). Bodies of requests are
//! the handlers': they have a deadline, or a pace of their own (uploads).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use super::limits::Limits;

/// What a client must at least take of an answer that waits for it, or bring of an upload, within `stall_timeout_ms`.
pub const PROGRESS_BYTES: usize = 32 * 1024;
/// Spans of time that are told apart, and how many make a `stall_timeout_ms`.
const SPANS: usize = 16;
const SPANS_OF_A_STALL: u32 = 8;

/// One connection's.
pub(super) struct Pace {
    opened: Instant,
    /// One of the [`SPANS`].
    span: Duration,
    /// Requests that are worked on or being answered.
    under_way: AtomicUsize,
    /// Since when the last of them is done.
    idle: Since,
    /// Since when the head of a request, or the preface of HTTP/2, is awaited.
    head: Since,
    /// Since when the socket takes nothing.
    blocked: Since,
    /// Pieces of answers that the client has not taken, by the span in which they were handed over.
    untaken: [AtomicU32; SPANS],
}

/// What the sweep does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// Asks nothing: it is asked to leave.
    Idle,
    /// Was asked to leave for that, and has not.
    Lingers,
    /// Began a request and does not finish its head.
    SlowHead,
    /// Does not take what it asked for.
    Stalled,
}

impl Verdict {
    pub const fn code(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Idle => "idle",
            Self::Lingers => "lingers",
            Self::SlowHead => "slow_head",
            Self::Stalled => "stalled",
        }
    }
}

impl Pace {
    pub fn new(limits: &Limits) -> Self {
        let pace = Self {
            opened: Instant::now(),
            span: (limits.stall_timeout / SPANS_OF_A_STALL).max(Duration::from_millis(1)),
            under_way: AtomicUsize::new(0),
            idle: Since::default(),
            head: Since::default(),
            blocked: Since::default(),
            untaken: Default::default(),
        };
        pace.idle.set(Duration::ZERO);
        pace.head.set(Duration::ZERO);
        pace
    }

    pub fn verdict(&self, limits: &Limits) -> Verdict {
        let now = self.opened.elapsed();
        if self.blocked.is_over(limits.stall_timeout, now) || self.is_left_untaken(now) {
            return Verdict::Stalled;
        }
        if self.under_way.load(Ordering::Acquire) > 0 {
            return Verdict::Fine;
        }
        if self.head.is_running() {
            let is_over = self.head.is_over(limits.header_timeout, now);
            return if is_over { Verdict::SlowHead } else { Verdict::Fine };
        }
        if self.idle.is_over(limits.idle_timeout + limits.header_timeout, now) {
            Verdict::Lingers
        } else if self.idle.is_over(limits.idle_timeout, now) {
            Verdict::Idle
        } else {
            Verdict::Fine
        }
    }

    /// Some of the head of a request came.
    pub fn note_head(&self) {
        if self.under_way.load(Ordering::Acquire) == 0 {
            self.head.begin(|| self.opened.elapsed());
        }
    }

    /// No head is awaited any more.
    pub fn note_head_done(&self) {
        self.head.end();
    }

    /// Whether the socket took something that was written to it.
    pub fn note_written(&self, is_taken: bool) {
        if is_taken {
            self.blocked.end();
        } else {
            self.blocked.begin(|| self.opened.elapsed());
        }
    }

    fn hand_over(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let span = span_at(self.opened.elapsed(), self.span);
        if let Some(count) = self.untaken.get(slot(span)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Bytes::from_owner(Piece { bytes, pace: Arc::clone(self), slot: slot(span) })
    }

    /// Whether a piece waits longer than a stall may, and at most a quarter more.
    fn is_left_untaken(&self, now: Duration) -> bool {
        let now = span_at(now, self.span);
        let ages = u64::from(SPANS_OF_A_STALL) + 1..SPANS as u64;
        let old = ages.filter_map(|age| now.checked_sub(age));
        old.filter_map(|span| self.untaken.get(slot(span))).any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

fn span_at(elapsed: Duration, span: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos() / span.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn slot(span: u64) -> usize {
    usize::try_from(span % SPANS as u64).unwrap_or(0)
}

/// A time after the connection was opened, or none.
#[derive(Default)]
struct Since(AtomicU64);

impl Since {
    fn set(&self, at: Duration) {
        // 0 is none.
        self.0.store(u64::try_from(at.as_micros()).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
    }

    /// Keeps the earlier time, if there is one.
    fn begin(&self, now: impl FnOnce() -> Duration) {
        if !self.is_running() {
            self.set(now());
        }
    }

    fn end(&self) {
        if self.is_running() {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn is_running(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn is_over(&self, limit: Duration, now: Duration) -> bool {
        let since = self.0.load(Ordering::Relaxed);
        since != 0 && now.saturating_sub(Duration::from_micros(since - 1)) > limit
    }
}

/// A request that is worked on or being answered, for as long as this lives.
pub(super) struct UnderWay(Arc<Pace>);

impl UnderWay {
    pub fn begin(pace: &Arc<Pace>) -> Self {
        pace.under_way.fetch_add(1, Ordering::AcqRel);
        pace.head.end();
        Self(Arc::clone(pace))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.idle.set(self.0.opened.elapsed());
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Some of an answer, until hyper has written it and lets it go.
struct Piece {
    bytes: Bytes,
    pace: Arc<Pace>,
    slot: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(count) = self.pace.untaken.get(self.slot) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The body of an answer, handed to hyper in pieces that are watched.
pub(super) struct Paced {
    body: Body,
    rest: Bytes,
    under_way: UnderWay,
}

impl Paced {
    pub const fn new(body: Body, under_way: UnderWay) -> Self {
        Self { body, rest: Bytes::new(), under_way }
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let most = self.rest.len().min(PROGRESS_BYTES);
        let piece = self.rest.split_to(most);
        Poll::Ready(Some(Ok(Frame::data(self.under_way.0.hand_over(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;
    use crate::config::LimitsConfig;

    proptest::proptest! {
        #[test]
        fn an_answer_comes_whole_in_pieces_that_are_all_accounted_for(lengths in proptest::collection::vec(0_usize..200_000, 0..4)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let pace = Arc::new(Pace::new(&Limits::of(&LimitsConfig::default())));
                let sent: Vec<Bytes> = lengths.iter().map(|length| Bytes::from(vec![7; *length])).collect();
                let whole = sent.concat();
                let frames = futures_util::stream::iter(sent.into_iter().map(Ok::<_, std::convert::Infallible>));
                let mut answer = Paced::new(Body::from_stream(frames), UnderWay::begin(&pace));
                let waiting = || pace.untaken.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u32>();
                let mut pieces = Vec::new();
                while let Some(frame) = answer.frame().await {
                    pieces.push(frame.unwrap().into_data().unwrap());
                }
                assert!(pieces.iter().all(|piece| piece.len() <= PROGRESS_BYTES));
                assert_eq!((pieces.concat(), waiting() as usize), (whole, pieces.len()));
                assert_eq!(pace.under_way.load(Ordering::Relaxed), 1);
                drop((pieces, answer));
                assert_eq!((waiting(), pace.under_way.load(Ordering::Relaxed)), (0, 0));
            });
        }
    }

    #[tokio::test]
    async fn what_is_left_of_an_answer_is_told_in_advance() {
        let pace = Arc::new(Pace::new(&Limits::of(&LimitsConfig::default())));
        let mut answer = Paced::new(Body::from(vec![7; 100_000]), UnderWay::begin(&pace));
        assert_eq!(answer.size_hint().exact(), Some(100_000));
        let first = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(answer.size_hint().exact(), Some(100_000 - first.len() as u64));
        assert!(!answer.is_end_stream());
    }
}
