//! One bundle and its tile: by whoever of several threads is free, without knowing the others.

use std::ops::Range;

use ring::digest::{SHA256, digest};

use super::chains::{Ended, Link};
use super::duplicates::fold;
use super::files::{Files, Listing, ReadFault};
use super::finding::{Change, Finding, Findings};
use super::form::EntryReader;
use super::shape::Shapes;
use super::upper::{Upper, read_tile};
use crate::audit::checkpoint::VerifierKey;
use crate::audit::tiles::{BundleId, FULL, Tile, TileId, read_bundle, read_entries};
use crate::audit::tree::{TreeHash, root_of};

/// What all threads look at.
pub(super) struct Context<'a> {
    pub files: &'a Files,
    pub listing: &'a Listing,
    pub upper: &'a Upper,
    pub reader: &'a EntryReader,
    /// The log's keys, which attest those of instances.
    pub logs: &'a [VerifierKey],
    /// Entries of the newest checkpoint.
    pub size: u64,
}

/// A bundle's entries as far as they are the tree's, and what is wrong.
pub(super) struct Examined {
    pub bundle: BundleId,
    /// The hashes to go on with: the tree's where that is known. Fewer than entries where nothing is known of the rest.
    pub leaves: Vec<TreeHash>,
    /// The hash of a full tile of them.
    pub root: Option<TreeHash>,
    pub links: Vec<Link>,
    pub ended: Vec<Ended>,
    pub ids: Vec<u64>,
    /// The newest entry that is not the tree's.
    pub hole: Option<u64>,
    pub findings: Vec<Finding>,
    pub undecided: Option<Undecided>,
}

/// Entries and tile differ, and nothing that is signed tells here which of them is the tree's. `Examined::leaves` are
/// those of the entries.
pub(super) struct Undecided {
    pub tile: String,
    /// What is wrong with the entries, if the tile is right.
    pub entries: Vec<Finding>,
    pub leaves: Vec<TreeHash>,
    pub root: TreeHash,
}

