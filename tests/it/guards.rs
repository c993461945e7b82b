//! Conditions that policy sets for everybody of a role: a second factor, a person, an hour, a network. A refusal names the
//! one that was not met.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Client, Strongroom, eventually, problem, replace_file, request_id};

struct Scene {
    strongroom: Strongroom,
}

impl Scene {
    fn file(&self, name: &str) -> PathBuf {
        self.strongroom.policy_directory.join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.file(name)).unwrap();
        let changed = change(text.clone());
        assert_ne!(text, changed);
        replace_file(&self.file(name), &changed);
    }

    /// Refused for this, by this policy, from some moment on.
    async fn comes_to_refuse(&self, client: &Client, path: &str, (code, policy): (&str, &str)) {
        let mut request = String::new();
        eventually(code, async || {
            let answer = client.get(path).await;
            request = request_id(&answer);
            answer.status() == 403 && problem(answer).await == (403, code.to_owned())
        })
        .await;
        let entry: Value = self.strongroom.entry_of(&request).await;
        assert_eq!(entry["out"], json!({ "status": "refused", "code": code }));
        assert_eq!(entry["basis"]["policy"], json!([policy]));
    }
}

#[tokio::test]
async fn auditors_and_operators_need_a_second_factor() {
    let scene = Scene { strongroom: Strongroom::start().await };
    let (auditor, operator) =
        (scene.strongroom.client("audit").await, scene.strongroom.client("operator").await);
    assert_eq!(auditor.get("/api/v1/audit/events").await.status(), 200);
    assert_eq!(operator.get("/metrics").await.status(), 200);
    // The same certificates, whose keys are in files.
    scene.edit("identities.toml", |text| text.replace("key = \"hardware\"", "key = \"file\""));
    let expected = ("second_factor_required", "guard-auditor-second-factor");
    scene.comes_to_refuse(&auditor, "/api/v1/audit/events", expected).await;
    let expected = ("second_factor_required", "guard-operator-second-factor");
    scene.comes_to_refuse(&operator, "/metrics", expected).await;
    // What no factor would open is refused for what it is.
    let answer = auditor.with_purpose("TREAT").get("/api/v1/patients").await;
    assert_eq!(problem(answer).await, (403, "action_not_allowed".into()));
}

#[tokio::test]
async fn an_operator_is_heard_from_inside_only() {
    let scene = Scene { strongroom: Strongroom::start().await };
    let (auditor, operator) =
        (scene.strongroom.client("audit").await, scene.strongroom.client("operator").await);
    assert_eq!(operator.get("/metrics").await.status(), 200);
    scene.edit("bands.toml", |text| text.replace("\"127.0.0.0/8\", ", ""));
    scene.comes_to_refuse(&operator, "/metrics", ("source_not_allowed", "guard-operator-inside")).await;
    assert_eq!(auditor.get("/api/v1/audit/events").await.status(), 200, "an auditor is, from anywhere");
}

#[tokio::test]
async fn an_application_that_says_it_is_a_patient_is_asked_for_the_person() {
    let scene = Scene { strongroom: Strongroom::start().await };
    let mobile = scene.strongroom.client("mobile").await.with_purpose("PATRQT");
    scene.edit("identities.toml", |text| text.replace("roles = [\"mobile\"]", "roles = [\"patient\"]"));
    let path = format!("/api/v1/patients/{}", crate::support::samples::NOBODY);
    let mut answer = None;
    eventually("it is listed with the role", async || {
        let found = mobile.get(&path).await;
        let is_refused = found.status() == 403;
        answer = Some(found);
        is_refused
    })
    .await;
    assert_eq!(problem(answer.unwrap()).await, (403, "person_required".into()));
}

/// As shipped a custodian may do nothing yet; whatever it is given is for two factors and from inside.
#[tokio::test]
async fn custodians_need_a_second_factor_and_a_place_inside() {
    let scene = Scene { strongroom: Strongroom::start().await };
    let custodian = scene.strongroom.client("custodian-alice").await.with_purpose("SYSADMIN");
    let path = format!("/api/v1/subjects/{}/care-team", crate::support::samples::NOBODY);
    assert_eq!(problem(custodian.get(&path).await).await, (403, "action_not_allowed".into()));
    let rule = "@id(\"extra\") permit (principal in Role::\"custodian\", action == Action::\"read_care_team\", resource);\n";
    std::fs::write(scene.file("extra.cedar"), rule).unwrap();
    eventually("it is given", async || custodian.get(&path).await.status() == 404).await;
    let bands = std::fs::read_to_string(scene.file("bands.toml")).unwrap();
    scene.edit("bands.toml", |text| text.replace("\"127.0.0.0/8\", ", ""));
    scene.comes_to_refuse(&custodian, &path, ("source_not_allowed", "guard-custodian-inside")).await;
    replace_file(&scene.file("bands.toml"), &bands);
    eventually("it is given again", async || custodian.get(&path).await.status() == 404).await;
    scene.edit("identities.toml", |text| text.replace("key = \"hardware\"", "key = \"file\""));
    let expected = ("second_factor_required", "guard-custodian-second-factor");
    scene.comes_to_refuse(&custodian, &path, expected).await;
}

#[tokio::test]
async fn a_privacy_officer_reviews_with_a_second_factor() {
    let scene = Scene { strongroom: Strongroom::start().await };
    let officer = scene.strongroom.client("privacy-desk").await.with_purpose("HCOMPL");
    assert_eq!(officer.get("/api/v1/break-glass").await.status(), 200);
    scene.edit("identities.toml", |text| text.replace("key = \"hardware\"", "key = \"file\""));
    let expected = ("second_factor_required", "guard-break-glass-second-factor");
    scene.comes_to_refuse(&officer, "/api/v1/break-glass", expected).await;
    // Who looks after whom is told without.
    let path = format!("/api/v1/subjects/{}/care-team", crate::support::samples::NOBODY);
    assert_eq!(officer.get(&path).await.status(), 404);
}
