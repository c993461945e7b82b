//! `strongroom witness` as a process: over mutual TLS, through kills and races. What it signs and refuses, case by case, is in
//! `src/audit/witness/tests.rs`.

use reqwest::{Method, Response};
use serde_json::Value;
use strongroom::audit::checkpoint::{SignatureLine, SignedCheckpoint, Trust};
use strongroom::audit::tree::{NodeId, Plan, TreeHash, root_of};
use strongroom::audit::witness::AddCheckpoint;

use crate::parts::Folder;
use crate::support::dice::Dice;
use crate::support::log::{LogKeys, ORIGIN};
use crate::support::watch::{PORTAL, WitnessProcess};
use crate::support::{Client, Strongroom};

/// A witness beside a service.
struct Watch {
    strongroom: Strongroom,
    folder: Folder,
    keys: LogKeys,
    witness: WitnessProcess,
}

impl Watch {
    async fn start(name: &str) -> Self {
        let strongroom = Strongroom::start().await;
        let (folder, keys) = (Folder::new(name), LogKeys::new(3));
        let witness = WitnessProcess::start(&strongroom, folder.path(), &keys.log_key, ORIGIN).await;
        Self { strongroom, folder, keys, witness }
    }

    async fn client(&self, uri: &str) -> Client {
        self.witness.client(&self.strongroom, uri).await
    }
}

/// A log of which only the hashes matter here.
#[derive(Clone, Default)]
struct Leaves(Vec<TreeHash>);

impl Leaves {
    fn size(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap()
    }

    fn root(&self) -> TreeHash {
        root_of(&self.0).unwrap_or_else(TreeHash::of_nothing)
    }

    fn grown(&self, count: usize, mark: u64) -> Self {
        let more = (0..count).map(|place| TreeHash::of_leaf(format!("{mark} {place}").as_bytes()));
        Self(self.0.iter().copied().chain(more).collect())
    }

    /// Asks for a cosignature, saying that the witness knows it at `old`.
    fn request(&self, old: u64, keys: &LogKeys) -> String {
        let node = |id: NodeId| {
            let from = usize::try_from(id.index << id.level).unwrap();
            Ok::<_, ()>(root_of(&self.0[from..from + (1 << id.level)]).unwrap())
        };
        let proof = Plan::consistency(old, self.size()).unwrap().resolve(node).unwrap();
        AddCheckpoint::new(old, proof, keys.sign(self.size(), self.root())).unwrap().to_string()
    }
}

async fn ask(client: &Client, body: impl Into<reqwest::Body>) -> Response {
    client.request(Method::POST, "/add-checkpoint").body(body).send().await.unwrap()
}

async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let document: Value = answer.json().await.unwrap();
    (status, document["code"].as_str().unwrap().to_owned())
}

fn newest_path() -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, ORIGIN.as_bytes());
    let hash = TreeHash::from_bytes(digest.as_ref().try_into().unwrap());
    format!("/{hash}/checkpoint")
}

#[tokio::test]
async fn a_log_that_grows_is_cosigned_and_nothing_else_is() {
    let watch = Watch::start("witness").await;
    let (client, keys) = (watch.client(PORTAL).await, &watch.keys);
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code(client.get(&newest_path()).await).await, is(404, "no_checkpoint"));
    let log = Leaves::default().grown(300, 1);
    let first = Leaves(log.0[..200].to_vec());
    let answer = ask(&client, first.request(0, keys)).await;
    assert_eq!(answer.status(), 200);
    let lines = SignatureLine::parse_all(&answer.text().await.unwrap()).unwrap();
    let mut signed = keys.sign(200, first.root());
    assert_eq!(signed.cosign_with_lines(lines, &[watch.witness.verifier()]), Ok(1));
    let policy = format!("log {}\nwitness w {}\nquorum w", keys.log_key, watch.witness.verifier());
    assert!(Trust::parse(policy.as_bytes()).unwrap().endorse(&signed).unwrap().quorum);
    assert_eq!(client.get(&newest_path()).await.text().await.unwrap(), signed.to_string());

    let conflict = ask(&client, log.request(100, keys)).await;
    assert_eq!(
        (conflict.status().as_u16(), &conflict.headers()["content-type"]),
        (409, &"text/x.tlog.size".parse().unwrap())
    );
    assert_eq!(conflict.text().await.unwrap(), "200\n");
    let fork = Leaves(log.0[..199].to_vec()).grown(101, 2);
    assert_eq!(code(ask(&client, fork.request(200, keys)).await).await, is(422, "checkpoint_inconsistent"));
    let stranger = log.request(200, &LogKeys::new(9));
    assert_eq!(code(ask(&client, stranger).await).await, is(403, "checkpoint_not_trusted"));
    let elsewhere = log.request(200, keys).replacen(ORIGIN, "elsewhere.test", 1);
    assert_eq!(code(ask(&client, elsewhere).await).await, is(404, "unknown_log"));
    assert_eq!(code(ask(&client, "new 200\n").await).await, is(400, "request_malformed"));
    assert_eq!(code(ask(&client, vec![b'a'; 300_000]).await).await, is(413, "request_too_large"));
    assert_eq!(code(client.get("/add-checkpoint").await).await, is(405, "no_such_method"));
    assert_eq!(code(client.get("/elsewhere").await).await, is(404, "no_such_route"));
    assert_eq!(client.get("/livez").await.status(), 200);
    assert_eq!(ask(&client, log.request(200, keys)).await.status(), 200);
    let refused = std::fs::read_dir(watch.folder.path().join("state/refused")).unwrap().count();
    assert_eq!(refused, 1, "the fork is kept as evidence");
}

