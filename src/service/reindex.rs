//! Terms of records that were stored under another declaration of indexes, made anew while the service goes on. Several
//! instances may do it at once, and a kill loses a batch at most: what is left to do is in the rows.

use std::sync::Arc;

use super::create_many::count;
use super::index::record_terms;
use super::open::wanted;
use super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, OutboxEntry, Outcome, RecordObject};
use crate::crypto::index::{IndexTerm, index_state};
use crate::crypto::{TenantKey, WantedField};
use crate::domain::id::{RecordId, TenantId};
use crate::policy::{Collection, Permit};
use crate::storage::{FoundRecord, Reindexed, StorageError};

/// Records of one statement.
const AT_ONCE: i64 = 100;

/// How far a round has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexRound {
    /// Records whose terms were made.
    pub made: usize,
    /// Some were changed while theirs were made, and may need it still.
    pub is_overtaken: bool,
    /// Some are left; if none was overtaken, they do not open.
    pub are_left: bool,
}

impl IndexRound {
    const fn add(&mut self, other: Self) {
        self.made += other.made;
        self.is_overtaken |= other.is_overtaken;
        self.are_left |= other.are_left;
    }
}

impl Service {
    /// Makes the terms of all records anew that need it, of all tenants.
    pub async fn reindex(&self) -> Result<IndexRound, Error> {
        self.gate.pass()?;
        let (mut tenant, mut round) = (None, IndexRound::default());
        while let Some(next) = self.records.tenant_after(tenant).await? {
            let policy = self.policy.load_full();
            for collection in policy.policy_set().collections() {
                let permit = policy.permit_indexing(next, collection);
                round.add(self.reindex_collection(next, collection, permit.as_ref()).await?);
            }
            tenant = Some(next);
        }
        Ok(round)
    }

    /// Without a permit the collection has no index: what it was found by before goes.
    async fn reindex_collection(
        &self,
        tenant: TenantId,
        collection: &Arc<Collection>,
        permit: Option<&Permit>,
    ) -> Result<IndexRound, Error> {
        let mut round = IndexRound::default();
        let indexing = match permit.zip(collection.index_digest()) {
            Some((permit, declaration)) => Some((permit, declaration, self.keys.index_root(tenant).await?)),
            None => None,
        };
        let state = indexing.as_ref().map(|(_, declaration, root)| index_state(root, declaration));
        let place = (tenant, collection.name());
        if !self.records.has_unindexed(place.0, place.1, state).await? {
            return Ok(round);
        }
        let mut after: Option<RecordId> = None;
        loop {
            let batch = self.records.unindexed(place, state, after.as_ref(), AT_ONCE).await?;
            let Some((last, _)) = batch.last() else { break };
            after = Some(last.clone());
            let mut records = Vec::with_capacity(batch.len());
            for (record, found) in batch {
                // What does not open is in the service's log, and goes on being looked for by whoever reads it.
                let made = match &indexing {
                    Some((permit, _, root)) => self.terms_anew(permit, root, found).await?,
                    None => found.ok().map(|found| (found, Vec::new())),
                };
                if let Some((found, terms)) = made {
                    records.push(Reindexed { record, version: found.stored.place.version, terms });
                }
            }
            if records.is_empty() {
                continue;
            }
            let entry = self.reindexed_entry(tenant, collection, records.len())?;
            let stored =
                entry.commit_with(async |bytes| self.records.reindex(place, state, &records, bytes).await);
            match stored.await {
                Ok(_) => round.made += records.len(),
                // All of them were changed meanwhile, or their people are being erased.
                Err(StorageError::Stale) => round.is_overtaken = true,
                Err(error) => return Err(error.into()),
            }
        }
        round.are_left = self.records.has_unindexed(place.0, place.1, state).await?;
        Ok(round)
    }

    /// `None` for a record that does not open.
    async fn terms_anew(
        &self,
        permit: &Permit,
        root: &TenantKey,
        found: Result<FoundRecord, StorageError>,
    ) -> Result<Option<(FoundRecord, Vec<IndexTerm>)>, Error> {
        let found = match found.map_err(Error::from) {
            Ok(found) => found,
            Err(Error::Tampered) => return Ok(None),
            Err(error) => return Err(error),
        };
        let collection = permit.collection();
        let fields: Vec<WantedField> = collection.indexed().map(|(field, _)| wanted(field)).collect();
        match self.open_stored(permit, &found, &fields).await {
            Ok(opened) => {
                let values = opened.iter().map(|opened| (opened.id, &opened.value));
                let terms = record_terms(root, collection, values)?;
                Ok(Some((found, terms)))
            }
            Err(Error::NotFound | Error::Tampered) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn reindexed_entry(
        &self,
        tenant: TenantId,
        collection: &Arc<Collection>,
        records: usize,
    ) -> Result<OutboxEntry, Error> {
        let draft = EntryDraft::of_service(Act::RecordIndex, Outcome::SUCCESS)
            .tenant(tenant)
            .record(RecordObject::new(collection.name().clone()))
            .count(count(records));
        self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))
    }
}
