//! The request that is being worked on, on every line that is logged meanwhile.
//!
//! Kept beside the future and looked at when a line is written: every request has it, and few have a line. A span of `tracing`
//! would be written and thrown away for each (figures: benches/README.md).

use std::fmt;

use serde::Serialize;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

tokio::task_local! {
    static REQUEST: RequestLabels;
}

/// What a request is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestLabels {
    pub id: String,
    /// Of a caller that takes part in a trace (W3C Trace Context).
    #[serde(flatten)]
    pub trace: Option<TraceLabels>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceLabels {
    pub trace: String,
    /// The caller's span.
    pub parent: String,
}

/// Lines that `work` logs, in its own task, say that they are of this request.
pub fn on_lines<W: Future>(labels: RequestLabels, work: W) -> impl Future<Output = W::Output> {
    REQUEST.scope(labels, work)
}

/// Lines of another format, and the request at their end.
pub(super) struct WithRequest<F> {
    pub lines: F,
    pub format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for WithRequest<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Ok(labels) = REQUEST.try_with(RequestLabels::clone) else {
            return self.lines.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        match (self.format, line.strip_suffix("}\n")) {
            (LogFormat::Json, Some(open)) => {
                let labels = serde_json::to_string(&labels).map_err(|_| fmt::Error)?;
                writeln!(writer, "{open},\"request\":{labels}}}")
            }
            _ => writeln!(writer, "{} request={}", line.trim_end_matches('\n'), labels.id.escape_debug()),
        }
    }
}
