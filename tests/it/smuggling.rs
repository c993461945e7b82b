//! Requests whose end two readers could see in two places. Each is refused, or read in one way only, and then the connection
//! ends: what hides behind it is never carried out.

use serde_json::json;

use crate::door_frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PATIENCE, Peer, RST_STREAM, frame, literal_block,
    post_block,
};
use crate::support::samples::small_patient;
use crate::support::{Raw, Strongroom};

/// A name, header lines, a body, and the code of the answer; "" where the parser refuses with a bare status.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("length and coding", "content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n", "body_not_json"),
    ("coding and length", "transfer-encoding: chunked\r\ncontent-length: 5", "0\r\n\r\n", "body_not_json"),
    ("two lengths", "content-length: 2\r\ncontent-length: 3", "{}", ""),
    ("a list of lengths", "content-length: 2, 2", "{}", ""),
    ("a length with a sign", "content-length: +2", "{}", ""),
    (
        "chunked twice",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "0\r\n\r\n",
        "request_ambiguous",
    ),
    ("identity", "transfer-encoding: identity", "{}", ""),
    ("a coding in front", "transfer-encoding: gzip, chunked", "0\r\n\r\n", "request_ambiguous"),
    ("a coding behind", "transfer-encoding: chunked, gzip", "0\r\n\r\n", ""),
    ("nearly chunked", "transfer-encoding: xchunked", "0\r\n\r\n", ""),
    ("a control character", "transfer-encoding: \x0bchunked", "0\r\n\r\n", ""),
    ("a space before the colon", "content-length : 2", "{}", ""),
    ("a folded line", "x-a: b\r\n content-length: 9\r\ncontent-length: 2", "{}", ""),
    ("a NUL", "x-a: b\0c\r\ncontent-length: 2", "{}", ""),
    ("a bare CR", "x-a: b\rcontent-length: 9\r\ncontent-length: 2", "{}", ""),
    ("a chunk's size with a sign", "transfer-encoding: chunked", "+2\r\n{}\r\n0\r\n\r\n", "body_incomplete"),
    (
        "a chunk's size as C writes it",
        "transfer-encoding: chunked",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "body_incomplete",
    ),
    (
        "a chunk's size beyond 64 bits",
        "transfer-encoding: chunked",
        "10000000000000002\r\n{}\r\n",
        "body_incomplete",
    ),
    ("chunks by bare LF", "transfer-encoding: chunked", "2\n{}\n0\n\n", "body_incomplete"),
    ("a chunk longer than its size", "transfer-encoding: chunked", "1\r\n{}\r\n0\r\n\r\n", "body_incomplete"),
    ("two hosts", "host: y\r\ncontent-length: 2", "{}", "request_ambiguous"),
];

#[tokio::test]
async fn what_hides_behind_an_ambiguous_request_is_never_read() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let raw: Raw = strongroom.raw_client("portal").await;
    let end = "host: x\r\nx-purpose-of-use: TREAT\r\n";
    let hidden = format!("GET /api/v1/patients/{id} HTTP/1.1\r\n{end}connection: close\r\n\r\n");
    for (name, lines, body, code) in CASES {
        let head = format!(
            "POST /api/v1/patients HTTP/1.1\r\n{end}content-type: application/json\r\n{lines}\r\n\r\n"
        );
        let answer = raw.send_bytes(format!("{head}{body}{hidden}").as_bytes()).await;
        assert_eq!(answer.status, 400, "{name}: {} {}", answer.head, String::from_utf8_lossy(&answer.body));
        // hyper reads a length beside a coding as RFC 9112 section 6.3 says, by the coding, and ends the connection.
        assert!(
            answer.head.contains("connection: close") || *code == "body_incomplete",
            "{name}: {}",
            answer.head
        );
        if code.is_empty() {
            assert!(answer.body.is_empty(), "{name}");
        } else {
            assert_eq!(answer.problem().1, *code, "{name}");
        }
    }
    assert!(strongroom.entries_of("record.read").await.is_empty(), "a hidden request was carried out");
    let stored = strongroom.data().await.query_one("SELECT count(*) FROM record", &[]).await.unwrap();
    assert_eq!(stored.get::<_, i64>(0), 1);

    // Without a host, or beside the line that HTTP/1.0 ends its requests with.
    let none = format!("GET /api/v1/patients/{id} HTTP/1.1\r\nx-purpose-of-use: TREAT\r\n\r\n");
    assert_eq!(raw.send_bytes(none.as_bytes()).await.problem(), (400, "request_ambiguous".into()));
    let old =
        format!("POST /api/v1/patients HTTP/1.0\r\n{end}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    assert_eq!(raw.send_bytes(old.as_bytes()).await.status, 400);
    let attempts = strongroom.entries_of("access.denied").await;
    let told = attempts
        .iter()
        .filter(|entry| entry["out"] == json!({ "status": "refused", "code": "request_ambiguous" }));
    assert_eq!(
        told.count(),
        CASES.iter().filter(|case| case.3 == "request_ambiguous").count() + 1,
        "all on record"
    );
    assert!(strongroom.entries_of("record.read").await.is_empty());
}

