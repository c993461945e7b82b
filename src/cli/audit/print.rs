//! `strongroom audit print`: an exported log in the forms that others read.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::audit::render::Format;
use crate::audit::verify::Scan;
use crate::audit::{Act, Filter, Status};
use crate::domain::clock::Timestamp;
use crate::domain::id::{CollectionName, RecordId, SubjectId};
use crate::domain::purpose::Purpose;

#[derive(Args)]
pub(crate) struct PrintArgs {
    /// The exported log; verify it first
    #[arg(value_name = "DIR")]
    log: PathBuf,
    /// csv, jsonl, fhir (R4 AuditEvent, IHE BALP) or ocsf (1.3 API Activity)
    #[arg(long, default_value = "jsonl", value_parser = format)]
    format: Format,
    /// The first entry's number, from 0
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    start: u64,
    /// Only entries from this time on (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Only entries before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Only this act, for example record.read
    #[arg(long, value_parser = |text: &str| Act::parse(text).ok_or("no act of audit/events.toml"))]
    act: Option<Act>,
    /// success, refused or failed
    #[arg(long, value_parser = |text: &str| Status::parse(text).ok_or("success, refused or failed"))]
    status: Option<Status>,
    /// Only of this client
    #[arg(long)]
    actor: Option<String>,
    /// Only for this person, by their id at their identity provider
    #[arg(long)]
    person: Option<String>,
    /// Only about this subject
    #[arg(long, value_parser = |text: &str| SubjectId::parse(text).ok_or("a UUID"))]
    subject: Option<SubjectId>,
    /// Only of this collection
    #[arg(long, value_parser = |text: &str| CollectionName::parse(text).ok_or("a collection's name"))]
    collection: Option<CollectionName>,
    /// Only about this record
    #[arg(long, value_parser = |text: &str| RecordId::parse(text).ok_or("a record's id"))]
    record: Option<RecordId>,
    /// Only for this purpose of use
    #[arg(long, value_parser = |text: &str| Purpose::parse(text).ok_or("a purpose of use"))]
    purpose: Option<Purpose>,
}

fn format(word: &str) -> Result<Format, &'static str> {
    Format::parse(word).ok_or("csv, jsonl, fhir or ocsf")
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    Timestamp::parse_rfc3339(text).ok_or("a time such as 2026-01-02T03:04:05.000000Z")
}

pub(super) fn print(args: PrintArgs) -> Result<()> {
    let scan = Scan::open(&args.log).context("the log cannot be read")?;
    let filter = Filter {
        act: args.act,
        status: args.status,
        actor: args.actor.map(Into::into),
        person: args.person.map(Into::into),
        subject: args.subject,
        collection: args.collection,
        record: args.record,
        purpose: args.purpose,
    };
    let wanted = Wanted { members: filter.to_containment(), from: args.from, until: args.until };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = args.format.heading().map_or(Ok(()), |heading| writeln!(out, "{heading}"));
    let mut unreadable = 0_u64;
    scan.entries(args.start, |number, entry| {
        if wanted.is(entry) {
            match args.format.line(scan.origin(), Some(number), entry) {
                Some(line) => written = writeln!(out, "{line}"),
                None => unreadable += 1,
            }
        }
        written.is_ok()
    })
    .context("the log cannot be read")?;
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        written => written.context("cannot write")?,
    }
    anyhow::ensure!(
        unreadable == 0,
        "{unreadable} entries are no JSON: `strongroom audit verify` names them"
    );
    Ok(())
}

/// What must hold of an entry.
struct Wanted {
    members: Option<Value>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Wanted {
    /// What cannot be read is not passed over.
    fn is(&self, entry: &[u8]) -> bool {
        if self.members.is_none() && self.from.is_none() && self.until.is_none() {
            return true;
        }
        let Ok(entry) = serde_json::from_slice::<Value>(entry) else { return true };
        let at = entry.get("ts").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339);
        let is_then = at.is_none_or(|at| {
            self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
        });
        is_then && self.members.as_ref().is_none_or(|members| contains(&entry, members))
    }
}

/// As PostgreSQL's `@>`, which the interface asks with: the same members, however deep, and of lists some element for each.
fn contains(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::Object(value), Value::Object(part)) => {
            part.iter().all(|(name, part)| value.get(name).is_some_and(|value| contains(value, part)))
        }
        (Value::Array(value), Value::Array(part)) => {
            part.iter().all(|part| value.iter().any(|value| contains(value, part)))
        }
        (value, part) => value == part,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_found_as_postgresql_finds_them() {
        let entry =
            json!({ "act": "record.read", "obj": [{ "record": "r", "n": 1 }, { "record": "s" }], "n": 2 });
        for part in [json!({}), json!({ "n": 2 }), json!({ "obj": [{ "record": "s" }] })] {
            assert!(contains(&entry, &part), "{part}");
        }
        for part in [json!({ "n": 3 }), json!({ "x": 1 }), json!({ "obj": [{ "record": "s", "n": 1 }] })] {
            assert!(!contains(&entry, &part), "{part}");
        }
    }
}
