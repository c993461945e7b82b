//! Clients with a good certificate and bad manners, over HTTP/2: each is stopped, and everybody else is served meanwhile.

use std::sync::atomic::Ordering;
use std::time::Duration;

use strongroom::config::LimitsConfig;
use tokio::io::AsyncWriteExt;

use crate::door_frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PATIENCE, PING, Peer,
    REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, get, get_block,
};
use crate::door_stand::{MOBILE, Stand, eventually, get_request, limits, text};

/// Far more than any buffer on the way holds.
const FLOOD_BYTES: usize = 64 << 20;

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

/// Each frame wants an answer, and the client reads none: the server stops reading, keeps nothing, and ends it.
#[tokio::test]
async fn floods_that_want_answers_stop_at_what_the_network_holds() {
    let stand = Stand::open_with(LimitsConfig { stall_timeout_ms: 500, ..limits() }).await;
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
        eventually("it is cut", || stand.counters.stalled.load(Ordering::SeqCst) == 1).await;
        stand.counters.stalled.store(0, Ordering::SeqCst);
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
