//! The files that a service writes of its log, and an auditor who has them and the keys, and nothing else.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use strongroom::audit::checkpoint::SignedCheckpoint;

use super::{Strongroom, eventually};
use crate::parts::Folder;
use crate::source::files_under;

pub struct Exported {
    /// Holds the keys.
    folder: Folder,
    pub log: PathBuf,
}

/// What `strongroom audit keys` prints.
pub async fn keys(strongroom: &Strongroom) -> String {
    let (code, out, error) = strongroom.command(&["audit", "keys"]).await;
    assert_eq!(code, Some(0), "{error}");
    out
}

impl Exported {
    /// Takes the keys home.
    pub async fn of(strongroom: &Strongroom) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = Folder::new(&format!("auditor-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(folder.path().join("keys"), keys(strongroom).await).unwrap();
        Self { folder, log: strongroom.log_directory() }
    }

    /// Entries that the newest checkpoint in the files covers.
    pub fn size(&self) -> u64 {
        let Ok(bytes) = std::fs::read(self.log.join("checkpoint")) else { return 0 };
        SignedCheckpoint::parse(&bytes).unwrap().checkpoint().size()
    }

    /// Waits until there are files at all.
    pub async fn is_begun(&self) {
        eventually("files are written", async || self.size() > 0).await;
    }

    /// Waits until every entry that the database has is in the files.
    pub async fn has_everything(&self, strongroom: &Strongroom) {
        let sql = "SELECT (SELECT count(*) FROM audit_entry) + (SELECT count(*) FROM audit_outbox)";
        let client = strongroom.data().await;
        eventually("every entry is in the files", async || {
            let count = client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
            i64::try_from(self.size()).unwrap() == count
        })
        .await;
    }

    /// The report of `strongroom audit verify`, which says that it holds.
    pub fn verify(&self) -> Value {
        // The service may go on writing: what is verified is the checkpoint that is found.
        let (code, out, error) =
            self.run(&["verify", self.log.to_str().unwrap(), "--keys", "keys", "--json"]);
        assert_eq!((code, error.as_str()), (0, ""), "{out}");
        serde_json::from_str(&out).unwrap()
    }

    /// The findings of `strongroom audit verify`, which says that it does not hold.
    pub fn findings(&self) -> Vec<Value> {
        let (code, out, error) =
            self.run(&["verify", self.log.to_str().unwrap(), "--keys", "keys", "--json"]);
        assert_eq!((code, error.as_str()), (3, ""), "{out}");
        let report: Value = serde_json::from_str(&out).unwrap();
        report["findings"].as_array().unwrap().clone()
    }

    /// Whom the auditor believes.
    pub fn keys_file(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Every checkpoint that was ever published.
    pub fn checkpoints(&self) -> Vec<Vec<u8>> {
        let files = files_under(&self.log.join("checkpoints"));
        files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// An entry, by its id or its number, is proven by a file, and the proof holds.
    pub fn proves(&self, entry: &str) {
        let directory = format!("proof-of-{entry}");
        std::fs::create_dir(self.folder.path().join(&directory)).unwrap();
        let (log, json) = (self.log.to_str().unwrap(), "--json");
        let (code, out, error) = self.run(&["prove", entry, "--log", log, "--directory", &directory, json]);
        assert_eq!((code, error.as_str()), (0, ""));
        let made: Value = serde_json::from_str(&out).unwrap();
        let (proof, entry) = (made["proof"].as_str().unwrap(), made["entry"].as_str().unwrap());
        let (code, out, _) = self.run(&["check", proof, "--entry", entry, "--keys", "keys"]);
        assert_eq!(code, 0, "{out}");
    }

    /// The lines of `strongroom audit print`.
    pub fn prints(&self, arguments: &[&str]) -> Vec<String> {
        let (code, out, error) = self.run(&[&["print", self.log.to_str().unwrap()][..], arguments].concat());
        assert_eq!((code, error.as_str()), (0, ""));
        out.lines().map(str::to_owned).collect()
    }

    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        let output = command
            .current_dir(self.folder.path())
            .env_clear()
            .arg("audit")
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}
