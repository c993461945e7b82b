//! Reading the metrics: for operators. Nothing in them is about a record, so only refusals are on record.

use std::time::Duration;

use super::{Error, Service};
use crate::audit::{Act, EntryDraft, Outcome};
use crate::domain::context::OperationContext;
use crate::telemetry::metrics;

impl Service {
    /// Brings the gauges up to date for a caller who may read them.
    pub async fn measure(&self, context: &OperationContext) -> Result<(), Error> {
        self.gate.pass_without_keys()?;
        let decision = self.policy.load().permit_metrics(context);
        if let Err(denial) = decision {
            let outcome = Outcome::refused(denial.code.as_str());
            let draft =
                EntryDraft::of_request(context, Act::AccessDenied, outcome).policies(&denial.policies);
            self.put_on_record(draft).await?;
            return Err(Error::Denied(denial));
        }
        self.records.report();
        self.keys.report();
        self.audit_reader.report();
        self.sequence.report();
        let status = self.audit.status();
        let failing = status
            .failing_since
            .map_or(0, |since| self.clock.now().as_micros().saturating_sub(since.as_micros()));
        metrics::audit_queue(
            status.waiting_entries,
            Duration::from_micros(u64::try_from(failing).unwrap_or(0)),
        );
        Ok(())
    }
}
