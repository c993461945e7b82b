//! Puts the log in its order, signs how far it has come, and writes it as files: one instance of all does, the others wait
//! for its lead.
//!
//! Nothing here is on the way of a request. A round numbers what was committed, in one small transaction or a few; signs the
//! committed head, and nothing else; and hands on what is signed. Killed anywhere, the next round, here or in another
//! instance, finds what was committed and goes on from there: numbers are given once (`storage::sequence`), a head that
//! was committed and not signed is signed later, alone or within a larger one, and files are written once
//! (`audit::export`).
//!
//! Before a new lead signs anything, what the database, the files and the newest checkpoint say of the log is compared
//! (`compare`).

mod compare;
mod exporter;
mod signer;

use std::time::Duration;

use std::sync::Arc;

use tokio::time::Instant;

use self::exporter::Exporter;
use self::signer::Signer;
use crate::audit::checkpoint::{InvalidSignature, KeyName, SignedCheckpoint};
use crate::audit::export::ExportError;
use crate::config::AuditConfig;
use crate::keys::{Transit, TransitError};
use crate::service::{Alarm, Service};
use crate::storage::{Lead, SequenceStore, StorageError};
use crate::telemetry::metrics;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// After a round that failed. What the stored log lacks is looked for in all of it.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// A log that did not grow signs its head all the same.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// So long rounds may fail, or another instance's lead publish nothing after its heartbeat, before it is an alarm.
const PATIENCE: Duration = Duration::from_secs(5);
/// Entries of one transaction, and transactions of one round.
const MOST_ENTRIES: usize = 8_192;
const MOST_TRANSACTIONS: usize = 8;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("vault did not sign: {0}")]
    Vault(#[from] TransitError),
    #[error("vault's signature: {0}")]
    Signature(#[from] InvalidSignature),
    #[error("the head of the log cannot be a checkpoint")]
    Head,
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("what is stored of the log is not what was signed, from entry {from} on")]
    Changed { from: u64 },
    #[error("the log has {stored} entries, and a checkpoint was published of {published}")]
    Shrunk { stored: u64, published: u64 },
}

impl Fault {
    /// What it is an alarm of, at once. The others may pass by themselves.
    const fn alarm(&self) -> Option<Alarm> {
        match self {
            Self::Changed { .. } => Some(Alarm::LogChanged),
            Self::Shrunk { .. } => Some(Alarm::LogShrunk),
            Self::Export(_) => Some(Alarm::LogNotExported),
            _ => None,
        }
    }
}

