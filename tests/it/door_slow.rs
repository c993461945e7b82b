//! Clients that do not go on: each is cut in its time, whatever it does to seem alive, and one that is only slow gets all of
//! what it asked for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use strongroom::config::LimitsConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::door_frames::{DATA, GOAWAY, PING, Peer, SETTINGS, WINDOW_UPDATE, frame, get};
use crate::door_stand::{
    LONG_BYTES, MOBILE, PORTAL, Stand, client_config, eventually, get_request, limits, text,
};

const STALL_MS: u64 = 300;
/// `SETTINGS_INITIAL_WINDOW_SIZE` of 0 (RFC 9113 section 6.5.2): no answer's body may come before it is asked for.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
const ACK: u8 = 1;

async fn stand(limits: LimitsConfig) -> Stand {
    Stand::open_with(LimitsConfig { stall_timeout_ms: STALL_MS, ..limits }).await
}

async fn is_cut(stand: &Stand, what: &str) {
    let stalled = &stand.counters.stalled;
    eventually(what, || stalled.load(Ordering::SeqCst) == 1 && stand.open_connections() == 0).await;
    stalled.store(0, Ordering::SeqCst);
}

/// Head of a GET over HTTP/1.1.
fn head(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_over_http_1() {
    let stand = stand(limits()).await;
    let mut stream = stand.connect(Some(&stand.client(PORTAL)), b"http/1.1").await.unwrap();
    stream.write_all(&head("/flood")).await.unwrap();
    is_cut(&stand, "it is cut").await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_over_http_2() {
    let stand = stand(limits()).await;
    // The windows are wide, and the socket is not read.
    let mut peer = Peer::connect(&stand).await;
    let wide = (i32::MAX - 65_535).to_be_bytes();
    let windows = [0, 1].map(|stream| frame(WINDOW_UPDATE, 0, stream, &wide));
    peer.say(&[&get(1, "/flood")[..], &windows.concat()].concat()).await;
    is_cut(&stand, "the socket is not read").await;
    // The socket is read and pings are answered, and the window stays shut: for an answer that fits into any buffer, and
    // for one that does not.
    for path in ["/who", "/long", "/flood"] {
        let mut peer = Peer::connect(&stand).await;
        peer.say(&[&frame(SETTINGS, 0, 0, &NO_WINDOW)[..], &get(1, path)].concat()).await;
        let frames = peer.until_closed(path).await;
        assert!(frames.iter().all(|frame| frame.kind != DATA), "{path}");
        is_cut(&stand, path).await;
    }
}

/// A byte now and then is no progress.
#[tokio::test]
async fn who_opens_the_window_by_a_byte_at_a_time_is_cut() {
    let stand = stand(limits()).await;
    let peer = Peer::connect(&stand).await;
    let (mut reader, mut writer) = (peer.reader, peer.writer);
    writer.write_all(&[&frame(SETTINGS, 0, 0, &NO_WINDOW)[..], &get(1, "/long")].concat()).await.unwrap();
    let dribble = async {
        let mut clock = tokio::time::interval(Duration::from_millis(STALL_MS / 10));
        loop {
            clock.tick().await;
            let byte = frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
            let alive = frame(PING, 0, 0, &[7; 8]);
            if writer.write_all(&[byte, alive].concat()).await.is_err() {
                return;
            }
        }
    };
    let mut heard = Vec::new();
    let read = reader.read_to_end(&mut heard);
    let cut = async {
        tokio::select! {
            () = dribble => {}
            _ = read => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(5), cut).await.expect("it is cut");
    is_cut(&stand, "it is cut").await;
    assert!(heard.len() < 32_768, "{} bytes", heard.len());
}

/// One answer that is left untaken takes the connection with it, however well the others go.
#[tokio::test]
async fn an_answer_that_is_left_while_others_are_taken_is_noticed() {
    let stand = stand(limits()).await;
    let mut peer = Peer::connect(&stand).await;
    // Stream 1 has no window; those after it open theirs.
    peer.say(&[&frame(SETTINGS, 0, 0, &NO_WINDOW)[..], &get(1, "/who")].concat()).await;
    let begun = Instant::now();
    let mut answered = 0;
    for stream in (3..).step_by(2) {
        let window = frame(WINDOW_UPDATE, 0, stream, &1_000_u32.to_be_bytes());
        peer.say(&[get(stream, "/who"), window].concat()).await;
        while let Some(frame) = peer.frame().await {
            if frame.kind == DATA && frame.stream == stream {
                answered += 1;
                break;
            }
        }
        if stand.open_connections() == 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "it is cut");
    }
    assert!(answered > 1);
    is_cut(&stand, "it is cut").await;
}

/// By 32 KiB in the time of a stall is fast enough, for as long as it takes.
#[tokio::test]
async fn who_is_only_slow_gets_all_of_it() {
    const STEP: usize = 32 * 1024;
    let limits = LimitsConfig { stall_timeout_ms: 2_000, request_timeout_ms: 1_000, ..limits() };
    let stand = Stand::open_with(limits).await;
    let pace = Duration::from_millis(400);
    let begun = Instant::now();
    let http1 = async {
        let socket = TcpSocket::new_v4().unwrap();
        // So that what is not read is not on its way either.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let socket = socket.connect(stand.address).await.unwrap();
        let config = client_config(&stand.pki, Some(&stand.client(PORTAL)), b"http/1.1");
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let mut stream = connector.connect(name, socket).await.unwrap();
        stream.write_all(&head("/long")).await.unwrap();
        let (mut clock, mut taken) = (tokio::time::interval(pace), 0);
        while taken < LONG_BYTES {
            clock.tick().await;
            let mut step = vec![0; STEP];
            let until = (taken + STEP).min(LONG_BYTES);
            while taken < until {
                let most = until - taken;
                match stream.read(&mut step[..most]).await.unwrap() {
                    0 => panic!("cut after {taken} bytes"),
                    bytes => taken += bytes,
                }
            }
        }
    };
    let http2 = async {
        let mut peer = Peer::connect(&stand).await;
        peer.say(&[&frame(SETTINGS, 0, 0, &NO_WINDOW)[..], &get(1, "/long")].concat()).await;
        let (mut clock, mut taken) = (tokio::time::interval(pace), 0);
        while taken < LONG_BYTES {
            clock.tick().await;
            let step = u32::try_from(STEP).unwrap().to_be_bytes();
            peer.say(&[0, 1].map(|stream| frame(WINDOW_UPDATE, 0, stream, &step)).concat()).await;
            let until = taken + STEP;
            while taken < until {
                let frame = peer.frame().await.unwrap_or_else(|| panic!("cut after {taken} bytes"));
                taken += if frame.kind == DATA { frame.payload.len() } else { 0 };
            }
        }
        assert_eq!(taken, LONG_BYTES);
    };
    tokio::join!(http1, http2);
    assert!(begun.elapsed() > Duration::from_secs(4), "it was not slow");
    assert_eq!(stand.counters.stalled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed_in_its_time() {
    let stand = stand(LimitsConfig { idle_timeout_ms: 300, ..limits() }).await;
    let client = stand.client(PORTAL);
    // HTTP/1.1, between two requests.
    let mut http1 = stand.http1(&client).await;
    assert_eq!(http1.send_request(get_request("/who")).await.unwrap().status(), 200);
    is_cut(&stand, "it was idle").await;
    // HTTP/2, before its first request and after it; it hears goodbye, and pings are no questions.
    for asks in [false, true] {
        let mut peer = Peer::connect(&stand).await;
        if asks {
            peer.say(&get(1, "/who")).await;
        }
        let mut said_goodbye = false;
        let listen = async {
            while let Some(heard) = peer.frame().await {
                said_goodbye |= heard.kind == GOAWAY && heard.error() == 0;
                let answer = if heard.kind == PING { (ACK, heard.payload) } else { (0, vec![7; 8]) };
                peer.say(&frame(PING, answer.0, 0, &answer.1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), listen).await.expect("it is closed");
        assert!(said_goodbye);
        is_cut(&stand, "it was idle").await;
    }
    // One that does not leave when it is asked to is cut.
    let stand = self::stand(LimitsConfig { idle_timeout_ms: 200, header_timeout_ms: 200, ..limits() }).await;
    let mut peer = Peer::connect(&stand).await;
    let _ = peer.until_closed("deaf to goodbyes").await;
}

/// What is under way is not idle, and neither is who keeps asking.
#[tokio::test]
async fn a_connection_that_waits_for_its_answer_is_not_idle() {
    let stand = stand(LimitsConfig { idle_timeout_ms: 1_000, ..limits() }).await;
    let client = stand.client(PORTAL);
    let (mut http1, mut http2) = (stand.http1(&client).await, stand.http2(&client).await);
    let waits = [
        tokio::spawn(http1.send_request(get_request("/slow"))),
        tokio::spawn(http2.send_request(get_request("/slow"))),
    ];
    eventually("both are under way", || stand.doings.asked.load(Ordering::SeqCst) == 2).await;
    let mut other = stand.http1(&stand.client(MOBILE)).await;
    let mut clock = tokio::time::interval(Duration::from_millis(250));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        clock.tick().await;
        let answer = other.send_request(get_request("/who")).await.unwrap();
        assert!(text(answer).await.starts_with("mobile "));
        other.ready().await.unwrap();
    }
    stand.doings.go_on.notify_waiters();
    for wait in waits {
        assert_eq!(text(wait.await.unwrap().unwrap()).await, "done");
    }
}

/// The second head of a connection has as long as the first, and not as long as an idle connection.
#[tokio::test]
async fn a_later_head_that_never_ends_is_cut() {
    let stand = stand(LimitsConfig { header_timeout_ms: 300, ..limits() }).await;
    let mut stream = stand.connect(Some(&stand.client(PORTAL)), b"http/1.1").await.unwrap();
    stream.write_all(&head("/who")).await.unwrap();
    let mut heard = vec![0; 4_096];
    assert!(stream.read(&mut heard).await.unwrap() > 0);
    stream.write_all(b"GET /who HTTP/1.1\r\n").await.unwrap();
    // A line now and then does not help.
    let (mut reader, mut writer) = tokio::io::split(stream);
    let dribble = async {
        let mut clock = tokio::time::interval(Duration::from_millis(50));
        while writer.write_all(b"x-a: b\r\n").await.is_ok() {
            clock.tick().await;
        }
    };
    let cut = async {
        tokio::select! {
            () = dribble => {}
            _ = reader.read_to_end(&mut heard) => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(5), cut).await.expect("it is cut");
    is_cut(&stand, "its head never ended").await;
}
