//! The exported log as it is now: read where that may block, believed as far as its newest checkpoint vouches for it.

use tokio::runtime::Handle;

use super::{PruneFault, Refusal, Stop};
use crate::audit::checkpoint::{SignedCheckpoint, Trust};
use crate::audit::export::{CHECKPOINT, ExportError, ReadOnlyDirectory, SignedTree, Source};
use crate::audit::tiles::{Edge, FULL};
use crate::audit::tree::TreeHash;
use crate::config::AuditExportPlace;
use crate::jobs::bucket::LogBucket;

type Tree = SignedTree<Box<dyn Source>>;

pub(super) struct Exported {
    size: u64,
    root: TreeHash,
    /// Away while it is read.
    tree: Option<Tree>,
}

impl Exported {
    /// Refused where nothing is there, or nothing that these keys vouch for, with as many witnesses as they demand.
    pub async fn open(place: &AuditExportPlace, trust: Trust) -> Result<Self, Stop> {
        let (place, runtime) = (place.clone(), Handle::current());
        let opened = tokio::task::spawn_blocking(move || open(&place, runtime, &trust)).await;
        let tree = opened.map_err(|_| PruneFault::Ended)??;
        Ok(Self { size: tree.size(), root: tree.root(), tree: Some(tree) })
    }

    /// Of how many entries the newest checkpoint speaks, and their root.
    pub const fn checkpoint(&self) -> (u64, TreeHash) {
        (self.size, self.root)
    }

    /// The leaves of a full bundle, which has exactly their entries.
    pub async fn bundle(&mut self, index: u64) -> Result<Vec<TreeHash>, Stop> {
        let end = (index + 1) * u64::from(FULL);
        if end > self.size {
            return Err(Stop::Refused(Refusal::ExportBehind { size: self.size, end }));
        }
        self.read(move |tree| tree.bundle(index)).await
    }

    /// The tree as it was at this size.
    pub async fn before(&mut self, size: u64) -> Result<Edge, Stop> {
        self.read(move |tree| tree.before(size)).await
    }

    async fn read<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Tree) -> Result<T, ExportError> + Send + 'static,
    ) -> Result<T, Stop> {
        let mut tree = self.tree.take().ok_or(PruneFault::Ended)?;
        let read = tokio::task::spawn_blocking(move || {
            let read = work(&mut tree);
            (tree, read)
        });
        let (tree, read) = read.await.map_err(|_| PruneFault::Ended)?;
        self.tree = Some(tree);
        read.map_err(stop)
    }
}

fn open(place: &AuditExportPlace, runtime: Handle, trust: &Trust) -> Result<Tree, Stop> {
    let source: Box<dyn Source> = match place {
        AuditExportPlace::Directory(directory) => Box::new(ReadOnlyDirectory::new(directory.clone())),
        AuditExportPlace::Bucket(bucket) => Box::new(LogBucket::open(bucket, runtime).map_err(stop)?),
    };
    let bytes = source.read(CHECKPOINT).map_err(stop)?.ok_or(Stop::Refused(Refusal::NotExported))?;
    let distrust = |why: String| Stop::Refused(Refusal::ExportDistrusted { why });
    let signed = SignedCheckpoint::parse(&bytes).map_err(|why| distrust(why.to_string()))?;
    let endorsement = trust.endorse(&signed).map_err(|why| distrust(why.to_string()))?;
    if !endorsement.quorum {
        return Err(distrust(String::from("fewer witnesses than the quorum have seen it")));
    }
    SignedTree::open(source, signed.checkpoint()).map_err(stop)
}

fn stop(error: ExportError) -> Stop {
    match error {
        ExportError::Damaged { path } => Stop::Refused(Refusal::ExportDiffers { path }),
        other => Stop::Fault(PruneFault::Export(other)),
    }
}
