//! Requests whose end two readers could see in two places. Each is refused, or read in one way only, and then the connection
//! ends: what hides behind it is never carried out.

use serde_json::json;

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
