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

impl Service {
    /// Makes the terms of all records anew that need it, of all tenants; how many that were, and whether some are left that
    /// cannot be opened.
    pub async fn reindex(&self) -> Result<(usize, bool), Error> {
        self.gate.pass()?;
        self.gate.pass_to_keys()?;
        let (mut tenant, mut made, mut are_left) = (None, 0, false);
        while let Some(next) = self.records.tenant_after(tenant).await? {
            let policy = self.policy.load_full();
            for collection in policy.policy_set().collections() {
                let Some(permit) = policy.permit_indexing(next, collection) else { continue };
                let (of_these, left) = self.reindex_collection(&permit).await?;
                made += of_these;
                are_left |= left;
            }
            tenant = Some(next);
        }
        Ok((made, are_left))
    }

    async fn reindex_collection(&self, permit: &Permit) -> Result<(usize, bool), Error> {
        let collection = permit.collection();
        let Some(declaration) = collection.index_digest() else { return Ok((0, false)) };
        let root = self.keys.index_root(permit.tenant()).await?;
        let state = index_state(&root, declaration);
        let place = (permit.tenant(), collection.name());
        if !self.records.has_unindexed(place.0, place.1, state).await? {
            return Ok((0, false));
        }
        let (mut after, mut made): (Option<RecordId>, usize) = (None, 0);
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
            if records.is_empty() {
                continue;
            }
            let entry = self.reindexed_entry(permit.tenant(), collection, records.len())?;
            let stored =
                entry.commit_with(async |bytes| self.records.reindex(place, state, &records, bytes).await);
            match stored.await {
                Ok(_) => made += records.len(),
                // All of them were changed meanwhile, or their people are being erased.
                Err(StorageError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((made, self.records.has_unindexed(place.0, place.1, state).await?))
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
            Err(Error::Tampered) => Ok(None),
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
