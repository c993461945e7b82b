//! A log in a folder, and what one needs to damage and to verify it.

use std::fs;
use std::path::PathBuf;

use crate::audit::checkpoint::fixtures::Signer;
use crate::audit::checkpoint::{SignedCheckpoint, Trust};
use crate::audit::export::tests::files as files_of;
use crate::audit::export::{Directory, LogWriter};
use crate::audit::fixtures::{Folder, log_entries};
use crate::audit::tiles::push_entry;
use crate::audit::tree::TreeHash;
use crate::audit::verify::{Report, Verification};
use crate::domain::clock::Timestamp;

pub struct Log {
    pub folder: Folder,
    pub trust: Trust,
    pub signer: Signer,
    pub witness: Signer,
}

impl Log {
    /// A log with a checkpoint at each of the sizes, seen by a witness.
    pub fn new(name: &str, entries: &[Vec<u8>], sizes: &[usize]) -> Self {
        let (signer, witness) = (Signer::log(1), Signer::witness("witness.test/w", 3));
        let lines = format!("log {}\nwitness w {}\nquorum w\n", signer.key, witness.key);
        let trust = Trust::parse(lines.as_bytes()).unwrap();
        let log = Self { folder: Folder::new(name), trust, signer, witness };
        let mut writer = LogWriter::open(Directory::open(log.folder.path()).unwrap()).unwrap();
        let mut done = 0;
        for size in sizes {
            writer.append(entries[done..*size].iter().map(Vec::as_slice)).unwrap();
            writer.publish(&log.head(writer.tail().size(), writer.tail().root())).unwrap();
            done = *size;
        }
        log
    }

    /// 1,000 entries, and checkpoints within and between bundles.
    pub fn usual(name: &str) -> Self {
        Self::new(name, &log_entries(1_000), &[100, 256, 700, 1_000])
    }

    pub fn head(&self, size: u64, root: TreeHash) -> SignedCheckpoint {
        let mut signed = self.signer.sign(size, root);
        self.witness.cosign(&mut signed, 1_800_000_000 + size);
        signed
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap()
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        let _ = fs::remove_file(self.path(path));
        fs::write(self.path(path), bytes).unwrap();
    }

    pub fn edit(&self, path: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(path);
        edit(&mut bytes);
        self.put(path, &bytes);
    }

    pub fn swap(&self, one: &str, other: &str) {
        let (first, second) = (self.bytes(one), self.bytes(other));
        self.put(one, &second);
        self.put(other, &first);
    }

    /// Entries of all bundles, written anew.
    pub fn rebundle(&self, entries: &[Vec<u8>]) {
        for (index, chunk) in entries.chunks(256).enumerate() {
            let mut bytes = Vec::new();
            for entry in chunk {
                push_entry(&mut bytes, entry).unwrap();
            }
            let name = format!("tile/entries/{index:03}");
            let name = if index == 3 { format!("{name}.p/232") } else { name };
            self.put(&name, &bytes);
        }
    }

    pub fn kept(&self, size: &str) -> String {
        let mut paths = files_of(self.folder.path()).into_keys();
        paths.find(|path| path.starts_with(&format!("checkpoints/{size}-"))).unwrap()
    }

    /// Of all of it, on so many threads.
    pub fn verification(&self, threads: usize) -> Verification<'_> {
        let (log, kept_from) = (self.folder.path(), Timestamp::from_micros(0));
        Verification { log, trust: &self.trust, witnesses: 1, from: None, kept_from, threads }
    }

    pub fn run(&self, from: Option<&[u8]>) -> Report {
        Verification { from, ..self.verification(3) }.run(&mut |_, _| {}).unwrap()
    }

    /// The findings as the verifier says them.
    pub fn found(&self) -> Vec<String> {
        let report = self.run(None);
        assert_eq!(report.holds(), report.findings.is_empty());
        report.findings.iter().map(ToString::to_string).collect()
    }
}
