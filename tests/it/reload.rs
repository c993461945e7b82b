//! Policy and identities that change under a running service.

use std::fs::{File, FileTimes};
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::parts::Folder;
use crate::support::line::Line;
use crate::support::{
    Client, RawAnswer, ServiceOptions, Strongroom, eventually, problem, replace_file, signal_hangup,
};

/// Changes a file, and gives what it was.
fn replace(path: &Path, from: &str, to: &str) -> String {
    let before = std::fs::read_to_string(path).unwrap();
    assert!(before.contains(from), "{from}");
    replace_file(path, &before.replace(from, to));
    before
}

async fn patient(strongroom: &Strongroom) -> (String, Client) {
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let fields = json!({ "family_name": "Abe", "given_name": "Kōbō", "birth_date": "1924-03-07", "mrn": "MRN-1", "sex": "M" });
    let id = portal.create_patient(fields).await;
    (format!("/api/v1/patients/{id}"), portal)
}

async fn loads(strongroom: &Strongroom, act: &str) -> Vec<(String, bool)> {
    let outcome = |entry: &Value| {
        (entry["out"]["status"].as_str().unwrap().to_owned(), entry["basis"]["loaded"].is_string())
    };
    strongroom.entries_of(act).await.iter().map(outcome).collect()
}

/// A grant that is taken out of the policy is gone without a restart, on connections that are open, and back when it is
/// put back; each set that was taken up is on record by its hash.
#[tokio::test]
async fn a_removed_grant_is_gone_without_a_restart() {
    let strongroom = Strongroom::start().await;
    let (path, portal) = patient(&strongroom).await;
    assert_eq!(portal.get(&path).await.status(), 200);
    let file = strongroom.policy_directory.join("portal.cedar");
    let before = replace(&file, "[Purpose::\"PATRQT\", Purpose::\"TREAT\"]", "[Purpose::\"PATRQT\"]");
    eventually("the grant is gone", async || portal.get(&path).await.status() == 403).await;
    assert_eq!(problem(portal.get(&path).await).await, (403, "purpose_not_allowed".into()));
    assert_eq!(
        portal.with_purpose("PATRQT").get(&path).await.status(),
        200,
        "the other purpose is untouched"
    );
    replace_file(&file, &before);
    eventually("the grant is back", async || portal.get(&path).await.status() == 200).await;
    assert_eq!(loads(&strongroom, "policy.load").await, [("success".into(), true), ("success".into(), true)]);
}

/// A policy set that is not valid changes nothing, however wrong; that it was refused is on record.
#[tokio::test]
async fn an_invalid_policy_keeps_the_old_one_and_is_on_record() {
    let strongroom = Strongroom::start().await;
    let (path, portal) = patient(&strongroom).await;
    let cedar = strongroom.policy_directory.join("portal.cedar");
    let collection = strongroom.policy_directory.join("collections/patients.toml");
    let changes = [
        (&cedar, "permit (", "permit everything ("),
        (&cedar, "Role::\"portal\"", "Role::\"portall\""),
        (&collection, "type = \"ssn\"", "type = \"sssn\""),
        (&collection, "id = 2\n", "id = 1\n"),
    ];
    for (file, from, to) in changes {
        let refusals = loads(&strongroom, "policy.load").await.len();
        let before = replace(file, from, to);
        eventually("the refusal is on record", async || {
            loads(&strongroom, "policy.load").await.len() > refusals
        })
        .await;
        assert_eq!(portal.get(&path).await.status(), 200, "{to}");
        replace_file(file, &before);
    }
    let loads = loads(&strongroom, "policy.load").await;
    assert!(loads.iter().all(|load| *load == ("failed".into(), false)), "{loads:?}");
    // A change that is seen half made may be refused twice, and no more: not at every look.
    assert!(loads.len() <= 2 * changes.len(), "{loads:?}");
    strongroom.logs("that it was refused", |line| line.contains("policy.reload_refused")).await;
}

