//! No plaintext at rest and no secret in sight: marked values go through every way in and every failure, and then all
//! that is on disk, all that was logged and all that was answered is searched for them, in every usual spelling.

mod core;
mod keys;
mod memory;
mod search;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use reqwest::Method;
use serde_json::{Value, json};
use strongroom::devstack::Cluster;

use crate::support::{Client, Rig, ServiceOptions, Strongroom, eventually, samples};
use search::Search;

/// In every text that is sent. Lower case, so that an e-mail address keeps it.
const MARK: &str = "qzxleakage7f3a";
/// JSON may escape it.
const WIDE: &str = "Žluťoučkýkůň";
/// Of fields that hold no text of the sender's choice.
const TYPED: [&str; 9] = [
    "1911-02-03",
    "951-47-8263",
    "951478263",
    "5554173962",
    "MRN-7719350264",
    "8640917352",
    "739.4615",
    "2019-08-07T06:05:04",
    "1903-04-05T",
];

const OCTETS: (&str, &str) = ("content-type", "application/offset+octet-stream");

fn patient() -> Value {
    json!({
        "family_name": format!("{MARK} {WIDE}"), "given_name": MARK, "name_prefix": MARK, "birth_date": "1911-02-03",
        "sex": "F", "gender": "female", "email": format!("{MARK}@example.org"), "phone": "+15554173962",
        "address": { "line": [format!("1 {MARK}"), WIDE], "city": MARK, "state": "MA", "postal_code": "01101",
                     "country": "US", "district": MARK },
        "ssn": "951-47-8263", "mrn": "MRN-7719350264", "drivers_licence": format!("{MARK}1"), "language": "cs-CZ",
        "insurance": { "payer": MARK, "member": WIDE }, "emergency_contact": MARK,
        "deceased_at": "2019-08-07T06:05:04Z", "active": true, "notes": format!("{MARK}\n\"{WIDE}\"")
    })
}

fn encounter(subject: &str) -> Value {
    json!({ "subject": subject, "fields": {
        "started_at": "1903-04-05T06:07:08Z", "kind": "AMB", "reason": MARK, "diagnoses": [MARK, WIDE],
        "vitals": { MARK: { "unit": WIDE } }, "weight_kg": "739.4615", "note": format!("{WIDE} {MARK}"),
        "clinician_name": MARK, "follow_up_on": "1911-02-03", "visit_number": 8_640_917_352_u64,
    } })
}

fn marks() -> Search {
    let mut search = Search::default();
    search.text("the mark", MARK);
    search.text("the wide mark", WIDE);
    for typed in TYPED {
        search.text("a typed value", typed);
    }
    search
}

/// Collects what was answered, whatever the answer, and looks for marks in those that are no success.
struct Asker {
    marks: Search,
    client: Client,
}

impl Asker {
    async fn fails(&self, status: u16, method: Method, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut request = self.client.request(method, path).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let said = answer.status().as_u16();
        let headers = format!("{:?}", answer.headers());
        let text = answer.text().await.unwrap();
        assert_eq!(said, status, "{path}: {text}");
        self.marks.none_in("an answer's headers", headers.as_bytes());
        self.marks.none_in("an answer", text.as_bytes());
    }
}

struct Scene {
    rig: Arc<Rig>,
    strongroom: Strongroom,
    portal: Client,
    path: String,
}

