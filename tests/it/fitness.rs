//! What the service refuses to run on, and `strongroom doctor`, which says so beforehand.

use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Rig, ServiceOptions, Strongroom};

/// Exit code, standard output and standard error of the program on this rig's configuration.
async fn run(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(arguments).arg("--config").arg(&rig.site.config_file).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn doctor(strongroom: &Strongroom) -> (Option<i32>, Vec<Value>) {
    let (code, said, _) = strongroom.command(&["doctor", "--json"]).await;
    (code, serde_json::from_str(&said).unwrap())
}

/// What was found of a state, as `check: found`.
fn of_state(findings: &[Value], state: &str) -> Vec<String> {
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = findings.iter().filter(|finding| finding["state"] == state);
    all.map(|finding| format!("{}: {}", word(finding, "check"), word(finding, "found"))).collect()
}

/// Where, what makes it so, what puts it right, and words of what is then found.
struct Unsafe {
    place: &'static str,
    wrong: &'static str,
    right: &'static str,
    found: &'static str,
}

const UNSAFE: &[Unsafe] = &[
    Unsafe {
        place: "data",
        wrong: "ALTER SYSTEM SET fsync = off",
        right: "ALTER SYSTEM RESET fsync",
        found: "fsync is off",
    },
    Unsafe {
        place: "keys",
        wrong: "ALTER SYSTEM SET full_page_writes = off",
        right: "ALTER SYSTEM RESET full_page_writes",
        found: "full_page_writes is off",
    },
    Unsafe {
        place: "data",
        wrong: "ALTER ROLE strongroom_app CREATEDB",
        right: "ALTER ROLE strongroom_app NOCREATEDB",
        found: "may do more",
    },
    Unsafe {
        place: "audit_export",
        wrong: "GRANT strongroom_owner TO strongroom_audit_reader",
        right: "REVOKE strongroom_owner FROM strongroom_audit_reader",
        found: "member of the tables' owner",
    },
    Unsafe {
        place: "data",
        wrong: "ALTER TABLE file_part DISABLE TRIGGER file_part_is_not_changed",
        right: "ALTER TABLE file_part ENABLE ALWAYS TRIGGER file_part_is_not_changed",
        found: "trigger",
    },
    Unsafe {
        place: "data",
        wrong: "SET strongroom.audit_migration = 'yes'; \
                ALTER TABLE strongroom_log.audit_entry_rest DISABLE TRIGGER audit_refuse_row",
        right: "ALTER TABLE strongroom_log.audit_entry_rest ENABLE ALWAYS TRIGGER audit_refuse_row",
        found: "trigger",
    },
    Unsafe {
        place: "data",
        wrong: "GRANT SELECT ON strongroom_log.audit_entry_rest TO strongroom_app",
        right: "REVOKE ALL ON strongroom_log.audit_entry_rest FROM strongroom_app",
        found: "not guarded as the others",
    },
    Unsafe {
        place: "data",
        wrong: "CREATE TABLE strongroom_log.aside (id int)",
        right: "DROP TABLE strongroom_log.aside; RESET strongroom.audit_migration",
        found: "not guarded as the others",
    },
    Unsafe {
        place: "keys",
        wrong: "ALTER TABLE tombstone ENABLE TRIGGER tombstone_is_append_only",
        right: "ALTER TABLE tombstone ENABLE ALWAYS TRIGGER tombstone_is_append_only",
        found: "trigger",
    },
    Unsafe {
        place: "data",
        wrong: "ALTER ROLE strongroom_app SET session_replication_role = replica",
        right: "ALTER ROLE strongroom_app RESET session_replication_role",
        found: "session_replication_role",
    },
    Unsafe {
        place: "data",
        wrong: "INSERT INTO refinery_schema_history (version, name, checksum) VALUES (99, 'later', '1')",
        right: "DELETE FROM refinery_schema_history WHERE version = 99",
        found: "newer than this build",
    },
    Unsafe {
        place: "keys",
        wrong: "UPDATE refinery_schema_history SET checksum = '-' || checksum WHERE version = 1",
        right: "UPDATE refinery_schema_history SET checksum = substr(checksum, 2) WHERE version = 1",
        found: "migrated by another one",
    },
    Unsafe {
        place: "keys",
        wrong: "ALTER TABLE refinery_schema_history RENAME TO aside",
        right: "ALTER TABLE aside RENAME TO refinery_schema_history",
        found: "older than this build",
    },
];

/// Each thing that would lose what was acknowledged, or that lets a role do more than it may: the doctor names it, the
/// service does not start on it, and both are content once it is put right.
#[tokio::test]
async fn unsafe_databases_are_refused_and_the_doctor_says_why() {
    let rig = Arc::new(Rig::start("fitness").await);
    let options = ServiceOptions { rig: Some(Arc::clone(&rig)), ..Default::default() };
    let strongroom = Strongroom::start_with(options).await;
    // What development goes without is said, and does not keep the service from running.
    let is_weak = |line: &str| line.contains("database.weak") && line.contains("no synchronous standby");
    strongroom.logs("what is weak", is_weak).await;
    strongroom.kill();

    let (code, findings) = doctor(&strongroom).await;
    assert_eq!((code, of_state(&findings, "bad")), (Some(0), vec![]));
    let good: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["state"] == "good")
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    for check in ["configuration", "policy", "server certificate", "revocation lists", "vault"] {
        assert!(good.contains(&check), "{check}: {findings:?}");
    }

    let (data, keys) = (rig.data().await, rig.keys().await);
    for Unsafe { place, wrong, right, found } in UNSAFE {
        let database = if *place == "keys" { &keys } else { &data };
        set(database, wrong).await;
        let (code, findings) = doctor(&strongroom).await;
        let bad = of_state(&findings, "bad");
        assert_eq!(code, Some(1), "{wrong}: {findings:?}");
        assert!(
            bad.iter().any(|bad| bad.starts_with(&format!("database.{place}: ")) && bad.contains(found)),
            "{wrong}: {bad:?}"
        );
        let (code, _, said) = run(&rig, &["serve"]).await;
        let last = said.lines().last().unwrap();
        assert_eq!(code, Some(1), "{wrong}: {said}");
        assert!(last.contains(&format!("database.{place}: ")) && last.contains(found), "{wrong}: {last}");
        set(database, right).await;
    }
    assert_eq!(doctor(&strongroom).await.0, Some(0));
}

