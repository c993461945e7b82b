//! The log as files: what is signed, from the entries as they are stored.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::compare::follow;
use super::fresh::Fresh;
use super::watch::Watch;
use super::{Fault, HEARTBEAT};
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::export::{Directory, ExportError, LogFile, LogWriter, Target};
use crate::audit::tiles::{Edge, FULL};
use crate::config::{AuditExportConfig, AuditExportPlace};
use crate::jobs::bucket::LogBucket;
use crate::storage::{SequenceStore, StoredEntry};

/// Entries of one query and of one step of the files; whole bundles, so that partial ones are only written at the end.
const STEP: u64 = 2 * FULL as u64;
/// A target that takes longer for one step hangs. Signing goes on without it.
const LONGEST_STEP: Duration = Duration::from_secs(30);
/// Entries of one call: a long log is written in many, and others have their turn between them.
const MOST: u64 = 64 * STEP;

/// What the files hold.
pub(super) struct Files {
    /// The tree over everything that their checkpoint covers.
    pub edge: Edge,
    pub checkpoint: Option<SignedCheckpoint>,
}

type Writer = LogWriter<Box<dyn Target>>;

/// Writes one log while this instance has the lead.
pub(super) struct Exporter {
    place: AuditExportPlace,
    every: Duration,
    /// Held open, and with it a directory locked, while this instance has the lead and writing works.
    writer: Option<Writer>,
    written_at: Option<Instant>,
    /// Up to here a signed checkpoint was found to vouch for the leaves.
    vouched: u64,
    hand: Hand,
}

/// Files are written where that may block, one step at a time: behind one that hangs none is begun.
#[derive(Default)]
struct Hand(Option<AbortHandle>);

impl Hand {
    async fn work(
        &mut self,
        step: impl FnOnce() -> Result<Writer, ExportError> + Send + 'static,
    ) -> Result<Writer, Fault> {
        if self.0.as_ref().is_some_and(|last| !last.is_finished()) {
            return Err(Fault::Export(ExportError::Hangs));
        }
        let step = tokio::task::spawn_blocking(step);
        self.0 = Some(step.abort_handle());
        match tokio::time::timeout(LONGEST_STEP, step).await {
            Ok(Ok(done)) => Ok(done?),
            // The runtime is ending, or it panicked; the next attempt opens the target anew.
            Ok(Err(_)) => Err(Fault::Export(ExportError::Locked)),
            Err(_) => Err(Fault::Export(ExportError::Hangs)),
        }
    }
}

impl Exporter {
    pub fn new(config: &AuditExportConfig) -> Self {
        Self {
            place: config.place.clone(),
            every: Duration::from_secs(config.interval_seconds),
            writer: None,
            written_at: None,
            vouched: 0,
            hand: Hand::default(),
        }
    }

    /// Takes the target, and says what it holds.
    pub async fn open(&mut self) -> Result<Files, Fault> {
        let writer = self.take_writer().await?;
        let files = Files { edge: writer.tail().edge().clone(), checkpoint: writer.published().cloned() };
        self.writer = Some(writer);
        Ok(files)
    }

    /// Leaves the target to another instance.
    pub fn close(&mut self) {
        self.writer = None;
    }

    /// Entries that the files' checkpoint covers.
    pub fn entries(&self) -> u64 {
        let published = self.writer.as_ref().and_then(LogWriter::published);
        published.map_or(0, |signed| signed.checkpoint().size())
    }

    /// Whether there is something to write: a checkpoint, or a bundle that is full by what it covers.
    pub fn has_work(&self, signed: &SignedCheckpoint) -> bool {
        let written = self.writer.as_ref().map(|writer| writer.tail().size());
        self.is_due(signed) || written.is_some_and(|written| written < whole(signed.checkpoint().size()))
    }

