//! What connections do: fill, check, read, create, append, update, search, and read many. The bare server is asked with the same bytes as
//! Strongroom.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use serde_json::Value;

use crate::connection::Call;
use crate::generator::Lane;
use crate::patients::{Spread, change, message, person, record_number};

const PATIENTS: &str = "/api/v1/patients";
const PATIENTS_SEARCH: &str = "/api/v1/patients/search";
const PATIENTS_READ: &str = "/api/v1/patients/batch/read";
const MESSAGES: &str = "/api/v1/messages";
/// How each record begins in the answer to a read of many.
const RECORD: &[u8] = br#"{"id":""#;

/// The records that were loaded, by index.
pub struct Roster {
    pub ids: Vec<String>,
    /// What Strongroom answers for each; the bare server holds the same bytes.
    pub answers: Vec<Vec<u8>>,
    pub versions: Vec<AtomicU32>,
}

/// Loading: lanes take the next index until all are stored, then until all are read back.
pub struct Filling {
    count: usize,
    next: AtomicUsize,
    found: Mutex<Vec<Vec<u8>>>,
    progress: ProgressBar,
}

impl Filling {
    pub fn new(count: usize, progress: ProgressBar) -> Arc<Self> {
        let found = Mutex::new(vec![Vec::new(); count]);
        Arc::new(Self { count, next: AtomicUsize::new(0), found, progress })
    }

