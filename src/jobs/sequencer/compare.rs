//! What a new lead asks before it signs: is the log in the database the one that was signed, written as files and witnessed?

use super::signer::Signer;
use super::{Fault, LEAVES};
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::tiles::Edge;
use crate::audit::tree::TreeHash;
use crate::storage::SequenceStore;

/// A log of so many entries is followed from its first one on: 32 bytes each, a second or so.
const WHOLE: u64 = 1 << 20;

/// Follows the index to the head, past the end of the files and every checkpoint that is known: all of them must lie on the
/// way. It begins with the first entry, or where the log is large with the end of the files; what lies before that is compared by
/// its size alone, and by whoever reads again what is stored (`review`). What was pruned is in the files only: there it begins with
/// the tree that is on record.
///
/// Gives the tree as it was at `known` entries, or where it began if that is later.
pub(super) async fn compare(
    store: &SequenceStore,
    signer: &mut Signer,
    head: &Edge,
    marks: &[SignedCheckpoint],
    files: Option<Edge>,
    known: u64,
) -> Result<Edge, Fault> {
    let mut points: Vec<(u64, TreeHash)> = files.iter().map(|files| (files.size(), files.root())).collect();
    for signed in marks {
        if signer.believes(signed).await?.is_err() {
            return Err(Fault::Changed { from: 0 });
        }
        points.push((signed.checkpoint().size(), *signed.checkpoint().root()));
    }
    points.sort_unstable();
    if let Some((size, _)) = points.last().filter(|(size, _)| *size > head.size()) {
        return Err(Fault::Shrunk { stored: head.size(), published: *size });
    }
    let boundary = store.boundary().await?;
    let begin = files.filter(|files| head.size() > WHOLE && files.size() >= boundary.size());
    let mut edge = begin.unwrap_or(boundary);
    let from = edge.size();
    let mut seen = edge.clone();
    for (size, root) in points.into_iter().filter(|(size, _)| *size >= from) {
        follow(store, &mut edge, size).await?;
        if edge.root() != root {
            return Err(Fault::Changed { from });
        }
        if size <= known {
            seen = edge.clone();
        }
    }
    follow(store, &mut edge, head.size()).await?;
    if edge == *head { Ok(seen) } else { Err(Fault::Changed { from }) }
}

/// Appends what the database has, up to this size.
pub(super) async fn follow(store: &SequenceStore, edge: &mut Edge, size: u64) -> Result<(), Fault> {
    while edge.size() < size {
        let leaves = store.leaves(edge.size(), LEAVES.min(size - edge.size())).await?;
        if leaves.is_empty() {
            return Err(gone(store, edge.size()).await?);
        }
        for leaf in leaves {
            edge.append(leaf);
        }
    }
    Ok(())
}

/// Why there is no leaf of this number.
pub(super) async fn gone(store: &SequenceStore, from: u64) -> Result<Fault, Fault> {
    let is_pruned = store.boundary().await?.size() > from;
    Ok(if is_pruned { Fault::Pruned { from } } else { Fault::Changed { from } })
}
