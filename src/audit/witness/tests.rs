use std::fs;
use std::sync::Arc;

use super::*;
use crate::audit::checkpoint::fixtures::{ORIGIN, Signer};
use crate::audit::checkpoint::{KeyName, SignatureLine, SignedCheckpoint, Trust};
use crate::audit::fixtures::{Counting, Folder};
use crate::audit::tree::{Frontier, NodeId, Plan, TreeHash, root_of};

/// A log of numbers, and forks of it from some entry on.
struct Log {
    signer: Signer,
    leaves: Vec<TreeHash>,
}

impl Log {
    fn new(entries: u64, fork: Option<u64>) -> Self {
        let leaf = |number: u64| {
            let is_forked = fork.is_some_and(|from| number >= from);
            TreeHash::of_leaf(&[number.to_be_bytes(), u64::from(is_forked).to_be_bytes()].concat())
        };
        Self { signer: Signer::log(1), leaves: (0..entries).map(leaf).collect() }
    }

    fn head(&self, size: u64) -> SignedCheckpoint {
        let mut frontier = Frontier::default();
        self.leaves[..usize::try_from(size).unwrap()].iter().for_each(|leaf| frontier.append(*leaf));
        self.signer.sign(size, frontier.root())
    }

    fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        let node = |id: NodeId| {
            let from = usize::try_from(id.index << id.level).unwrap();
            Ok::<_, ()>(root_of(&self.leaves[from..from + (1 << id.level)]).unwrap())
        };
        let proof = Plan::consistency(old, new).unwrap().resolve(node).unwrap();
        AddCheckpoint::new(old, proof, self.head(new)).unwrap()
    }
}

fn key_file(folder: &Folder) -> std::path::PathBuf {
    let path = folder.path().join("key");
    if !path.exists() {
        fs::write(&path, WitnessKey::generate(&Counting::default()).unwrap().as_bytes()).unwrap();
    }
    path
}

/// A witness of the log, as it is after a start.
fn witness(folder: &Folder) -> Witness {
    let key = WitnessKey::read(KeyName::parse("witness.test/w1").unwrap(), &key_file(folder)).unwrap();
    let logs = Trust::parse(format!("log {}\nquorum none\n", Signer::log(1).key).as_bytes()).unwrap();
    Witness::new(key, logs, Ledger::create(&folder.path().join("state")).unwrap())
}

fn ask(witness: &Witness, request: &AddCheckpoint, now_s: u64) -> Result<String, Refusal> {
    witness.add_checkpoint(request.to_string().as_bytes(), now_s)
}

#[test]
fn growth_is_cosigned_and_remembered() {
    let folder = Folder::new("witness-growth");
    let (witness, log) = (witness(&folder), Log::new(300, None));
    assert!(matches!(ask(&witness, &log.request(0, 10), 100), Err(Refusal::UnknownLog)), "not begun");
    witness.ledger().begin(ORIGIN).unwrap();
    assert!(matches!(witness.ledger().begin(ORIGIN), Err(LedgerFault::Known)));
    let policy = format!("log {}\nwitness w {}\nquorum w\n", log.signer.key, witness.key().verifier());
    let trust = Trust::parse(policy.as_bytes()).unwrap();
    for (old, new, now_s, time_s) in
        [(0, 10, 100, 100), (10, 256, 160, 160), (256, 256, 220, 220), (256, 300, 90, 220)]
    {
        let lines = SignatureLine::parse_all(&ask(&witness, &log.request(old, new), now_s).unwrap()).unwrap();
        let mut signed = log.head(new);
        assert_eq!(signed.cosign_with_lines(lines, std::slice::from_ref(witness.key().verifier())), Ok(1));
        let endorsement = trust.endorse(&signed).unwrap();
        assert!(endorsement.quorum);
        assert_eq!(endorsement.witnesses, [(String::from("w"), time_s)], "its clock never goes back");
        let hash = folder_name(ORIGIN);
        assert_eq!(witness.newest(&hash), Some(signed.to_string()));
    }
    assert_eq!(witness.newest(&folder_name("elsewhere")), None);
}

fn folder_name(origin: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, origin.as_bytes());
    TreeHash::from_bytes(digest.as_ref().try_into().unwrap()).to_string()
}

