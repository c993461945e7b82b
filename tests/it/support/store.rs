//! A store that speaks the S3 API with Object Lock (`tests/interop/s3`), on loopback, with a certificate of its own CA.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use crate::door_pki::{Leaf, Pki};
use crate::parts::Folder;

/// What a service has to know of its bucket.
pub struct Bucket {
    pub endpoint: String,
    pub name: &'static str,
    pub folder: &'static str,
    /// Holds `roots.pem`, `key-id` and `secret-key`.
    pub files: PathBuf,
}

impl Bucket {
    /// Its section of the configuration.
    pub fn section(&self) -> String {
        let Self { endpoint, name, folder, files } = self;
        let files = files.display();
        format!(
            "[audit.export]\ninterval_seconds = 1\n\n[audit.export.bucket]\nendpoint = \"{endpoint}\"\n\
             region = \"eu-central-1\"\nname = \"{name}\"\nfolder = \"{folder}\"\n\
             access_key_id_file = \"{files}/key-id\"\nsecret_access_key_file = \"{files}/secret-key\"\n\
             roots_file = \"{files}/roots.pem\"\ntimeout_ms = 2000\n\n"
        )
    }
}

/// Runs until it is dropped, or this process ends.
pub struct Store {
    pub port: u16,
    pub folder: Folder,
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Store {
    pub async fn start(name: &str) -> Self {
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || Self::start_blocking(&name)).await.unwrap()
    }

    fn start_blocking(name: &str) -> Self {
        let folder = Folder::new(&format!("store-{name}"));
        let pki = Pki::named("A store");
        let leaf = pki.leaf(&Leaf::server());
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let chain = file("chain.pem", &leaf.chain_pem);
        let key = file("server.key", &leaf.key_pem);
        let roots = file("roots.pem", &pki.root_pem());
        let mut child = Command::new(python())
            .arg(project().join("tests/interop/s3/store.py"))
            .args([chain, key, roots])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(std::fs::File::create(folder.path().join("log")).unwrap()))
            .spawn()
            .unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no store: {}", log()));
        let blind = folder.path().join("blind");
        std::fs::create_dir(&blind).unwrap();
        std::fs::copy(folder.path().join("roots.pem"), blind.join("roots.pem")).unwrap();
        for (user, place) in [("writer", ""), ("blind", "blind/")] {
            let text = |name: &str| said[user][name].as_str().unwrap();
            file(&format!("{place}key-id"), text("key"));
            file(&format!("{place}secret-key"), text("secret"));
        }
        let port = u16::try_from(said["port"].as_u64().unwrap()).unwrap();
        Self { port, folder, child, talk: Mutex::new((stdin, stdout)) }
    }

    pub fn bucket(&self, name: &'static str, folder: &'static str) -> Bucket {
        let endpoint = format!("https://localhost:{}", self.port);
        Bucket { endpoint, name, folder, files: self.folder.path().to_owned() }
    }

    /// The same for somebody who may read `checkpoint` and nothing else.
    pub fn bucket_of_the_blind(&self, name: &'static str, folder: &'static str) -> Bucket {
        Bucket { files: self.folder.path().join("blind"), ..self.bucket(name, folder) }
    }

    /// Every version of every file, with its lock.
    pub fn versions(&self, bucket: &str) -> Vec<Value> {
        self.ask(&json!({ "do": "versions", "bucket": bucket })).as_array().unwrap().clone()
    }

    /// Removes every version that its administrator can remove; their keys.
    pub fn destroy(&self, bucket: &str) -> Vec<String> {
        let gone = self.ask(&json!({ "do": "destroy", "bucket": bucket }));
        serde_json::from_value(gone).unwrap()
    }

    /// Copies what is there to a folder.
    pub fn download(&self, bucket: &str, folder: &Path) {
        self.ask(&json!({ "do": "download", "bucket": bucket, "folder": folder.to_str().unwrap() }));
    }

    /// Writes a newer version of a file.
    pub fn put(&self, bucket: &str, key: &str, text: &str) {
        self.ask(&json!({ "do": "put", "bucket": bucket, "key": key, "text": text }));
    }

    fn ask(&self, call: &Value) -> Value {
        let mut talk = self.talk.lock().unwrap();
        let (stdin, stdout) = &mut *talk;
        writeln!(stdin, "{call}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{call}: {}", log()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "the store's log:\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap()
            );
        }
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that has the store; tests that begin at the same time install it once.
fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let packages = ["moto[s3,iam]~=5.2.5", "flask~=3.1", "flask-cors~=6.0"];
    PYTHON.get_or_init(|| super::python::python_with("s3", &packages)).clone()
}
