//! The commands that operators and reviewers run beside the service.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use crate::parts::Folder;
use crate::support::{Strongroom, parts};

const PATIENT: &str = "0192f0c1-0000-7000-8000-000000000001";

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn audit_tail_prints_entries_and_leaves_one_of_its_own() {
    let strongroom = Strongroom::start().await;
    let clinician = strongroom.client("clinician-desk").await.with_purpose("TREAT");
    assert_eq!(clinician.get(&format!("/api/v1/patients/{PATIENT}")).await.status(), 404);

    let (code, table, _) = strongroom.command(&["audit", "tail"]).await;
    assert_eq!(code, Some(0));
    let read = table.lines().find(|line| line.contains("record.read")).expect("the read is in the table");
    for word in ["failed (record_not_found)", "clinician-desk", "TREAT", PATIENT] {
        assert!(read.contains(word), "{word} is not in: {read}");
    }

    let (code, lines, _) = strongroom.command(&["audit", "tail", "--json", "--act", "audit.read"]).await;
    assert_eq!(code, Some(0));
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.len(), 1, "the first reading, by the service's own hand: {lines}");
    assert_eq!(entries[0]["who"]["kind"], "service");
    assert_eq!(strongroom.entries_of("audit.read").await.len(), 2);
}

/// A search looks at ten thousand entries a page.
#[tokio::test]
async fn audit_tail_looks_on_behind_a_page_that_has_nothing() {
    let strongroom = Strongroom::start().await;
    let superuser = strongroom.data().await;
    let fill = "INSERT INTO audit_outbox (tenant_id, entry_id, entry)
        SELECT $1, (lpad(to_hex(1700000000000 + place), 12, '0') || '70008000' || lpad(to_hex(place), 12, '0'))::uuid,
            convert_to('{\"act\":\"record.' || CASE place WHEN 0 THEN 'delete' ELSE 'read' END
                || '\",\"out\":{\"status\":\"success\"},\"subj\":\"' || $1::uuid || '\"}', 'UTF8')
        FROM generate_series(0, 10050) AS place";
    let patient = uuid::Uuid::parse_str(PATIENT).unwrap();
    superuser.execute(fill, &[&patient]).await.unwrap();
    let asked = ["audit", "tail", "--json", "--act", "record.delete", "--subject", PATIENT];
    let (code, lines, _) = strongroom.command(&asked).await;
    assert_eq!((code, lines.lines().count()), (Some(0), 1), "{lines}");
    let (_, lines, _) = strongroom.command(&["audit", "tail", "--json", "--lines", "7"]).await;
    assert_eq!(lines.lines().count(), 7);
}

#[tokio::test]
async fn audit_tail_shows_nothing_that_it_cannot_put_on_record() {
    let strongroom = Strongroom::start().await;
    let database = crate::support::administrator(&strongroom.databases.data.name).await;
    database.batch_execute("REVOKE INSERT ON audit_entry FROM strongroom_app").await.unwrap();
    let columns = "src, seq, entry_id, tenant_id, entry, sha256";
    database
        .batch_execute(&format!("REVOKE INSERT ({columns}) ON audit_entry FROM strongroom_app"))
        .await
        .unwrap();
    let (code, out, error) = strongroom.command(&["audit", "tail"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("cannot record this reading"), "{error}");
}

#[tokio::test]
async fn certificates_are_issued_and_revoked() {
    let strongroom = Strongroom::start().await;
    let folder = Folder::new("cert-command");
    let directory = folder.path().to_str().unwrap();
    let token = parts().text("/vault/token_file");
    let uri = "spiffe://strongroom.internal/client/clinic-north/mobile";
    let issue = ["cert", "issue", "--token-file", token, "--role", "client", "--uri", uri];
    let to = ["--directory", directory, "--name", "mobile", "--json"];
    let (code, out, error) = strongroom.command(&[issue.as_slice(), &to].concat()).await;
    assert_eq!(code, Some(0), "{error}");
    let issued: Value = serde_json::from_str(&out).unwrap();
    let key = std::fs::metadata(folder.path().join("mobile.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let serial = issued["serial"].as_str().unwrap();
    let (code, out, error) =
        strongroom.command(&["cert", "revoke", "--token-file", token, "--serial", serial]).await;
    assert_eq!((code, out.trim()), (Some(0), format!("revoked {serial}").as_str()), "{error}");

    let uri = "spiffe://strongroom.internal/operator/clinic-north/operations";
    let operator = ["--role", "operator", "--uri", uri, "--directory", directory, "--name", "operator"];
    let (code, _, error) = strongroom.command(&[&issue[..4], &operator].concat()).await;
    assert_eq!(code, Some(0), "{error}");

    let server = ["cert", "issue", "--token-file", token, "--role", "server", "--uri", uri, "--name", "x"];
    let (code, _, error) = strongroom.command(&server).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("give --uri for every role but server"), "{error}");
}

#[test]
fn policy_check_and_matrix_speak_of_the_files() {
    let check = run(&["policy", "check"]);
    assert!(check.status.success());
    assert!(text(&check.stdout).starts_with("valid: "), "{}", text(&check.stdout));
    let matrix = run(&["policy", "matrix"]);
    let golden = std::fs::read_to_string("policy/matrix.golden").unwrap();
    assert_eq!(text(&matrix.stdout).trim_end(), golden.trim_end());

    let folder = Folder::new("policy-command");
    let missing = run(&["policy", "check", "--directory", folder.path().to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("strongroom: the policy is not valid"));
}

#[test]
fn help_is_as_reviewed() {
    let commands: [&[&str]; 23] = [
        &[],
        &["serve"],
        &["migrate"],
        &["cert", "issue"],
        &["cert", "revoke"],
        &["audit", "tail"],
        &["audit", "keys"],
        &["audit", "verify"],
        &["audit", "prune"],
        &["audit", "hold", "add"],
        &["audit", "hold", "release"],
        &["audit", "hold", "list"],
        &["audit", "print"],
        &["audit", "prove"],
        &["audit", "check"],
        &["audit", "certificate"],
        &["witness", "serve"],
        &["witness", "begin"],
        &["policy", "check"],
        &["policy", "matrix"],
        &["openapi"],
        &["dev"],
        &["demo"],
    ];
    let mut help = String::new();
    for command in commands {
        let output = run(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}");
        writeln!(help, "$ strongroom {} --help\n{}", command.join(" "), text(&output.stdout)).unwrap();
    }
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        std::fs::write(&golden, &help).unwrap();
    }
    assert_eq!(help, std::fs::read_to_string(golden).unwrap(), "STRONGROOM_BLESS=1 writes it anew");
}
