//! Through the log from its first entry to its last: several threads examine bundles, and one of them joins besides what all
//! found.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use super::chains::Chains;
use super::duplicates::{Ids, Suspects, duplicates};
use super::examine::{Context, Examined, Undecided};
use super::files::ReadFault;
use super::finding::{Finding, Findings};
use super::heads::Heads;
use super::shape::Shapes;
use super::upper::Tree;
use crate::audit::tiles::{BundleId, FULL, Tile, TileId, read_entries};
use crate::audit::tree::TreeHash;

/// Bundles that may wait to be joined, for each thread, and as many again that this thread took over from the others.
const WAITING: usize = 16;

/// What the entries of a log came to.
pub(super) struct Walked {
    pub chains: Chains,
    pub entries: u64,
}

/// Examines every bundle from the one of entry `start` on.
pub(super) fn walk(
    context: &Context<'_>,
    heads: &Heads,
    start: u64,
    threads: usize,
    findings: &mut Findings,
    progress: &mut dyn FnMut(u64),
) -> Result<Walked, ReadFault> {
    let first = start / u64::from(FULL);
    let end = context.size.div_ceil(u64::from(FULL));
    let next = AtomicU64::new(first);
    let most_waiting = threads * WAITING;
    let (sender, receiver) = mpsc::sync_channel(most_waiting);
    let joiner = Joiner::new(context, heads, first * u64::from(FULL), findings);
    let mut queue = Queue { joiner, waiting: BTreeMap::new(), turn: first };
    thread::scope(|scope| {
        for _ in 1..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut shapes = Shapes::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end || sender.send((index, context.examine(index, &mut shapes))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Dropped on an error, so that the threads end.
        let receiver = receiver;
        let mut shapes = Shapes::default();
        loop {
            while let Ok((index, examined)) = receiver.try_recv() {
                queue.take(index, examined?, findings, progress);
            }
            // Whoever has the next one is behind: it is waited for, so that what waits stays little.
            if queue.waiting.len() >= most_waiting
                && let Ok((index, examined)) = receiver.recv()
            {
                queue.take(index, examined?, findings, progress);
                continue;
            }
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= end {
                break;
            }
            queue.take(index, context.examine(index, &mut shapes)?, findings, progress);
        }
        for (index, examined) in receiver {
            queue.take(index, examined?, findings, progress);
        }
        Ok(())
    })?;
    queue.joiner.finish(findings)
}

/// What was examined, until it is its turn.
struct Queue<'a> {
    joiner: Joiner<'a>,
    waiting: BTreeMap<u64, Option<Examined>>,
    turn: u64,
}

impl Queue<'_> {
    fn take(
        &mut self,
        index: u64,
        examined: Option<Examined>,
        findings: &mut Findings,
        progress: &mut dyn FnMut(u64),
    ) {
        self.waiting.insert(index, examined);
        while let Some(examined) = self.waiting.remove(&self.turn) {
            self.turn += 1;
            if let Some(examined) = examined {
                self.joiner.join(examined, findings);
                progress(self.joiner.entries);
            }
        }
    }
}

struct Joiner<'a> {
    context: &'a Context<'a>,
    heads: &'a Heads,
    /// The tree so far, by the entries; `None` after something of which nothing is known.
    tree: Option<Tree>,
    /// The tree by the tiles, from where entries and tiles differ and it is not decided which are right.
    by_tiles: Option<Tree>,
    undecided: Vec<Undecided>,
    /// Whether the trees have the root of the newest checkpoint: by the entries, by the tiles.
    leads: (bool, bool),
    chains: Chains,
    ids: Ids,
    start: u64,
    entries: u64,
}

impl<'a> Joiner<'a> {
    fn new(context: &'a Context<'a>, heads: &'a Heads, start: u64, findings: &mut Findings) -> Self {
        let tree = context.upper.begin(start);
        if let Some(tree) = &tree {
            heads.compare(start, &[tree.root_with(&[])], findings);
        }
        Self {
            context,
            heads,
            tree,
            by_tiles: None,
            undecided: Vec::new(),
            leads: (false, false),
            chains: Chains::new(start, context.logs),
            ids: Ids::default(),
            start,
            entries: 0,
        }
    }

