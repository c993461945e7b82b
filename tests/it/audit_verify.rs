//! `strongroom audit verify`, `prove` and `check`, as an auditor runs them: files and public keys, no service.
//! What is found in a damaged log, and how it is named, is in `src/audit/verify/tests.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::parts::Folder;
use crate::support::log::{LogKeys, ORIGIN, log_entries, write_log};

struct Auditor {
    folder: Folder,
}

impl Auditor {
    async fn new(name: &str, entries: usize, sizes: &[usize]) -> Self {
        let auditor = Self { folder: Folder::new(name) };
        let keys = LogKeys::new(5);
        write_log(&auditor.path("log"), &log_entries(entries).await, sizes, &keys);
        fs::write(auditor.path("keys"), keys.policy()).unwrap();
        auditor
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Exit code, output, errors. In an empty environment but for the path: nothing else is needed.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .current_dir(self.folder.path())
            .env_clear()
            .arg("audit")
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn edit(&self, path: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        replace(&self.path(path), edit);
    }
}

fn replace(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    edit(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_log_is_verified_with_files_and_keys_alone() {
    let auditor = Auditor::new("verify", 2_000, &[700, 2_000]).await;
    let (code, out, error) = auditor.run(&["verify", "log", "--keys", "keys", "--witnesses", "1"]);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    let start = format!(
        "holds: 2000 entries, 2 chains (0 ended in order), 2 checkpoints; {ORIGIN} has 2000 entries and the root "
    );
    assert!(
        out.starts_with(&start) && out.ends_with(", seen by w1 at 2027-01-15T08:33:20.000000Z\n"),
        "{out}"
    );

    let (code, out, _) = auditor.run(&["verify", "log", "--keys", "keys", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(
        (&report["holds"], &report["entries"], &report["findings"]),
        (&true.into(), &2_000.into(), &Value::Array(vec![]))
    );

    let kept = fs::read_dir(auditor.path("log/checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let known = kept.into_iter().find(|path| path.to_str().unwrap().contains("/700-")).unwrap();
    let (code, out, _) = auditor.run(&["verify", "log", "--keys", "keys", "--from", known.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(out.starts_with("holds: 1488 entries from 512 on, 2 chains (0 ended in order),"), "{out}");
}

#[tokio::test]
async fn what_does_not_hold_is_said_in_one_line_and_then_in_full() {
    let auditor = Auditor::new("verify-damage", 2_000, &[700, 2_000]).await;
    auditor.edit("log/tile/entries/003", |bytes| bytes[2 + 300] ^= 1);
    auditor.edit("log/tile/0/005", |bytes| bytes[0] ^= 1);
    let (code, out, error) = auditor.run(&["verify", "log", "--keys", "keys"]);
    let expected = "does not hold: 2 findings, the first: entry 768: not what the tree has there\n  \
                    entry 768: not what the tree has there\n  tile/0/005: other hashes than the tree's\n";
    assert_eq!((code, out.as_str(), error.as_str()), (3, expected, ""));
    let (code, out, _) = auditor.run(&["verify", "log", "--keys", "keys", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["holds"], &report["findings_total"]), (3, &false.into(), &2.into()));
    let finding = &report["findings"][0];
    assert_eq!((&finding["kind"], &finding["first_entry"]), (&"entries_changed".into(), &768.into()));
    assert_eq!(report["findings"][1]["path"], "tile/0/005");
}

#[tokio::test]
async fn what_cannot_be_verified_is_no_finding() {
    let auditor = Auditor::new("verify-wrong", 300, &[300]).await;
    let failed = |arguments: &[&str], expected: &str| {
        let (code, out, error) = auditor.run(arguments);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(error.starts_with("strongroom: ") && error.contains(expected), "{error}");
    };
    failed(&["verify", "nowhere", "--keys", "keys"], "cannot read nowhere");
    failed(&["verify", "log", "--keys", "nowhere"], "cannot read nowhere");
    fs::write(auditor.path("broken"), "log nothing\n").unwrap();
    failed(&["verify", "log", "--keys", "broken"], "line 1 of the keys");
    failed(
        &["verify", "log", "--keys", "keys", "--from", "keys"],
        "the known checkpoint is not to be believed",
    );
    failed(&["prove", "300", "--log", "log"], "the newest checkpoint holds no such entry");
    failed(&["prove", "0192f0c1-0000-7000-8000-000000000001", "--log", "log"], "holds no such entry");
    failed(&["prove", "0", "--log", "nowhere"], "cannot read nowhere");
    failed(&["check", "keys", "--entry", "keys", "--keys", "keys"], "does not begin as a tlog-proof");
    let (code, _, error) = auditor.run(&["prove", "first", "--log", "log"]);
    assert!(code == 2 && error.contains("give an entry's id, or its number from 0"), "{error}");
    auditor.edit("log/tile/entries/000", |bytes| bytes[2 + 300] ^= 1);
    failed(&["prove", "0", "--log", "log"], "verify the log to see why");
}

#[tokio::test]
async fn one_entry_is_proven_by_a_file_and_checked_without_the_log() {
    let auditor = Auditor::new("prove", 700, &[700]).await;
    let (code, out, _) = auditor.run(&["prove", "611", "--log", "log", "--json"]);
    assert_eq!(code, 0);
    let proven: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(proven["index"], 611);
    let (proof, entry) = (proven["proof"].as_str().unwrap(), proven["entry"].as_str().unwrap());
    let parsed: Value = serde_json::from_slice(&fs::read(auditor.path(entry)).unwrap()).unwrap();
    let id = parsed["id"].as_str().unwrap();
    assert!(proof.ends_with(&format!("{id}.tlog-proof")), "{proof}");
    // The same by its id, and never over a file that is there.
    fs::create_dir(auditor.path("by-id")).unwrap();
    let by_id = ["prove", id, "--log", "log", "--directory", "by-id"];
    assert_eq!(auditor.run(&by_id).0, 0);
    assert_eq!(fs::read(auditor.path("by-id").join(proof)).unwrap(), fs::read(auditor.path(proof)).unwrap());
    assert_eq!(auditor.run(&by_id).0, 1);

    fs::remove_dir_all(auditor.path("log")).unwrap();
    let check = ["check", proof, "--entry", entry, "--keys", "keys", "--witnesses", "1"];
    let (code, out, _) = auditor.run(&check);
    let seen = "seen by w1 at 2027-01-15T08:11:40.000000Z";
    assert_eq!((code, out), (0, format!("holds: entry 611 of {ORIGIN} when it had 700 entries, {seen}\n")));
    let too_few = ["check", proof, "--entry", entry, "--keys", "keys", "--witnesses", "2"];
    let (code, out, error) = auditor.run(&too_few);
    assert_eq!((code, error.as_str()), (3, ""));
    assert_eq!(out, "does not hold: 1 known witnesses have seen the checkpoint, which is too few\n");
    // A newline at the end is an editor's; anything else is another entry.
    auditor.edit(entry, |bytes| bytes.push(b'\n'));
    assert_eq!(auditor.run(&check).0, 0);
    auditor.edit(entry, |bytes| bytes[100] ^= 1);
    let (code, out, _) = auditor.run(&[&check[..], &["--json"]].concat());
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["holds"]), (3, &false.into()));
    assert_eq!(answer["why"], "the entry is not the one that the proof is for");
    fs::write(auditor.path("strangers"), LogKeys::new(6).policy()).unwrap();
    let (code, out, _) = auditor.run(&["check", proof, "--entry", entry, "--keys", "strangers"]);
    assert_eq!(
        (code, out.as_str()),
        (3, "does not hold: the checkpoint: no known key of the log signed it\n")
    );
}
