//! One function for each parser of bytes that come from outside: a client, a file, or a database that may be in somebody
//! else's hands. Each checks what must hold whatever the bytes are; an assertion that fails is a finding.
//!
//! `fuzz_targets` calls them under libFuzzer, `tests/it/fuzz.rs` for a moment in every test run.

pub mod certificates;
pub mod documents;
pub mod files;
pub mod log;
pub mod people;
pub mod relay;
pub mod sealed;
pub mod values;
pub mod words;

/// A target's name, as in `fuzz_targets` and `seeds`, and its body.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("values", values::values),
    ("fields", values::fields),
    ("columns", sealed::columns),
    ("records", sealed::records),
    ("wraps", sealed::wraps),
    ("documents", documents::documents),
    ("parts", documents::parts),
    ("certificates", certificates::certificates),
    ("crls", certificates::crls),
    ("identities", files::identities),
    ("config", files::config),
    ("people", people::people),
    ("keysets", people::keysets),
    ("tokens", people::tokens),
    ("templates", relay::templates),
    ("answers", relay::answers),
    ("words", words::words),
    ("checkpoints", log::checkpoints),
    ("proofs", log::proofs),
    ("trust", log::trust),
    ("bundles", log::bundles),
    ("entries", log::entries),
];