#[test]
fn anything_but_growth_is_refused_and_a_fork_is_kept() {
    let folder = Folder::new("witness-refuse");
    let (witness, log, fork) = (witness(&folder), Log::new(300, None), Log::new(300, Some(150)));
    witness.ledger().begin(ORIGIN).unwrap();
    ask(&witness, &log.request(0, 200), 100).unwrap();
    for old in [0, 100, 199, 201] {
        let refusal = ask(&witness, &log.request(old, 300), 100);
        assert!(matches!(refusal, Err(Refusal::OtherSize { size: 200 })), "{refusal:?}");
    }
    for new in [200, 250, 300] {
        let refusal = ask(&witness, &fork.request(200, new), 100);
        assert!(matches!(refusal, Err(Refusal::Inconsistent)), "{refusal:?}");
        let evidence = fs::read_dir(folder.path().join("state/refused")).unwrap();
        assert_eq!(evidence.count(), [200, 250, 300].iter().position(|size| *size == new).unwrap() + 1);
    }
    // The same again is the same evidence.
    ask(&witness, &fork.request(200, 300), 100).unwrap_err();
    assert_eq!(fs::read_dir(folder.path().join("state/refused")).unwrap().count(), 3);
    // A proof that is no proof.
    let proof = log.request(200, 250).proof().to_vec();
    let wrong = AddCheckpoint::new(200, proof, log.head(300)).unwrap();
    assert!(matches!(ask(&witness, &wrong, 100), Err(Refusal::Inconsistent)));
    let padded = AddCheckpoint::new(200, vec![TreeHash::of_nothing()], log.head(200)).unwrap();
    assert!(matches!(ask(&witness, &padded, 100), Err(Refusal::Inconsistent)));
    assert_eq!(witness.ledger().head(ORIGIN).unwrap().checkpoint, *log.head(200).checkpoint());
    ask(&witness, &log.request(200, 300), 100).unwrap();
}

#[test]
fn an_empty_log_has_one_root() {
    let folder = Folder::new("witness-empty");
    let (witness, log) = (witness(&folder), Log::new(3, None));
    witness.ledger().begin(ORIGIN).unwrap();
    let other = AddCheckpoint::new(0, Vec::new(), log.signer.sign(0, TreeHash::of_leaf(b"a"))).unwrap();
    assert!(matches!(ask(&witness, &other, 1), Err(Refusal::Inconsistent)));
    ask(&witness, &log.request(0, 0), 1).unwrap();
    ask(&witness, &log.request(0, 3), 1).unwrap();
}

#[test]
fn only_the_logs_own_signature_counts() {
    let folder = Folder::new("witness-keys");
    let (witness, log) = (witness(&folder), Log::new(300, None));
    witness.ledger().begin(ORIGIN).unwrap();
    let stranger = AddCheckpoint::new(0, Vec::new(), Signer::log(9).sign(5, TreeHash::of_nothing())).unwrap();
    assert!(matches!(ask(&witness, &stranger, 1), Err(Refusal::Untrusted(_))));
    let forged = log.request(0, 10).to_string().replacen("\n10\n", "\n11\n", 1);
    assert!(matches!(witness.add_checkpoint(forged.as_bytes(), 1), Err(Refusal::Untrusted(_))));
    let elsewhere = log.request(0, 10).to_string().replace(&format!("{ORIGIN}\n10\n"), "elsewhere\n10\n");
    assert!(matches!(witness.add_checkpoint(elsewhere.as_bytes(), 1), Err(Refusal::UnknownLog)));
    assert!(matches!(witness.add_checkpoint(b"old 0\n", 1), Err(Refusal::Malformed(_))));
    // Lines of others are neither needed nor kept.
    let mut signed = log.head(10);
    Signer::witness("another", 7).cosign(&mut signed, 5);
    let request = AddCheckpoint::new(0, Vec::new(), signed).unwrap();
    assert_eq!(SignatureLine::parse_all(&ask(&witness, &request, 1).unwrap()).unwrap().len(), 1);
    let kept = witness.ledger().head(ORIGIN).unwrap().signed.unwrap();
    assert_eq!(kept.note().signatures().len(), 2, "the log's and its own");
}

#[test]
fn memory_outlives_the_process_and_its_loss_is_not_forgotten() {
    let folder = Folder::new("witness-memory");
    let log = Log::new(300, None);
    let first = witness(&folder);
    first.ledger().begin(ORIGIN).unwrap();
    ask(&first, &log.request(0, 200), 100).unwrap();
    let state = folder.path().join("state");
    assert!(matches!(Ledger::open(&state), Err(LedgerFault::Locked)), "one process at a time");
    drop(first);
    let second = witness(&folder);
    assert!(matches!(ask(&second, &log.request(0, 300), 100), Err(Refusal::OtherSize { size: 200 })));
    ask(&second, &log.request(200, 250), 100).unwrap();
    drop(second);
    let file = state.join(folder_name(ORIGIN));
    let before = fs::read(&file).unwrap();
    for damaged in
        [&b"nothing"[..], &before[..60], log.head(7).to_string().replacen(ORIGIN, "elsewhere", 1).as_bytes()]
    {
        fs::write(&file, damaged).unwrap();
        assert!(matches!(Ledger::open(&state), Err(LedgerFault::Damaged(_))));
    }
    fs::remove_file(&file).unwrap();
    let third = witness(&folder);
    assert!(
        matches!(ask(&third, &log.request(0, 300), 100), Err(Refusal::UnknownLog)),
        "it does not begin anew by itself"
    );
}

