//! Terms of records that were stored under another declaration of indexes, made anew while the service goes on, or removed. Several
//! instances may do it at once, and a kill loses a batch at most: what is left to do is in the rows.

use super::create_many::count;
use super::index::record_terms;
use super::open::wanted;
use super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, OutboxEntry, Outcome, RecordObject};
use crate::crypto::index::{IndexTerm, index_state};
use crate::crypto::{TenantKey, WantedField};
use crate::domain::id::{CollectionName, RecordId, TenantId};
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
                round.add(match permit.as_ref().zip(collection.index_digest()) {
                    Some((permit, declaration)) => self.reindex_collection(permit, declaration).await?,
                    None => self.forget_terms(next, collection).await?,
                });
            }
            tenant = Some(next);
        }
        Ok(round)
    }

    async fn reindex_collection(&self, permit: &Permit, declaration: &[u8; 32]) -> Result<IndexRound, Error> {
        let collection = permit.collection();
        let mut round = IndexRound::default();
        let root = self.keys.index_root(permit.tenant()).await?;
        let state = Some(index_state(&root, declaration));
        let place = (permit.tenant(), collection.name());
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
                if let Some((found, terms)) = self.terms_anew(permit, &root, found).await? {
                    records.push(Reindexed { record, version: found.stored.place.version, terms });
                }
            }
            self.store_terms(place, state, &records, &mut round).await?;
        }
        round.are_left = self.records.has_unindexed(place.0, place.1, state).await?;
        Ok(round)
    }

    /// Of a collection without an index: what its records were found by before goes, whether they open or not.
    async fn forget_terms(&self, tenant: TenantId, collection: &Collection) -> Result<IndexRound, Error> {
        let mut round = IndexRound::default();
        let place = (tenant, collection.name());
        if !self.records.has_unindexed(place.0, place.1, None).await? {
            return Ok(round);
        }
        let mut after: Option<RecordId> = None;
        loop {
            let batch = self.records.with_terms(place, after.as_ref(), AT_ONCE).await?;
            let Some((last, _)) = batch.last() else { break };
            after = Some(last.clone());
            let none = |(record, version)| Reindexed { record, version, terms: Vec::new() };
            let records: Vec<Reindexed> = batch.into_iter().map(none).collect();
            self.store_terms(place, None, &records, &mut round).await?;
        }
        round.are_left = self.records.has_unindexed(place.0, place.1, None).await?;
        Ok(round)
    }

    async fn store_terms(
        &self,
        place: (TenantId, &CollectionName),
        state: Option<i64>,
        records: &[Reindexed],
        round: &mut IndexRound,
    ) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let entry = self.reindexed_entry(place, records.len())?;
        let stored =
            entry.commit_with(async |bytes| self.records.reindex(place, state, records, bytes).await);
        match stored.await {
            Ok(_) => round.made += records.len(),
            // All of them were changed meanwhile, or their people are being erased.
            Err(StorageError::Stale) => round.is_overtaken = true,
            Err(error) => return Err(error.into()),
        }
        Ok(())
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
        (tenant, collection): (TenantId, &CollectionName),
        records: usize,
    ) -> Result<OutboxEntry, Error> {
        let draft = EntryDraft::of_service(Act::RecordIndex, Outcome::SUCCESS)
            .tenant(tenant)
            .record(RecordObject::new(collection.clone()))
            .count(count(records));
        self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))
    }
}
