//! Strangers and the log of a running service, which numbered, signed and wrote it by itself: Go's packages verify its files,
//! and other people's definitions of FHIR, OCSF and canonical JSON hold for what is printed of it.

use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::json;
use strongroom::audit::checkpoint::SignedCheckpoint;

use crate::audit_interop::{build_checker, consistency};
use crate::parts::Folder;
use crate::support::clinic::Clinic;
use crate::support::export::{Exported, keys};
use crate::support::people::claims;
use crate::support::python::python_with;
use crate::support::samples::{patient, small_patient};
use crate::support::tokens::Signer;
use crate::support::{Strongroom, copy_folder, eventually};

/// A bit of everything, in files, with some checkpoints.
async fn lived() -> (Strongroom, Exported) {
    let signer = Signer::new("ES256", "first");
    let mut strongroom = Strongroom::start_with(Clinic::options(&signer, |_| {})).await;
    let exported = Exported::of(&strongroom).await;
    for _ in 0..2 {
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let person = portal.create_patient(patient()).await;
        let path = format!("/api/v1/patients/{person}");
        let (_, etag) = portal.read(&path).await;
        portal.patch(&path, &etag, &json!({ "fields": { "given_name": "Zuzana" } })).await;
        portal.get(&format!("{path}?fields=ssn")).await;
        portal.get(&format!("{path}/history")).await;
        portal.get("/api/v1/nothing").await;
        let doctor = signer.sign(&claims(&json!({ "roles": ["doctor"], "department": "Heart" })));
        let desk = strongroom.client("clinician-desk").await.with_purpose("TREAT");
        assert_eq!(desk.request(Method::GET, &path).bearer_auth(doctor).send().await.unwrap().status(), 403);
        portal.with_purpose("HMARKT").get(&path).await;
        strongroom.client("operator").await.get("/api/v1/patients").await;
        let auditor = strongroom.client("audit").await;
        assert_eq!(auditor.get("/api/v1/audit/events").await.status(), 200);
        for _ in 0..150 {
            portal.create_patient(small_patient()).await;
        }
        exported.has_everything(&strongroom).await;
        assert!(strongroom.stop().await, "an orderly stop");
        strongroom.relaunch().await;
        strongroom.wait_until_ready().await;
    }
    exported.has_everything(&strongroom).await;
    (strongroom, exported)
}

#[tokio::test]
async fn strangers_hold_the_log_of_a_running_service_against_what_they_know() {
    let (strongroom, exported) = lived().await;
    let folder = Folder::new("strangers");
    let log = folder.path().join("log");
    // A copy that was not made while the checkpoint was replaced.
    eventually("a copy of the files", async || {
        let _ = std::fs::remove_dir_all(&log);
        let before = std::fs::read(exported.log.join("checkpoint")).unwrap();
        copy_folder(&exported.log, &log);
        std::fs::read(log.join("checkpoint")).unwrap() == before
    })
    .await;
    go(&strongroom, folder.path(), &log, &exported).await;
    python(folder.path(), &log, &exported);
    let report = exported.verify();
    assert!(report["chains_ended"].as_u64().unwrap() >= 2, "two orderly stops: {report}");
}

async fn go(strongroom: &Strongroom, folder: &Path, log: &Path, exported: &Exported) {
    let proofs = folder.join("proofs");
    std::fs::create_dir(&proofs).unwrap();
    let mut sizes: Vec<u64> = exported
        .checkpoints()
        .iter()
        .map(|bytes| SignedCheckpoint::parse(bytes).unwrap().checkpoint().size())
        .collect();
    let newest = std::fs::read(log.join("checkpoint")).unwrap();
    let newest = SignedCheckpoint::parse(&newest).unwrap().checkpoint().size();
    sizes.sort_unstable();
    sizes.dedup();
    sizes.retain(|size| *size <= newest);
    for old in &sizes {
        std::fs::write(proofs.join(format!("{old}.consistency")), consistency(log, *old)).unwrap();
    }
    for entry in [0, 255, newest - 1] {
        let arguments = ["audit", "prove", &entry.to_string(), "--log", log.to_str().unwrap(), "--directory"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        assert!(command.args(arguments).arg(&proofs).output().unwrap().status.success());
    }
    let key = keys(strongroom).await;
    let key = key.lines().find_map(|line| line.strip_prefix("log ")).unwrap();
    let checker = build_checker(folder);
    let output = Command::new(checker).arg(log).args([key, "-"]).arg(&proofs).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with(&format!("verified {newest} entries, ")), "{said}{error}");
    assert!(said.ends_with(&format!("{} consistency proofs, 3 inclusion proofs\n", sizes.len())), "{said}");
}

fn python(folder: &Path, log: &Path, exported: &Exported) {
    let python = python_with(
        "log-formats",
        &["fhir.resources==8.3.0", "ocsf-json-schema==1.2.0", "jsonschema==4.26.0", "rfc8785==0.1.4"],
    );
    let mut counts = Vec::new();
    for format in ["fhir", "ocsf"] {
        let lines = exported.prints(&["--format", format]);
        counts.push(lines.len());
        std::fs::write(folder.join(format), lines.join("\n")).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/python/validate.py");
    let mut command = Command::new(python);
    let output =
        command.arg(script).args([folder.join("fhir"), folder.join("ocsf")]).arg(log).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with(&format!("{} fhir, {} ocsf, ", counts[0], counts[1])), "{said}");
    // It finds what is wrong.
    let wrong = std::fs::read_to_string(folder.join("fhir")).unwrap().replace("\"recorded\"", "\"recorder\"");
    std::fs::write(folder.join("fhir"), wrong).unwrap();
    assert_eq!(command.output().unwrap().status.code(), Some(1));
}
