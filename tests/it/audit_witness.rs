//! The running service and its witnesses: every published checkpoint is cosigned, a witness that is absent, was set back or
//! was shown another log is noticed, and only the configuration says whether reads and writes wait for one.

use std::path::PathBuf;

use serde_json::{Value, json};
use strongroom::audit::checkpoint::{Checkpoint, KeyKind, KeyName, SignedCheckpoint, Trust, VerifierKey};
use strongroom::audit::tree::TreeHash;
use strongroom::audit::witness::AddCheckpoint;

use crate::parts::Folder;
use crate::support::export::{Exported, keys};
use crate::support::old_log::fill_month;
use crate::support::samples::small_patient;
use crate::support::watch::{PORTAL, WitnessProcess};
use crate::support::{
    ADMINISTRATOR, Client, Databases, ServiceOptions, Strongroom, copy_folder, eventually, fresh_databases,
    parts, problem,
};

/// A service with one witness, whose cosignature every published checkpoint needs.
struct Stand {
    // Its certificates and lists are the witness's.
    _neighbour: Strongroom,
    strongroom: Strongroom,
    witness: WitnessProcess,
    folder: Folder,
    portal: Client,
    operator: Client,
    patient: String,
    origin: String,
}

impl Stand {
    async fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_on(None, name, "w1", settings).await
    }

    async fn start_on(
        databases: Option<Databases>,
        name: &str,
        quorum: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let neighbour = Strongroom::start().await;
        let folder = Folder::new(name);
        let origin = format!("strongroom.test/{name}");
        // The same key of the same Vault, under another name.
        let line = keys(&neighbour).await;
        let public = VerifierKey::parse(line.lines().next().unwrap().strip_prefix("log ").unwrap()).unwrap();
        let key = VerifierKey::new(KeyName::parse(&origin).unwrap(), KeyKind::Log, *public.public());
        let witness = WitnessProcess::start(&neighbour, &folder.path().join("w"), &key, &origin).await;
        let policy = folder.path().join("log-policy");
        let text =
            format!("log {key}\nwitness w1 {} {}\nquorum {quorum}\n", witness.verifier(), witness.url());
        std::fs::write(&policy, text).unwrap();
        let (_, files) = neighbour.client_with("client", PORTAL).await;
        let text = |path: &PathBuf| path.display().to_string();
        let mut all: Vec<(String, String)> = [
            ("ORIGIN", origin.clone()),
            ("WITNESS__POLICY_FILE", text(&policy)),
            ("WITNESS__CERTIFICATE_FILE", text(&files.certificate)),
            ("WITNESS__PRIVATE_KEY_FILE", text(&files.private_key)),
            ("WITNESS__ROOTS_FILE", neighbour.site().await.roots_file().display().to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("STRONGROOM__AUDIT__{key}"), value))
        .collect();
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let options = ServiceOptions { settings: all, databases, ..ServiceOptions::default() };
        let strongroom = Strongroom::start_with(options).await;
        let portal = strongroom.client("portal").await.with_purpose("TREAT");
        let operator = strongroom.client("operator").await;
        let patient = portal.create_patient(small_patient()).await;
        Self { _neighbour: neighbour, strongroom, witness, folder, portal, operator, patient, origin }
    }

    /// With the policy file that the service has, as an auditor would have it.
    async fn exported(&self) -> Exported {
        let exported = Exported::of(&self.strongroom).await;
        std::fs::copy(self.folder.path().join("log-policy"), exported.keys_file()).unwrap();
        exported
    }

    async fn read(&self) {
        self.portal.read(&format!("/api/v1/patients/{}", self.patient)).await;
    }

    /// It is signed and written as before.
    async fn grows(&self, exported: &Exported) {
        let size = exported.size();
        self.read().await;
        eventually("the log goes on", async || exported.size() > size).await;
    }

    async fn alarms(&self) -> Vec<String> {
        let ready: Value = self.operator.get("/readyz").await.json().await.unwrap();
        let alarms = ready["alarms"].as_array().unwrap();
        alarms.iter().map(|on| on["alarm"].as_str().unwrap().to_owned()).collect()
    }

    async fn notices(&self, alarm: &str) {
        let what = format!("the service notices: {alarm}");
        eventually(&what, async || self.alarms().await.iter().any(|on| on == alarm)).await;
    }
}

