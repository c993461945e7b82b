//! Proofs for auditors: the newest checkpoint, and that an entry of theirs is in the log that it signs.
//!
//! An entry is proven to whoever may read it; the hashes beside it tell nothing of others. Bundles of entries are not served:
//! they hold what every tenant did, and are in the exported files, for auditors of all.

use std::collections::{HashMap, HashSet};

use super::audit_read::unavailable;
use super::{Error, Service};
use crate::audit::checkpoint::{EntryProof, SignedCheckpoint};
use crate::audit::tiles::{Tile, TileId};
use crate::audit::tree::{NodeId, Plan};
use crate::audit::{Act, EntryDraft, Outcome, Scope, Withheld};
use crate::domain::context::OperationContext;
use crate::domain::id::EntryId;
use crate::storage::LogHead;

/// What an auditor gets: text as C2SP has it.
pub struct ProofAnswer(String);

impl ProofAnswer {
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Service {
    /// The newest published checkpoint, as a note (C2SP tlog-checkpoint).
    pub async fn log_checkpoint(&self, context: &OperationContext) -> Result<ProofAnswer, Error> {
        let permit = self.authorise_audit(context).await?;
        let head = self.audit_reader.log_head().await.map_err(unavailable)?;
        let has_one = !head.checkpoint.is_empty();
        let outcome = if has_one { Outcome::SUCCESS } else { Outcome::failed("entry_not_found") };
        let draft = EntryDraft::of_request(context, Act::AuditRead, outcome).policies(permit.policies());
        let receipt = self.commit(draft.count(0)).await?;
        let answer = Withheld::new(head.checkpoint).release(&receipt);
        if has_one { Ok(ProofAnswer(answer)) } else { Err(Error::EntryNotFound) }
    }

    /// The proof of one entry of the caller's tenant, or of the service itself (C2SP tlog-proof): what `strongroom audit check`
    /// and others take, beside the entry as it was read.
    pub async fn entry_proof(
        &self,
        context: &OperationContext,
        id: Option<EntryId>,
    ) -> Result<ProofAnswer, Error> {
        let permit = self.authorise_audit(context).await?;
        let scope = Scope::TenantAndService(permit.tenant());
        let proof = match id {
            Some(id) => self.prove(scope, id).await?,
            None => None,
        };
        // Whether there was one is not told: the time in the id alone says where to look.
        let is_pruned = match id.filter(|_| proof.is_none()) {
            Some(id) => self.audit_reader.is_pruned(id).await.map_err(unavailable)?,
            None => false,
        };
        let outcome = match (&proof, is_pruned) {
            (Some(_), _) => Outcome::SUCCESS,
            (None, true) => Outcome::failed("entry_pruned"),
            (None, false) => Outcome::failed("entry_not_found"),
        };
        let draft = EntryDraft::of_request(context, Act::AuditRead, outcome).policies(permit.policies());
        let receipt = self.commit(draft.count(u32::from(proof.is_some()))).await?;
        let proof = Withheld::new(proof).release(&receipt);
        let proof = proof.ok_or(if is_pruned { Error::EntryPruned } else { Error::EntryNotFound })?;
        Ok(ProofAnswer(proof.to_string()))
    }

    /// `None` where there is no such entry in scope, or no published checkpoint covers it yet.
    async fn prove(&self, scope: Scope, id: EntryId) -> Result<Option<EntryProof>, Error> {
        let Some((index, entry)) = self.audit_reader.find(scope, id).await.map_err(unavailable)? else {
            return Ok(None);
        };
        let head = self.audit_reader.log_head().await.map_err(unavailable)?;
        let Ok(signed) = SignedCheckpoint::parse(head.checkpoint.as_bytes()) else { return Ok(None) };
        let size = signed.checkpoint().size();
        let Some(plan) = Plan::inclusion(index, size) else { return Ok(None) };
        let tiles = self.tiles_of(&head, &plan, size).await?;
        let path = plan.resolve(|node| {
            let (id, first) = tile_of(node, size)?;
            tiles.get(&id).and_then(|tile| tile.node(node, first)).ok_or(Error::Tampered)
        })?;
        let proof = EntryProof::new(index, path, signed);
        // What was changed in the database proves nothing.
        proof.check(&entry).map_err(|_| Error::Tampered)?;
        Ok(Some(proof))
    }

    async fn tiles_of(&self, head: &LogHead, plan: &Plan, size: u64) -> Result<HashMap<TileId, Tile>, Error> {
        let ids: HashSet<TileId> =
            plan.nodes().map(|node| Ok(tile_of(node, size)?.0)).collect::<Result<_, Error>>()?;
        let mut tiles = HashMap::new();
        for id in ids {
            let tile = self.audit_reader.tile(&head.edge, id).await.map_err(unavailable)?;
            tiles.insert(id, tile.ok_or(Error::Tampered)?);
        }
        Ok(tiles)
    }
}

fn tile_of(node: NodeId, size: u64) -> Result<(TileId, u16), Error> {
    TileId::of_node(node, size).ok_or(Error::Internal("a proof needs a node outside of its tree"))
}
