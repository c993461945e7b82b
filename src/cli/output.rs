//! What the command prints: the one home of standard output and standard error outside logs.

use std::io::Write;
use std::process::ExitCode;

/// Prints a line for people or machines to standard output. A closed pipe ends the output quietly.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints what went wrong, outermost first, and gives the exit code for it.
pub(super) fn fail(error: &anyhow::Error) -> ExitCode {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "strongroom: {error:#}");
    ExitCode::FAILURE
}
