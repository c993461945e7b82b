//! `strongroom bootstrap` as an operator runs it: once, again, and for the service's credentials.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::parts::{Folder, Parts};

fn bootstrap(config: &Path, token: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.arg("bootstrap").arg("--config").arg(config).args(["--token-file", token]).args(more);
    command.output().unwrap()
}

/// A configuration in `folder` that names no file which must be there.
fn config(folder: &Folder, vault: &str, auth: &str) -> PathBuf {
    let database = "host = \"127.0.0.1\"\nport = 1\nname = \"d\"\nuser = \"u\"\npassword_file = \"p\"\n";
    let text = format!(
        "environment = \"test\"\n[server]\nlisten = \"127.0.0.1:0\"\ninstance = \"t\"\n\
         certificate_file = \"c\"\nprivate_key_file = \"k\"\nclient_roots_file = \"r\"\ncrl_directory = \"crl\"\n\
         [database.data]\n{database}[database.keys]\n{database}[database.key_eraser]\n{database}[database.key_rotator]\n{database}[database.audit_export]\n{database}\
         [database.audit_sequencer]\n{database}\
         [vault]\naddress = \"{vault}\"\nauth = {auth}\n[policy]\ndirectory = \"policy\"\n"
    );
    let path = folder.path().join("strongroom.toml");
    std::fs::write(&path, text).unwrap();
    path
}

const APPROLE: &str = "{ method = \"approle\", role_id_file = \"role-id\", secret_id_file = \"secret-id\" }";
const CERTIFICATE: &str =
    "{ method = \"certificate\", role = \"s\", certificate_file = \"c\", private_key_file = \"k\" }";

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_second_run_finds_everything_and_each_makes_credentials_only_when_asked() {
    let parts = Parts::start(&["--one-cluster", "--ephemeral"]);
    let folder = Folder::new("bootstrap");
    let (vault, token) = (parts.text("/vault/address"), parts.text("/vault/token_file"));
    let config = config(&folder, vault, APPROLE);
    let [role_id, secret_id] = ["role-id", "secret-id"].map(|name| folder.path().join(name));

    let first = bootstrap(&config, token, &[]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let table: Vec<&str> = text(&first.stdout).lines().collect();
    let key = table.iter().find(|line| line.starts_with("transit key strongroom-phi ")).unwrap();
    assert!(key.ends_with(" done"), "{key}");
    assert!(table.last().unwrap().ends_with(" done, 0 already there"), "{table:?}");
    assert!(!secret_id.exists(), "nobody asked for credentials");

    let second = bootstrap(&config, token, &["--json", "--credentials"]);
    let report: Value = serde_json::from_slice(&second.stdout).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), table.len() - 1);
    assert!(steps.iter().all(|step| step["outcome"] == "already_there"), "{report}");
    assert_eq!(report["written"].as_array().unwrap().len(), 2);
    for path in [&role_id, &secret_id] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    let before = [&role_id, &secret_id].map(|path| std::fs::read_to_string(path).unwrap());
    assert!(!text(&second.stdout).contains(&before[1]), "the secret id goes to its file only");

    let third = bootstrap(&config, token, &["--credentials"]);
    assert!(third.status.success());
    let after = [&role_id, &secret_id].map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!(before[0], after[0], "one role");
    assert_ne!(before[1], after[1], "a new secret each time");

    let wrong = folder.path().join("wrong-token");
    std::fs::write(&wrong, "hvs.not-a-token").unwrap();
    let refused = bootstrap(&config, wrong.to_str().unwrap(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(!text(&refused.stderr).contains("hvs.not-a-token"), "a token is never repeated");
}

#[test]
fn credentials_are_for_approle_only() {
    let folder = Folder::new("bootstrap-certificate");
    let config = config(&folder, "http://127.0.0.1:1", CERTIFICATE);
    let token = folder.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let refused = bootstrap(&config, token.to_str().unwrap(), &["--credentials"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("approle"), "{}", text(&refused.stderr));
}
