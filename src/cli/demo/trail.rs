//! What the log says of all this, as an auditor reads it over the interface.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::super::local::{Application, Local};
use super::tale::{Tale, cell};

/// Refused handshakes are put on record beside the handshake, not before it.
const STRAGGLERS: Duration = Duration::from_secs(5);
const COLUMNS: [usize; 6] = [13, 21, 29, 15, 8, 19];

/// What must be on record about the patient: act, client, outcome. The last is the stolen certificate's read.
const EXPECTED: [(&str, &str, &str); 6] = [
    ("record.create", "portal", "success"),
    ("record.read", "dashboard", "success"),
    ("record.read", "billing", "success"),
    ("record.read", "clinician-desk", "success"),
    ("record.read", "billing", "refused"),
    ("record.read", "portal", "success"),
];

pub(super) async fn of_patient(tale: &mut Tale, local: &Local, id: &str) -> Result<()> {
    let auditor = local.application("audit")?;
    let path = format!("/api/v1/audit/events?record={id}&order=oldest&limit=100");
    let answer = auditor.get(&path).await?;
    tale.check(answer.status == 200, &format!("GET {path} as audit: {}", answer.status))?;
    let entries = list(&answer.body);
    print(tale, &entries);
    let seen: Vec<(&str, &str, &str)> = entries
        .iter()
        .map(|entry| (text(entry, "/act"), text(entry, "/who/uid"), text(entry, "/out/status")))
        .collect();
    tale.check(
        seen == EXPECTED,
        "every access to the patient is on record, in order, and nothing else: who, why, what was shown in full or masked",
    )?;
    let tenants: BTreeSet<&str> = entries.iter().map(|entry| text(entry, "/tenant")).collect();
    tale.check(tenants.len() == 1, "what clinic-south tried is not in clinic-north's log")
}

pub(super) async fn of_strangers(tale: &mut Tale, local: &Local) -> Result<()> {
    let auditor = local.application("audit")?;
    let path = "/api/v1/audit/events?act=authentication.failed&order=oldest&limit=100";
    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let entries = loop {
        tick.tick().await;
        let entries = list(&auditor.get(path).await?.body);
        let has = |code: &str| entries.iter().any(|entry| text(entry, "/out/code") == code);
        if has("no_certificate") && has("identity_unlisted") && has("revoked") {
            break entries;
        }
        if begun.elapsed() > STRAGGLERS {
            print(tale, &entries);
            bail!("not as it should be: a refusal at the door is not on record");
        }
    };
    print(tale, &entries);
    tale.check(true, "and so are those who were turned away at the door")
}

/// A text that must not be in any entry is not in any entry. Gives how many entries there are.
pub(super) async fn holds_no_value(tale: &mut Tale, local: &Local, values: &[String]) -> Result<usize> {
    let auditor = local.application("audit")?;
    let (mut count, mut cursor, mut found) = (0, String::new(), 0);
    loop {
        let answer = page(&auditor, &cursor).await?;
        let text = answer.to_string();
        count += list(&answer).len();
        found += values.iter().filter(|value| text.contains(value.as_str())).count();
        match answer.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    tale.check(
        found == 0 && count > 0,
        &format!("{count} entries in all, and not one value of a patient in them"),
    )?;
    Ok(count)
}

async fn page(auditor: &Application, cursor: &str) -> Result<Value> {
    let answer = auditor.get(&format!("/api/v1/audit/events?order=oldest&limit=500{cursor}")).await?;
    match answer.status {
        200 => Ok(answer.body),
        status => bail!("the audit log was answered {status} {}", answer.text("/code")),
    }
}

fn print(tale: &Tale, entries: &[Value]) {
    let heading = ["time (UTC)", "act", "outcome", "who", "purpose", "what was shown"].map(str::to_owned);
    tale.head(&row(&heading));
    for entry in entries {
        tale.show(&row(&cells(entry)));
    }
}

fn cells(entry: &Value) -> [String; 6] {
    let outcome = match text(entry, "/out/code") {
        "" => text(entry, "/out/status").to_owned(),
        code => format!("{}: {code}", text(entry, "/out/status")),
    };
    let count = |pointer: &str| entry.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    let shown = match (count("/obj/0/fields"), count("/obj/0/masked")) {
        (0, 0) => String::from("nothing"),
        (fields, 0) => format!("{fields} fields"),
        (0, masked) => format!("{masked} masks"),
        (fields, masked) => format!("{fields} fields, {masked} masks"),
    };
    let time = text(entry, "/ts").split_once('T').map_or("", |(_, time)| time).to_owned();
    let or_dash = |text: &str| if text.is_empty() { String::from("-") } else { text.to_owned() };
    [
        time.chars().take(12).collect(),
        text(entry, "/act").to_owned(),
        outcome,
        or_dash(text(entry, "/who/uid")),
        or_dash(text(entry, "/purpose")),
        shown,
    ]
}

fn row(cells: &[String; 6]) -> String {
    let cells: Vec<String> = cells.iter().zip(COLUMNS).map(|(text, width)| cell(text, width)).collect();
    cells.join(" ").trim_end().to_owned()
}

fn list(body: &Value) -> Vec<Value> {
    body.get("entries").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text<'v>(entry: &'v Value, pointer: &str) -> &'v str {
    entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
