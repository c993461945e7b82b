//! `/metrics`: every metric that there is, for operators, and nothing that a client could have put there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use strongroom::domain::clock::{Clock, SystemClock};
use strongroom::telemetry::metrics::{CATALOGUE, Kind};

use crate::support::samples::{message, patient};
use crate::support::{Client, Strongroom, eventually, problem, request_id};

async fn read(operator: &Client) -> String {
    let answer = operator.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    let media_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(media_type, "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

/// Name with labels → value, in whole numbers.
fn samples(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), whole(value)))
        .collect()
}

/// What is counted is whole; of times, whole seconds are enough here.
fn whole(value: &str) -> u64 {
    value.split('.').next().unwrap().parse().unwrap()
}

/// Names with their kinds, as the text declares them.
fn declared(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

fn labels(sample: &str) -> BTreeSet<String> {
    let inside = sample.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
    inside
        .split("\",")
        .filter_map(|label| label.split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name != "le")
        .collect()
}

/// Something of everything: a write, a read from memory, a refusal, a failed handshake.
async fn traffic(strongroom: &Strongroom) -> String {
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let subject = portal.create_patient(patient()).await;
    portal.create("messages", &message(&subject)).await;
    portal.read(&format!("/api/v1/patients/{subject}")).await;
    let refused = portal.with_purpose("HPAYMT").get(&format!("/api/v1/patients/{subject}")).await;
    assert_eq!(refused.status(), 403);
    assert!(strongroom.stranger().await.try_get("/livez").await.is_none());
    subject
}

#[tokio::test]
async fn what_is_served_is_what_is_documented() {
    let strongroom = Strongroom::start().await;
    traffic(&strongroom).await;
    let operator = strongroom.client("operator").await;
    eventually("every metric has been recorded", async || {
        let served = declared(&read(&operator).await);
        CATALOGUE
            .iter()
            .all(|(name, ..)| served.contains_key(*name) || *name == "strongroom_storage_failures_total")
    })
    .await;
    let text = read(&operator).await;
    for (name, kind) in declared(&text) {
        if name.starts_with("process_") {
            continue;
        }
        let (_, catalogued, names, _) = CATALOGUE
            .iter()
            .find(|(known, ..)| *known == name)
            .unwrap_or_else(|| panic!("{name} is in no list"));
        let word = match catalogued {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(kind, word, "{name}");
        let known: BTreeSet<String> = names.iter().map(|&label| label.to_owned()).collect();
        let own = |sample: &str| {
            let base = sample.split('{').next().unwrap();
            ["", "_bucket", "_sum", "_count"].iter().any(|end| base == format!("{name}{end}"))
        };
        for (sample, _) in samples(&text).into_iter().filter(|(sample, _)| own(sample)) {
            assert_eq!(labels(&sample), known, "{sample}");
        }
    }
    for process in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(samples(&text).contains_key(process), "{process}");
    }
    let guide = include_str!("../../infra/monitoring/README.md");
    for (name, ..) in CATALOGUE {
        assert!(guide.contains(&format!("`{name}`")), "{name} is not in infra/monitoring/README.md");
    }
    for name in guide.split('`').filter(|word| word.starts_with("strongroom_") && !word.contains(['{', ' ']))
    {
        assert!(CATALOGUE.iter().any(|(known, ..)| *known == name), "{name} is no metric");
    }
}

/// What is counted when all of the traffic is: the door looks once a second, a refusal there is on record a little later, and
/// what the service does by itself has had its first turn when the last of it has.
async fn counted(strongroom: &Strongroom, operator: &Client) -> BTreeMap<String, u64> {
    let mut before = BTreeMap::new();
    eventually("all is counted", async || {
        let text = read(operator).await;
        before = samples(&text);
        let entries = strongroom.all_entries().await;
        let chained = entries.iter().filter(|entry| entry.get("chain").is_some()).count();
        let had_its_turn = |function: &str| text.contains(&format!("function=\"{function}\""));
        let up = before
            .iter()
            .filter(|(sample, up)| sample.starts_with("strongroom_part_up") && **up == 1)
            .count();
        let is_turned_away = "strongroom_handshake_failures_total{reason=\"no_certificate\"}";
        before["strongroom_client_certificate_expiry_timestamp_seconds"] > 0
            && before["strongroom_audit_batch_entries_sum"] == chained as u64
            && before.get(is_turned_away) == Some(&1)
            && up == 4
            && had_its_turn("records::has_unindexed")
            && had_its_turn("reconcile::records_without_entry")
    })
    .await;
    before
}

#[tokio::test]
async fn counts_are_right_and_hold_no_id() {
    let strongroom = Strongroom::start().await;
    let operator = strongroom.client("operator").await;
    let subject = traffic(&strongroom).await;
    let before = counted(&strongroom, &operator).await;
    let of = |route: &str, method: &str, status: u16| {
        format!(
            "strongroom_request_duration_seconds_count{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}"
        )
    };
    let record = "/api/v1/{collection}/{id}";
    assert_eq!(before[&of("/api/v1/{collection}", "POST", 201)], 2);
    assert_eq!(before[&of(record, "GET", 200)], 1);
    assert_eq!(before[&of(record, "GET", 403)], 1);
    assert_eq!(before["strongroom_problems_total{code=\"purpose_not_allowed\"}"], 1);
    assert_eq!(before["strongroom_requests_in_flight"], 1, "this one");
    assert!(before["strongroom_key_cache_total{result=\"hit\"}"] >= 1);
    let year = 365 * 86_400;
    let now = u64::try_from(SystemClock.now().as_micros() / 1_000_000).unwrap();
    for end in ["server_certificate", "crl", "client_certificate"] {
        let at = before[&format!("strongroom_{end}_expiry_timestamp_seconds")];
        assert!(at > now && at < now + year, "{end} ends at {at}");
    }

    // More of the same, with other ids, and with what a client makes up, adds no series.
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let other = portal.create_patient(patient()).await;
    portal.read(&format!("/api/v1/patients/{other}")).await;
    for path in ["/api/v1/no_such/thing", "/marked-path", "/api/v1/marked_collection?marked=query"] {
        assert_eq!(portal.get(path).await.status().as_u16() / 100, 4);
    }
    let invented = reqwest::Method::from_bytes(b"MARKED").unwrap();
    assert_eq!(portal.request(invented, "/livez").send().await.unwrap().status(), 405);
    let text = read(&operator).await;
    for stray in [&*subject, &*other, "marked", "MARKED", "clinic-north", "portal", "patients"] {
        assert!(!text.contains(stray), "{stray}");
    }
    let after = samples(&text);
    let known: BTreeSet<&String> = before.keys().collect();
    let added: Vec<&String> = after.keys().filter(|sample| !known.contains(sample)).collect();
    let of_refusals = |sample: &str| {
        [
            "route=\"/{unknown}\"",
            "status=\"404\"",
            "status=\"405\"",
            "_unknown\"",
            "method_not_allowed",
            "route=\"/metrics\"",
        ]
        .iter()
        .any(|mark| sample.contains(mark))
    };
    assert!(added.iter().all(|sample| of_refusals(sample)), "{added:#?}");
}

#[tokio::test]
async fn only_operators_read_them_and_refusals_are_on_record() {
    let strongroom = Strongroom::start().await;
    for name in ["portal", "audit", "custodian-alice", "dashboard"] {
        let answer = strongroom.client(name).await.get("/metrics").await;
        let request = request_id(&answer);
        assert_eq!(problem(answer).await, (403, "action_not_allowed".into()), "{name}");
        let entry = strongroom.entry_of(&request).await;
        assert_eq!(entry["act"], "access.denied");
        assert_eq!(entry["out"], json!({ "status": "refused", "code": "action_not_allowed" }));
    }
}
