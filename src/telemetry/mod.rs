//! Logs: JSON lines for the service, plain text for people, always on standard error.
//!
//! Libraries that would log requests, statements or parameters are kept silent here, whatever `STRONGROOM_LOG` asks for:
//! a filter is set in a hurry, on the day when it matters. Not here: the audit log, which is no log of this kind.
//! [`metrics`] are beside.

pub mod metrics;
pub mod request;

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use request::WithRequest;

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

/// From here on a panic of this process is a line of the log that says where it was, and not what: its message may quote a value.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic.location().map_or(("?", 0), |at| (at.file(), at.line()));
        tracing::error!(file, line, "panicked");
    }));
}

fn subscriber<W>(format: LogFormat, chosen: &str, ansi: bool, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter =
        EnvFilter::try_new(directives(chosen)).unwrap_or_else(|_| EnvFilter::new(directives("info")));
    // Its own clock prints RFC 3339 in UTC.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::format().json().flatten_event(true);
            layer.fmt_fields(JsonFields::new()).event_format(WithRequest { lines, format }).boxed()
        }
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::format().with_target(false).with_ansi(ansi);
            layer.with_ansi(ansi).event_format(WithRequest { lines, format }).boxed()
        }
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

    use super::request::{RequestLabels, TraceLabels};
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

    fn work_on_a_request() {
        let trace = Some(TraceLabels { trace: "c".into(), parent: "d".into() });
        let of = |id: &str, trace| RequestLabels { id: id.into(), trace };
        let both = async {
            request::on_lines(of("a-\"b\"\n", trace), async { tracing::info!("first") }).await;
            request::on_lines(of("2", None), async { tracing::info!(n = 7, "second") }).await;
            tracing::info!("outside");
        };
        futures_util::FutureExt::now_or_never(both).unwrap();
    }

    /// What a request is known by is on its lines, as it was given, and on no others.
    #[test]
    fn lines_say_of_which_request_they_are() {
        let text = logged(LogFormat::Json, "info", work_on_a_request);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["request"], serde_json::json!({"id": "a-\"b\"\n", "trace": "c", "parent": "d"}));
        assert_eq!((&lines[1]["request"], &lines[1]["n"]), (&serde_json::json!({"id": "2"}), &7.into()));
        assert_eq!(lines[2].get("request"), None);

        let text = logged(LogFormat::Text, "info", work_on_a_request);
        let ends: Vec<&str> = text.lines().map(|line| line.split_once("INFO ").unwrap().1).collect();
        assert_eq!(ends[ends.len() - 2..], ["second n=7 request=2", "outside"]);
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