#[tokio::test]
async fn every_published_checkpoint_is_cosigned_and_without_the_witness_none_is() {
    let mut stand = Stand::start("cosigned", &[]).await;
    let exported = stand.exported().await;
    for _ in 0..10 {
        stand.read().await;
    }
    exported.has_everything(&stand.strongroom).await;
    exported.verify();
    let trust = Trust::parse(&std::fs::read(exported.keys_file()).unwrap()).unwrap();
    for file in exported.checkpoints() {
        let signed = SignedCheckpoint::parse(&file).unwrap();
        assert!(trust.endorse(&signed).unwrap().quorum, "{signed}");
    }

    stand.witness.kill();
    let size = exported.size();
    stand.read().await;
    stand.notices("witness_absent").await;
    stand.notices("log_not_published").await;
    // Reads and writes go on, and nothing that is not witnessed is published.
    stand.read().await;
    assert_eq!(exported.size(), size);
    stand.witness.restart();
    eventually("the alarms end", async || stand.alarms().await.is_empty()).await;
    exported.has_everything(&stand.strongroom).await;
    exported.verify();
}

#[tokio::test]
async fn a_limit_stops_reads_and_writes_that_nobody_witnesses() {
    let setting = ("STRONGROOM__AUDIT__UNPUBLISHED_LIMIT_SECONDS", "1");
    let mut stand = Stand::start("limit", &[setting]).await;
    let exported = stand.exported().await;
    exported.has_everything(&stand.strongroom).await;
    stand.witness.kill();
    let path = format!("/api/v1/patients/{}", stand.patient);
    eventually("reads are refused", async || stand.portal.get(&path).await.status() == 503).await;
    let body = json!({ "fields": small_patient() });
    let refused = problem(stand.portal.post("/api/v1/patients", &body).await).await;
    assert_eq!(refused, (503, String::from("audit_unavailable")));
    assert_eq!(stand.operator.get("/readyz").await.status(), 503);
    stand.witness.restart();
    eventually("reads are served", async || stand.portal.get(&path).await.status() == 200).await;
    exported.has_everything(&stand.strongroom).await;
    exported.verify();
}

#[tokio::test]
async fn a_witness_that_was_set_back_is_noticed() {
    let mut stand = Stand::start("set-back", &[]).await;
    let exported = stand.exported().await;
    exported.has_everything(&stand.strongroom).await;
    let (state, older) = (stand.witness.state(), stand.folder.path().join("older"));
    stand.witness.kill();
    copy_folder(&state, &older);
    stand.witness.restart();
    for _ in 0..5 {
        stand.read().await;
    }
    exported.has_everything(&stand.strongroom).await;
    stand.witness.kill();
    std::fs::remove_dir_all(&state).unwrap();
    copy_folder(&older, &state);
    stand.witness.restart();
    stand.read().await;
    stand.notices("witness_forgot").await;
    stand.notices("log_not_published").await;
    stand.read().await;
}

/// Somebody with the log's key shows the witness a log that goes on differently: it cosigns that, and the service, whose log
/// no longer continues what was witnessed, hears so and signs nothing more.
#[tokio::test]
async fn a_fork_that_was_signed_with_the_stolen_key_is_noticed() {
    let stand = Stand::start("fork", &[]).await;
    let exported = stand.exported().await;
    // It lists what was written, so that nothing follows by itself.
    stand.read().await;
    exported.has_everything(&stand.strongroom).await;
    let witness = stand.witness.client(&stand.strongroom, PORTAL).await;
    let newest = SignedCheckpoint::parse(&std::fs::read(exported.log.join("checkpoint")).unwrap()).unwrap();
    let size = newest.checkpoint().size();
    // A tree of one entry more, and the proof that it continues: its sibling at every height is the old tree's.
    let (root, proof) = grown(&exported, size);
    let fork = sign(&stand.origin, size + 1, root).await;
    let request = AddCheckpoint::new(size, proof, fork).unwrap().to_string();
    let answer =
        witness.request(reqwest::Method::POST, "/add-checkpoint").body(request).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the witness is shown the fork first");
    stand.read().await;
    eventually("the service notices", async || {
        let alarms = stand.alarms().await;
        alarms.iter().any(|on| on == "log_changed" || on == "log_shrunk")
    })
    .await;
    stand.read().await;
    assert_eq!(exported.size(), size);
}

