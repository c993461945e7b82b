//! The service's log as it grows: its warnings and errors, for whoever watches.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::devstack::ServiceProcess;

/// Reads on from where it stopped.
pub(crate) struct ServiceLog {
    path: PathBuf,
    position: u64,
    errors: usize,
}

impl ServiceLog {
    /// From the beginning of this run.
    pub fn of(service: &ServiceProcess) -> Self {
        let (path, position) = service.log();
        Self { path: path.to_owned(), position, errors: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Errors read so far.
    pub const fn errors(&self) -> usize {
        self.errors
    }

    /// Warnings and errors since the last call, a line each. A line that is still being written waits for the next.
    pub fn new_troubles(&mut self) -> Vec<String> {
        let text = self.read_on().unwrap_or_default();
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1) else {
            return Vec::new();
        };
        self.position += u64::try_from(end).unwrap_or_default();
        let lines = text.get(..end).unwrap_or_default().split(|byte| *byte == b'\n');
        let mut troubles = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            if let Some((level, text)) = describe(line) {
                self.errors += usize::from(level != "WARN");
                troubles.push(text);
            }
        }
        troubles
    }

    fn read_on(&self) -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.position))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    }
}

/// Level and text of an event that is at least a warning. What is not an event (a panic, a word of the shell) counts as
/// an error.
fn describe(line: &[u8]) -> Option<(String, String)> {
    let Ok(Value::Object(mut event)) = serde_json::from_slice(line) else {
        return Some((String::from("ERROR"), String::from_utf8_lossy(line).into_owned()));
    };
    let mut take = |name: &str| event.remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let level = take("level").filter(|level| level == "WARN" || level == "ERROR")?;
    let mut text = take("message").unwrap_or_default();
    let _ = (take("timestamp"), take("target"));
    for (name, value) in &event {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text = format!("{text} {name}={value}");
    }
    Some((level, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_warnings_errors_and_what_is_no_event_are_troubles() {
        let text = |line: &str| describe(line.as_bytes()).map(|(level, text)| format!("{level} {text}"));
        assert_eq!(text(r#"{"level":"INFO","message":"service.listening"}"#), None);
        let warning = r#"{"timestamp":"t","level":"WARN","message":"door.cut","connections":2,"target":"x"}"#;
        assert_eq!(text(warning).as_deref(), Some("WARN door.cut connections=2"));
        assert_eq!(text("thread panicked").as_deref(), Some("ERROR thread panicked"));
    }
}
