//! All checkpoints of a log: which of them can be believed, and what each says.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use super::files::{Files, ReadFault};
use super::finding::{Finding, Findings};
use crate::audit::checkpoint::{Endorsement, SignedCheckpoint, Trust};
use crate::audit::export::CHECKPOINT;
use crate::audit::tree::TreeHash;

/// Whom to believe, and how many.
pub(super) struct Judge<'a> {
    pub trust: &'a Trust,
    /// Cosignatures that each checkpoint must have, besides the policy's quorum.
    pub witnesses: usize,
}

/// A checkpoint that the log's key signed.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub path: String,
    pub origin: String,
    pub size: u64,
    pub root: TreeHash,
    pub endorsement: Endorsement,
}

/// The believable checkpoints by size, and the largest.
pub(super) struct Heads {
    pub newest: Option<Head>,
    by_size: BTreeMap<u64, Vec<(String, TreeHash)>>,
    pub count: u64,
}

impl Heads {
    /// Reads every checkpoint there is, on several threads: a signature costs more than an entry.
    pub fn read(
        files: &Files,
        judge: &Judge<'_>,
        threads: usize,
        findings: &mut Findings,
    ) -> Result<Self, ReadFault> {
        let paths = files.checkpoints()?;
        let share = paths.len().div_ceil(threads.max(1)).max(1);
        let judged: Vec<_> = thread::scope(|scope| {
            let work = |paths| scope.spawn(move || judge.heads(files, paths));
            let workers: Vec<_> = paths.chunks(share).map(work).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        let mut heads = Self { newest: None, by_size: BTreeMap::new(), count: 0 };
        let mut published = None;
        for share in judged {
            let (found, faults) = share?;
            findings.extend(faults);
            for head in found {
                if head.path == CHECKPOINT {
                    published = Some(head.size);
                }
                heads.add(head, findings);
            }
        }
        match (published, &heads.newest) {
            (_, None) => findings.add(Finding::NothingSigned),
            (published, Some(head)) if published.unwrap_or(0) < head.size || published.is_none() => {
                findings.add(Finding::RolledBack { newest: published.unwrap_or(0), kept: head.size });
            }
            _ => {}
        }
        Ok(heads)
    }

    fn add(&mut self, head: Head, findings: &mut Findings) {
        if self.newest.as_ref().is_some_and(|newest| newest.origin != head.origin) {
            findings.add(Finding::OtherOrigin { path: head.path });
            return;
        }
        // The newest one is kept under its own name as well.
        self.count += u64::from(head.path != CHECKPOINT);
        self.by_size.entry(head.size).or_default().push((head.path.clone(), head.root));
        if self.newest.as_ref().is_none_or(|newest| newest.is_less_than(&head)) {
            self.newest = Some(head);
        }
    }

    /// Checkpoints that are known from elsewhere must be of this log as well.
    pub fn expect(&mut self, known: &Head, findings: &mut Findings) {
        if let Some(newest) = &self.newest {
            if newest.size < known.size {
                findings.add(Finding::Shrunk { size: newest.size, known: known.size });
            } else if newest.origin != known.origin {
                findings.add(Finding::OtherOrigin { path: known.path.clone() });
            }
        }
        self.by_size.entry(known.size).or_default().push((known.path.clone(), known.root));
    }

    /// Whether checkpoints stand at sizes above `after` and up to `until`, and which.
    pub fn sizes(&self, after: u64, until: u64) -> impl Iterator<Item = u64> {
        self.by_size.range(after.saturating_add(1)..=until).map(|(size, _)| *size)
    }

    /// Holds the checkpoints of one size against the tree's root there; two are possible where it is not decided what
    /// is the tree's, none where nothing is known.
    pub fn compare(&self, size: u64, roots: &[TreeHash], findings: &mut Findings) {
        if roots.is_empty() {
            return;
        }
        let others = self.by_size.get(&size).into_iter().flatten().filter(|(_, root)| !roots.contains(root));
        findings.extend(others.map(|(path, _)| Finding::Forked { path: path.clone(), size }));
    }
}

impl Head {
    fn is_less_than(&self, other: &Self) -> bool {
        // Of one size, the one that more have seen, and later.
        let rank = |head: &Self| {
            let latest = head.endorsement.witnesses.iter().map(|(_, time)| *time).max();
            (head.size, head.endorsement.witnesses.len(), latest)
        };
        rank(self) < rank(other)
    }
}

impl Judge<'_> {
    fn heads(&self, files: &Files, paths: &[String]) -> Result<(Vec<Head>, Vec<Finding>), ReadFault> {
        let (mut heads, mut findings) = (Vec::new(), Findings::default());
        for path in paths {
            let bytes = files.read(path)?;
            heads.extend(bytes.and_then(|bytes| self.head(path, &bytes, &mut findings)));
        }
        Ok((heads, findings.finish().0))
    }

    /// A checkpoint from elsewhere, which must be believed entirely.
    pub fn known(&self, bytes: &[u8]) -> Result<Head, String> {
        let mut findings = Findings::default();
        let head = self.head("the known checkpoint", bytes, &mut findings);
        match (head, findings.finish().0.first()) {
            (Some(head), None) => Ok(head),
            (_, Some(finding)) => Err(finding.to_string()),
            (None, None) => Err(String::from("it cannot be read")),
        }
    }

    /// A checkpoint that the log's key signed. That too few have seen it is a finding, and it is still one.
    pub fn head(&self, path: &str, bytes: &[u8], findings: &mut Findings) -> Option<Head> {
        let path = path.to_owned();
        let signed = match SignedCheckpoint::parse(bytes) {
            Ok(signed) => signed,
            Err(why) => {
                findings.add(Finding::CheckpointMalformed { path, why: why.to_string() });
                return None;
            }
        };
        let (origin, size) = (signed.checkpoint().origin().to_owned(), signed.checkpoint().size());
        match self.trust.endorse(&signed) {
            Ok(endorsement) => {
                let has = endorsement.witnesses.len();
                if !endorsement.quorum || has < self.witnesses {
                    findings.add(Finding::CosignaturesMissing { path: path.clone(), size, has });
                }
                Some(Head { path, origin, size, root: *signed.checkpoint().root(), endorsement })
            }
            Err(why) => {
                findings.add(Finding::CheckpointDistrusted { path, why });
                None
            }
        }
    }
}
