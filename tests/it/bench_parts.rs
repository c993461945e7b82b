//! The parts of the bench that judge: they must not take half an answer for a whole one, or ask for less than they say.

use serde_json::Value;

#[path = "../../benches/load/patients.rs"]
mod patients;
#[path = "../../benches/load/processor.rs"]
mod processor;
#[path = "../../benches/load/response.rs"]
mod response;

use patients::{Spread, change, message, person, record_number};
use processor::{Meter, Stat, parse_machine, parse_stat, resident_bytes};
use response::{BadAnswer, Head, read_head};

#[test]
fn a_head_is_read_when_it_is_whole() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length:  17 \r\n\r\n{\"id\"";
    let body_start = answer.len() - 5;
    for end in 0..body_start {
        assert_eq!(read_head(&answer[..end]), Ok(None), "{end}");
    }
    assert_eq!(read_head(answer), Ok(Some(Head { status: 200, body_start, body_bytes: 17 })));
    let empty = b"HTTP/1.1 204 No Content\r\netag: \"2\"\r\n\r\n";
    assert_eq!(read_head(empty), Ok(Some(Head { status: 204, body_start: empty.len(), body_bytes: 0 })));
}

#[test]
fn answers_that_cannot_be_measured_are_errors() {
    let endless = vec![b'x'; 20_000];
    let cases: [(&[u8], BadAnswer); 6] = [
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", BadAnswer::StatusLine),
        (b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n", BadAnswer::StatusLine),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", BadAnswer::Length),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", BadAnswer::Length),
        (b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", BadAnswer::Closing),
        (&endless, BadAnswer::TooLong),
    ];
    for (answer, expected) in cases {
        assert_eq!(read_head(answer), Err(expected));
    }
}

#[test]
fn made_up_records_have_twelve_fields_and_are_the_same_in_every_run() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
    let policy = strongroom::policy::PolicySet::load(&directory).unwrap();
    let all: Vec<(&str, String)> = (0..200)
        .map(|index| ("patients", person(index)))
        .chain((0..200).map(|seed| ("messages", message(&mut Spread::new(seed)))))
        .collect();
    for (collection, text) in &all {
        let fields: Value = serde_json::from_str(text).unwrap();
        assert_eq!(fields.as_object().unwrap().len(), 12);
        let raw: Box<serde_json::value::RawValue> = serde_json::from_str(text).unwrap();
        let collection = policy.collection(collection).unwrap();
        let parsed = collection.parse_fields(&raw, strongroom::policy::ParseMode::Create);
        assert!(parsed.is_ok(), "{text}");
    }
    let patch: Box<serde_json::value::RawValue> = serde_json::from_str(&change(&mut Spread::new(1))).unwrap();
    let parsed =
        policy.collection("patients").unwrap().parse_fields(&patch, strongroom::policy::ParseMode::Patch);
    assert!(parsed.is_ok());
    assert_eq!(person(7), person(7));
    assert_ne!(person(7), person(8));
    assert!(person(7).contains(&record_number(7)));
}

#[test]
fn processor_time_is_counted_from_after_the_name() {
    let text = "42 (a) R 7 (b) S 11 42 42 0 -1 4194304 1 2 3 4 100 20 30 4 20 0 1 0 5 6 7";
    assert_eq!(parse_stat(text), Some(Stat { parent: 11, own_ticks: 120, ended_children_ticks: 34 }));
    assert_eq!(parse_stat("42 no name"), None);
    assert_eq!(parse_machine("cpu  1 2 4 800 900 8 16 32 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"), Some(63));
    assert_eq!(parse_machine("cpu  1 2 4"), None);
    let before = Meter::own().read().unwrap();
    let mut spread = Spread::new(1);
    while Meter::own().read().unwrap().since(&before).processor.is_zero() {
        std::hint::black_box(spread.next());
    }
    assert!(Meter::Families(vec![std::process::id()]).read().unwrap().processor >= before.processor);
    assert!(Meter::Machine.read().unwrap().processor >= before.processor);
    assert!(resident_bytes(std::process::id()).unwrap() > 1024 * 1024);
}
