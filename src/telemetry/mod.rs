//! Logs: JSON lines for the service, plain text for people. Nothing a person stored is ever in one.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::UtcTime;

/// Whether logs are for a machine or for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// Starts logging to standard error. `STRONGROOM_LOG` sets the level (for example `info` or `strongroom=debug`);
/// libraries stay at warnings, since their messages are not ours to vouch for. A second call does nothing.
pub fn init(format: LogFormat) {
    let chosen = std::env::var("STRONGROOM_LOG").unwrap_or_else(|_| match format {
        LogFormat::Json => String::from("info"),
        LogFormat::Text => String::from("warn"),
    });
    let filter = EnvFilter::try_new(directives(&chosen))
        .unwrap_or_else(|_| EnvFilter::new(directives("info")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(UtcTime::rfc_3339());
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
}

/// A bare level is for this program; what libraries log below a warning can hold requests, headers and parameters.
fn directives(chosen: &str) -> String {
    let own = if chosen.contains('=') { chosen.to_owned() } else { format!("strongroom={chosen}") };
    format!("warn,{own},hyper=warn,h2=warn,reqwest=warn,rustls=error,tokio_postgres=off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stay_quiet_whatever_is_chosen() {
        for chosen in ["trace", "strongroom=debug", "tokio_postgres=trace", "debug"] {
            let text = directives(chosen);
            assert!(text.ends_with("tokio_postgres=off"), "{text}");
            assert!(EnvFilter::try_new(text).is_ok());
        }
    }
}
