//! Logs: JSON lines for the service, plain text for people, always on standard error.
//!
//! Libraries that would log requests, statements or parameters are kept silent here, whatever `STRONGROOM_LOG` asks for:
//! a filter is set in a hurry, on the day when it matters. Not here: the audit log, which is no log of this kind.
//! [`metrics`] are beside.

pub mod metrics;
mod span_fields;

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// They log requests and answers of Vault, with tokens and keys in them.
const SILENT: [&str; 2] = ["vaultrs", "rustify"];
/// Below warnings they log statements with parameters, frames with header values, and paths with ids.
const WARNINGS_ONLY: [&str; 7] =
    ["tokio_postgres", "h2", "hyper", "hyper_util", "reqwest", "tower_http", "axum"];

/// Whether logs are for a machine or for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// Starts logging to standard error. `STRONGROOM_LOG` sets the level (for example `info` or `strongroom=debug`); a bare
/// level is for this program, and libraries stay at warnings, since their messages are not ours to vouch for. A second
/// call does nothing.
pub fn init(format: LogFormat) {
    let chosen = std::env::var("STRONGROOM_LOG").unwrap_or_else(|_| match format {
        LogFormat::Json => String::from("info"),
        LogFormat::Text => String::from("warn"),
    });
    let ansi = std::io::stderr().is_terminal();
    // Fails only when a subscriber is installed already.
    let _ = subscriber(format, &chosen, ansi, std::io::stderr).try_init();
}

fn subscriber<W>(format: LogFormat, chosen: &str, ansi: bool, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter =
        EnvFilter::try_new(directives(chosen)).unwrap_or_else(|_| EnvFilter::new(directives("info")));
    // Its own clock prints RFC 3339 in UTC.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_span_list(false);
            lines.fmt_fields(span_fields::JsonObject).boxed()
        }
        LogFormat::Text => lines.with_ansi(ansi).with_target(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(filter_fn(may_log)).with(lines).into()
}

fn directives(chosen: &str) -> String {
    let own = if chosen.contains('=') { chosen.to_owned() } else { format!("strongroom={chosen}") };
    format!("warn,{own}")
}

/// Beside the filter and not in it: there, `vaultrs::client=trace` would win over `vaultrs=off`.
fn may_log(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split("::").next().unwrap_or_default();
    if SILENT.contains(&root) {
        return false;
    }
    !WARNINGS_ONLY.contains(&root) || *metadata.level() <= LevelFilter::WARN
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
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::dispatcher::with_default(&subscriber, work);
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
                tracing::info!(target: "tokio_postgres::connection", "secret-e");
                tracing::warn!(target: "hyper::server", "a warning");
                tracing::debug!(target: "strongroom::storage", "our own");
            });
        assert!(!text.contains("secret-"), "{text}");
        assert!(text.contains("a warning") && text.contains("our own"), "{text}");
    }

    #[test]
    fn json_lines_are_flat_and_the_filter_counts() {
        let text = logged(LogFormat::Json, "info", || {
            tracing::info!(storage.function = "read", "storage.failed");
            tracing::debug!("not wanted");
            tracing::info!(target: "some_library", "not ours to vouch for");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line.get("storage.function").unwrap(), "read");
        assert_eq!(line.get("message").unwrap(), "storage.failed");
    }

    /// What a request is known by is on its lines, as it was given.
    #[test]
    fn json_lines_have_their_spans_fields() {
        let text = logged(LogFormat::Json, "info", || {
            let span = tracing::error_span!("request", id = %"a-\"b\"\n", trace = Some("c"), parent = None::<&str>, late = tracing::field::Empty);
            let _entered = span.enter();
            tracing::info!("first");
            span.record("late", 7);
            tracing::info!("second");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["span"], serde_json::json!({"name": "request", "id": "a-\"b\"\n", "trace": "c"}));
        assert_eq!(lines[1]["span"]["late"], 7);
        assert_eq!(lines[1]["span"]["id"], "a-\"b\"\n");
    }

    #[test]
    fn a_filter_that_is_none_counts_as_info() {
        let text = logged(LogFormat::Text, "strongroom=loud", || {
            tracing::info!("said");
            tracing::debug!("not said");
        });
        assert!(text.contains("said") && !text.contains("not said"), "{text}");
    }
}
