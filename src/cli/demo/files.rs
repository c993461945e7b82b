//! The audit log as files, verified as somebody would who has nothing else but the log's public keys.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::audit::{public_keys, verdict};
use super::super::local::Local;
use super::tale::Tale;
use crate::audit::checkpoint::Trust;
use crate::audit::verify::{Report, Verification};
use crate::config::AuditExportConfig;
use crate::domain::clock::Timestamp;

/// The site writes once a second.
const LIMIT: Duration = Duration::from_secs(10);

/// At least so many entries must be there.
pub(super) async fn verified(tale: &mut Tale, local: &Local, entries: usize) -> Result<()> {
    let config = &local.site.config;
    let export = config.audit.export.as_ref();
    let log =
        export.and_then(AuditExportConfig::directory).context("the site does not write its log as files")?;
    let keys = public_keys(config).await?;
    tale.say(&format!("{}, signed by Vault; the keys are", log.display()));
    keys.lines().for_each(|line| tale.show(line));
    let trust = Trust::parse(keys.as_bytes())?;
    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let report = loop {
        tick.tick().await;
        let verification = Verification {
            log,
            trust: &trust,
            witnesses: 0,
            from: None,
            kept_from: Timestamp::from_micros(0),
            threads: 2,
        };
        let report = verification.run(&mut |_, _| {}).ok().filter(|report| covers(report, entries));
        if report.is_some() || begun.elapsed() > LIMIT {
            break report;
        }
    };
    let report = report.context("not as it should be: the log is not in the files")?;
    tale.show(&verdict(&report));
    tale.check(
        report.holds(),
        "every entry is in the signed tree, nothing is missing, in other words or out of order",
    )
}

fn covers(report: &Report, entries: usize) -> bool {
    usize::try_from(report.entries).is_ok_and(|there| there >= entries)
}