impl Context<'_> {
    /// `shapes`: of the entries that the same thread read before.
    pub fn examine<'s>(&'s self, index: u64, shapes: &mut Shapes<'s>) -> Result<Option<Examined>, ReadFault> {
        let Some(bundle) = BundleId::at(index, self.size) else { return Ok(None) };
        let Some(tile_id) = bundle.tile() else { return Ok(None) };
        let mut findings = Findings::default();
        let bytes = self.files.bundle(bundle)?;
        let entries = entries_of(bundle, bytes.as_deref(), &mut findings);
        let tile = read_tile(self.files, tile_id, false, &mut findings)?;
        let own: Vec<TreeHash> = entries.iter().map(|entry| TreeHash::of_leaf(entry)).collect();
        let verdict = self.judge(bundle, tile_id, &own, tile.as_ref(), &mut findings);
        let mut examined = Examined {
            bundle,
            leaves: verdict.leaves,
            root: verdict.root,
            links: Vec::new(),
            ended: Vec::new(),
            ids: Vec::new(),
            hole: None,
            findings: Vec::new(),
            undecided: verdict.undecided,
        };
        self.read_entries((&entries, &own), shapes, &mut examined, &mut findings);
        self.compare_partial(bundle, &examined.leaves, &mut findings)?;
        examined.findings = findings.finish().0;
        Ok(Some(examined))
    }

    /// Which hashes are the tree's, and who is to blame where entries and tile differ.
    fn judge(
        &self,
        bundle: BundleId,
        tile_id: TileId,
        own: &[TreeHash],
        tile: Option<&Tile>,
        findings: &mut Findings,
    ) -> Verdict {
        let is_whole = own.len() == usize::from(bundle.width());
        let stored = tile.map(Tile::root);
        // Of the same hashes nearly always, and then it is not made twice.
        let is_alike = tile.is_some_and(|tile| tile.hashes() == own);
        let made = if is_alike { stored } else { Some(own).filter(|_| is_whole).and_then(root_of) };
        let expected = if bundle.is_full() {
            self.upper.expected(0, bundle.index())
        } else {
            self.upper.last_leaves().and_then(root_of)
        };
        let path = tile_id.to_string();
        let hashes = tile.map(Tile::hashes);
        let verdict = |leaves: &[TreeHash], root| Verdict { leaves: leaves.to_vec(), root, undecided: None };
        match (expected, hashes) {
            (Some(_), Some(hashes)) if stored == expected => {
                findings.extend(differences(bundle, own, hashes));
                verdict(hashes, expected)
            }
            (Some(_), _) if made == expected => {
                findings.extend(tile.map(|_| Finding::TileChanged { path }));
                verdict(own, expected)
            }
            (Some(_), _) => {
                if is_whole {
                    findings
                        .add(Finding::EntriesAndTile { tile: path, places: places(bundle, 0..own.len()) });
                }
                verdict(&[], expected)
            }
            (None, Some(hashes)) if !is_whole => {
                findings.extend(differences(bundle, own, hashes));
                verdict(hashes, stored)
            }
            (None, Some(hashes)) if hashes != own => {
                let entries = differences(bundle, own, hashes);
                let root = stored.unwrap_or_else(TreeHash::of_nothing);
                let undecided = Undecided { tile: path, entries, leaves: hashes.to_vec(), root };
                Verdict { undecided: Some(undecided), ..verdict(own, made) }
            }
            (None, _) => verdict(own, made),
        }
    }

    /// Form, chain and id of every entry that is the tree's.
    fn read_entries<'s>(
        &'s self,
        (entries, own): (&[&[u8]], &[TreeHash]),
        shapes: &mut Shapes<'s>,
        examined: &mut Examined,
        findings: &mut Findings,
    ) {
        let first = examined.bundle.start_index();
        examined.ids.reserve_exact(entries.len());
        examined.links.reserve_exact(entries.len());
        let mut leaves = examined.leaves.iter();
        let mut others = examined.undecided.iter().flat_map(|undecided| &undecided.leaves);
        for (number, (bytes, hash)) in (first..).zip(entries.iter().zip(own)) {
            let is_certain = leaves.next() == Some(hash) && others.next().is_none_or(|other| other == hash);
            if !is_certain {
                examined.hole = Some(number);
                continue;
            }
            let facts = match self.reader.read_like(shapes, bytes) {
                Ok(facts) => facts,
                Err(why) => {
                    findings.add(Finding::Form { entry: number, why });
                    examined.hole = Some(number);
                    continue;
                }
            };
            examined.ids.push(fold(&facts.id));
            if let Some(facts) = facts.chain {
                let mut sha256 = [0; 32];
                sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
                examined.links.push(Link { entry: number, facts, sha256 });
            }
            let ended =
                facts.ended.map(|(chain, last, sha256)| Ended { entry: number, chain, number: last, sha256 });
            examined.ended.extend(ended);
        }
        if entries.len() < usize::from(examined.bundle.width()) {
            examined.hole = Some(first + u64::from(examined.bundle.width()) - 1);
        }
    }

    /// Partial tiles above level 0 that are still there are beginnings of the tiles that the signed root vouches for.
    pub fn compare_upper_partial(&self, findings: &mut Findings) -> Result<(), ReadFault> {
        let earlier = self.listing.tiles.iter().filter(|((level, _), _)| *level > 0);
        for (level, index, width) in
            earlier.flat_map(|((level, index), widths)| widths.iter().map(|width| (*level, *index, *width)))
        {
            let (Some(id), Some(whole)) =
                (TileId::new(level, index, width), self.upper.authentic(level, index))
            else {
                continue;
            };
            let Some(beginning) = whole.hashes().get(..usize::from(width)) else { continue };
            self.judge_partial(&id.to_string(), findings, |bytes| {
                Tile::from_bytes(id, bytes).is_ok_and(|tile| tile.hashes() == beginning)
            })?;
        }
        Ok(())
    }

    /// Partial tiles and bundles that are still there are beginnings of this one.
    fn compare_partial(
        &self,
        bundle: BundleId,
        leaves: &[TreeHash],
        findings: &mut Findings,
    ) -> Result<(), ReadFault> {
        let index = bundle.index();
        let earlier = |width: &&u16| **width < bundle.width() && usize::from(**width) <= leaves.len();
        for width in self.listing.tiles.get(&(0, index)).into_iter().flatten().filter(earlier) {
            let Some(id) = TileId::new(0, index, *width) else { continue };
            self.judge_partial(&id.to_string(), findings, |bytes| {
                Tile::from_bytes(id, bytes).is_ok_and(|tile| leaves.starts_with(tile.hashes()))
            })?;
        }
        for width in self.listing.bundles.get(&index).into_iter().flatten().filter(earlier) {
            let Some(id) = BundleId::new(index, *width) else { continue };
            self.judge_partial(&id.to_string(), findings, |bytes| {
                let hash = |entries: Vec<&[u8]>| entries.into_iter().map(TreeHash::of_leaf).collect();
                read_bundle(id, bytes).map(hash).is_ok_and(|own: Vec<_>| leaves.starts_with(&own))
            })?;
        }
        Ok(())
    }

    /// A log that grows while it is read takes its partial files away when the full one is there.
    fn judge_partial(
        &self,
        path: &str,
        findings: &mut Findings,
        is_beginning: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(), ReadFault> {
        let is_changed = match self.files.read(path)? {
            Some(bytes) => !is_beginning(&bytes),
            None => self.files.is_there(path),
        };
        findings.extend(is_changed.then(|| Finding::PartialChanged { path: path.to_owned() }));
        Ok(())
    }
}