/// Identities that are not valid change nothing, are on record once, and are taken up as soon as they are right.
#[tokio::test]
async fn invalid_identities_keep_the_old_ones_and_are_on_record() {
    let strongroom = Strongroom::start().await;
    let (path, portal) = patient(&strongroom).await;
    let file = strongroom.policy_directory.join("identities.toml");
    let before = replace(&file, "roles = [\"portal\"]", "roles = [\"no-such-role\"]");
    eventually("the refusal is on record", async || {
        loads(&strongroom, "identity.load").await == [("failed".into(), false)]
    })
    .await;
    assert_eq!(portal.get(&path).await.status(), 200);
    // Wrong in another way: a second refusal, and no more than that.
    replace_file(&file, "[[client]]\nname = ");
    eventually("the second refusal is on record", async || {
        loads(&strongroom, "identity.load").await.len() == 2
    })
    .await;
    assert_eq!(portal.get(&path).await.status(), 200);
    replace_file(&file, &format!("{before}\n# Reviewed.\n"));
    eventually("the right ones are taken up", async || {
        loads(&strongroom, "identity.load").await.last() == Some(&("success".into(), true))
    })
    .await;
    assert_eq!(loads(&strongroom, "identity.load").await.len(), 3);
}

/// A new role and its first client may come in one change, in whatever order the files are read.
#[tokio::test]
async fn a_new_role_and_its_client_come_together() {
    let strongroom = Strongroom::start().await;
    let (path, _) = patient(&strongroom).await;
    let rule = "@id(\"kiosk-reads\")\npermit (\n  principal in Role::\"kiosk\",\n  action == Action::\"read_plain\",\n  \
         resource == Field::\"patients.given_name\"\n);\n";
    let schema = strongroom.policy_directory.join("schema.cedarschema");
    replace(&schema, "\"portal\"", "\"portal\", \"kiosk\"");
    std::fs::write(strongroom.policy_directory.join("kiosk.cedar"), rule).unwrap();
    let name = "spiffe://strongroom.internal/client/clinic-north/kiosk";
    let client = format!(
        "roles = [\"mobile\"]\n\n[[client]]\nname = \"kiosk\"\ntenant = \"clinic-north\"\nkind = \"app\"\n\
         san = \"{name}\"\nroles = [\"kiosk\"]"
    );
    replace(&strongroom.policy_directory.join("identities.toml"), "roles = [\"mobile\"]", &client);
    let (kiosk, _) = strongroom.client_with("client", name).await;
    eventually("the new client is in", async || kiosk.get(&path).await.status() == 200).await;
    let body: Value = kiosk.get(&path).await.json().await.unwrap();
    assert_eq!(body["fields"], json!({ "given_name": "Kōbō" }));
}

/// SIGHUP has the files read at once. Shown with a change that the look at sizes and times cannot see.
#[tokio::test]
async fn a_hangup_signal_has_the_policy_read_again() {
    let strongroom = Strongroom::start().await;
    let (path, portal) = patient(&strongroom).await;
    let rules = strongroom.policy_directory.join("portal.cedar");
    let modified = std::fs::metadata(&rules).unwrap().modified().unwrap();
    let before = std::fs::read_to_string(&rules).unwrap();
    // As long as it was, and as old.
    let after = before.replace("Purpose::\"TREAT\"", "Purpose::\"BTG\"  ");
    assert_eq!(after.len(), before.len());
    let aside = rules.with_extension("new");
    std::fs::write(&aside, &after).unwrap();
    File::options()
        .write(true)
        .open(&aside)
        .unwrap()
        .set_times(FileTimes::new().set_modified(modified))
        .unwrap();
    std::fs::rename(aside, &rules).unwrap();
    signal_hangup(strongroom.process_id());
    eventually("the change is taken up", async || portal.get(&path).await.status() == 403).await;
    assert_eq!(loads(&strongroom, "policy.load").await, [("success".into(), true)]);
}

