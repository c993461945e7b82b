//! What a new lead asks before it signs: is the log in the database the one that was signed and written as files?

use super::Fault;
use super::signer::Signer;
use crate::audit::checkpoint::SignedCheckpoint;
use crate::audit::tiles::Edge;
use crate::storage::SequenceStore;

/// Leaves of one query.
const LEAVES: u64 = 16_384;

/// What the files hold.
pub(super) struct Files {
    /// The tree over everything that the files' checkpoint covers.
    pub edge: Edge,
    pub checkpoint: Option<SignedCheckpoint>,
}

/// Follows the index from where the files end, or from the start where there are none, to the head, past the newest
/// checkpoint of the database: all of them must lie on the way. Without files that is the whole index, 32 bytes an entry.
pub(super) async fn compare(
    store: &SequenceStore,
    signer: &mut Signer,
    head: &Edge,
    published: Option<&SignedCheckpoint>,
    files: Option<Files>,
) -> Result<(), Fault> {
    for signed in published.into_iter().chain(files.as_ref().and_then(|files| files.checkpoint.as_ref())) {
        let size = signed.checkpoint().size();
        if signer.believes(signed).await?.is_err() {
            return Err(Fault::Changed { from: 0 });
        }
        if size > head.size() {
            return Err(Fault::Shrunk { stored: head.size(), published: size });
        }
    }
    let start = files.map_or_else(Edge::default, |files| files.edge);
    let from = start.size();
    let mut edge = start;
    if let Some(signed) = published.filter(|signed| signed.checkpoint().size() >= from) {
        follow(store, &mut edge, signed.checkpoint().size()).await?;
        if edge.root() != *signed.checkpoint().root() {
            return Err(Fault::Changed { from });
        }
    }
    follow(store, &mut edge, head.size()).await?;
    if edge == *head { Ok(()) } else { Err(Fault::Changed { from }) }
}

/// Appends what the index has, up to this size.
pub(super) async fn follow(store: &SequenceStore, edge: &mut Edge, size: u64) -> Result<(), Fault> {
    while edge.size() < size {
        let leaves = store.leaves(edge.size(), LEAVES.min(size - edge.size())).await?;
        if leaves.is_empty() {
            return Err(Fault::Changed { from: edge.size() });
        }
        for leaf in leaves {
            edge.append(leaf);
        }
    }
    Ok(())
}
