//! `strongroom audit prove` and `check`: one entry, by a file that stands for itself.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::verify::{TrustArgs, read, seen, threads, witnesses_json};
use crate::audit::checkpoint::{EntryProof, Trust};
use crate::audit::verify::{EntryName, prove};
use crate::cli::output::{self, DoesNotHold};

#[derive(Args)]
pub(crate) struct ProveArgs {
    /// The entry's id, or its number in the log, from 0
    #[arg(value_name = "ENTRY_ID|INDEX", value_parser = entry_name)]
    entry: EntryName,
    /// The exported log
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Where to put the two files, which must not be there yet: the proof and the entry
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The proof
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// The entry, byte for byte as it is logged
    #[arg(long, value_name = "FILE")]
    entry: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An id or a number; the two are never the same text.
fn entry_name(text: &str) -> Result<EntryName, &'static str> {
    if let Ok(index) = text.parse() {
        return Ok(EntryName::Index(index));
    }
    Uuid::try_parse(text).map(EntryName::Id).map_err(|_| "give an entry's id, or its number from 0")
}

pub(super) fn prove_entry(args: &ProveArgs) -> Result<()> {
    let proven = prove(&args.log, args.entry, threads()).context("the entry cannot be proven")?;
    let index = proven.proof.index();
    let name = proven.id.map_or_else(|| format!("entry-{index}"), |id| id.to_string());
    let proof = args.directory.join(format!("{name}.tlog-proof"));
    let entry = args.directory.join(format!("{name}.json"));
    write(&proof, proven.proof.to_string().as_bytes())?;
    write(&entry, &proven.entry)?;
    if args.json {
        output::line(&json!({ "index": index, "proof": proof, "entry": entry }).to_string());
    } else {
        output::line(&format!("entry {index}: {} proves {}", proof.display(), entry.display()));
    }
    Ok(())
}

/// An entry says who saw whom.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

pub(super) fn check(args: &CheckArgs) -> Result<()> {
    let trust = args.trust.read()?;
    let proof = EntryProof::parse(&read(&args.proof)?);
    let proof = proof.with_context(|| format!("cannot use {}", args.proof.display()))?;
    let entry = read(&args.entry)?;
    // Editors end a file with a newline; an entry never does.
    let entry = entry.strip_suffix(b"\n").unwrap_or(&entry);
    let outcome = outcome(&proof, entry, &trust, args.trust.witnesses);
    let checkpoint = proof.checkpoint().checkpoint();
    let (index, origin, size) = (proof.index(), checkpoint.origin(), checkpoint.size());
    if args.json {
        let witnesses = outcome.as_ref().map_or(json!([]), |witnesses| witnesses_json(witnesses));
        let why = outcome.as_ref().err();
        let holds = outcome.is_ok();
        output::line(
            &json!({ "holds": holds, "index": index, "origin": origin, "size": size, "witnesses": witnesses, "why": why })
                .to_string(),
        );
    } else {
        output::line(&match &outcome {
            Ok(witnesses) => {
                format!("holds: entry {index} of {origin} when it had {size} entries, {}", seen(witnesses))
            }
            Err(why) => format!("does not hold: {why}"),
        });
    }
    outcome.map(|_| ()).map_err(|_| DoesNotHold.into())
}

/// Who has seen the checkpoint (tlog-proof, Verifying a tlog proof), or why the proof proves nothing.
fn outcome(
    proof: &EntryProof,
    entry: &[u8],
    trust: &Trust,
    witnesses: usize,
) -> Result<Vec<(String, u64)>, String> {
    let endorsement = trust.endorse(proof.checkpoint()).map_err(|why| format!("the checkpoint: {why}"))?;
    if !endorsement.quorum || endorsement.witnesses.len() < witnesses {
        let has = endorsement.witnesses.len();
        return Err(format!("{has} known witnesses have seen the checkpoint, which is too few"));
    }
    proof.check(entry).map_err(|_| String::from("the entry is not the one that the proof is for"))?;
    Ok(endorsement.witnesses)
}