    fn join(&mut self, examined: Examined, findings: &mut Findings) {
        let Examined { bundle, leaves, root, links, ended, ids, hole, findings: found, undecided } = examined;
        findings.extend(found);
        if undecided.is_some() && self.by_tiles.is_none() {
            self.by_tiles.clone_from(&self.tree);
        }
        let other = undecided.as_ref().map_or((leaves.as_slice(), root), |undecided| {
            (undecided.leaves.as_slice(), Some(undecided.root))
        });
        self.compare_heads(bundle, (&leaves, root), other, findings);
        self.grow(bundle, root, other.1, findings);
        self.undecided.extend(undecided);
        if let Some(hole) = hole {
            self.chains.skip(hole);
        }
        self.ids.add(&ids);
        for link in links {
            self.chains.follow(link, findings);
        }
        for ended in ended {
            self.chains.end(ended);
        }
        self.entries += u64::from(bundle.width());
    }

    /// The checkpoints whose last entry is in this bundle.
    fn compare_heads(
        &mut self,
        bundle: BundleId,
        own: (&[TreeHash], Option<TreeHash>),
        other: (&[TreeHash], Option<TreeHash>),
        findings: &mut Findings,
    ) {
        let start = bundle.start_index();
        for size in self.heads.sizes(start, start + u64::from(bundle.width())) {
            let within = usize::try_from(size - start).unwrap_or(usize::MAX);
            let root = |tree: &Option<Tree>, (leaves, root): (&[TreeHash], Option<TreeHash>)| {
                let mut tree = tree.clone()?;
                if let Some(leaves) = leaves.get(..within) {
                    return Some(tree.root_with(leaves));
                }
                tree.append(root.filter(|_| within == usize::from(FULL))?);
                Some(tree.root_with(&[]))
            };
            let (by_entries, by_tiles) = (root(&self.tree, own), root(&self.by_tiles, other));
            let roots: Vec<TreeHash> = [by_entries, by_tiles].into_iter().flatten().collect();
            self.heads.compare(size, &roots, findings);
            if let Some(newest) = self.heads.newest.as_ref().filter(|newest| newest.size == size) {
                self.leads = (by_entries == Some(newest.root), by_tiles == Some(newest.root));
            }
        }
    }

    /// The tree with a full bundle.
    fn grow(
        &mut self,
        bundle: BundleId,
        own: Option<TreeHash>,
        other: Option<TreeHash>,
        findings: &mut Findings,
    ) {
        if !bundle.is_full() {
            return;
        }
        let mut made: BTreeMap<TileId, Vec<Tile>> = BTreeMap::new();
        for (tree, root) in [(&mut self.tree, own), (&mut self.by_tiles, other)] {
            let filled = root.and_then(|root| tree.as_mut().map(|tree| tree.append(root)));
            if filled.is_none() {
                *tree = None;
            }
            filled.into_iter().flatten().for_each(|(id, tile)| made.entry(id).or_default().push(tile));
        }
        for (id, tiles) in &made {
            self.context.upper.compare(*id, tiles, findings);
        }
    }

    fn finish(mut self, findings: &mut Findings) -> Result<Walked, ReadFault> {
        let mut made: BTreeMap<TileId, Vec<Tile>> = BTreeMap::new();
        let partial = [&self.tree, &self.by_tiles].into_iter().flatten().flat_map(Tree::partial_tiles);
        partial.for_each(|(id, tile)| made.entry(id).or_default().push(tile));
        for (id, tiles) in &made {
            self.context.upper.compare(*id, tiles, findings);
        }
        let (by_entries, by_tiles) = self.leads;
        for undecided in std::mem::take(&mut self.undecided) {
            if by_entries && !by_tiles {
                findings.add(Finding::TileChanged { path: undecided.tile });
            } else {
                findings.extend(undecided.entries);
            }
        }
        self.chains.finish(self.context.size, findings);
        findings.extend(self.ids.missing(self.chains.listed()).map(|entry| Finding::WriteMissing { entry }));
        if let Some(suspects) = std::mem::take(&mut self.ids).suspects() {
            let met = self.look_again(&suspects)?;
            findings.extend(duplicates(met));
        }
        Ok(Walked { chains: self.chains, entries: self.entries })
    }

    /// The entries whose ids have a digest that was met before.
    fn look_again(&self, suspects: &Suspects) -> Result<Vec<([u8; 16], u64)>, ReadFault> {
        let mut met = Vec::new();
        let size = self.context.size;
        let bundles = self.start / u64::from(FULL)..size.div_ceil(u64::from(FULL));
        for bundle in bundles.filter_map(|index| BundleId::at(index, size)) {
            let bytes = self.context.files.bundle(bundle)?.unwrap_or_default();
            for (entry, bytes) in (bundle.start_index()..).zip(read_entries(bundle.width(), &bytes).0) {
                let id = self.context.reader.read(bytes).ok().map(|facts| facts.id);
                met.extend(id.filter(|id| suspects.is_one(id)).map(|id| (id, entry)));
            }
        }
        Ok(met)
    }
}