/// The tree with a foreign entry after its end.
fn grown(exported: &Exported, size: u64) -> (TreeHash, Vec<TreeHash>) {
    use strongroom::audit::tree::{NodeId, Plan, root_of};
    let tile = std::fs::read(exported.log.join(format!("tile/0/000.p/{size}"))).unwrap();
    let mut leaves: Vec<TreeHash> =
        tile.chunks(32).map(|hash| TreeHash::from_bytes(hash.try_into().unwrap())).collect();
    leaves.push(TreeHash::of_leaf(b"nobody wrote this"));
    let node = |id: NodeId| {
        let from = usize::try_from(id.index << id.level).unwrap();
        Ok::<_, ()>(root_of(&leaves[from..from + (1 << id.level)]).unwrap())
    };
    let proof = Plan::consistency(size, size + 1).unwrap().resolve(node).unwrap();
    (root_of(&leaves).unwrap(), proof)
}

/// With Vault's key, as its root.
async fn sign(origin: &str, size: u64, root: TreeHash) -> SignedCheckpoint {
    use base64ct::{Base64, Encoding};
    let (address, token) = (parts().text("/vault/address"), parts().secret("/vault/token_file"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("{address}/v1/transit/{path}/strongroom-audit");
    let key: Value = http
        .get(url("keys"))
        .header("x-vault-token", token.trim())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let public = Base64::decode_vec(key["data"]["keys"]["1"]["public_key"].as_str().unwrap()).unwrap();
    let key = VerifierKey::new(KeyName::parse(origin).unwrap(), KeyKind::Log, public.try_into().unwrap());
    let checkpoint = Checkpoint::new(origin, size, root).unwrap();
    let input = Base64::encode_string(checkpoint.text().as_bytes());
    let request = http.post(url("sign")).header("x-vault-token", token.trim());
    let signed: Value = request.json(&json!({ "input": input })).send().await.unwrap().json().await.unwrap();
    let signature = signed["data"]["signature"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    SignedCheckpoint::signed(checkpoint, &key, &Base64::decode_vec(&signature).unwrap()).unwrap()
}

/// A witness that has been away since before what was pruned cannot be shown that the log only grew: it is missed, and holds nothing
/// up that its policy does not.
#[tokio::test]
async fn a_witness_that_is_behind_what_was_pruned_is_missed() {
    let databases = fresh_databases().await;
    fill_month(&databases, 14, 590, 10).await;
    let on = Databases { data: databases.data.clone(), keys: databases.keys.clone() };
    let mut stand = Stand::start_on(Some(on), "behind", "none", &[]).await;
    let exported = stand.exported().await;
    exported.has_everything(&stand.strongroom).await;
    let trust = Trust::parse(&std::fs::read(exported.keys_file()).unwrap()).unwrap();
    let newest =
        || SignedCheckpoint::parse(&std::fs::read(exported.log.join("checkpoint")).unwrap()).unwrap();
    eventually("it is witnessed", async || !trust.endorse(&newest()).unwrap().witnesses.is_empty()).await;
    stand.witness.kill();
    // Writes, since chains that begin by now must be attested.
    fill_month(&databases, 13, 0, 500).await;
    fill_month(&databases, 12, 0, 400).await;
    exported.has_everything(&stand.strongroom).await;
    let password = parts().text("/data/password_file");
    let prune = ["audit", "prune", "--administrator", ADMINISTRATOR, "--data-password-file", password];
    let (code, out, error) = stand.strongroom.command(&prune).await;
    assert_eq!(code, Some(0), "{out}{error}");

    // Each signature asks it again.
    eventually("it is missed", async || {
        stand.read().await;
        stand.alarms().await == ["witness_absent"]
    })
    .await;
    stand.grows(&exported).await;
    stand.witness.restart();
    stand.read().await;
    stand.strongroom.logs("how far it is", |line| line.contains("log.witness_behind_what_was_pruned")).await;
    stand.grows(&exported).await;
    assert_eq!(stand.alarms().await, ["witness_absent"]);
    exported.verify();
}
