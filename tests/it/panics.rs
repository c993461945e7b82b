//! What a panic leaves in the log: where it was, and nothing of what it was about.

use std::process::Command;

use strongroom::telemetry;

const MARK: &str = "951-47-8263";
/// Set for the process that panics.
const CHILD: &str = "STRONGROOM_TEST_PANICS";

/// Of a program that begins as the service does.
#[test]
fn a_panic_says_where_it_was_and_not_what() {
    if std::env::var_os(CHILD).is_some() {
        telemetry::init(telemetry::LogFormat::Json);
        telemetry::hush_panics();
        let value = String::from(MARK);
        assert!(std::thread::spawn(move || panic!("{value} is no number")).join().is_err());
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "panics::a_panic_says_where_it_was_and_not_what", "--nocapture"]).env(CHILD, "1");
    let output = child.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let line = said.lines().find(|line| line.contains("panicked")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(line["file"].as_str().unwrap().ends_with("panics.rs") && line["line"].as_u64().unwrap() > 0);
    assert!(!said.contains(MARK), "{said}");
}
