use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::audit::fixtures::log_entries;
use crate::domain::clock::Timestamp;

fn reader() -> EntryReader {
    EntryReader::new().expect("the schema uses known words only")
}

/// One entry of each kind, as reviewed.
fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("audit/examples");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        found.push((file.display().to_string(), text.trim_end().to_owned()));
    }
    assert!(found.len() > 5);
    found
}

fn fault(from: &str, to: &str) -> FormFault {
    let entry = examples().into_iter().find(|(name, _)| name.ends_with("record.read.json")).unwrap().1;
    assert!(entry.contains(from), "{from}");
    reader().check(entry.replacen(from, to, 1).as_bytes()).unwrap_err()
}

#[test]
fn what_the_service_writes_is_read() {
    for (name, text) in examples() {
        // The examples show a place in a chain that begins elsewhere.
        reader().check(text.as_bytes()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
    for entry in log_entries(6) {
        let facts = reader().read(&entry).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&entry).unwrap();
        assert_eq!(uuid::Uuid::from_bytes(facts.id).to_string(), value["id"]);
        let chain = facts.chain.map(|chain| (uuid::Uuid::from_u128(chain.source).to_string(), chain.number));
        let expected = value["chain"]["src"]
            .as_str()
            .map(|src| (src.to_owned(), value["chain"]["seq"].as_u64().unwrap()));
        assert_eq!(chain, expected);
    }
    let restart = examples().into_iter().find(|(name, _)| name.ends_with("chain.restart.json")).unwrap().1;
    let facts = reader().read(restart.as_bytes()).unwrap();
    assert_eq!(facts.ended, Some((0x019b_76da_0000_7000_8000_0000_0000_000f, 41, Some([0x66; 32]))));
    assert_eq!(facts.chain.unwrap().previous, Some([0x33; 32]));
}

#[test]
fn what_is_not_canonical_is_named_so() {
    let at = |from: &str, to: &str| matches!(fault(from, to), FormFault::NotCanonical { .. });
    assert!(at("\"v\":1", "\"v\": 1"));
    assert!(at("\"v\":1", "\"v\":1.0"));
    assert!(at("\"v\":1", "\"v\":01"));
    assert!(at("\"v\":1", "\"v\":-0"));
    assert!(at("\"v\":1", "\"v\":1e0"));
    assert!(at("\"v\":1", "\"v\":9007199254740992"));
    assert!(at("\"v\":1", "\"v\":1,\"v\":1"));
    assert!(at("{\"act\"", "{\"who\":1,\"act\""));
    assert!(at("record.read", "record\\u002eread"));
    assert!(at("/api/v1", "\\/api\\/v1"));
    assert!(at("/api/v1", "\u{1}"));
    assert!(at("/api/v1", "\\u000a"));
    assert!(at("/api/v1", "\\u001F"));
    assert!(at("/api/v1", "\\ud800"));
    assert!(at("\"v\":1", "\"v\":1}"));
    assert!(at("{\"act\"", " {\"act\""));
    let deep = [vec![b'['; 100], vec![b']'; 100]].concat();
    assert!(matches!(reader().check(&deep), Err(FormFault::NotCanonical { .. })));
    assert_eq!(reader().check(b""), Err(FormFault::NotCanonical { at: 0 }));
    assert_eq!(reader().check(b"{\"act\":\"\xff\"}"), Err(FormFault::NotCanonical { at: 8 }));
    let route = examples()[0].1.clone();
    assert!(reader().check(&[route.as_bytes(), b"\n"].concat()).is_err());
}

/// Canonical JSON, but not an entry.
#[test]
fn what_is_no_entry_is_named_by_its_member() {
    let missing = |from: &str, member: &str| {
        assert!(
            matches!(fault(from, ""), FormFault::Missing { member: named, .. } if named == member),
            "{member}"
        );
    };
    missing("\"act\":\"record.read\",", "/act");
    missing("\"status\":\"success\"", "/out/status");
    missing("\"id\":\"019b76da-a87b-7000-8000-000000000001\",", "/id");
    missing(",\"src\":\"019b76da-0000-7000-8000-00000000000e\"", "/chain/src");
    let value = |from: &str, to: &str, member: &str| {
        let fault = fault(from, to);
        assert!(
            matches!(&fault, FormFault::Value { member: named, .. } if named == member),
            "{fault} for {member}"
        );
    };
    value("\"v\":1", "\"v\":2", "/v");
    value("success", "succeeded", "/out/status");
    value("\"seq\":7", "\"seq\":0", "/chain/seq");
    value("\"port\":50123", "\"port\":65536", "/src/port");
    value("\"port\":50123", "\"port\":\"50123\"", "/src/port");
    value("\"TREAT\"", "\"treat\"", "/purpose");
    value("\"TREAT\"", "null", "/purpose");
    value("\"ssn\"],\"basis\"", "\"Social Security\"],\"basis\"", "/asked");
    value("\"subj\":\"019b", "\"subj\":\"019B", "/subj");
    value("00:00:00.123456Z", "00:00:00.123Z", "/ts");
    value("{\"class\":[\"phi\",\"pii\"]", "{\"class\":[]", "/obj");
    value("\"phi\"", "\"xyz\"", "/obj");
    assert!(matches!(fault("\"v\":1", "\"v\":1,\"w\":1"), FormFault::Missing { .. }));
    assert!(matches!(fault("\"uid\":\"portal\"", "\"uid\":\"portal\",\"x\":1"), FormFault::Unknown { .. }));
    assert!(matches!(fault("\"policy\":[\"portal-reads-patients\"]", ""), FormFault::Unknown { .. }));
    assert_eq!(reader().check(b"[]"), Err(FormFault::Value { member: String::new(), at: 0 }));
}

#[test]
fn what_only_people_would_notice_is_noticed() {
    assert_eq!(fault("record.read", "record.steal"), FormFault::Act);
    assert_eq!(fault("00:00:00.123", "00:00:00.124"), FormFault::Time);
    assert_eq!(fault("2026-01-01T", "2026-02-29T"), FormFault::Time);
    assert_eq!(fault("a87b-7000", "a87b-4000"), FormFault::Time);
    assert_eq!(fault("8000-000000000001", "c000-000000000001"), FormFault::Time);
    assert_eq!(fault("\"seq\":7", "\"seq\":1"), FormFault::Previous);
    let prev = format!("\"prev\":\"{}\",", "33".repeat(32));
    assert_eq!(fault(&prev, ""), FormFault::Previous);
    assert_eq!(fault("record.read", "chain.restart"), FormFault::NoEnd);
}

/// Whatever stands at one place of an entry: it is read the same way beside entries of its shape as alone.
#[test]
fn an_entry_is_read_alike_beside_others_of_its_shape() {
    let reader = reader();
    for (name, text) in examples() {
        let mut shapes = Shapes::default();
        let facts = reader.read_like(&mut shapes, text.as_bytes()).unwrap();
        assert_eq!(Ok(facts), reader.read(text.as_bytes()), "{name}");
        assert!(shapes.find(text.as_bytes()).is_some(), "{name}");
        let mut bytes = text.into_bytes();
        for at in 0..bytes.len() {
            let was = bytes[at];
            for byte in *b"0fZ\"\x80" {
                bytes[at] = byte;
                assert_eq!(reader.read_like(&mut shapes, &bytes), reader.read(&bytes), "{name} at {at}");
            }
            bytes[at] = was;
        }
    }
}

/// Otherwise nothing would be gained.
#[test]
fn most_of_what_the_service_writes_has_the_shape_of_what_it_wrote_before() {
    let (reader, mut shapes) = (reader(), Shapes::default());
    let entries = log_entries(256);
    let known = entries.iter().filter(|entry| {
        let is_known = shapes.find(entry).is_some();
        reader.read_like(&mut shapes, entry).unwrap();
        is_known
    });
    assert!(known.count() > 200);
}

proptest! {
    #[test]
    fn entries_of_a_shape_are_read_alike_wherever_they_differ(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[0-9a-fgA-Z_\"-]"), 1..40),
    ) {
        let (reader, mut shapes) = (reader(), Shapes::default());
        let mut bytes = which.get(&examples()).1.clone().into_bytes();
        reader.read_like(&mut shapes, &bytes).unwrap();
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
        for (at, with) in changes {
            // Where digits stand, so that many of them can be right.
            let digits: Vec<usize> = (0..bytes.len()).filter(|at| is_digit(&bytes[*at])).collect();
            bytes[*at.get(&digits)] = with.as_bytes()[0];
            prop_assert_eq!(reader.read_like(&mut shapes, &bytes), reader.read(&bytes));
        }
    }

    /// Bytes that are taken for an entry are canonical to others as well.
    #[test]
    fn what_is_read_is_canonical(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), cut in 0..3_usize,
        with in "[0-9a-f\"{},:\\\\u\n \u{e9}]{0,3}",
    ) {
        let examples = examples();
        let mut bytes = which.get(&examples).1.clone().into_bytes();
        let at = at.index(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        let canonical = serde_json::from_slice::<serde_json::Value>(&bytes)
            .ok()
            .and_then(|value| serde_json_canonicalizer::to_vec(&value).ok())
            .is_some_and(|canonical| canonical == bytes);
        match reader().check(&bytes) {
            Ok(()) => prop_assert!(canonical),
            Err(FormFault::NotCanonical { at }) => prop_assert!(!canonical && at <= bytes.len()),
            Err(_) => prop_assert!(canonical),
        }
    }

    #[test]
    fn times_are_the_calendars(micros in 0..253_402_300_800_000_000_i64) {
        let text = Timestamp::from_micros(micros).to_rfc3339();
        prop_assert_eq!(unix_millis(text.as_bytes()), u64::try_from(micros / 1_000).ok());
    }
}
