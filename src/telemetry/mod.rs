//! Logs: one subscriber for the process, JSON for machines or text for people, always on standard error.
//!
//! Libraries that would log requests, statements or parameters are kept silent here, whatever the filter asks for: a
//! filter is set in a hurry, on the day when it matters. Not here: the audit log, which is no log of this kind, and
//! metrics.

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged when nothing else is said.
pub const DEFAULT_FILTER: &str = "info";

/// Log requests and answers of Vault with tokens and keys in them.
const SILENT: [&str; 2] = ["vaultrs", "rustify"];
/// Below `info` they log statements with parameters, frames with header values, and paths with ids.
const AT_MOST_INFO: [&str; 7] =
    ["tokio_postgres", "h2", "hyper", "hyper_util", "reqwest", "tower_http", "axum"];

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, fields flattened.
    Json,
    /// For a terminal.
    Text,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter is not valid; it reads like \"info,strongroom=debug\"")]
    Filter,
    #[error("a log subscriber is installed already")]
    Installed,
}

/// Installs the process's subscriber; `filter` is in `tracing_subscriber::EnvFilter`'s form. Once per process.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    subscriber(format, filter, std::io::stderr)?.try_init().map_err(|_| TelemetryError::Installed)
}

fn subscriber<W>(format: LogFormat, filter: &str, writer: W) -> Result<impl SubscriberInitExt, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(filter).map_err(|_| TelemetryError::Filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    Ok(tracing_subscriber::registry().with(filter).with(filter_fn(may_log)).with(lines))
}

fn may_log(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split("::").next().unwrap_or_default();
    if SILENT.contains(&root) {
        return false;
    }
    !AT_MOST_INFO.contains(&root) || *metadata.level() <= LevelFilter::INFO
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::dispatcher::with_default(&subscriber.into(), work);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn libraries_that_would_tell_secrets_stay_silent_whatever_the_filter() {
        let text =
            logged(LogFormat::Text, "trace,vaultrs=trace,vaultrs::client=trace,tokio_postgres=trace", || {
                tracing::error!(target: "vaultrs::client", "secret-a");
                tracing::error!(target: "rustify", "secret-b");
                tracing::debug!(target: "tokio_postgres::query", "secret-c");
                tracing::trace!(target: "h2::codec", "secret-d");
                tracing::info!(target: "tokio_postgres::connection", "a notice");
                tracing::debug!(target: "strongroom::storage", "our own");
            });
        assert!(!text.contains("secret-"), "{text}");
        assert!(text.contains("a notice") && text.contains("our own"), "{text}");
    }

    #[test]
    fn json_lines_are_flat_and_the_filter_counts() {
        let text = logged(LogFormat::Json, DEFAULT_FILTER, || {
            tracing::info!(storage.function = "read", "storage.failed");
            tracing::debug!("not wanted");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line.get("storage.function").unwrap(), "read");
        assert_eq!(line.get("message").unwrap(), "storage.failed");
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        assert!(matches!(
            subscriber(LogFormat::Text, "strongroom=loud", std::io::stderr),
            Err(TelemetryError::Filter)
        ));
    }
}
