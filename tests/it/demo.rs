//! The demo is what a newcomer sees first, and it checks itself: that it says what it should, notices when something is
//! wrong, and leaves nothing.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::local::{processes_of, project, signal, strongroom};
use crate::parts::{Folder, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// In the order in which the transcript must have them.
const STORY: [&str; 24] = [
    "1. Real parts: two PostgreSQL clusters and a Vault API",
    "Vault, 26 steps done:",
    "✓ /readyz says that every part answers",
    "28 patients as portal, 168 encounters as records-import, 4 messages",
    "left out: 1 e-mail addresses with a space in them",
    "| family_name      G•••                   Gusikowski                     Gusikowski",
    "| ssn              •••3615                •••3615                        •••3615",
    "✓ the note of the visit came back whole",
    "| TLS alert 116, certificate_required",
    "| 403 identity_unlisted:",
    "| 403 purpose_not_allowed:",
    "| 404 record_not_found:",
    "✓ before: the stolen certificate still opens the record",
    "✓ after: the open connection was refused within",
    "| a new connection → TLS alert 44, certificate_revoked",
    "| sealed_value   | 10 ssn              pii   32 bytes  \\x",
    "✓ the keys are in another cluster",
    "refused: purpose_not_allowed  billing         TREAT    nothing",
    "✓ and so are those who were turned away at the door",
    "| holds: ",
    "✓ every entry is in the signed tree",
    "✓ the search works: the record's id, no secret, was found",
    "✓ nothing is left running",
    "on disk   0 values found in",
];

#[test]
fn the_demo_tells_its_story_and_leaves_nothing() {
    let folder = Folder::new("demo");
    let output = strongroom(&folder, &["demo"]).output().unwrap();
    let transcript = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{transcript}\n{errors}");
    let mut rest = transcript.as_str();
    for line in STORY {
        let at =
            rest.find(line).unwrap_or_else(|| panic!("{line:?} is not where it should be in\n{transcript}"));
        rest = &rest[at + line.len()..];
    }
    assert!(!transcript.contains('\u{1b}'), "no colours without a terminal");
    assert!(!transcript.contains('✗') && errors.is_empty(), "{errors}");
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left on disk");
}

/// Race given to billing: the demo's claim about billing does not hold any more.
#[test]
fn a_claim_that_does_not_hold_ends_the_demo_with_1() {
    let folder = Folder::new("demo-false");
    let policy = Folder::new("demo-policy");
    crate::support::copy_folder(&project("policy"), policy.path());
    let file = policy.path().join("billing.cedar");
    let rules = std::fs::read_to_string(&file).unwrap();
    let wider =
        rules.replacen("Field::\"patients.mrn\",", "Field::\"patients.mrn\", Field::\"patients.race\",", 1);
    assert_ne!(rules, wider);
    std::fs::write(&file, wider).unwrap();
    let output =
        strongroom(&folder, &["demo", "--policy", policy.path().to_str().unwrap()]).output().unwrap();
    let transcript = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{transcript}");
    assert!(transcript.contains("✗ billing got what an invoice needs"), "{transcript}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("not as it should be"));
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a failed demo cleans up as well");
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing() {
    let folder = Folder::new("demo-interrupted");
    let mut command = strongroom(&folder, &["demo"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("/readyz")), "the service came up");
    signal(child.id(), Signal::INT);
    // To its end, so that the child is never stopped by a full pipe.
    lines.for_each(drop);
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(errors.contains("interrupted"), "{errors}");
    eventually("no process is left", LIMIT, || processes_of(&folder).is_empty()).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