/// Values through create, read, update, refusals and faults: none in the databases' files and logs, in Vault's, in the
/// service's, or in an answer that is no success. Then the same for keys and credentials.
#[tokio::test]
async fn no_value_and_no_secret_is_where_it_should_not_be() {
    let rig = Arc::new(Rig::start("leaks").await);
    // PostgreSQL logs every statement with its parameters, in full.
    for superuser in [rig.data().await, rig.keys().await] {
        for setting in [
            "log_min_duration_statement = 0",
            "log_statement = 'all'",
            "log_error_verbosity = 'verbose'",
            "wal_keep_size = '1GB'",
        ] {
            superuser.execute(&format!("ALTER SYSTEM SET {setting}"), &[]).await.unwrap();
        }
        superuser.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    }
    let settings = [
        ("STRONGROOM_LOG", "trace,tokio_postgres=trace,hyper=trace,h2=trace"),
        ("STRONGROOM__CACHE__SOFT_LIFE_SECONDS", "1"),
        ("STRONGROOM__CACHE__HARD_LIFE_SECONDS", "3"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = ServiceOptions { rig: Some(Arc::clone(&rig)), settings, ..Default::default() };
    let strongroom = Strongroom::start_with(options).await;
    let portal = strongroom.client("portal").await.with_purpose("TREAT");
    let path = format!("/api/v1/patients/{}", portal.create_patient(patient()).await);
    let scene = Scene { rig, strongroom, portal, path };
    scene.use_it().await;
    scene.fail_it().await;
    scene.break_it().await;
    let marks = marks();
    scene.search("a stored value", &marks).await;
    let keys = keys::keys(&scene.rig).await;
    scene.search("a key", &keys).await;
    let credentials = keys::credentials(&scene.rig);
    scene.search("a credential", &credentials).await;
    scene.process(&credentials);
    scene.memory(&marks).await;
}

impl Scene {
    /// The ways that work.
    async fn use_it(&self) {
        let (body, etag) = self.portal.read(&self.path).await;
        assert!(body["fields"]["notes"].as_str().unwrap().contains(MARK));
        let patch = json!({ "fields": { "given_name": format!("{MARK}2"), "notes": WIDE } });
        assert_eq!(self.portal.patch(&self.path, &etag, &patch).await.status(), 200);
        let masked = self.portal.get(&format!("{}?view=masked", self.path)).await;
        assert_eq!(masked.status(), 200);
        let clinician = self.strongroom.client("clinician-desk").await.with_purpose("TREAT");
        let id = self.path.rsplit('/').next().unwrap();
        clinician.create("encounters", &encounter(id)).await;
        let mut letter = samples::message(id);
        letter["fields"]["body"] = MARK.into();
        self.portal.create("messages", &letter).await;
        self.bring_a_document(id).await;
        self.look_for_it().await;
    }

    /// By what is in it, found and in vain, and wrongly.
    async fn look_for_it(&self) {
        let path = "/api/v1/patients/search";
        let condition =
            |field: &str, word: &str, value: &str| json!({ "field": field, "match": word, "value": value });
        for (conditions, found) in [
            (
                json!([
                    condition("family_name", "exact", &format!("{MARK} {WIDE}")),
                    condition("phone", "exact", "5554173962")
                ]),
                1,
            ),
            (
                json!([
                    condition("family_name", "prefix", MARK),
                    condition("birth_date", "on", "1911-02-03")
                ]),
                1,
            ),
            (json!([condition("email", "exact", &format!("{MARK}@example.com"))]), 0),
        ] {
            let page: Value =
                self.portal.post(path, &json!({ "where": conditions })).await.json().await.unwrap();
            assert_eq!(page["records"].as_array().unwrap().len(), found, "{conditions}");
        }
        let asker = Asker { marks: marks(), client: self.portal.clone() };
        let json_kind = [("content-type", "application/json")];
        let wrong = json!({ "where": [condition("email", "exact", MARK), condition(MARK, "exact", WIDE)] });
        asker.fails(422, Method::POST, path, &json_kind, &wrong.to_string()).await;
        let hidden = json!({ "where": [condition("ssn", "exact", "951-47-8263")] });
        asker.fails(403, Method::POST, path, &json_kind, &hidden.to_string()).await;
    }

    /// A file full of marks, named by one; and the beginning of another, which nobody finishes.
    async fn bring_a_document(&self, subject: &str) {
        let record = self.portal.create("documents", &samples::document(subject)).await;
        let path = format!("/api/v1/documents/{}/files/content", record["id"].as_str().unwrap());
        let file = MARK.repeat(20_000);
        let name = Base64::encode_string(format!("{MARK} {WIDE}.txt").as_bytes());
        for sent in [file.len(), 131_072] {
            let start = self
                .portal
                .request(Method::POST, &path)
                .header("upload-length", file.len())
                .header("upload-metadata", format!("filename {name},filetype dGV4dC9wbGFpbg=="));
            let upload = start.send().await.unwrap().headers()["location"].to_str().unwrap().to_owned();
            let answer = self.portal.append(&upload, 0, file.as_bytes()[..sent].to_vec()).await;
            assert_eq!(answer.status(), 204);
        }
        assert_eq!(self.portal.get(&path).await.text().await.unwrap(), file);
        let asker = Asker { marks: marks(), client: self.portal.clone() };
        let length = ("upload-length", "1");
        asker.fails(400, Method::POST, &path, &[length, ("upload-metadata", MARK)], "").await;
        asker.fails(400, Method::POST, &path, &[("upload-length", MARK)], MARK).await;
        asker.fails(412, Method::POST, &path, &[length, ("tus-resumable", MARK)], "").await;
        asker
            .fails(404, Method::PATCH, &format!("{path}/{MARK}"), &[("upload-offset", "0"), OCTETS], MARK)
            .await;
        let other = path.replace("content", MARK);
        asker.fails(404, Method::GET, &other, &[], "").await;
        let upload = self.portal.start_upload(&path, 3).await;
        asker.fails(413, Method::PATCH, &upload, &[("upload-offset", "0"), OCTETS], MARK).await;
    }

    /// Everything that a caller can get wrong, with marks in all of it.
    async fn fail_it(&self) {
        let asker = Asker { marks: marks(), client: self.portal.clone() };
        let json = [("content-type", "application/json")];
        let patients = "/api/v1/patients";
        for body in [
            format!("{{\"fields\":{{\"family_name\":\"{MARK}"),
            format!("{MARK} {WIDE}"),
            format!("{{\"{MARK}\":1}}"),
            format!("{{\"fields\":{{}},\"{WIDE}\":\"{MARK}\"}}"),
        ] {
            asker.fails(400, Method::POST, patients, &json, &body).await;
        }
        for (field, value) in [
            (MARK, json!(MARK)),
            ("birth_date", json!(MARK)),
            ("sex", json!(MARK)),
            ("ssn", json!("951-47-82631")),
            ("phone", json!(WIDE)),
            ("email", json!(format!("{MARK}@@example.org"))),
            ("mrn", json!({ MARK: WIDE })),
            ("active", json!(MARK)),
            ("address", json!({ MARK: MARK })),
            ("name_prefix", json!(MARK.repeat(20))),
        ] {
            let mut fields = patient();
            fields[field] = value;
            let body = json!({ "fields": fields }).to_string();
            asker.fails(422, Method::POST, patients, &json, &body).await;
        }
        let whole = json!({ "fields": patient() }).to_string();
        for subject in [MARK, "0192f0c1-0000-7000-8000-000000000001"] {
            let status = if subject == MARK { 400 } else { 422 };
            let mut body = json!({ "fields": patient() });
            body["subject"] = subject.into();
            asker.fails(status, Method::POST, patients, &json, &body.to_string()).await;
        }
        asker.fails(415, Method::POST, patients, &[("content-type", "text/qzxleakage7f3a")], &whole).await;
        asker.fails(413, Method::POST, patients, &json, &MARK.repeat(100_000)).await;
        asker.fails(404, Method::POST, &format!("/api/v1/{MARK}"), &json, &whole).await;
        asker.fails(404, Method::GET, &format!("/api/v1/patients/{MARK}"), &[], "").await;
        asker.fails(404, Method::GET, &format!("/{MARK}"), &[], "").await;
        asker.fails(400, Method::GET, &format!("{}?fields={MARK}", self.path), &[], "").await;
        asker.fails(400, Method::GET, &format!("{}?{MARK}={MARK}", self.path), &[], "").await;
        asker.fails(412, Method::PATCH, &self.path, &[json[0], ("if-match", "\"1\"")], &whole).await;
        asker.fails(400, Method::PATCH, &self.path, &[json[0], ("if-match", MARK)], &whole).await;
        asker.fails(400, Method::GET, &self.path, &[("x-purpose-of-use", MARK)], "").await;
        let mobile = self.strongroom.client("mobile").await.with_purpose("PATRQT");
        let asker = Asker { marks: marks(), client: mobile };
        asker.fails(403, Method::POST, patients, &json, &whole).await;
        let traced = [("x-request-id", MARK), ("traceparent", MARK), ("user-agent", MARK), ("cookie", MARK)];
        asker.fails(404, Method::GET, "/nowhere", &traced, MARK).await;
    }

    /// Faults under a write and a read: what PostgreSQL then logs and says is the most that it ever does.
    async fn break_it(&self) {
        let administrator = self.rig.data().await;
        let asker = Asker { marks: marks(), client: self.portal.clone() };
        let json = [("content-type", "application/json")];
        let whole = json!({ "fields": patient() }).to_string();
        // A failing check quotes the whole row.
        administrator
            .batch_execute("ALTER TABLE record ADD CONSTRAINT never CHECK (version < 0) NOT VALID")
            .await
            .unwrap();
        asker.fails(503, Method::POST, "/api/v1/patients", &json, &whole).await;
        administrator.batch_execute("ALTER TABLE record DROP CONSTRAINT never").await.unwrap();
        administrator.batch_execute("BEGIN; LOCK TABLE record IN ACCESS EXCLUSIVE MODE").await.unwrap();
        asker.fails(503, Method::POST, "/api/v1/patients", &json, &whole).await;
        administrator.batch_execute("COMMIT").await.unwrap();
        let bend = "UPDATE record SET sealed_values = set_byte(sealed_values, 40, get_byte(sealed_values, 40) # 1) \
             WHERE collection = 'patients'";
        administrator.execute(bend, &[]).await.unwrap();
        asker.fails(500, Method::GET, &self.path, &[], "").await;
    }

    /// Searches everything that is on disk, but the files that hold the secrets themselves, and all that was logged.
    async fn search(&self, what: &str, search: &Search) {
        for superuser in [self.rig.data().await, self.rig.keys().await] {
            superuser.batch_execute("CHECKPOINT").await.unwrap();
        }
        let id = self.path.rsplit('/').next().unwrap();
        let mut control = Search::default();
        control.text("the record's id", id);
        let clusters = [&self.rig.stack.data, &self.rig.stack.keys].map(Cluster::data_directory);
        for directory in clusters {
            let files = files_in(directory.to_owned());
            assert!(files.iter().any(|file| file.components().any(|part| part.as_os_str() == "pg_wal")));
            let mut found = 0;
            for file in files {
                let Some(bytes) = bytes_of(&file) else { continue };
                found += usize::from(control.is_in(&bytes));
                search.none_in(&format!("{what} in {}", file.display()), &bytes);
            }
            assert!(found >= 2, "the search does not see what is there: tables and WAL");
        }
        let own = [&self.rig.site.directory, &self.rig.stack.vault.token_file().to_owned()];
        let is_secret = |file: &PathBuf| {
            let name = file.file_name().unwrap().to_str().unwrap();
            file.starts_with(own[0].join("secrets"))
                || file.starts_with(own[0].join("tls"))
                || [".token", ".unseal", ".password"].iter().any(|ending| name.ends_with(ending))
        };
        let mut logs = 0;
        for file in files_in(self.rig.directory().to_owned()).into_iter().filter(|file| !is_secret(file)) {
            logs += usize::from(file.extension().is_some_and(|extension| extension == "log"));
            let Some(bytes) = bytes_of(&file) else { continue };
            search.none_in(&format!("{what} in {}", file.display()), &bytes);
        }
        assert!(logs >= 3, "the servers' logs");
        let data_log = std::fs::read(self.rig.stack.data.log_file()).unwrap();
        assert!(control.is_in(&data_log), "PostgreSQL logs parameters");
        let log = self.strongroom.log().join("\n");
        assert!(log.contains("storage.failed") && log.contains("record.integrity_failed"));
        search.none_in(&format!("{what} in the service's log"), log.as_bytes());
        let metrics = self.strongroom.client("operator").await.get("/metrics").await.text().await.unwrap();
        assert!(
            metrics.contains("code=\"fields_invalid\"") && metrics.contains("code=\"record_unreadable\"")
        );
        search.none_in(&format!("{what} in the metrics"), metrics.as_bytes());
    }

    /// A key is in the process's memory while it lives, and gone after; of values, nothing is left when their connections
    /// have ended: buffers of TLS and HTTP/2 go with those.
    async fn memory(self, marks: &Search) {
        let process_id = self.strongroom.process_id();
        if !rustix::process::geteuid().is_root() {
            // Not even the service's own user can look.
            return memory::is_closed(process_id);
        }
        let path = format!("/api/v1/patients/{}", self.portal.create_patient(patient()).await);
        let keys = keys::keys(&self.rig).await;
        eventually("a key in use is seen", async || {
            assert_eq!(self.portal.get(&path).await.status(), 200);
            !memory::found(process_id, &keys).is_empty()
        })
        .await;
        assert!(!memory::found(process_id, marks).is_empty(), "a value in a connection's buffer is seen");
        drop(self.portal);
        let mut left = Vec::new();
        let wiped = async {
            // This thread also ends the client's connections.
            let mut tick = tokio::time::interval(Duration::from_millis(200));
            loop {
                tick.tick().await;
                left = [memory::found(process_id, &keys), memory::found(process_id, marks)].concat();
                if left.is_empty() {
                    return;
                }
            }
        };
        let is_wiped = tokio::time::timeout(Duration::from_secs(20), wiped).await.is_ok();
        assert!(is_wiped, "still in memory: {left:#?}");
    }

    /// What other processes see of the service: no secret, and no way to its memory.
    fn process(&self, secrets: &Search) {
        let proc = PathBuf::from(format!("/proc/{}", self.strongroom.process_id()));
        secrets.none_in("the command line", &std::fs::read(proc.join("cmdline")).unwrap());
        // An undumpable process belongs to root, so that only root can look.
        match std::fs::read(proc.join("environ")) {
            Ok(environment) => {
                assert!(rustix::process::geteuid().is_root(), "anybody can read the service's environment");
                secrets.none_in("the environment", &environment);
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
        }
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(proc.join("mem")).unwrap());
        assert_eq!(owner, 0, "the service can be dumped");
        let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let values: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(values, ["0", "0"], "{core}");
    }
}

/// A file that a server removed meanwhile holds nothing any more; the WAL is kept whole.
fn bytes_of(file: &PathBuf) -> Option<Vec<u8>> {
    match std::fs::read(file) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let is_gone = error.kind() == std::io::ErrorKind::NotFound;
            // Besides a file of the WAL that has not its name yet.
            let is_begun =
                file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("xlogtemp"));
            let is_wal = file.components().any(|part| part.as_os_str() == "pg_wal") && !is_begun;
            assert!(is_gone && !is_wal, "{}: {error}", file.display());
            None
        }
    }
}

fn files_in(directory: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![directory];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files
}