/// One instance's part in it.
pub struct Sequencer {
    store: SequenceStore,
    service: Arc<Service>,
    signer: Signer,
    exporter: Option<Exporter>,
    lead: Option<Lead>,
    /// When the lead last signed, by this instance's steady clock.
    signed_at: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Sequencer {
    /// `None` where the configuration's origin is no name for a key.
    pub fn new(service: Arc<Service>, transit: Transit, config: &AuditConfig) -> Option<Self> {
        let store = service.sequence().clone();
        let signer = Signer::new(transit, KeyName::parse(&config.origin)?);
        let exporter = config.export.as_ref().map(Exporter::new);
        Some(Self { store, service, signer, exporter, lead: None, signed_at: None, failing_since: None })
    }

    /// Works until it is dropped.
    pub async fn keep(mut self) {
        for alarm in Alarm::ALL {
            self.service.clear(alarm).await;
        }
        loop {
            let ended = self.round().await;
            self.report();
            let pause = if ended.is_ok() { PAUSE } else { PAUSE_AFTER_FAILURE };
            self.settle(ended).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// One round: what is new gets numbers, the head a signature, and the files what is signed.
    async fn round(&mut self) -> Result<(), Fault> {
        if self.lead.is_none() && !self.take_the_lead().await? {
            return self.watch_the_leader().await;
        }
        self.number().await?;
        let Some(lead) = &mut self.lead else { return Ok(()) };
        let head = &lead.head().edge;
        let published = parse(&lead.head().checkpoint)?;
        let is_behind = published.as_ref().is_none_or(|signed| signed.checkpoint().size() < head.size());
        let is_due = is_behind || self.signed_at.is_none_or(|at| at.elapsed() >= HEARTBEAT);
        let signed = match published.filter(|_| !is_due) {
            Some(signed) => signed,
            // Before the service's first entry there is nothing to sign.
            None if head.size() == 0 => return Ok(()),
            None => {
                // The head is committed; whatever becomes of this signature, no other head of its size is ever signed.
                let signed = self.signer.sign(head.size(), head.root()).await?;
                lead.publish(signed.to_string(), self.service.clock().now()).await?;
                self.signed_at = Some(Instant::now());
                signed
            }
        };
        self.service.clear(Alarm::LogNotPublished).await;
        self.export(&signed).await
    }

    /// `false`: another instance has it.
    async fn take_the_lead(&mut self) -> Result<bool, Fault> {
        let Some(lead) = self.store.lead().await? else { return Ok(false) };
        let head = lead.head();
        let published = parse(&head.checkpoint)?;
        let files = match &mut self.exporter {
            Some(exporter) => Some(exporter.open().await?),
            None => None,
        };
        compare::compare(&self.store, &mut self.signer, &head.edge, published.as_ref(), files).await?;
        tracing::info!(epoch = head.epoch, entries = head.edge.size(), "log.leading");
        (self.lead, self.signed_at) = (Some(lead), None);
        Ok(true)
    }

    async fn number(&mut self) -> Result<(), Fault> {
        let Some(lead) = &mut self.lead else { return Ok(()) };
        for _ in 0..MOST_TRANSACTIONS {
            if lead.take(MOST_ENTRIES).await?.is_all {
                break;
            }
        }
        Ok(())
    }

    async fn export(&mut self, signed: &SignedCheckpoint) -> Result<(), Fault> {
        let Some(exporter) = self.exporter.as_mut().filter(|exporter| exporter.is_due(signed)) else {
            return Ok(());
        };
        let keys = self.signer.keys();
        match exporter.write(&self.store, signed, keys).await {
            // Signing goes on without files: they can be written later.
            Err(Fault::Export(error)) => {
                tracing::warn!(error = %error, "log.not_exported");
                self.service.raise(Alarm::LogNotExported).await;
                Ok(())
            }
            Ok(()) => {
                self.service.clear(Alarm::LogNotExported).await;
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// Whether the instance that has the lead does what it should.
    async fn watch_the_leader(&mut self) -> Result<(), Fault> {
        if let Some(exporter) = &mut self.exporter {
            exporter.close();
        }
        let head = self.store.head().await?;
        let age_us = self.service.clock().now().as_micros().saturating_sub(head.published_at.as_micros());
        let age = Duration::from_micros(u64::try_from(age_us).unwrap_or(0));
        if head.edge.size() > 0 && age > HEARTBEAT + PATIENCE {
            self.service.raise(Alarm::LogNotPublished).await;
        } else {
            self.service.clear(Alarm::LogNotPublished).await;
        }
        metrics::audit_log(false, head.edge.size(), head.published_at.as_seconds(), 0);
        Ok(())
    }

    fn report(&self) {
        let Some(lead) = &self.lead else { return };
        let head = lead.head();
        let exported = self.exporter.as_ref().map_or(0, Exporter::entries);
        metrics::audit_log(true, head.edge.size(), head.published_at.as_seconds(), exported);
    }

    /// Draws the consequences of a round. The lead goes with every fault of the database, since its session may be broken,
    /// and with every doubt about the log, which is then compared anew.
    async fn settle(&mut self, ended: Result<(), Fault>) {
        let Err(fault) = ended else {
            if self.lead.is_some() {
                self.service.clear(Alarm::LogChanged).await;
                self.service.clear(Alarm::LogShrunk).await;
            }
            self.failing_since = None;
            return;
        };
        if !matches!(fault, Fault::Vault(_)) {
            self.lead = None;
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        tracing::warn!(error = %fault, "log.round_failed");
        match fault.alarm() {
            Some(alarm) => self.service.raise(alarm).await,
            None if since.elapsed() < PATIENCE => return,
            None => {}
        }
        self.service.raise(Alarm::LogNotPublished).await;
    }
}

/// The newest checkpoint as the database keeps it; none before the first.
fn parse(note: &str) -> Result<Option<SignedCheckpoint>, Fault> {
    if note.is_empty() {
        return Ok(None);
    }
    SignedCheckpoint::parse(note.as_bytes()).map(Some).map_err(|_| Fault::Changed { from: 0 })
}