/// A field that is dropped under its records is nobody's to change: it cannot be sealed again, since its type is unknown, and
/// must not be lost, so a change of such a record fails as a whole and says nothing of why. Given back, all is as before.
#[tokio::test]
async fn a_record_with_a_field_that_was_dropped_is_not_changed() {
    let strongroom = Strongroom::start().await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let path =
        format!("/api/v1/patients/{}", portal.create_patient(crate::support::samples::patient()).await);
    let file = strongroom.policy_directory.join("collections/patients.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let tables: Vec<&str> = text.split("[[field]]").collect();
    let (dropped, kept): (Vec<&str>, Vec<&str>) =
        tables.into_iter().partition(|table| table.contains("name = \"gender\""));
    let id = dropped[0].lines().find_map(|line| line.strip_prefix("id = ")).unwrap();
    let without = kept.join("[[field]]").replace("retired_ids = []", &format!("retired_ids = [{id}]"));
    replace_file(&file, &without);
    let change = json!({ "fields": { "given_name": "Kimifusa" } });
    eventually("the field is gone", async || {
        portal.get(&format!("{path}?fields=gender")).await.status() == 400
    })
    .await;
    let answer = portal.patch(&path, "\"1\"", &change).await;
    assert_eq!(problem(answer).await, (500, "internal".into()));
    let is_told = |line: &str| line.contains("request.failed") && line.contains("a stored field is not in");
    strongroom.logs("why it failed", is_told).await;
    let (record, etag) = portal.read(&path).await;
    assert_eq!((etag.as_str(), record["fields"].get("gender")), ("\"1\"", None));
    replace_file(&file, &text);
    eventually("the field is back", async || {
        portal.get(&format!("{path}?fields=gender")).await.status() == 200
    })
    .await;
    assert_eq!(portal.patch(&path, "\"1\"", &change).await.status(), 200);
    let (record, _) = portal.read(&path).await;
    assert_eq!(
        (&record["fields"]["gender"], &record["fields"]["given_name"]),
        (&json!("female"), &json!("Kimifusa"))
    );
}

/// A new certificate of the server, issued as an operator does, is shown within a second; connections that are open stay, and
/// go on with what they were doing.
#[tokio::test]
async fn a_new_server_certificate_drops_no_connection() {
    let site = crate::support::site().await;
    let folder = Folder::new("server-certificate");
    let (pem, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    std::fs::copy(&site.config.server.certificate_file, &pem).unwrap();
    std::fs::copy(&site.config.server.private_key_file, &key).unwrap();
    let setting = |key: &str, path: &Path| (format!("STRONGROOM__SERVER__{key}"), path.display().to_string());
    let settings = vec![setting("CERTIFICATE_FILE", &pem), setting("PRIVATE_KEY_FILE", &key)];
    let strongroom = Strongroom::start_with(ServiceOptions { settings, ..Default::default() }).await;
    let (path, portal) = patient(&strongroom).await;
    let raw = strongroom.raw_client("portal").await;
    let uri = "spiffe://strongroom.internal/client/clinic-north/portal";
    let (_, files) = strongroom.client_with("client", uri).await;
    let mut lines = [
        Line::http1(strongroom.address, site.roots_file(), &files).await,
        Line::http2(strongroom.address, site.roots_file(), &files).await,
    ];
    for line in &mut lines {
        assert_eq!(line.get(&path).await.unwrap().0, 200);
    }
    let shown = async || raw.open().await.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let before = shown().await;
    let body = json!({ "fields": { "given_name": "Kimifusa" } }).to_string();
    let mut under_way = raw.open().await;
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: localhost\r\nx-purpose-of-use: TREAT\r\nif-match: \"1\"\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    under_way.write_all(head.as_bytes()).await.unwrap();

    let directory = folder.path().display().to_string();
    let issue = ["cert", "issue", "--token-file", crate::support::parts().text("/vault/token_file")];
    let server = ["--role", "server", "--dns", "localhost", "--name", "server", "--directory", &directory];
    let (code, _, said) = strongroom.command(&[&issue[..], &server[..]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    eventually("the new one is shown", async || shown().await != before).await;
    for line in &mut lines {
        assert_eq!(line.get(&path).await.unwrap().0, 200);
    }
    under_way.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    under_way.read_to_end(&mut answer).await.unwrap();
    assert_eq!(RawAnswer::parse(&answer).status, 200);
    assert_eq!(portal.read(&path).await.1, "\"2\"");
}
