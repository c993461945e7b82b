//! Puts the log in its order, signs how far it has come, has that witnessed, and writes it as files: one instance of all
//! does, the others wait for its lead.
//!
//! Nothing here is on the way of a request, and it has a thread of its own (`cli`), so that neither waits for the other's turn: on
//! the threads of requests a busy service left the log behind by a second each second. A round numbers what was committed, in one small transaction or a few; writes as
//! files what is signed; and signs the committed head, and nothing else. Killed anywhere, the next round, here or in
//! another instance, finds what was committed and goes on from there: numbers are given once (`storage::sequence`), a head
//! that was committed and not signed is signed later, alone or within a larger one, and files are written once
//! (`audit::export`).
//!
//! Before a new lead signs anything, what the database, the files, the newest checkpoint and the witnesses say of the log is
//! compared (`compare`); while it leads, what is stored is read again (`review`). Whatever does not fit stops files and
//! signatures, not reads and writes.

mod beside;
mod compare;
mod exporter;
mod fresh;
mod outgoing;
mod review;
mod signer;
mod watch;
mod witnesses;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::beside::{beside, number_beside, step};
use self::exporter::Exporter;
use self::fresh::Fresh;
use self::review::Review;
use self::signer::Signer;
use self::watch::Watch;
use self::witnesses::Witnesses;
use crate::audit::checkpoint::{Distrust, InvalidSignature, KeyName, SignedCheckpoint, Trust, TrustFault};
use crate::audit::export::ExportError;
use crate::config::{AuditConfig, AuditWitnessConfig};
use crate::domain::clock::Timestamp;
use crate::keys::{Transit, TransitError};
use crate::service::{Alarm, Service};
use crate::storage::{Lead, SequenceStore, StorageError, StoredHead};
use crate::telemetry::metrics;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two steps of numbering in such a pause, while there is much to number: all of half a second's entries at once would
/// take a processor from requests for as long as that takes.
const STEP: Duration = Duration::from_millis(100);
/// So many entries of one step are much.
const MANY: usize = 128;
/// After a round that failed: a new lead compares a long stretch of the log.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// A log that did not grow signs its head all the same.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// So long rounds may fail, or another instance's lead publish nothing after its heartbeat, before it is an alarm.
const PATIENCE: Duration = Duration::from_secs(5);
/// A round numbers for no longer than this before it signs, however much there is to number.
const LONGEST_NUMBERING: Duration = Duration::from_millis(500);
/// What only the instance that leads finds out.
const OF_THE_LEAD: [Alarm; 8] = [
    Alarm::LogNotExported,
    Alarm::LogChanged,
    Alarm::LogShrunk,
    Alarm::WitnessAbsent,
    Alarm::WitnessForgot,
    Alarm::EntriesChanged,
    Alarm::RecordsChanged,
    Alarm::LogNotReviewed,
];
/// Leaves of one query.
const LEAVES: u64 = 4_096;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("vault did not sign: {0}")]
    Vault(#[from] TransitError),
    #[error("vault's signature: {0}")]
    Signature(#[from] InvalidSignature),
    #[error("the signed checkpoint does not fit the witnesses' policy file: {0}")]
    Policy(Distrust),
    #[error("fewer witnesses than the quorum have cosigned")]
    Unwitnessed,
    #[error("the head of the log cannot be a checkpoint")]
    Head,
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("what is stored of the log is not what was signed, from entry {from} on")]
    Changed { from: u64 },
    #[error("the database goes on after entry {from}: the log was pruned meanwhile")]
    Pruned { from: u64 },
    #[error("the log has {stored} entries, and a checkpoint was published of {published}")]
    Shrunk { stored: u64, published: u64 },
}

impl Fault {
    /// What it is an alarm of, besides that nothing is published.
    const fn alarm(&self) -> Option<Alarm> {
        match self {
            Self::Changed { .. } => Some(Alarm::LogChanged),
            Self::Shrunk { .. } => Some(Alarm::LogShrunk),
            Self::Export(fault) if fault.is_damage() => Some(Alarm::LogChanged),
            Self::Export(_) => Some(Alarm::LogNotExported),
            _ => None,
        }
    }

    /// It will not pass by itself.
    const fn is_doubt(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Shrunk { .. })
            || matches!(self, Self::Export(fault) if fault.is_damage())
    }

    /// It says nothing about the database's session.
    const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Vault(_) | Self::Unwitnessed)
    }
}

