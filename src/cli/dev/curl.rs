//! Lines to paste into a shell. `tests/it/dev.rs` runs them as they are printed.

use std::path::Path;

use anyhow::Result;

use super::super::local::{Local, TENANT};
use crate::devstack::ClientFiles;

/// A command and what it shows.
pub(super) struct Example {
    pub says: String,
    pub command: String,
}

const PATIENT: &str = r#"{"fields":{"family_name":"Nováková","given_name":"Žofie","birth_date":"1984-02-29","mrn":"MRN-0012345678","ssn":"999-12-3456","email":"zofie@example.com","sex":"F"}}"#;

/// A record's life in five commands. The first puts the new id into `$id` for the others.
pub(super) fn examples(local: &Local) -> Result<Vec<Example>> {
    let base = format!("https://{}", local.address());
    let patient = format!("{base}/api/v1/patients/\"$id\"");
    let roots = local.site.roots_file();
    let as_client = |client: &str, purpose: &str, rest: &str| -> Result<String> {
        Ok(curl(roots, Some(local.files(client)?), purpose, rest))
    };
    let body = quote(PATIENT);
    let create = as_client(
        "portal",
        "TREAT",
        &format!("-H 'Content-Type: application/json' -d {body} {base}/api/v1/patients"),
    )?;
    let example = |says: &str, command: String| Example { says: says.to_owned(), command };
    Ok(vec![
        example(
            "The portal stores a patient; the new record's id is kept in $id.",
            format!("id=$({create} | sed -E 's/.*\"id\":\"([^\"]+)\".*/\\1/'); echo \"$id\""),
        ),
        example(
            "A clinician reads the patient, for treatment.",
            as_client("clinician-desk", "TREAT", &patient)?,
        ),
        example("The dashboard sees masks, for operations.", as_client("dashboard", "HOPERAT", &patient)?),
        example(
            "Billing may not claim to treat: 403, purpose_not_allowed.",
            as_client("billing", "TREAT", &patient)?,
        ),
        example(
            "The auditor sees who looked and why, and no value.",
            as_client("audit", "", &format!("'{base}/api/v1/audit/events?limit=5'"))?,
        ),
        example(
            &format!("Without a certificate nobody of {TENANT} or elsewhere gets in: a TLS alert."),
            curl(roots, None, "", &patient),
        ),
    ])
}

fn curl(roots: &Path, files: Option<&ClientFiles>, purpose: &str, rest: &str) -> String {
    let file = |path: &Path| quote(&path.display().to_string());
    let mut line = format!("curl -sS --cacert {}", file(roots));
    if let Some(files) = files {
        line = format!("{line} --cert {} --key {}", file(&files.certificate), file(&files.private_key));
    }
    if !purpose.is_empty() {
        line = format!("{line} -H 'X-Purpose-Of-Use: {purpose}'");
    }
    format!("{line} {rest}")
}

/// One word of a POSIX shell.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_when_a_shell_would_read_them_otherwise() {
        assert_eq!(quote("/a/b-c_1.pem"), "/a/b-c_1.pem");
        assert_eq!(quote("/my files/it's"), r"'/my files/it'\''s'");
        assert_eq!(quote("$id"), "'$id'");
        assert_eq!(quote(""), "''");
    }
}
