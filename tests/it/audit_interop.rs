//! Strangers verify the log: a program on Go's own packages, which knows the specifications and not us, accepts an export
//! of 100,000 entries, our consistency proofs and our proofs of single entries, and refuses what was changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use strongroom::audit::checkpoint::SignedCheckpoint;
use strongroom::audit::tiles::{Tile, TileId};
use strongroom::audit::tree::Plan;
use strongroom::audit::witness::AddCheckpoint;

use crate::parts::Folder;
use crate::support::log::{LogKeys, log_entries, write_log};

/// Where Debian keeps the sources of `golang-golang-x-mod-dev`.
const GO_SOURCES: &str = "/usr/share/gocode";

/// Go as it is on the machine: `PATH`, or Debian's versioned folder.
fn go() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("go"));
    let versions = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let packaged = versions
        .filter(|folder| folder.file_name().unwrap().to_str().is_some_and(|name| name.starts_with("go-")))
        .map(|folder| folder.join("bin/go"));
    let found = on_path.chain(packaged).find(|program| program.is_file());
    found.expect("no go: install golang-1.19-go and golang-golang-x-mod-dev")
}

/// Built without a network: everything is on the machine, or it does not build.
pub fn build_checker(folder: &Path) -> PathBuf {
    let checker = folder.join("checker");
    let built = Command::new(go())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/go"))
        .args(["build", "-o", checker.to_str().unwrap(), "."])
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPROXY", "off")
        .env("GOPATH", GO_SOURCES)
        .env("GOCACHE", folder.join("cache"))
        .env("CGO_ENABLED", "0")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    checker
}

struct Checker {
    program: PathBuf,
    keys: LogKeys,
    log: PathBuf,
    proofs: PathBuf,
}

impl Checker {
    fn run(&self) -> Output {
        let (log_key, witness_key) = (self.keys.log_key.to_string(), self.keys.witness_key.to_string());
        Command::new(&self.program)
            .arg(&self.log)
            .args([log_key, witness_key])
            .arg(&self.proofs)
            .output()
            .unwrap()
    }

    fn refusal(&self) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A proof that the newest checkpoint continues an older one, from the tiles.
pub fn consistency(log: &Path, old: u64) -> String {
    let newest = SignedCheckpoint::parse(&std::fs::read(log.join("checkpoint")).unwrap()).unwrap();
    let size = newest.checkpoint().size();
    let proof = Plan::consistency(old, size).unwrap().resolve(|node| {
        let (id, first) = TileId::of_node(node, size).ok_or("no such node")?;
        let bytes = std::fs::read(log.join(id.to_string())).map_err(|_| "no such tile")?;
        Tile::from_bytes(id, &bytes).map_err(|_| "no tile")?.node(node, first).ok_or("not in the tile")
    });
    AddCheckpoint::new(old, proof.unwrap(), newest).unwrap().to_string()
}

#[tokio::test]
async fn a_stranger_verifies_an_export_of_a_hundred_thousand_entries() {
    let folder = Folder::new("interop");
    let (log, proofs) = (folder.path().join("log"), folder.path().join("proofs"));
    std::fs::create_dir(&proofs).unwrap();
    let keys = LogKeys::new(1);
    let sizes = [1, 255, 256, 10_000, 65_536, 70_001, 100_000];
    let entries = log_entries(100_000).await;
    write_log(&log, &entries, &sizes, &keys);
    for old in sizes {
        let old = u64::try_from(old).unwrap();
        std::fs::write(proofs.join(format!("{old}.consistency")), consistency(&log, old)).unwrap();
    }
    for entry in ["0", "65535", "65536", "99999"] {
        let arguments = ["audit", "prove", entry, "--log", log.to_str().unwrap(), "--directory"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        let proven = command.args(arguments).arg(&proofs).output().unwrap();
        assert!(proven.status.success(), "{}", String::from_utf8_lossy(&proven.stderr));
    }
    let checker = Checker { program: build_checker(folder.path()), keys, log, proofs };
    let output = checker.run();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = "verified 100000 entries, 7 checkpoints, 7 consistency proofs, 4 inclusion proofs\n";
    assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
    refuses_what_was_changed(&checker);
}

/// The checker checks: each change makes it say what is wrong.
fn refuses_what_was_changed(checker: &Checker) {
    let with = |path: &Path, edit: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let before = std::fs::read(path).unwrap();
        let mut bytes = before.clone();
        edit(&mut bytes);
        let put = |bytes: &[u8]| {
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put(&bytes);
        let refusal = checker.refusal();
        assert!(refusal.contains(expected), "{}: {refusal}", path.display());
        put(&before);
    };
    let turn = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    with(&checker.log.join("tile/entries/200"), &turn(500), "the root of 100000 entries");
    // Some versions of the package notice by themselves, and in others our comparison of every leaf does.
    with(&checker.log.join("tile/0/200"), &turn(500), "tile");
    with(&checker.log.join("checkpoint"), &turn(ORIGIN_END), "invalid signature");
    // The last line of the proof is left out: every hash is one, and together they prove nothing.
    let shorter = |bytes: &mut Vec<u8>| {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let start = bytes[..end].iter().rposition(|byte| *byte == b'\n').unwrap();
        bytes.drain(start..end);
    };
    with(&checker.proofs.join("10000.consistency"), &shorter, "proof");
    let kept = checker.log.join("checkpoints/x010");
    let kept = std::fs::read_dir(kept).unwrap().next().unwrap().unwrap().path();
    with(&kept, &turn(ORIGIN_END), "invalid signature");
    let proofs = std::fs::read_dir(&checker.proofs).unwrap().map(|entry| entry.unwrap().path());
    let entry = proofs.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "json")).unwrap();
    with(&entry, &turn(100), "invalid transparency proof");
    assert!(checker.run().status.success(), "everything is as it was");
}

/// In the size of a checkpoint, behind the origin and its newline.
const ORIGIN_END: usize = crate::support::log::ORIGIN.len() + 1;