    /// Whether this checkpoint should be written now: a larger one in its turn, another one of the same size each minute.
    fn is_due(&self, signed: &SignedCheckpoint) -> bool {
        let waited = |least: Duration| self.written_at.is_none_or(|at| at.elapsed() >= least);
        if signed.checkpoint().size() > self.entries() { waited(self.every) } else { waited(HEARTBEAT) }
    }

    /// Writes the entries that a checkpoint covers, and then the checkpoint; where there are too many, it is called again. Before
    /// the checkpoint is due, only bundles that are full. Nothing is written of what a checkpoint does not vouch for: a file of a
    /// log is never put right afterwards.
    pub async fn write(
        &mut self,
        store: &SequenceStore,
        fresh: &Fresh,
        signed: &SignedCheckpoint,
        keys: Vec<LogFile>,
        watch: &mut Watch,
    ) -> Result<(), Fault> {
        let size = signed.checkpoint().size();
        let is_due = self.is_due(signed);
        let wanted = if is_due { size } else { whole(size) };
        let mut writer = self.take_writer().await?;
        if writer.tail().size() >= whole(self.vouched) {
            if writer.tail().size() < store.boundary().await?.size() {
                return Err(Fault::Export(ExportError::Pruned));
            }
            let mut edge = writer.tail().edge().clone();
            for leaf in fresh.leaves(edge.size(), size).unwrap_or_default() {
                edge.append(leaf);
            }
            follow(store, &mut edge, size).await?;
            if edge.root() != *signed.checkpoint().root() {
                return Err(Fault::Changed { from: writer.tail().size() });
            }
            self.vouched = size;
        }
        let vouched = if wanted <= self.vouched { wanted } else { whole(self.vouched) };
        let end = vouched.min(writer.tail().size().saturating_add(MOST));
        while writer.tail().size() < end {
            let from = writer.tail().size();
            let most = (STEP - from % u64::from(FULL)).min(end - from);
            let entries = match fresh.take(from, most) {
                Some(entries) => entries,
                None => as_numbered(from, most, store.entries(from, most).await?)?,
            };
            watch.hear(from, &entries);
            let append = move || {
                writer.append(entries.iter().map(Vec::as_slice))?;
                Ok(writer)
            };
            writer = self.hand.work(append).await?;
        }
        if end < size || !is_due {
            self.writer = Some(writer);
            return Ok(());
        }
        let signed = signed.clone();
        let publish = move || {
            for key in &keys {
                writer.keep_key(key)?;
            }
            writer.publish(&signed)?;
            Ok(writer)
        };
        self.writer = Some(self.hand.work(publish).await?);
        self.written_at = Some(Instant::now());
        Ok(())
    }

    async fn take_writer(&mut self) -> Result<Writer, Fault> {
        if let Some(writer) = self.writer.take() {
            return Ok(writer);
        }
        let (place, runtime) = (self.place.clone(), Handle::current());
        self.hand.work(move || LogWriter::open(open(&place, runtime)?)).await
    }
}

/// As many of so many entries as full bundles hold.
const fn whole(size: u64) -> u64 {
    size - size % FULL as u64
}

fn open(place: &AuditExportPlace, runtime: Handle) -> Result<Box<dyn Target>, ExportError> {
    Ok(match place {
        AuditExportPlace::Directory(directory) => Box::new(Directory::open(directory)?),
        AuditExportPlace::Bucket(bucket) => Box::new(LogBucket::open(bucket, runtime)?),
    })
}

/// Each entry, if it is the one that was numbered.
fn as_numbered(from: u64, most: u64, stored: Vec<StoredEntry>) -> Result<Vec<Vec<u8>>, Fault> {
    let mut entries = Vec::with_capacity(stored.len());
    for (number, stored) in (from..).zip(stored) {
        let is_it = stored.is_as_numbered();
        match stored.entry {
            Some(entry) if is_it => entries.push(entry),
            _ => return Err(Fault::Changed { from: number }),
        }
    }
    let count = u64::try_from(entries.len()).unwrap_or(0);
    if count == most { Ok(entries) } else { Err(Fault::Changed { from: from.saturating_add(count) }) }
}