/// Many at once, each with another continuation of the same tree: one is signed, and its tree goes on.
#[test]
fn of_forks_that_race_one_is_signed() {
    let folder = Folder::new("witness-race");
    let witness = Arc::new(witness(&folder));
    witness.ledger().begin(ORIGIN).unwrap();
    ask(&witness, &Log::new(100, None).request(0, 100), 1).unwrap();
    let signed: Vec<bool> = std::thread::scope(|scope| {
        let ask = |fork: u64| {
            let witness = Arc::clone(&witness);
            scope.spawn(move || ask(&witness, &Log::new(200, Some(fork)).request(100, 200), 1).is_ok())
        };
        let asking: Vec<_> = (100..116).map(ask).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(signed.iter().filter(|signed| **signed).count(), 1);
    let winner = 100 + u64::try_from(signed.iter().position(|signed| *signed).unwrap()).unwrap();
    let head = witness.ledger().head(ORIGIN).unwrap().checkpoint;
    assert_eq!(head, *Log::new(200, Some(winner)).head(200).checkpoint());
}

/// Forks that are refused while the log grows, by who has the log's key: what is kept of them never becomes what is remembered
/// of the log.
#[test]
fn forks_beside_growth_are_evidence_and_never_memory() {
    let folder = Folder::new("witness-beside");
    let (log, steps) = (Log::new(200, None), 100..200);
    let witness = Arc::new(witness(&folder));
    witness.ledger().begin(ORIGIN).unwrap();
    ask(&witness, &log.request(0, steps.start), 1).unwrap();
    std::thread::scope(|scope| {
        let (watched, end) = (Arc::clone(&witness), steps.end);
        for from in 50..53 {
            let witness = Arc::clone(&watched);
            scope.spawn(move || {
                let fork = Log::new(end, Some(from));
                loop {
                    let size = witness.ledger().head(ORIGIN).unwrap().checkpoint.size();
                    if size == end {
                        return;
                    }
                    let refusal = ask(&witness, &fork.request(size, size + 1), 1);
                    assert!(
                        matches!(refusal, Err(Refusal::Inconsistent | Refusal::OtherSize { .. })),
                        "{refusal:?}"
                    );
                }
            });
        }
        for size in steps.clone() {
            ask(&witness, &log.request(size, size + 1), 1).unwrap();
            let stored = fs::read_to_string(folder.path().join("state").join(folder_name(ORIGIN))).unwrap();
            assert_eq!(Some(stored), witness.newest(&folder_name(ORIGIN)), "{size}");
        }
    });
    assert!(fs::read_dir(folder.path().join("state/refused")).unwrap().count() > 0);
}

/// Who may ask but has not the log's key cannot crowd out what proves a fork, neither with signatures of its own on one
/// checkpoint nor with wrong proofs of many.
#[test]
fn evidence_has_room_for_what_proves_a_fork() {
    let folder = Folder::new("witness-room");
    let (witness, log, fork) = (witness(&folder), Log::new(800, None), Log::new(800, Some(5)));
    witness.ledger().begin(ORIGIN).unwrap();
    ask(&witness, &log.request(0, 10), 1).unwrap();
    let kept = || fs::read_dir(folder.path().join("state/refused")).unwrap().count();
    let spoilt = |signed| ask(&witness, &AddCheckpoint::new(10, Vec::new(), signed).unwrap(), 1).unwrap_err();
    for seed in 10..20 {
        let mut signed = log.head(11);
        Signer::witness("another", seed).cosign(&mut signed, 5);
        spoilt(signed);
    }
    assert_eq!(kept(), 1);
    for size in 12..600 {
        spoilt(log.head(size));
    }
    assert_eq!(kept(), 500);
    spoilt(fork.head(10));
    assert_eq!(kept(), 501);
}

#[test]
fn a_state_that_cannot_be_written_signs_nothing() {
    let folder = Folder::new("witness-full");
    let (witness, log) = (witness(&folder), Log::new(300, None));
    witness.ledger().begin(ORIGIN).unwrap();
    ask(&witness, &log.request(0, 10), 1).unwrap();
    fs::create_dir(folder.path().join("state/.new")).unwrap();
    assert!(matches!(ask(&witness, &log.request(10, 20), 1), Err(Refusal::Ledger(_))));
    assert_eq!(witness.ledger().head(ORIGIN).unwrap().checkpoint.size(), 10);
    fs::remove_dir(folder.path().join("state/.new")).unwrap();
    ask(&witness, &log.request(10, 20), 1).unwrap();
}

/// Keys of openssl are read (the published example of RFC 8410 section 10.3, nobody's key); what is no key is refused
/// without a word of it.
#[test]
fn keys_are_pem_of_ed25519() {
    let folder = Folder::new("witness-key");
    let name = || KeyName::parse("witness.test/w1").unwrap();
    let path = folder.path().join("key");
    // RFC 8410 section 10.3.
    fs::write(&path, "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n").unwrap();
    let public = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    let key = WitnessKey::read(name(), &path).unwrap();
    assert_eq!(crate::audit::checkpoint::to_base64(key.verifier().public()), public);
    let one = WitnessKey::generate(&Counting::default()).unwrap();
    fs::write(&path, one.as_bytes()).unwrap();
    let text = WitnessKey::read(name(), &path).unwrap().verifier().to_string();
    assert!(text.starts_with("witness.test/w1+"));
    for wrong in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        fs::write(&path, wrong).unwrap();
        assert_eq!(WitnessKey::read(name(), &path).err(), Some(WitnessKeyFault::Form));
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(WitnessKey::read(name(), &path), Err(WitnessKeyFault::Read(_))));
}
