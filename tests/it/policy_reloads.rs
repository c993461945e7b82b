//! Whatever files follow each other under a running service, an answer is what one policy gives, whole, and never more.

use std::collections::BTreeSet;

use reqwest::Response;
use serde_json::Value;

use crate::support::dice::Dice;
use crate::support::samples::patient;
use crate::support::{Client, Strongroom, eventually, problem, replace_file, request_id};

const FIELDS: [&str; 8] =
    ["family_name", "given_name", "birth_date", "sex", "email", "phone", "language", "notes"];
const STEPS: usize = 8;

type Fields = BTreeSet<String>;

/// What the role may read; nothing at all where it is empty.
fn rules(fields: &Fields) -> String {
    let named: Vec<String> = fields.iter().map(|field| format!("Field::\"patients.{field}\"")).collect();
    let what = if named.is_empty() { "Field::\"encounters.kind\"".to_owned() } else { named.join(", ") };
    format!(
        "@id(\"mobile-reads-patient\") permit (principal in Role::\"mobile\", action == Action::\"read_plain\", resource)\n\
         when {{ [{what}].contains(resource) && context has purpose && context.purpose == Purpose::\"PATRQT\" }};\n"
    )
}

/// Files that are refused: they would give everything, if only they were valid.
fn broken(dice: &mut Dice) -> String {
    let all = "permit (principal in Role::\"mobile\", action, resource)";
    match dice.below(4) {
        0 => format!("@id(\"mobile-reads-patient\") {all}"),
        1 => format!("@id(\"mobile-reads-patient\") {all} when {{ context.everything }};"),
        2 => format!("{all};"),
        // Whoever reads the log can never be given a value.
        _ => format!("@id(\"mobile-reads-patient\") {all};"),
    }
}

/// The fields of an answer, which are those of its entry.
async fn answered(strongroom: &Strongroom, answer: Response) -> Fields {
    let request = request_id(&answer);
    if answer.status() == 403 {
        assert_eq!(problem(answer).await.1, "action_not_allowed");
        return Fields::new();
    }
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    let names = |value: &Value| -> Fields {
        value.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let fields: Fields = body["fields"].as_object().unwrap().keys().cloned().collect();
    let object = &strongroom.entry_of(&request).await["obj"][0];
    let on_record: Fields = names(&object["fields"]).union(&names(&object["masked"])).cloned().collect();
    assert_eq!(on_record, fields);
    fields
}

#[tokio::test]
async fn no_sequence_of_files_shows_a_field_that_the_policy_in_force_does_not_give() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let mobile: Client = strongroom.client("mobile").await.with_purpose("PATRQT");
    let path = format!("/api/v1/patients/{}", portal.create_patient(patient()).await);
    let file = strongroom.policy_directory.join("mobile.cedar");
    // Another sequence in each run; a failure names the step's policies.
    let mut dice = Dice(u64::from(std::process::id()));
    let mut in_force: Fields = answered(&strongroom, mobile.get(&path).await).await;
    let refused = || strongroom.log().iter().filter(|line| line.contains("policy.reload_refused")).count();
    for step in 0..STEPS {
        if step % 3 == 2 {
            let before = refused();
            replace_file(&file, &broken(&mut dice));
            eventually("the files are refused", async || {
                assert_eq!(answered(&strongroom, mobile.get(&path).await).await, in_force, "step {step}");
                refused() > before
            })
            .await;
            continue;
        }
        let next: Fields =
            FIELDS.iter().filter(|_| dice.below(2) == 0).map(|field| (*field).to_owned()).collect();
        replace_file(&file, &rules(&next));
        eventually("the files are in force", async || {
            let fields = answered(&strongroom, mobile.get(&path).await).await;
            assert!(
                fields == in_force || fields == next,
                "step {step}: {fields:?} of {in_force:?} and {next:?}"
            );
            fields == next
        })
        .await;
        in_force = next;
    }
}