struct Verdict {
    leaves: Vec<TreeHash>,
    root: Option<TreeHash>,
    undecided: Option<Undecided>,
}

/// The entries of a bundle, as many as can be read; what is wrong with the file is a finding.
fn entries_of<'a>(bundle: BundleId, bytes: Option<&'a [u8]>, findings: &mut Findings) -> Vec<&'a [u8]> {
    let Some(bytes) = bytes else {
        findings.add(Finding::Missing { places: places(bundle, 0..usize::from(bundle.width())) });
        return Vec::new();
    };
    read_bundle(bundle, bytes).unwrap_or_else(|why| {
        findings.add(Finding::BundleMalformed { path: bundle.to_string(), why: why.to_string() });
        read_entries(bundle.width(), bytes).0
    })
}

/// Where entries are not those of the hashes, and how it looks.
fn differences(bundle: BundleId, own: &[TreeHash], hashes: &[TreeHash]) -> Vec<Finding> {
    let mut findings = Findings::default();
    let is = |hash: Option<&TreeHash>, place: Option<usize>| {
        hash.is_some() && place.is_some_and(|place| hashes.get(place) == hash)
    };
    for (place, (hash, expected)) in own.iter().zip(hashes).enumerate() {
        if hash == expected {
            continue;
        }
        let (before, after) = (place.checked_sub(1), place.checked_add(1));
        let neighbour = |place: Option<usize>| place.and_then(|place| own.get(place));
        // The last one's own place is in the next bundle, the first one's in the one before: there the neighbour tells.
        let is_last = place + 1 == usize::from(FULL);
        let change = if is(Some(hash), after) || (is_last && is(neighbour(before), Some(place))) {
            Change::Early
        } else if is(Some(hash), before) || (place == 0 && is(neighbour(after), Some(place))) {
            Change::Late
        } else if hashes.contains(hash) {
            Change::Moved
        } else {
            Change::Changed
        };
        findings.add(Finding::Entries { places: places(bundle, place..place + 1), change });
    }
    findings.finish().0
}

fn places(bundle: BundleId, within: Range<usize>) -> std::ops::RangeInclusive<u64> {
    let number = |place: usize| bundle.start_index() + u64::try_from(place).unwrap_or(0);
    number(within.start)..=number(within.end.saturating_sub(1))
}
