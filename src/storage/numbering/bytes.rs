//! The bytes of what a step found: at hand, where this process committed it, and read otherwise.

use std::sync::Arc;

use tokio_postgres::{Row, Statement, Transaction};
use uuid::Uuid;

use super::super::pool::StorageError;
use super::Place;
use crate::audit::{Committed, CommittedId};
use crate::domain::id::{EntryId, TenantId};

/// Of what is not at hand.
pub(super) const BYTES: &str = "/* storage::sequence::take */
    SELECT CASE WHEN asked.is_write
        THEN (SELECT entry FROM audit_outbox o WHERE o.tenant_id = asked.tenant AND o.entry_id = asked.id)
        ELSE (SELECT entry FROM audit_entry e WHERE e.entry_id = asked.id) END
    FROM unnest($1::uuid[], $2::uuid[], $3::boolean[]) WITH ORDINALITY AS asked (tenant, id, is_write, place)
    ORDER BY asked.place";

/// What was at hand goes back with this, as far as there is room, but for what was taken: the next step must not come to read it.
pub(super) struct Bytes {
    committed: Option<Arc<Committed>>,
    ids: Vec<CommittedId>,
    each: Vec<Option<Vec<u8>>>,
    lent: Vec<bool>,
}

impl Bytes {
    /// Of entries with or without their bytes.
    pub async fn of(
        transaction: &Transaction<'_>,
        statement: &Statement,
        committed: Option<&Arc<Committed>>,
        rows: &[(Place, &Row)],
    ) -> Result<Self, StorageError> {
        let ids = rows.iter().map(|(place, row)| {
            let tenant = TenantId::from_uuid(row.try_get(1)?);
            Ok(CommittedId { tenant, entry: EntryId::from_uuid(place.id), is_write: row.try_get(4)? })
        });
        let ids = ids.collect::<Result<Vec<_>, StorageError>>()?;
        let each = committed.map_or_else(|| vec![None; ids.len()], |committed| committed.lend(&ids));
        let lent = each.iter().map(Option::is_some).collect();
        let mut bytes = Self { committed: committed.cloned(), ids, each, lent };
        for (each, (_, row)) in bytes.each.iter_mut().zip(rows).filter(|(each, _)| each.is_none()) {
            *each = row.try_get(2)?;
        }
        bytes.read_rest(transaction, statement).await?;
        Ok(bytes)
    }

    async fn read_rest(
        &mut self,
        transaction: &Transaction<'_>,
        statement: &Statement,
    ) -> Result<(), StorageError> {
        let missing = self.ids.iter().zip(&mut self.each).filter(|(_, each)| each.is_none());
        let (ids, places): (Vec<CommittedId>, Vec<_>) = missing.map(|(id, each)| (*id, each)).unzip();
        if ids.is_empty() {
            return Ok(());
        }
        let tenants: Vec<Uuid> = ids.iter().map(|id| *id.tenant.as_uuid()).collect();
        let entries: Vec<Uuid> = ids.iter().map(|id| *id.entry.as_uuid()).collect();
        let are_writes: Vec<bool> = ids.iter().map(|id| id.is_write).collect();
        let rows = transaction.query(statement, &[&tenants, &entries, &are_writes]).await?;
        for (place, row) in places.into_iter().zip(&rows) {
            *place = row.try_get(0)?;
        }
        Ok(())
    }

    /// `None` where the entry has gone since it was found.
    pub fn all(&self) -> &[Option<Vec<u8>>] {
        &self.each
    }

    /// Whether at least half of them were at hand; `None` where there are none.
    pub fn are_at_hand(&self) -> Option<bool> {
        let at_hand = self.lent.iter().filter(|is_lent| **is_lent).count();
        (!self.lent.is_empty()).then_some(at_hand * 2 >= self.lent.len())
    }

    /// Of one that gets its number.
    pub fn take(&mut self, at: usize) -> Option<Vec<u8>> {
        self.each.get_mut(at)?.take()
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        let Some(committed) = &self.committed else { return };
        let each = std::mem::take(&mut self.each).into_iter();
        let left = each.zip(&self.ids).zip(&self.lent).filter(|(_, is_lent)| **is_lent);
        committed.take_back(left.filter_map(|((bytes, id), _)| Some((*id, bytes?))));
    }
}
