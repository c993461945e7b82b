//! `strongroom dev`: its curl lines work as they are printed, and a restart keeps what was stored.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::local::{processes_of, signal, strongroom};
use crate::parts::{Folder, eventually};

const LIMIT: Duration = Duration::from_secs(30);

/// A running `strongroom dev` and what it printed until it was ready.
struct Dev {
    child: Child,
    lines: Vec<String>,
}

impl Dev {
    fn start(folder: &Folder) -> Self {
        let mut child = strongroom(folder, &["dev"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let is_last = line.starts_with("Ctrl-C");
            lines.push(line);
            if is_last {
                return Self { child, lines };
            }
        }
        panic!("dev did not start: {}\n{}", child.wait().unwrap(), lines.join("\n"));
    }

    /// What can be pasted, in order: create, read in full, read masked, a wrong purpose, the audit log, no certificate.
    fn commands(&self) -> [&str; 6] {
        let is_command = |line: &&str| line.starts_with("id=$(curl ") || line.starts_with("curl ");
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).filter(is_command).collect();
        lines.try_into().expect("six commands")
    }

    fn service(&self) -> &str {
        self.lines.iter().find(|line| line.starts_with("service ")).unwrap()
    }

    fn stop(mut self) -> bool {
        signal(self.child.id(), Signal::TERM);
        self.child.wait().unwrap().success()
    }
}

/// Runs lines in one shell, as if they were pasted there one after the other.
fn paste(lines: &[&str]) -> Output {
    Command::new("sh").arg("-c").arg(lines.join("\n")).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn the_printed_curl_lines_work_and_a_restart_keeps_what_they_stored() {
    let curl = Command::new("curl").arg("--version").output().expect("this test needs curl on the machine");
    assert!(curl.status.success());
    let folder = Folder::new("dev");
    let dev = Dev::start(&folder);
    let [create, plain, masked, wrong, audit, stranger] = dev.commands();

    let created = paste(&[create]);
    let id = String::from_utf8(created.stdout).unwrap().trim().to_owned();
    assert_eq!(id.len(), 36, "{}", String::from_utf8_lossy(&created.stderr));
    let known = format!("id={id}");
    let read = json(&paste(&[&known, plain]));
    assert_eq!(
        (&read["id"], &read["fields"]["family_name"]),
        (&Value::from(id.as_str()), &"Nováková".into())
    );
    assert_eq!(read["fields"]["ssn"], "•••3456", "nobody treats with a social security number");
    let read = json(&paste(&[&known, masked]));
    assert_eq!(
        (&read["fields"]["family_name"], &read["fields"]["birth_date"]),
        (&"N•••".into(), &"1984".into())
    );
    assert_eq!(json(&paste(&[&known, wrong]))["code"], "purpose_not_allowed");
    let entries = json(&paste(&[audit]));
    let entries = entries["entries"].as_array().unwrap();
    // The service's own, of which one may have come since, are among them.
    let newest = entries.iter().find(|entry| entry["who"]["uid"] != "strongroom").unwrap();
    assert_eq!(newest["who"]["uid"], "billing", "newest first");
    assert!(entries.iter().any(|entry| entry["act"] == "record.create"));
    let refused = paste(&[&known, stranger]);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("certificate required"), "{why}");

    let (service, plain) = (dev.service().to_owned(), plain.to_owned());
    assert!(dev.stop());
    assert_eq!(processes_of(&folder), Vec::<String>::new());

    let again = Dev::start(&folder);
    assert_eq!(again.service(), service, "the same port");
    // The line of the first run: certificates are new, but where they were.
    assert_eq!(json(&paste(&[&known, &plain]))["fields"]["family_name"], "Nováková");
    assert_eq!(String::from_utf8(paste(&[again.commands()[0]]).stdout).unwrap().trim().len(), 36);
    // And killed without warning it leaves nothing running either.
    signal(again.child.id(), Signal::KILL);
    let mut child = again.child;
    child.wait().unwrap();
    eventually("no process is left", LIMIT, || processes_of(&folder).is_empty()).await;
}
