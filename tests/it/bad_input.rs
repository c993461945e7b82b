//! Input that is wrong in every way there is: each gets a problem document with a stable code, and none of it comes back
//! or reaches the log.

use serde_json::{Value, json};

use crate::support::samples::{NOBODY, small_patient};
use crate::support::{Client, Raw, Strongroom, problem};

/// Stands in everything that is sent here.
const MARK: &str = "Zq7Mark";

async fn assert_unmarked(strongroom: &Strongroom) {
    let kept = format!("{:?}{}", strongroom.entries().await, strongroom.log().join("\n"));
    assert!(kept.contains("service.start"));
    assert!(!kept.to_ascii_lowercase().contains(&MARK.to_ascii_lowercase()));
}

/// Sends a body as it is and gives status, code and the faults' codes; the answer does not echo.
async fn post(client: &Client, path: &str, content_type: &str, body: Vec<u8>) -> (u16, String, Vec<String>) {
    let request = client.request(reqwest::Method::POST, path).header("content-type", content_type).body(body);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert!(answer.headers().values().all(|value| !value.to_str().unwrap().contains(MARK)));
    let text = answer.text().await.unwrap();
    assert!(!text.contains(MARK), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let faults = document["errors"].as_array().into_iter().flatten();
    let faults = faults.map(|fault| fault["code"].as_str().unwrap().to_owned()).collect();
    (status, document["code"].as_str().unwrap().to_owned(), faults)
}

#[tokio::test]
async fn bodies_that_are_no_json_object_of_the_documented_form() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let deep = format!("{{\"fields\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let twice = format!(r#"{{"fields":{{"notes":"{MARK}"}},"fields":{{}}}}"#);
    for (body, code) in [
        (String::new(), "body_not_json"),
        (" \n".into(), "body_not_json"),
        (format!("{{\"fields\":{{\"notes\":\"{MARK}\"}}"), "body_not_json"),
        (format!("{{\"fields\":{{}}}} {MARK}"), "body_not_json"),
        (format!("{{'fields':'{MARK}'}}"), "body_not_json"),
        (format!("\u{feff}{{\"fields\":{{\"notes\":\"{MARK}\"}}}}"), "body_not_json"),
        (format!("{{\"fields\":{{\"notes\":\"{MARK}\0\"}}}}"), "body_not_json"),
        (r#"{"subject":"\ud800","fields":{}}"#.into(), "body_not_json"),
        ("null".into(), "body_shape"),
        (format!("\"{MARK}\""), "body_shape"),
        (format!("[null,{{\"notes\":\"{MARK}\"}}]"), "body_shape"),
        ("{}".into(), "body_shape"),
        (format!("{{\"fields\":{{}},\"{MARK}\":1}}"), "body_shape"),
        (twice, "body_shape"),
        (format!("{{\"subject\":\"{MARK}\",\"fields\":{{}}}}"), "body_shape"),
        (format!("{{\"subject\":[\"{MARK}\"],\"fields\":{{}}}}"), "body_shape"),
    ] {
        let found = post(&portal, "/api/v1/patients", "application/json", body.clone().into_bytes()).await;
        assert_eq!(found, (400, code.to_owned(), vec![]), "{body}");
    }
    let bad = [
        b"{\"fields\":{\"notes\":\"Zq7Mark\xff\"}}".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        b"\xc0\x80".to_vec(),
    ];
    for body in bad {
        let found = post(&portal, "/api/v1/patients", "application/json", body).await;
        assert_eq!(found, (400, "body_not_utf8".to_owned(), vec![]));
    }
    let found = post(&portal, "/api/v1/patients", "application/json", deep.into_bytes()).await;
    assert_eq!((found.0, found.1.as_str(), found.2[0].as_str()), (422, "fields_invalid", "not_an_object"));
    // As deep in the other envelopes, and in members that they do not have.
    let nest =
        |before: &str| format!("{before}{}{}}}", "[".repeat(200_000), "]".repeat(200_000)).into_bytes();
    for (path, body) in [
        ("/api/v1/patients/batch", nest("{\"records\":")),
        ("/api/v1/messages/batch/read", nest("{\"ids\":")),
        ("/api/v1/patients/search", nest("{\"where\":")),
        ("/api/v1/patients", nest("{\"subject\":")),
        ("/api/v1/patients", nest("{\"Zq7Mark\":")),
        ("/api/v1/patients", nest("")),
    ] {
        let found = post(&portal, path, "application/json", body).await;
        assert_eq!((found.0, found.2), (400, vec![]), "{path}: {}", found.1);
        assert!(["body_shape", "body_not_json"].contains(&found.1.as_str()), "{path}: {}", found.1);
    }
    assert_unmarked(&strongroom).await;
}

#[tokio::test]
async fn values_that_do_not_fit_their_field() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let nested = |depth: usize| format!("{}\"{MARK}\"{}", "[".repeat(depth), "]".repeat(depth));
    let long = |length: usize| format!("\"{MARK}{}\"", "a".repeat(length));
    for (field, value, code) in [
        ("notes", r#""Zq7Mark\u0000""#.to_owned(), "control_character"),
        ("notes", r#""Zq7Mark\ud83d""#.into(), "lone_surrogate"),
        ("notes", r#""Zq7Mark\udc00\ud800""#.into(), "lone_surrogate"),
        ("notes", "17".into(), "wrong_kind"),
        ("notes", "null".into(), "wrong_kind"),
        ("notes", "{}".into(), "wrong_kind"),
        ("notes", nested(100_000), "wrong_kind"),
        ("notes", "\" \"".into(), "empty"),
        ("notes", long(16_384), "too_long"),
        ("name_prefix", long(32), "too_long"),
        ("email", format!("\"{MARK}\""), "malformed"),
        ("phone", format!("\"+1 555 {MARK}\""), "malformed"),
        ("phone", "\"+999999999999999999\"".into(), "malformed"),
        ("ssn", "\"000-12-3456\"".into(), "out_of_range"),
        ("ssn", format!("\"{MARK}\""), "malformed"),
        ("deceased_at", "\"2031-02-30T00:00:00Z\"".into(), "out_of_range"),
        ("deceased_at", "\"2031-02-03 00:00\"".into(), "malformed"),
        ("sex", format!("\"{MARK}\""), "not_listed"),
        ("active", "\"true\"".into(), "wrong_kind"),
        ("active", "1".into(), "wrong_kind"),
        ("address", format!("\"{MARK}\""), "wrong_kind"),
        ("address", format!("{{\"{MARK}\":1}}"), "unknown_member"),
        ("address", format!("{{\"city\":\"{MARK}\",\"city\":\"b\"}}"), "duplicate_member"),
        ("insurance", nested(33), "too_deep"),
        ("insurance", format!("{{\"{MARK}\":1,\"{MARK}\":2}}"), "duplicate_member"),
        ("insurance", "1e400".into(), "inexact"),
        ("insurance", "9007199254740993".into(), "inexact"),
        ("insurance", format!("[{}1]", "1,".repeat(4_096)), "too_many_items"),
        ("insurance", format!("[{}]", vec![format!("\"{MARK}\""); 1_000].join(",")), "too_long"),
    ] {
        let mut fields = serde_json::to_string(&small_patient()).unwrap();
        fields.truncate(fields.len() - 1);
        let body = format!("{{\"fields\":{fields},\"{field}\":{value}}}}}");
        let found = post(&portal, "/api/v1/patients", "application/json", body.into_bytes()).await;
        assert_eq!(found, (422, "fields_invalid".to_owned(), vec![code.to_owned()]), "{field}: {value:.60}");
    }
    let fields = json!({ MARK: 1, "family_name": MARK, "given_name": 1, "birth_date": MARK }).to_string();
    let body = format!("{{\"fields\":{}}}", fields.replacen('{', r#"{"given_name":2,"#, 1));
    let mut found = post(&portal, "/api/v1/patients", "application/json", body.into_bytes()).await;
    found.2.sort();
    let expected =
        ["duplicate_field", "malformed", "required", "unknown_field", "wrong_kind"].map(String::from);
    assert_eq!(found, (422, "fields_invalid".to_owned(), expected.to_vec()));
    // Faults are listed up to a bound.
    let many: Vec<String> = (0..5_000).map(|number| format!("\"{MARK}{number}\":1")).collect();
    let body = format!("{{\"fields\":{{{}}}}}", many.join(","));
    let found = post(&portal, "/api/v1/patients", "application/json", body.into_bytes()).await;
    assert_eq!((found.0, found.2.len()), (422, 64));
    assert_unmarked(&strongroom).await;
}

#[tokio::test]
async fn numbers_keep_to_their_types() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    let subject = portal.create_patient(small_patient()).await;
    for (field, value, code) in [
        ("visit_number", "9007199254740992", "out_of_range"),
        ("visit_number", "1e3", "malformed"),
        ("visit_number", "1.0", "malformed"),
        ("visit_number", "\"1\"", "wrong_kind"),
        ("weight_kg", "1e99999999999", "out_of_range"),
        ("weight_kg", "123456789012345678901234567890123456789", "out_of_range"),
        ("weight_kg", "\"0x10\"", "malformed"),
        ("diagnoses", "[\"Zq7Mark\",1]", "wrong_kind"),
        ("diagnoses", "\"Zq7Mark\"", "wrong_kind"),
        ("vitals", "NaN", "body_not_json"),
        ("vitals", "01", "body_not_json"),
    ] {
        let fields = format!(r#"{{"started_at":"2026-01-02T03:04:05Z","kind":"AMB","{field}":{value}}}"#);
        let body = format!(r#"{{"subject":"{subject}","fields":{fields}}}"#);
        let found = post(&clinician, "/api/v1/encounters", "application/json", body.into_bytes()).await;
        let code = code.to_owned();
        let found = found.2.first().unwrap_or(&found.1);
        assert_eq!(found, &code, "{field}: {value}");
    }
}

#[tokio::test]
async fn bodies_of_another_form_or_size() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let body = || json!({ "fields": { "notes": MARK } }).to_string().into_bytes();
    for kind in [
        "",
        "text/plain",
        "application/json; charset=latin1",
        "application/jsonZq7Mark",
        "application/merge-patch+json",
    ] {
        let found = post(&portal, "/api/v1/patients", kind, body()).await;
        assert_eq!(found, (415, "media_type_unsupported".to_owned(), vec![]), "{kind}");
    }
    let raw = strongroom.raw_client("portal").await;
    let head = |lines: &str| format!("POST /api/v1/patients HTTP/1.1\nx-purpose-of-use: TREAT\n{lines}");
    for encoding in ["gzip", "identity", "Zq7Mark"] {
        let lines =
            format!("content-type: application/json\ncontent-encoding: {encoding}\ncontent-length: 2");
        let answer = raw.send(&head(&lines), b"{}").await;
        assert_eq!(answer.problem(), (415, "encoding_unsupported".into()));
    }
    let two = "content-type: application/json\ncontent-type: text/plain\ncontent-length: 2";
    assert_eq!(raw.send(&head(two), b"{}").await.problem(), (415, "media_type_unsupported".into()));

    // One byte too many: announced, it is refused unread; unannounced, as soon as it is there.
    let large = format!("{{\"fields\":{{\"notes\":\"{}\"}}}}", "Zq7Mark".repeat(160_000));
    let found = post(&portal, "/api/v1/patients", "application/json", large.clone().into_bytes()).await;
    assert_eq!(found, (413, "body_too_large".to_owned(), vec![]));
    let announced = "content-type: application/json\ncontent-length: 1048577";
    let answer = raw.send(&head(announced), b"").await;
    assert_eq!(answer.problem(), (413, "body_too_large".into()));
    assert!(answer.head.contains("connection: close"));
    let chunked = "content-type: application/json\ntransfer-encoding: chunked";
    let chunks = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let answer = raw.send(&head(chunked), chunks.as_bytes()).await;
    assert_eq!(answer.problem(), (413, "body_too_large".into()));
    let answer = raw.send(&head(chunked), b"Zq7Mark\r\n").await;
    assert_eq!(answer.problem(), (400, "body_incomplete".into()));
    // The largest body that is taken is read to its end.
    let room = 1_048_576 - "{\"fields\":{\"notes\":\"\"}}".len();
    let largest = format!("{{\"fields\":{{\"notes\":\"{}\"}}}}", "a".repeat(room));
    let found = post(&portal, "/api/v1/patients", "application/json", largest.into_bytes()).await;
    assert_eq!((found.0, found.1.as_str()), (422, "fields_invalid"));
    assert_unmarked(&strongroom).await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut() {
    let options = crate::support::ServiceOptions {
        settings: vec![("STRONGROOM__LIMITS__REQUEST_TIMEOUT_MS".into(), "1500".into())],
        ..Default::default()
    };
    let strongroom = Strongroom::start_with(options).await;
    let raw = strongroom.raw_client("portal").await;
    let head = "POST /api/v1/patients HTTP/1.1\nx-purpose-of-use: TREAT\ncontent-type: application/json\ncontent-length: 100";
    let answer = raw.send(head, b"{\"fields\":").await;
    assert_eq!(answer.problem(), (503, "deadline_exceeded".into()));
    assert!(answer.head.contains("retry-after: 1"));
}

#[tokio::test]
async fn paths_and_methods_that_are_none() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let id = portal.create_patient(small_patient()).await;
    let raw = strongroom.raw_client("portal").await;
    for (line, status, code) in [
        ("GET /", 404, "route_unknown"),
        ("GET /Zq7Mark", 404, "route_unknown"),
        ("GET /api/v1/patients/", 404, "route_unknown"),
        ("GET /api/v1/patients/ID/Zq7Mark", 404, "route_unknown"),
        ("GET /api/v1/patients/../../../livez", 404, "route_unknown"),
        ("GET //api/v1/patients/ID", 404, "route_unknown"),
        ("GET /api/v1/openapi.yaml", 404, "collection_unknown"),
        ("POST /api/v1/openapi.json", 405, "method_not_allowed"),
        ("PUT /api/v1/patients", 405, "method_not_allowed"),
        ("GET /api/v1/patients/batch", 405, "method_not_allowed"),
        ("PUT /api/v1/patients/ID", 405, "method_not_allowed"),
        ("POST /api/v1/audit/events", 405, "method_not_allowed"),
        ("OPTIONS /api/v1/patients/ID", 405, "method_not_allowed"),
        ("TRACE /livez", 405, "method_not_allowed"),
        ("ZQ7MARK /api/v1/patients/ID", 405, "method_not_allowed"),
        ("GET /api/v1/%2e%2e/ID", 404, "collection_unknown"),
        ("GET /api/v1/patients%2FID/x", 404, "collection_unknown"),
        ("GET /api/v1/%ff%feZq7Mark/x", 404, "collection_unknown"),
        ("GET /api/v1/%zzZq7Mark/x", 404, "collection_unknown"),
        ("GET /api/v1/patients/ID%00", 404, "record_not_found"),
        ("GET /api/v1/patients/ID%2F", 404, "record_not_found"),
        ("GET /api/v1/patients/Zq7Mark'%20OR%201=1", 404, "record_not_found"),
        ("GET /api/v1/patients/%2561", 404, "record_not_found"),
        ("GET /api/v1/patients/ID%0d%0aZq7Mark:1", 404, "record_not_found"),
        ("GET /api/v1/patients/ID;Zq7Mark", 404, "record_not_found"),
        ("GET /api/v1/patients/ID%3Fview=Zq7Mark", 404, "record_not_found"),
        ("GET /api/v1/patients/%c0%ae%c0%ae", 404, "collection_unknown"),
        ("GET /api/v1/patients/./ID", 404, "route_unknown"),
        ("GET /api/v1//patients/ID", 404, "route_unknown"),
        ("GET /api/v1\\patients\\ID", 404, "route_unknown"),
        ("GET /%61pi/v1/patients/ID", 404, "route_unknown"),
        ("GET /API/v1/patients/ID", 404, "route_unknown"),
        ("GET http://Zq7Mark/api/v1/patients/%00", 404, "record_not_found"),
        ("CONNECT zq7mark:443", 404, "route_unknown"),
        ("OPTIONS *", 404, "route_unknown"),
        ("GET /api/v1/patients/LONG", 404, "record_not_found"),
        ("GET /api/v1/patients/ID?fields=Zq7Mark", 400, "query_invalid"),
        ("GET /api/v1/patients/ID?Zq7Mark=%ff", 400, "query_invalid"),
    ] {
        let line = line.replace("ID", &id).replace("LONG", &MARK.repeat(1_000));
        let answer = raw.send(&format!("{line} HTTP/1.1\nx-purpose-of-use: TREAT"), b"").await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{line:.80}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(MARK), "{line:.80}");
        assert_eq!(answer.head.contains("allow:"), status == 405, "{}", answer.head);
    }
    // An id that cannot be is still for those who may ask at all.
    let answer = portal.with_purpose("HPAYMT").get(&format!("/api/v1/patients/{MARK}")).await;
    assert_eq!(problem(answer).await, (403, "purpose_not_allowed".into()));
    assert_unmarked(&strongroom).await;
}

/// What the HTTP parser refuses never becomes a request, so there is no problem document: a bare status, and nothing of
/// what was sent.
#[tokio::test]
async fn what_is_not_http_gets_a_bare_status() {
    let strongroom = Strongroom::start().await;
    let raw: Raw = strongroom.raw_client("portal").await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", MARK.repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "Zq7Mark: 1\r\n".repeat(80));
    for (bytes, status) in [
        (b"Zq7Mark\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nZq7Mark\r\n\r\n".to_vec(), 400),
        (format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {MARK}\r\n\r\n").into_bytes(), 400),
        (long.into_bytes(), 431),
        (many.into_bytes(), 431),
    ] {
        let answer = raw.send_bytes(&bytes).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{}", answer.head);
        assert!(!answer.head.contains("zq7mark"));
    }
    // A header that is no text is no reason to fail, only to refuse.
    let request = format!(
        "GET /api/v1/patients/{NOBODY} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-purpose-of-use: "
    );
    let answer = raw.send_bytes(&[request.as_bytes(), b"\xff\r\n\r\n"].concat()).await;
    assert_eq!(answer.problem(), (400, "purpose_unknown".into()));
    assert_unmarked(&strongroom).await;
}
