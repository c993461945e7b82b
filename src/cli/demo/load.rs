//! Loading the sample over mutual TLS, as the clients that may: the portal registers patients and writes for them, the
//! import brings visits, a clinician answers.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::super::local::{Application, Local};
use super::fhir::{Fields, Person, Sample};
use super::tale::Tale;

/// People who write to the care team and get an answer.
const WRITERS: usize = 2;
/// A line this often where there is no terminal to draw on.
const LINE_EVERY: u64 = 50;

/// What was stored for one person.
pub(super) struct Stored {
    pub patient: String,
    pub subject: String,
    /// In the order of the sample.
    pub encounters: Vec<String>,
}

pub(super) struct Loaded {
    pub people: Vec<Stored>,
    pub messages: Vec<String>,
    pub encounters: usize,
    pub took: Duration,
}

impl Loaded {
    pub fn records(&self) -> usize {
        self.people.len() + self.encounters + self.messages.len()
    }
}

pub(super) async fn load(tale: &mut Tale, local: &Local, sample: &Sample) -> Result<Loaded> {
    let portal = local.application("portal")?;
    let (registration, patients_own) = (portal.for_purpose("TREAT"), portal.for_purpose("PATRQT"));
    let import = local.application("records-import")?.for_purpose("TREAT");
    let clinician = local.application("clinician-desk")?.for_purpose("TREAT");
    let total = sample.people.len() + sample.encounters() + 2 * WRITERS.min(sample.people.len());
    let mut progress = Progress::of(tale, total);
    let begun = Instant::now();
    let mut loaded = Loaded { people: Vec::new(), messages: Vec::new(), encounters: 0, took: Duration::ZERO };
    for (number, person) in sample.people.iter().enumerate() {
        let (patient, subject) = create(&registration, "patients", None, &person.fields).await?;
        progress.step();
        let mut stored = Stored { patient, subject, encounters: Vec::new() };
        for encounter in &person.encounters {
            stored.encounters.push(create(&import, "encounters", Some(&stored.subject), encounter).await?.0);
            progress.step();
        }
        loaded.encounters += stored.encounters.len();
        if number < WRITERS {
            let [question, answer] = messages(person);
            for (from, message) in [(&patients_own, question), (&clinician, answer)] {
                loaded.messages.push(create(from, "messages", Some(&stored.subject), &message).await?.0);
                progress.step();
            }
        }
        loaded.people.push(stored);
    }
    loaded.took = begun.elapsed();
    progress.finish();
    Ok(loaded)
}

/// Id and subject of a new record.
async fn create(
    application: &Application,
    collection: &str,
    subject: Option<&str>,
    fields: &Fields,
) -> Result<(String, String)> {
    let body = match subject {
        Some(subject) => json!({ "subject": subject, "fields": fields }),
        None => json!({ "fields": fields }),
    };
    let answer = application.post(&format!("/api/v1/{collection}"), &body).await?;
    let (id, subject) = (answer.text("/id"), answer.text("/subject"));
    if answer.status != 201 || id.is_empty() || subject.is_empty() {
        // Problem documents never echo a value.
        bail!("a record of {collection} was not stored: {} {}", answer.status, answer.body);
    }
    Ok((id.to_owned(), subject.to_owned()))
}

/// A question to the care team, and its answer.
fn messages(person: &Person) -> [Fields; 2] {
    let team = "Care team of clinic north";
    let message = |direction: &str, from: &str, to: &str, at: &str, body: &str| {
        let fields = json!({
            "sent_at": at, "sender": from, "recipient": to, "direction": direction,
            "subject_line": "Question about my medication", "body": body, "thread": "t-1", "priority": 0, "read": false,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Fields::new(),
        }
    };
    let name = person.full_name();
    [
        message("to-care-team", &name, team, "2026-11-02T09:15:00Z", QUESTION),
        message("to-patient", team, &name, "2026-11-02T10:40:00Z", ANSWER),
    ]
}

/// The messages' bodies are looked for on disk as well.
pub(super) const QUESTION: &str = "I feel dizzy since I began the new tablets. May I take half of the dose?";
pub(super) const ANSWER: &str = "Please do not change the dose by yourself; we call you back this afternoon.";

/// A bar on a terminal, a line now and then elsewhere.
struct Progress<'t> {
    tale: &'t Tale,
    bar: ProgressBar,
    done: u64,
}

impl<'t> Progress<'t> {
    fn of(tale: &'t Tale, total: usize) -> Self {
        let total = u64::try_from(total).unwrap_or_default();
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("   {bar:50} {pos}/{len} records, {elapsed}") {
            bar.set_style(style);
        }
        Self { tale, bar, done: 0 }
    }

    fn step(&mut self) {
        self.done += 1;
        self.bar.inc(1);
        let is_last = Some(self.done) == self.bar.length();
        if self.bar.is_hidden() && (self.done.is_multiple_of(LINE_EVERY) || is_last) {
            self.tale.say(&format!("{} of {} records", self.done, self.bar.length().unwrap_or_default()));
        }
    }

    fn finish(self) {
        self.bar.finish_and_clear();
    }
}