#[tokio::test]
async fn only_listed_certificates_are_heard() {
    let watch = Watch::start("witness-door").await;
    let unlisted = watch.client("spiffe://strongroom.internal/client/clinic-north/nobody").await;
    let body = Leaves::default().grown(3, 1).request(0, &watch.keys);
    assert_eq!(code(ask(&unlisted, body).await).await, (403, String::from("not_admitted")));
    let stranger = Client::new(watch.witness.address(), watch.strongroom.site().await.roots_file(), None);
    assert!(stranger.try_get("/livez").await.is_none());
    // Its lists and who is listed are looked at again while it runs.
    let listed = watch.client(PORTAL).await;
    assert_eq!(listed.get("/livez").await.status(), 200);
}

/// Two forks ask at once, again and again, and the witness is killed in between: whatever it signed is one tree.
#[tokio::test]
async fn kills_and_races_never_sign_two_trees() {
    let mut watch = Watch::start("witness-kill").await;
    let mut dice = Dice(7);
    let mut log = Leaves::default();
    let mut cosigned: Vec<(u64, TreeHash)> = Vec::new();
    for round in 0..12_u64 {
        let client = watch.client(PORTAL).await;
        let count = 1 + dice.below(300);
        let forks: Vec<Leaves> = (0..4).map(|fork| log.grown(count, round * 10 + fork)).collect();
        let asking: Vec<_> = forks
            .iter()
            .map(|fork| {
                let (client, body) = (client.clone(), fork.request(log.size(), &watch.keys));
                tokio::spawn(async move {
                    client
                        .request(Method::POST, "/add-checkpoint")
                        .body(body)
                        .send()
                        .await
                        .is_ok_and(|answer| answer.status() == 200)
                })
            })
            .collect();
        if round % 2 == 1 {
            // Some of them have been heard by then, and some have not.
            for _ in 0..dice.below(400) {
                tokio::task::yield_now().await;
            }
            watch.witness.kill();
        }
        for (fork, answer) in forks.iter().zip(asking) {
            if answer.await.unwrap() {
                cosigned.push((fork.size(), fork.root()));
            }
        }
        if round % 2 == 1 {
            watch.witness.restart();
        }
        let client = watch.client(PORTAL).await;
        let newest = client.get(&newest_path()).await.text().await.unwrap();
        let Ok(newest) = SignedCheckpoint::parse(newest.as_bytes()) else { continue };
        let root = *newest.checkpoint().root();
        log = forks
            .into_iter()
            .chain([log])
            .find(|fork| fork.root() == root)
            .expect("one of the forks, or none");
        // Everything that was ever answered is the beginning of what is remembered.
        for (size, root) in &cosigned {
            let beginning = Leaves(log.0[..usize::try_from(*size).unwrap()].to_vec());
            assert_eq!(beginning.root(), *root, "another tree of {size} entries was cosigned");
        }
    }
    assert!(cosigned.len() >= 6, "only {} were cosigned", cosigned.len());
}
