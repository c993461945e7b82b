//! One patient through three pairs of eyes, and a visit with its note.

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::local::{Answer, Local};
use super::fhir::Person;
use super::load::Stored;
use super::tale::{Tale, cell};

/// Client, purpose, and what to call them.
const READERS: [(&str, &str); 3] =
    [("dashboard", "HOPERAT"), ("billing", "HPAYMT"), ("clinician-desk", "TREAT")];
const COLUMNS: [usize; 4] = [16, 22, 30, 38];

pub(super) async fn patient(tale: &mut Tale, local: &Local, person: &Person, stored: &Stored) -> Result<()> {
    let path = format!("/api/v1/patients/{}", stored.patient);
    let mut answers = Vec::new();
    for (client, purpose) in READERS {
        let answer = local.application(client)?.for_purpose(purpose).get(&path).await?;
        tale.check(
            answer.status == 200,
            &format!("GET {path} as {client}, purpose {purpose}: {}", answer.status),
        )?;
        answers.push(answer);
    }
    print_table(tale, person, &answers);
    let [dashboard, billing, clinician] = answers.as_slice() else { return Ok(()) };
    check_masked(tale, person, dashboard)?;
    check_billing(tale, person, billing)?;
    check_plain(tale, person, clinician)
}

fn check_masked(tale: &mut Tale, person: &Person, answer: &Answer) -> Result<()> {
    let masked = answer.names("masked");
    let all_masked = person.fields.iter().all(|(name, plain)| {
        masked.contains(&name.as_str()) && answer.body.pointer(&format!("/fields/{name}")) != Some(plain)
    });
    tale.check(
        all_masked && answer.names("withheld").is_empty(),
        "the dashboard got a mask of every field, no value",
    )?;
    let last_four: String =
        person.text("ssn").chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
    let text = answer.body.to_string();
    tale.check(
        answer.text("/fields/ssn") == format!("•••{last_four}") && !text.contains(person.text("family_name")),
        "its social security number is •••, and four digits; the family name is nowhere in the answer",
    )
}

fn check_billing(tale: &mut Tale, person: &Person, answer: &Answer) -> Result<()> {
    let withheld = answer.names("withheld");
    tale.check(
        answer.text("/fields/mrn") == person.text("mrn")
            && answer.names("masked").contains(&"ssn")
            && withheld.contains(&"race")
            && withheld.contains(&"marital_status"),
        "billing got what an invoice needs, masks of the identifiers, and neither race nor marital status",
    )
}

fn check_plain(tale: &mut Tale, person: &Person, answer: &Answer) -> Result<()> {
    let same = ["family_name", "given_name", "birth_date", "gender", "mrn", "email", "race", "address"]
        .iter()
        .all(|name| answer.body.pointer(&format!("/fields/{name}")) == person.fields.get(*name));
    tale.check(same, "the clinician got the values exactly as they were stored")?;
    tale.check(
        answer.names("masked") == ["ssn", "drivers_licence"]
            || answer.names("masked") == ["drivers_licence", "ssn"],
        "but of the social security number and the driver's licence only masks: nobody treats with those",
    )
}

/// The first visit with a note, as the clinician reads it.
pub(super) async fn visit(tale: &mut Tale, local: &Local, person: &Person, stored: &Stored) -> Result<()> {
    let with_note =
        person.encounters.iter().zip(&stored.encounters).find(|(fields, _)| fields.contains_key("note"));
    let (fields, id) = with_note.context("the sample's first patient has no note")?;
    let path = format!("/api/v1/encounters/{id}");
    let clinician = local.application("clinician-desk")?.for_purpose("TREAT");
    let answer = clinician.get(&path).await?;
    tale.check(
        answer.status == 200,
        &format!("GET {path} as clinician-desk, purpose TREAT: {}", answer.status),
    )?;
    for line in answer.text("/fields/note").lines().filter(|line| !line.is_empty()).take(5) {
        tale.show(line);
    }
    let note = fields.get("note").and_then(Value::as_str);
    tale.check(note == Some(answer.text("/fields/note")), "the note of the visit came back whole")
}

fn print_table(tale: &Tale, person: &Person, answers: &[Answer]) {
    let heading: Vec<String> = std::iter::once(String::from("field"))
        .chain(READERS.iter().map(|(client, purpose)| format!("{client} ({purpose})")))
        .collect();
    tale.head(&row(&heading));
    for name in person.fields.keys() {
        let cells: Vec<String> =
            std::iter::once(name.clone()).chain(answers.iter().map(|answer| shown(answer, name))).collect();
        tale.show(&row(&cells));
    }
}

fn row(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().zip(COLUMNS).map(|(text, width)| cell(text, width)).collect();
    cells.join(" ").trim_end().to_owned()
}

fn shown(answer: &Answer, name: &str) -> String {
    match answer.body.pointer(&format!("/fields/{name}")) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::from("(withheld)"),
    }
}