/// Why the log cannot be kept as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum SequencerSetting {
    #[error("audit.origin is no name for a key")]
    Origin,
    #[error("audit.witness.policy_file cannot be read: {0}")]
    PolicyFile(std::io::ErrorKind),
    #[error("audit.witness.policy_file: {0}")]
    Policy(#[from] TrustFault),
    #[error("audit.witness.policy_file: every witness needs its https address after its key")]
    Address,
}

/// One instance's part in it.
pub struct Sequencer {
    store: SequenceStore,
    service: Arc<Service>,
    signer: Signer,
    witnesses: Option<Witnesses>,
    exporter: Option<Exporter>,
    /// For the files.
    fresh: Fresh,
    review: Review,
    watch: Watch,
    lead: Option<Lead>,
    /// Entries of the last step.
    numbered: usize,
    /// A step ended before it had numbered everything.
    is_behind: bool,
    /// When the lead last signed, by this instance's steady clock.
    signed_at: Option<Instant>,
    failing_since: Option<Instant>,
    witness_missed_since: Option<Instant>,
    unreviewed_since: Option<Instant>,
    published_at: Option<Timestamp>,
    /// The newest checkpoint that this instance signed, found or saw: a database that was set back since has forgotten it.
    newest: Option<SignedCheckpoint>,
    /// After so long without a checkpoint nothing is served; none: never.
    limit: Option<Duration>,
}

impl Sequencer {
    /// Reads the witnesses' policy file.
    pub fn new(
        service: Arc<Service>,
        transit: Transit,
        config: &AuditConfig,
    ) -> Result<Self, SequencerSetting> {
        let origin = KeyName::parse(&config.origin).ok_or(SequencerSetting::Origin)?;
        let limit = Duration::from_secs(config.unpublished_limit_seconds);
        Ok(Self {
            store: service.sequence().clone(),
            service,
            signer: Signer::new(transit, origin),
            witnesses: config.witness.as_ref().map(read_witnesses).transpose()?,
            exporter: config.export.as_ref().map(Exporter::new),
            fresh: Fresh::default(),
            review: Review::new(config.review),
            watch: Watch::new(config.export.is_some()),
            lead: None,
            numbered: 0,
            is_behind: false,
            signed_at: None,
            failing_since: None,
            witness_missed_since: None,
            unreviewed_since: None,
            published_at: None,
            newest: None,
            limit: Some(limit).filter(|limit| !limit.is_zero()),
        })
    }

    /// Works until it is dropped.
    pub async fn keep(mut self) {
        for alarm in Alarm::ALL {
            self.service.clear(alarm).await;
        }
        loop {
            let ended = self.round().await;
            let pause = match ended {
                Err(_) => PAUSE_AFTER_FAILURE,
                // Whoever has lost the lead is not behind.
                Ok(()) if self.is_behind && self.lead.is_some() => Duration::ZERO,
                Ok(()) => PAUSE,
            };
            let over = Instant::now() + pause;
            self.report();
            self.settle(ended).await;
            if let Err(fault) = self.number_until(over).await {
                self.settle(Err(fault)).await;
            }
            tokio::time::sleep_until(over).await;
        }
    }

    /// Goes on numbering for as long as there is much to number.
    async fn number_until(&mut self, over: Instant) -> Result<(), Fault> {
        while self.numbered >= MANY && Instant::now() + STEP < over {
            tokio::time::sleep(STEP).await;
            self.number().await?;
        }
        Ok(())
    }

    /// One round: what is new gets numbers, the files what is signed, and the head a signature.
    async fn round(&mut self) -> Result<(), Fault> {
        if self.lead.is_none() && !self.take_the_lead().await? {
            return self.watch_the_leader().await;
        }
        self.number().await?;
        if self.review.is_in_doubt() {
            self.review().await?;
        }
        let Some(lead) = &self.lead else { return Ok(()) };
        let published = parse(&lead.head().checkpoint)?;
        if let Some(signed) = &published {
            // First: where the stored log is not what was signed, nothing more is signed.
            self.export(signed).await?;
        }
        let published = self.publish(published.map_or(0, |signed| signed.checkpoint().size())).await;
        // What is stored is read again, whether it can be signed or not.
        if published.as_ref().err().is_none_or(Fault::is_elsewhere) {
            self.review().await?;
        }
        published
    }

