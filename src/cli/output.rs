//! What the command prints: the one home of standard output and standard error outside logs.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Prints a line for people or machines to standard output. A closed pipe ends the output quietly.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a line about the work itself to standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What was looked at is not as it should be, and has been said in full: not a failure of the command.
#[derive(Debug, thiserror::Error)]
#[error("it does not hold")]
pub(super) struct DoesNotHold;

/// Prints what went wrong, outermost first, and gives the exit code for it.
pub(super) fn fail(error: &anyhow::Error) -> ExitCode {
    if error.is::<DoesNotHold>() {
        return ExitCode::from(3);
    }
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "strongroom: {error:#}");
    ExitCode::FAILURE
}

/// Colours for people: only when standard output is a terminal and `NO_COLOR` is not set (no-color.org).
#[derive(Clone, Copy)]
pub(super) struct Style {
    on: bool,
}

impl Style {
    pub fn detect() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: std::io::stdout().is_terminal() && !is_refused }
    }

    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