    pub fn take(&self) -> Option<usize> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.count).then_some(index)
    }

    pub fn keep(&self, index: usize, bytes: Vec<u8>) -> Result<()> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        *found.get_mut(index).context("an index beyond the records")? = bytes;
        drop(found);
        self.progress.inc(1);
        Ok(())
    }

    /// What the lanes found for each index.
    pub fn found(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Roster {
    pub fn new(ids: Vec<String>, answers: Vec<Vec<u8>>) -> Arc<Self> {
        let versions = ids.iter().map(|_| AtomicU32::new(1)).collect();
        Arc::new(Self { ids, answers, versions })
    }

    /// Forgets the updates, for another server with the same records at their first version.
    pub fn fresh(&self) -> Arc<Self> {
        Self::new(self.ids.clone(), self.answers.clone())
    }

    pub fn id(&self, index: usize) -> &str {
        self.ids.get(index).map(String::as_str).unwrap_or_default()
    }
}

/// Stores one person after the other.
pub struct Fill {
    filling: Arc<Filling>,
    current: usize,
}

impl Fill {
    pub fn lane(filling: &Arc<Filling>) -> Box<dyn Lane> {
        Box::new(Self { filling: Arc::clone(filling), current: 0 })
    }
}

impl Lane for Fill {
    fn next(&mut self, call: &mut Call) -> bool {
        let Some(index) = self.filling.take() else { return false };
        self.current = index;
        post(call, PATIENTS, None, &person(index));
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(201, status, body)?;
        let answer: Value = serde_json::from_slice(body)?;
        let id = answer.get("id").and_then(Value::as_str).context("a create without an id")?;
        self.filling.keep(self.current, id.as_bytes().to_vec())
    }
}

/// Reads each record once, and compares all of its fields.
pub struct ReadBack {
    filling: Arc<Filling>,
    roster: Arc<Roster>,
    current: usize,
}

impl ReadBack {
    pub fn lane(filling: &Arc<Filling>, roster: &Arc<Roster>) -> Box<dyn Lane> {
        Box::new(Self { filling: Arc::clone(filling), roster: Arc::clone(roster), current: 0 })
    }
}

impl Lane for ReadBack {
    fn next(&mut self, call: &mut Call) -> bool {
        let Some(index) = self.filling.take() else { return false };
        self.current = index;
        get(call, self.roster.id(index));
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(200, status, body)?;
        let answer: Value = serde_json::from_slice(body)?;
        let sent: Value = serde_json::from_str(&person(self.current))?;
        ensure!(answer.get("fields") == Some(&sent), "a record reads back otherwise than it was stored");
        self.filling.keep(self.current, body.to_vec())
    }
}

/// Reads records, evenly spread.
pub struct Read {
    roster: Arc<Roster>,
    spread: Spread,
    current: usize,
}

impl Read {
    pub fn lane(roster: &Arc<Roster>, seed: u64) -> Box<dyn Lane> {
        Box::new(Self { roster: Arc::clone(roster), spread: Spread::new(seed), current: 0 })
    }
}

impl Lane for Read {
    fn next(&mut self, call: &mut Call) -> bool {
        self.current = self.spread.below(self.roster.ids.len());
        get(call, self.roster.id(self.current));
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(200, status, body)?;
        let stored = self.roster.answers.get(self.current).map_or(0, Vec::len);
        ensure!(
            contains(body, self.roster.id(self.current)) && contains(body, &record_number(self.current)),
            "a read answered with another record"
        );
        // Times may lose trailing zeros when a record is updated; nothing else gets shorter.
        ensure!(body.len() + 8 >= stored, "a read answered with less than the record");
        Ok(())
    }
}

/// Creates people: with Strongroom each is a new subject with keys of its own.
pub struct Create {
    next: usize,
}

impl Create {
    pub fn lane(seed: u64) -> Box<dyn Lane> {
        // Above the loaded records, and apart from those of other lanes and rounds.
        let first = Spread::new(seed).below(900_000_000);
        Box::new(Self { next: 100_000_000 + first })
    }
}

impl Lane for Create {
    fn next(&mut self, call: &mut Call) -> bool {
        self.next += 1;
        post(call, PATIENTS, None, &person(self.next));
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(201, status, body)?;
        ensure!(contains(body, r#""collection":"patients""#), "a create answered with something else");
        Ok(())
    }
}

/// Creates messages of people who are there: their keys exist.
pub struct Append {
    roster: Arc<Roster>,
    spread: Spread,
}

impl Append {
    pub fn lane(roster: &Arc<Roster>, seed: u64) -> Box<dyn Lane> {
        Box::new(Self { roster: Arc::clone(roster), spread: Spread::new(seed) })
    }
}

impl Lane for Append {
    fn next(&mut self, call: &mut Call) -> bool {
        let index = self.spread.below(self.roster.ids.len());
        let message = message(&mut self.spread);
        post(call, MESSAGES, Some(self.roster.id(index)), &message);
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(201, status, body)?;
        ensure!(contains(body, r#""collection":"messages""#), "a create answered with something else");
        Ok(())
    }
}

/// Changes one field of a record; each lane has records of its own, so that no two change the same version.
pub struct Update {
    roster: Arc<Roster>,
    spread: Spread,
    lane: usize,
    lanes: usize,
    current: usize,
}

impl Update {
    pub fn lane(roster: &Arc<Roster>, seed: u64, lane: usize, lanes: usize) -> Box<dyn Lane> {
        let roster = Arc::clone(roster);
        Box::new(Self { roster, spread: Spread::new(seed), lane, lanes: lanes.max(1), current: 0 })
    }
}

impl Lane for Update {
    fn next(&mut self, call: &mut Call) -> bool {
        let own = self.roster.ids.len() / self.lanes;
        self.current = self.spread.below(own) * self.lanes + self.lane;
        let Some(version) = self.roster.versions.get(self.current) else { return false };
        call.method = "PATCH";
        record_path(call, self.roster.id(self.current));
        call.if_match = Some(version.load(Ordering::Relaxed));
        fields_body(call, None, &change(&mut self.spread));
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(200, status, body)?;
        ensure!(contains(body, self.roster.id(self.current)), "an update answered with another record");
        if let Some(version) = self.roster.versions.get(self.current) {
            version.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Reads many records a request, from a place that is spread evenly on.
pub struct ReadMany {
    roster: Arc<Roster>,
    spread: Spread,
    first: usize,
}

impl ReadMany {
    pub fn lane(roster: &Arc<Roster>, seed: u64) -> Box<dyn Lane> {
        Box::new(Self { roster: Arc::clone(roster), spread: Spread::new(seed), first: 0 })
    }

    /// Records of one request: as many as the service takes, if there are as many.
    pub fn records(roster: &Roster) -> usize {
        roster.ids.len().min(500)
    }
}

impl Lane for ReadMany {
    fn next(&mut self, call: &mut Call) -> bool {
        self.first = self.spread.below(self.roster.ids.len());
        call.method = "POST";
        PATIENTS_READ.clone_into(&mut call.path);
        call.if_match = None;
        call.body.clear();
        call.body.extend_from_slice(br#"{"ids":["#);
        let ids = self.roster.ids.iter().cycle().skip(self.first);
        for (place, id) in ids.take(Self::records(&self.roster)).enumerate() {
            for part in [if place == 0 { "\"" } else { ",\"" }, id, "\""] {
                call.body.extend_from_slice(part.as_bytes());
            }
        }
        call.body.extend_from_slice(b"]}");
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(200, status, body)?;
        let records = Self::records(&self.roster);
        let last = (self.first + records - 1) % self.roster.ids.len();
        ensure!(
            body.windows(RECORD.len()).filter(|window| window == &RECORD).count() == records
                && contains(body, self.roster.id(self.first))
                && contains(body, &record_number(last)),
            "a read of many answered with other records"
        );
        Ok(())
    }
}

/// Finds records by their number, evenly spread.
pub struct Search {
    roster: Arc<Roster>,
    spread: Spread,
    current: usize,
}

impl Search {
    pub fn lane(roster: &Arc<Roster>, seed: u64) -> Box<dyn Lane> {
        Box::new(Self { roster: Arc::clone(roster), spread: Spread::new(seed), current: 0 })
    }
}

impl Lane for Search {
    fn next(&mut self, call: &mut Call) -> bool {
        self.current = self.spread.below(self.roster.ids.len());
        call.method = "POST";
        PATIENTS_SEARCH.clone_into(&mut call.path);
        call.if_match = None;
        call.body.clear();
        let number = record_number(self.current);
        for part in [r#"{"where":[{"field":"mrn","match":"exact","value":""#, &number, r#""}]}"#] {
            call.body.extend_from_slice(part.as_bytes());
        }
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(200, status, body)?;
        ensure!(
            contains(body, self.roster.id(self.current)) && contains(body, &record_number(self.current)),
            "a search answered with another record"
        );
        Ok(())
    }
}

/// The bare server's side of reading many: one row of the bytes of an entry.
pub struct Enter {
    bytes: usize,
}

impl Enter {
    pub fn lane(bytes: usize) -> Box<dyn Lane> {
        Box::new(Self { bytes })
    }
}

impl Lane for Enter {
    fn next(&mut self, call: &mut Call) -> bool {
        call.method = "POST";
        "/entries".clone_into(&mut call.path);
        call.if_match = None;
        call.body.resize(self.bytes, b'x');
        true
    }

    fn check(&mut self, _: &Call, status: u16, body: &[u8]) -> Result<()> {
        expect_status(201, status, body)
    }
}

fn get(call: &mut Call, id: &str) {
    call.method = "GET";
    record_path(call, id);
    call.if_match = None;
    call.body.clear();
}

fn record_path(call: &mut Call, id: &str) {
    call.path.clear();
    call.path.push_str(PATIENTS);
    call.path.push('/');
    call.path.push_str(id);
}

fn post(call: &mut Call, path: &str, subject: Option<&str>, fields: &str) {
    call.method = "POST";
    call.path.clear();
    call.path.push_str(path);
    call.if_match = None;
    fields_body(call, subject, fields);
}

fn fields_body(call: &mut Call, subject: Option<&str>, fields: &str) {
    call.body.clear();
    call.body.push(b'{');
    if let Some(subject) = subject {
        for part in [r#""subject":""#, subject, r#"","#] {
            call.body.extend_from_slice(part.as_bytes());
        }
    }
    for part in [r#""fields":"#, fields, "}"] {
        call.body.extend_from_slice(part.as_bytes());
    }
}

pub fn expect_status(wanted: u16, status: u16, body: &[u8]) -> Result<()> {
    if status == wanted {
        return Ok(());
    }
    // The records are made up, so an answer may be shown; a problem document says what to do.
    let shown: String = String::from_utf8_lossy(body).chars().take(300).collect();
    bail!("expected {wanted}, was answered {status}: {shown}")
}

pub fn contains(body: &[u8], needle: &str) -> bool {
    body.windows(needle.len().max(1)).any(|window| window == needle.as_bytes())
}
