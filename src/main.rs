//! The `strongroom` command.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else can ask for a provider. Fails only when one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match strongroom::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "strongroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}
