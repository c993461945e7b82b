//! `cargo bench --bench load`: Strongroom beside the bare server and OpenBao, over mutual TLS, on real parts.
//!
//! | file | holds |
//! |---|---|
//! | `options` | the command line |
//! | `site` | one installation: PostgreSQL, the Vault API, schema, certificates, configuration |
//! | `stage` | the servers on it, running and holding the same records |
//! | `child`, `processor` | the servers' processes · their processor time and memory |
//! | `generator`, `connection`, `response` | the closed loop · one client connection · the head of an answer |
//! | `lanes`, `patients` | what connections ask and how answers are judged · made-up people |
//! | `openbao`, `kv` | OpenBao's key-value store as a third server · what connections ask of it |
//! | `contest`, `series`, `report` | rounds in turn · what they say together · the table |
//! | `../bare` | the bare server |

#[path = "../bare/mod.rs"]
mod bare;
mod child;
mod connection;
mod contest;
mod generator;
mod kv;
mod lanes;
mod openbao;
mod options;
mod patients;
mod processor;
mod report;
mod response;
mod series;
mod site;
mod stage;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::options::{Cli, Part};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.part {
        Some(Part::Bare(args)) => runtime().and_then(|runtime| runtime.block_on(bare::serve(args))),
        Some(Part::Leash { program, arguments }) => child::leash(&program, &arguments),
        None if cli.bench => runtime().and_then(|runtime| contest::run(&cli.options, &runtime)),
        None => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::note(&format!("load: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The same kind of runtime as Strongroom's.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
