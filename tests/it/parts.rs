//! Real parts for tests: `strongroom dev --parts-only` as a child that ends when its standard input does, so that
//! nothing outlives a test process, also a killed one.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A running stack. Dropping it ends it and waits for that; one kept in a `static` ends with the process.
pub struct Parts {
    child: Child,
    ready: Value,
}

impl Parts {
    /// Starts parts with more arguments after `dev --parts-only`. Panics with the child's status when they do not start:
    /// a test without its parts has failed, never passed.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["dev", "--parts-only"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary under test starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str(&line) else {
            panic!("the parts did not start: {}", child.wait().unwrap());
        };
        Self { child, ready }
    }

    /// A value of the line, as a JSON pointer: `/data/port`.
    pub fn number(&self, pointer: &str) -> u64 {
        self.ready.pointer(pointer).and_then(Value::as_u64).unwrap()
    }

    pub fn text(&self, pointer: &str) -> &str {
        self.ready.pointer(pointer).and_then(Value::as_str).unwrap()
    }

    /// What a named file holds: a password, a token.
    pub fn secret(&self, pointer: &str) -> String {
        std::fs::read_to_string(self.text(pointer)).unwrap()
    }

    /// Every server's process id.
    pub fn process_ids(&self) -> Vec<u64> {
        ["/data/process_id", "/keys/process_id", "/vault/process_id"]
            .map(|pointer| self.number(pointer))
            .to_vec()
    }

    /// The process that owns the servers.
    pub fn owner(&self) -> u32 {
        self.child.id()
    }

    /// Closes standard input and waits; whether the owner reported success.
    pub fn end(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }

    /// Kills the owner with SIGKILL, as if this test had crashed together with it.
    pub fn kill_owner(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A folder that goes away with this value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("strongroom-it-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until `is_so`, looking again every 20 ms. Panics with `what` when `limit` is over.
pub async fn eventually(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let wait = async {
        while !is_so() {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(limit, wait).await.is_ok(), "not in time: {what}");
}