/// A name, and what is added to the fields of a good request, or put in the place of some.
type Twist = (&'static str, &'static [(&'static str, &'static str)]);

/// What HTTP/2 must not carry (RFC 9113 section 8), because a proxy that hands it on as HTTP/1.1 makes two requests of it, or
/// another one. A value of "-" takes the field away.
const TWISTS: &[Twist] = &[
    ("a transfer coding", &[("transfer-encoding", "chunked")]),
    ("a header of the connection", &[("connection", "keep-alive")]),
    ("another one", &[("proxy-connection", "close")]),
    ("an upgrade", &[("upgrade", "h2c")]),
    ("a coding that is not trailers", &[("te", "gzip")]),
    ("a name in capitals", &[("X-A", "b")]),
    ("a name with a space", &[("x a", "b")]),
    ("a name with a colon", &[("x-a: b\r\nx-c", "d")]),
    ("a value with a line", &[("x-a", "b\r\nx-purpose-of-use: HPAYMT")]),
    ("a value with a bare LF", &[("x-a", "b\nx-c: d")]),
    ("a value with a NUL", &[("x-a", "b\0c")]),
    ("no method", &[(":method", "-")]),
    ("no path", &[(":path", "-")]),
    ("an empty path", &[(":path", "")]),
    ("a path without a slash", &[(":path", "api/v1/patients")]),
    ("a path with a request line", &[(":path", "/livez HTTP/1.1\r\nhost: y\r\n\r\nGET /livez")]),
    ("a method with a request line", &[(":method", "GET /livez HTTP/1.1\r\n\r\nGET")]),
    ("an authority with a line", &[(":authority", "x\r\nx-a: b")]),
    ("a pseudo-field that there is not", &[(":x", "y")]),
    ("a status", &[(":status", "200")]),
    ("a length without a body", &[("content-length", "5")]),
    ("two lengths", &[("content-length", "0"), ("content-length", "5")]),
    ("a length that is none", &[("content-length", "+0")]),
];

#[tokio::test]
async fn what_http_2_must_not_carry_is_never_carried_out() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let path = format!("/api/v1/patients/{}", portal.create_patient(small_patient()).await);
    let raw: Raw = strongroom.raw_client("portal").await;
    let good = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", &path),
        (":authority", "localhost"),
        ("x-purpose-of-use", "TREAT"),
    ];
    let send = async |fields: &[(&str, &str)]| {
        let fields: Vec<(&[u8], &[u8])> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let mut peer = Peer::over(raw.open_for(b"h2").await).await;
        peer.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal_block(&fields))).await;
        peer
    };
    assert_eq!(send(&good).await.answer(1).await.0, 200, "the request without a twist");
    for (name, twist) in TWISTS {
        let mut fields: Vec<(&str, &str)> =
            good.into_iter().filter(|(field, _)| twist.iter().all(|(other, _)| field != other)).collect();
        let twist = twist.iter().filter(|(_, value)| *value != "-");
        // Pseudo-fields come first.
        let (pseudo, plain): (Vec<(&str, &str)>, _) = twist.partition(|(field, _)| field.starts_with(':'));
        fields.splice(..0, pseudo);
        fields.extend(plain);
        is_refused(name, &mut send(&fields).await).await;
    }
    let twice = [good[0], good[1], good[2], (":path", "/livez"), good[3], good[4]];
    is_refused("two paths", &mut send(&twice).await).await;
    let late = [good[0], good[1], good[3], good[4], good[2]];
    is_refused("a path after the headers", &mut send(&late).await).await;
    assert_eq!(strongroom.entries_of("record.read").await.len(), 1, "only the good one was carried out");

    // A body that is shorter or longer than it says.
    for (name, body) in [("too short", &b"{}"[..]), ("too long", b"{\"fields\":{}}")] {
        let mut peer = Peer::over(raw.open_for(b"h2").await).await;
        let headers =
            [("content-type", "application/json"), ("x-purpose-of-use", "TREAT"), ("content-length", "5")];
        let head = frame(HEADERS, END_HEADERS, 1, &post_block("/api/v1/patients", &headers));
        peer.say(&[head, frame(DATA, END_STREAM, 1, body)].concat()).await;
        is_refused(name, &mut peer).await;
    }
    let stored = strongroom.data().await.query_one("SELECT count(*) FROM record", &[]).await.unwrap();
    assert_eq!(stored.get::<_, i64>(0), 1);
}

/// The stream or the connection ends with an error of the protocol, or the answer is 400.
async fn is_refused(name: &str, peer: &mut Peer) {
    loop {
        let heard = tokio::time::timeout(PATIENCE, peer.frame()).await.expect(name);
        let Some(heard) = heard else { panic!("{name}: closed without a word") };
        match heard.kind {
            RST_STREAM | GOAWAY => return assert_ne!(heard.error(), 0, "{name}"),
            // :status 400 in the static table (RFC 7541 appendix A).
            HEADERS => return assert_eq!(heard.payload[0], 0x8c, "{name}: {:?}", heard.payload),
            _ => {}
        }
    }
}
