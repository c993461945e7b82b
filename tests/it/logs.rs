//! The service's own log: JSON, a line for each refusal, found by the id that the caller was given.

use serde_json::Value;

use crate::support::{Strongroom, problem, request_id};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What an operator does with a caller's complaint: the id in the answer leads to the line, with the code that the caller
/// saw, the route and not the path, and the W3C trace that the request belongs to.
#[tokio::test]
async fn the_id_in_an_answer_finds_its_line_and_its_trace() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let missing = "/api/v1/patients/01a20e36-3521-7fdd-acd8-b1293475b0e3";
    let request = portal.request(reqwest::Method::GET, missing);
    let answer = request.header("traceparent", format!("00-{TRACE}-{PARENT}-01")).send().await.unwrap();
    let id = request_id(&answer);
    let (status, code) = problem(answer).await;
    let mut lines = Vec::new();
    crate::support::eventually("the line is there", async || {
        let log = strongroom.log();
        lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        lines.retain(|line| line["request"]["id"] == *id);
        !lines.is_empty()
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!((&line["status"], &line["code"]), (&status.into(), &code.into()));
    assert_eq!((line["message"].as_str(), line["level"].as_str()), (Some("request.answered"), Some("INFO")));
    assert_eq!(line["route"], "/api/v1/{collection}/{id}");
    assert_eq!((&line["request"]["trace"], &line["request"]["parent"]), (&TRACE.into(), &PARENT.into()));
    assert!(line["timestamp"].is_string() && line["micros"].is_u64());
    let entry = strongroom.entry_of(&id).await;
    assert_eq!(entry["req"]["trace"], TRACE, "the audit entry belongs to the same trace");
}