    /// That what is stored cannot be read again holds nothing up but this.
    async fn review(&mut self) -> Result<(), Fault> {
        let Some(lead) = &self.lead else { return Ok(()) };
        self.watch.know(self.signer.keys());
        match self.review.go_on(&self.store, &lead.head().edge, &mut self.watch, &self.service).await {
            Err(Fault::Storage(error)) => {
                tracing::warn!(error = %error, "log.not_reviewed");
                let since = *self.unreviewed_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    self.service.raise(Alarm::LogNotReviewed).await;
                }
                Ok(())
            }
            Err(doubt) => Err(doubt),
            Ok(()) => {
                self.unreviewed_since = None;
                Ok(())
            }
        }
    }

    /// `false`: another instance has it.
    async fn take_the_lead(&mut self) -> Result<bool, Fault> {
        let Some(mut lead) = self.store.lead().await? else { return Ok(false) };
        let head = lead.head().clone();
        let published = parse(&head.checkpoint)?;
        let mut marks: Vec<SignedCheckpoint> = published.iter().chain(&self.newest).cloned().collect();
        let files = match &mut self.exporter {
            Some(exporter) => {
                let files = exporter.open().await?;
                marks.extend(files.checkpoint);
                Some(files.edge)
            }
            None => None,
        };
        if let Some(witnesses) = &mut self.witnesses {
            // What the log did not sign is no word of this log, and what a witness does not answer it says later.
            marks.extend(witnesses.newest(self.signer.origin()).await.into_iter().flatten());
        }
        let known = published.as_ref().map_or(0, |signed| signed.checkpoint().size());
        let comparing = compare::compare(&self.store, &mut self.signer, &head.edge, &marks, files, known);
        let seen = beside(&mut lead, comparing).await?;
        if let (Some(witnesses), Some(published)) = (&mut self.witnesses, &published) {
            witnesses.resume(published, &seen);
        }
        tracing::info!(epoch = head.epoch, entries = head.edge.size(), "log.leading");
        if let Some(published) = published.filter(|published| self.is_newest(published)) {
            self.newest = Some(published);
        }
        self.service.committed().want(true);
        lead.feed(self.service.committed());
        (self.lead, self.signed_at) = (Some(lead), None);
        self.fresh.clear();
        self.review.begin();
        self.watch.begin();
        self.watch.know(self.signer.keys());
        Ok(true)
    }

    async fn number(&mut self) -> Result<(), Fault> {
        (self.numbered, self.is_behind) = (0, false);
        let Some(lead) = &mut self.lead else { return Ok(()) };
        let fresh = self.exporter.as_ref().map(|_| &self.fresh);
        let began = Instant::now();
        loop {
            let done = step(lead, &self.service, fresh).await?;
            self.numbered += done.entries;
            self.is_behind = !done.is_all;
            if done.is_all || began.elapsed() >= LONGEST_NUMBERING {
                return Ok(());
            }
        }
    }

    /// Signs the head where it grew beyond `published`, or when it is time; has it witnessed, and keeps it.
    async fn publish(&mut self, published: u64) -> Result<(), Fault> {
        let Some(lead) = &mut self.lead else { return Ok(()) };
        let edge = &lead.head().edge;
        let is_due = self.signed_at.is_none_or(|at| at.elapsed() >= HEARTBEAT);
        // Before the service's first entry there is nothing to sign.
        if edge.size() == 0 || (edge.size() == published && !is_due) {
            return Ok(());
        }
        // The head is committed: whatever becomes of this signature, no other head of its size is ever signed.
        let mut signed = self.signer.sign(edge.size(), edge.root()).await?;
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.policy().endorse(&signed).map_err(Fault::Policy)?;
            let heard = witnesses.cosign(&self.store, &mut signed, edge).await?;
            let missed = &mut self.witness_missed_since;
            let since = heard.is_one_absent.then(|| *missed.get_or_insert_with(Instant::now));
            self.witness_missed_since = since;
            let is_missed = since.is_some_and(|since| since.elapsed() >= PATIENCE);
            self.service.alarm_if(is_missed, Alarm::WitnessAbsent).await;
            self.service.alarm_if(heard.has_one_forgotten, Alarm::WitnessForgot).await;
            if !heard.is_quorum {
                return Err(Fault::Unwitnessed);
            }
        }
        lead.publish(signed.to_string(), self.service.clock().now()).await?;
        self.newest = Some(signed);
        self.signed_at = Some(Instant::now());
        Ok(())
    }

    async fn export(&mut self, signed: &SignedCheckpoint) -> Result<(), Fault> {
        let exporter = self.exporter.as_mut().filter(|exporter| exporter.has_work(signed));
        let (Some(exporter), Some(lead)) = (exporter, self.lead.as_mut()) else { return Ok(()) };
        let mut keys = self.signer.key_files();
        keys.extend(self.witnesses.iter().flat_map(Witnesses::key_files));
        self.watch.know(self.signer.keys());
        let writing = exporter.write(&self.store, &self.fresh, signed, keys, &mut self.watch);
        match number_beside(lead, &self.service, &self.fresh, writing).await {
            // Signing goes on without files: they can be written later.
            Err(Fault::Export(error)) if !error.is_damage() => {
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
        self.service.committed().want(false);
        for alarm in OF_THE_LEAD {
            self.service.clear(alarm).await;
        }
        let head = self.store.head().await?;
        self.remember(&head.checkpoint).await;
        self.published_at = published_at(&head);
        self.service.alarm_if(self.age() > HEARTBEAT + PATIENCE, Alarm::LogNotPublished).await;
        metrics::audit_log(false, head.edge.size(), head.published_at.as_seconds(), 0);
        Ok(())
    }

    /// Whoever only watches knows what was signed as well, and can tell when it leads after a database that was set back. What
    /// none of the log's keys signed is not remembered: whoever leads next finds it.
    async fn remember(&mut self, note: &str) {
        let Ok(Some(signed)) = parse(note) else { return };
        if self.is_newest(&signed) && matches!(self.signer.believes(&signed).await, Ok(Ok(()))) {
            self.newest = Some(signed);
        }
    }

    /// Whether it is larger than every checkpoint that this instance signed or saw.
    fn is_newest(&self, signed: &SignedCheckpoint) -> bool {
        let known = self.newest.as_ref().map(|known| known.checkpoint().size());
        known.is_none_or(|known| signed.checkpoint().size() > known)
    }

    fn report(&mut self) {
        let Some(lead) = &self.lead else { return };
        let head = lead.head();
        self.published_at = published_at(head);
        let exported = self.exporter.as_ref().map_or(0, Exporter::entries);
        metrics::audit_log(true, head.edge.size(), head.published_at.as_seconds(), exported);
    }

    /// How long ago the newest checkpoint was published, as far as this instance knows.
    fn age(&self) -> Duration {
        let Some(published_at) = self.published_at else { return Duration::ZERO };
        let age_us = self.service.clock().now().as_micros().saturating_sub(published_at.as_micros());
        Duration::from_micros(u64::try_from(age_us).unwrap_or(0))
    }

    /// Whether nothing was published for longer than `limit`; even a log that does not grow is, once a heartbeat.
    fn is_late(&self, limit: Duration, has_failed: bool) -> bool {
        (has_failed && self.failing_since.is_some_and(|since| since.elapsed() > limit))
            || self.age() > HEARTBEAT + PATIENCE + limit
    }

    /// Draws the consequences of a round. The lead goes with every fault of the database, since its session may be broken,
    /// and with every doubt about the log, which is then compared anew.
    async fn settle(&mut self, ended: Result<(), Fault>) {
        self.service.hold(self.limit.is_some_and(|limit| self.is_late(limit, ended.is_err())));
        let Err(fault) = ended else {
            if self.lead.is_some() {
                for alarm in [Alarm::LogNotPublished, Alarm::LogChanged, Alarm::LogShrunk] {
                    self.service.clear(alarm).await;
                }
            }
            self.failing_since = None;
            return;
        };
        if !fault.is_elsewhere() {
            self.lead = None;
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        tracing::warn!(error = %fault, "log.round_failed");
        if fault.is_doubt() || since.elapsed() >= PATIENCE {
            if let Some(alarm) = fault.alarm() {
                self.service.raise(alarm).await;
            }
            self.service.raise(Alarm::LogNotPublished).await;
        }
    }
}

/// How many witnesses the policy file has, if it can be used. Reads it.
pub fn count_witnesses(config: &AuditWitnessConfig) -> Result<usize, SequencerSetting> {
    read_witnesses(config).map(|witnesses| witnesses.policy().witnesses().len())
}

fn read_witnesses(config: &AuditWitnessConfig) -> Result<Witnesses, SequencerSetting> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| SequencerSetting::PolicyFile(error.kind()));
    let policy = Trust::parse(&read(&config.policy_file)?)?;
    Witnesses::new(policy, config).ok_or(SequencerSetting::Address)
}

/// When the newest checkpoint was published, if one ever was.
fn published_at(head: &StoredHead) -> Option<Timestamp> {
    (!head.checkpoint.is_empty()).then_some(head.published_at)
}

/// The newest checkpoint as the database keeps it; none before the first.
fn parse(note: &str) -> Result<Option<SignedCheckpoint>, Fault> {
    if note.is_empty() {
        return Ok(None);
    }
    SignedCheckpoint::parse(note.as_bytes()).map(Some).map_err(|_| Fault::Changed { from: 0 })
}
