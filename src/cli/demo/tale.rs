//! How the demo tells what it does: numbered chapters, lines, and claims that are checked as they are made.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::super::output::{self, Style};

/// Longest line of the transcript, in characters.
pub(super) const WIDTH: usize = 116;
/// What of it is left for what is shown, after the margin and the bar.
const SHOWN: usize = WIDTH - 5;

pub(super) struct Tale {
    pub style: Style,
    margin: &'static str,
    chapter: usize,
    checks: usize,
    begun: Instant,
    /// What was refused, for the summary.
    pub refusals: Vec<String>,
}

impl Tale {
    pub fn begin() -> Self {
        Self {
            style: Style::detect(),
            margin: "   ",
            chapter: 0,
            checks: 0,
            begun: Instant::now(),
            refusals: Vec::new(),
        }
    }

    pub fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        output::line("");
        output::line(&self.style.bold(&format!("{}. {title}", self.chapter)));
    }

    pub fn say(&self, text: &str) {
        output::line(&format!("{}{text}", self.margin));
    }

    /// A line that shows what was done, as a program printed it.
    pub fn show(&self, text: &str) {
        output::line(&format!("{}{} {}", self.margin, self.style.dim("|"), cut(text, SHOWN)));
    }

    /// The first line of a table.
    pub fn head(&self, text: &str) {
        let text = self.style.bold(&cut(text, SHOWN));
        output::line(&format!("{}{} {text}", self.margin, self.style.dim("|")));
    }

    /// States something and stops the demo when it does not hold.
    pub fn check(&mut self, holds: bool, what: &str) -> Result<()> {
        if !holds {
            output::line(&format!("{}{} {what}", self.margin, self.style.red("✗")));
            bail!("not as it should be: {what}");
        }
        self.checks += 1;
        output::line(&format!("{}{} {what}", self.margin, self.style.green("✓")));
        Ok(())
    }

    pub const fn checks(&self) -> usize {
        self.checks
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// At most `width` characters, with an ellipsis where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Cut or filled with spaces to exactly `width` characters.
pub(super) fn cell(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let missing = width - text.chars().count().min(width);
    text + &" ".repeat(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_as_wide_as_they_say() {
        assert_eq!(cell("Žofie", 7), "Žofie  ");
        assert_eq!(cell("Nováková", 5), "Nová…");
        assert_eq!(cut("•••", 3), "•••");
    }
}
