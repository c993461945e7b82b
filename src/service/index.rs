//! What a version is found by: the terms that are stored with it.

use super::{Error, Service};
use crate::crypto::index::{IndexTerm, RecordIndex, TermMaker};
use crate::crypto::{PlainField, SealError, SealedRecord, TenantKey};
use crate::domain::id::FieldId;
use crate::domain::index::IndexSpec;
use crate::domain::secret::SecretBytes;
use crate::policy::{Collection, Permit};

impl Service {
    /// `sealed` with the terms of `fields`, which are all of the version's. The permit is that of the write.
    pub(super) async fn indexed(
        &self,
        permit: &Permit,
        sealed: SealedRecord,
        fields: &[PlainField],
    ) -> Result<SealedRecord, Error> {
        let collection = permit.collection();
        let Some(declaration) = collection.index_digest() else { return Ok(sealed) };
        let root = self.keys.index_root(permit.tenant()).await?;
        let values = fields.iter().map(|plain| (plain.id, &plain.value));
        let terms = record_terms(&root, collection, values)?;
        Ok(sealed.indexed(RecordIndex::new(&root, declaration, terms)))
    }
}

/// The terms of a version's values.
pub(super) fn record_terms<'v>(
    root: &TenantKey,
    collection: &Collection,
    values: impl Iterator<Item = (FieldId, &'v SecretBytes)>,
) -> Result<Vec<IndexTerm>, Error> {
    let mut terms = Vec::new();
    for (id, value) in values {
        let Some((field, index)) =
            collection.field_by_id(id).and_then(|field| Some((field, field.index.as_ref()?)))
        else {
            continue;
        };
        for (spec, part) in index.parts(field.field_type, value) {
            terms.extend(terms_of(root, collection, (id, spec), &[part])?);
        }
    }
    Ok(terms)
}

/// The terms of parts in one index of one field.
pub(super) fn terms_of(
    root: &TenantKey,
    collection: &Collection,
    (field, spec): (FieldId, IndexSpec),
    parts: &[SecretBytes],
) -> Result<Vec<IndexTerm>, Error> {
    let refused = |_: SealError| Error::Internal("the key of an index cannot be derived");
    let maker = TermMaker::new(root, collection.name(), field, spec).map_err(refused)?;
    Ok(parts.iter().map(|part| maker.term(part)).collect())
}