async fn set(database: &tokio_postgres::Client, sql: &str) {
    database.batch_execute(sql).await.unwrap();
    database.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // Settings are read by each process in its own time; this one has read them when a new connection has.
    let (name, is_system) = match sql.split_whitespace().collect::<Vec<_>>()[..] {
        ["ALTER", "SYSTEM", _, name, ..] => (name.to_owned(), true),
        _ => (String::new(), false),
    };
    if is_system {
        let wanted = if sql.contains(" SET ") { "off" } else { "on" };
        crate::support::eventually("the setting is in force", async || {
            let row = database.query_one("SELECT current_setting($1)", &[&name]).await.unwrap();
            row.get::<_, &str>(0) == wanted
        })
        .await;
    }
}

/// Parts that are down are the doctor's to name as well; a table for people, and nothing of what is in any file.
#[tokio::test]
async fn the_doctor_names_what_is_down() {
    let rig = Rig::start("doctor").await;
    rig.stack.vault.seal().await.unwrap();
    rig.stack.data.kill9().await;
    let (code, table, said) = run(&rig, &["doctor"]).await;
    assert_eq!(code, Some(1));
    for (state, check) in [
        ("bad", "database.data"),
        ("bad", "database.audit_export"),
        ("bad", "vault"),
        ("good", "configuration"),
    ] {
        let is_row = |line: &str| line.starts_with(state) && line.contains(check);
        assert!(table.lines().any(is_row), "{check} is not {state}: {table}");
    }
    assert!(
        table.lines().any(|line| line.starts_with("weak") && line.contains("revocation lists")),
        "{table}"
    );
    assert!(table.contains("unseal it") && said.contains("must be put right"), "{table}{said}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(["doctor", "--config", "/nonexistent/strongroom.toml"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("bad   configuration"));
}

/// What the relay needs: roots that cannot be read keep the service from starting, a store of credentials that is not there
/// keeps it from sending.
#[tokio::test]
async fn the_doctor_looks_at_what_is_sent_outside() {
    let rig = Rig::start("doctor-relay").await;
    let findings = async |ca_file: Option<&std::path::Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["doctor", "--json", "--config"]).arg(&rig.site.config_file).stdin(Stdio::null());
        command.envs(ca_file.map(|file| ("STRONGROOM__RELAY__CA_FILE", file)));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let mut findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        findings.retain(|finding| finding["check"] == "relay");
        let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        findings.iter().map(|it| (word(it, "state"), word(it, "found"))).collect::<Vec<_>>()
    };
    let states =
        |findings: &[(String, String)]| findings.iter().map(|(state, _)| state.clone()).collect::<Vec<_>>();
    let without = findings(None).await;
    assert_eq!(states(&without), ["good"]);
    assert!(without[0].1.contains("nothing is sent"), "{without:?}");
    let roots = rig.site.roots_file();
    let unknown = findings(Some(roots)).await;
    assert_eq!(states(&unknown), ["good", "good", "weak"]);
    assert!(unknown[2].1.contains("claims-clearinghouse: its credential"), "{unknown:?}");
    let secret = json!({ "data": { "token": "t" } });
    rig.write_vault("strongroom-relay/data/claims-clearinghouse", &secret).await;
    assert_eq!(states(&findings(Some(roots)).await), ["good", "good"]);
    let missing = findings(Some(&roots.with_file_name("missing.pem"))).await;
    assert_eq!(states(&missing), ["bad"], "{missing:?}");
    // As a Vault that was set up before there was a relay.
    let policy = include_str!("../../infra/vault/service.hcl");
    let policy: Vec<&str> = policy.lines().filter(|line| !line.contains("strongroom-relay")).collect();
    let policy = json!({ "policy": policy.join("\n") });
    rig.write_vault("sys/policies/acl/strongroom-service", &policy).await;
    let unread = findings(Some(roots)).await;
    assert_eq!(states(&unread), ["good", "weak"], "{unread:?}");
    assert!(unread[1].1.contains("bootstrap"), "{unread:?}");
}
