//! Proof that an entry is durable, and the values that wait for it.

use std::sync::Arc;

use super::committer::{Committed, CommittedId, Seen};
use crate::domain::id::{EntryId, TenantId};

/// Proof that the entries of a request are durable. Only a confirmed commit makes one.
///
/// ```compile_fail,E0451
/// let forged = strongroom::audit::Receipt { entries: 1 };
/// ```
///
/// ```compile_fail,E0599
/// fn twice(receipt: strongroom::audit::Receipt) -> (strongroom::audit::Receipt, strongroom::audit::Receipt) {
///     (receipt.clone(), receipt)
/// }
/// ```
#[derive(Debug)]
pub struct Receipt {
    entries: usize,
}

impl Receipt {
    pub(super) const fn confirmed(entries: usize) -> Self {
        Self { entries }
    }

    /// How many entries it stands for.
    pub const fn entries(&self) -> usize {
        self.entries
    }
}

/// A value that may not leave before its entry is durable. Dropped without a receipt, it is gone.
///
/// ```compile_fail,E0616
/// let withheld = strongroom::audit::Withheld::new(String::from("value"));
/// let value = withheld.0; // the field is private
/// ```
///
/// ```compile_fail,E0277
/// let withheld = strongroom::audit::Withheld::new(String::from("value"));
/// println!("{withheld:?}"); // no Debug, whatever it holds
/// ```
///
/// ```compile_fail,E0599
/// let withheld = strongroom::audit::Withheld::new(String::from("value"));
/// let length = withheld.len(); // no Deref
/// ```
#[must_use = "release it with a receipt"]
pub struct Withheld<T>(T);

impl<T> Withheld<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The only way out.
    pub fn release(self, _receipt: &Receipt) -> T {
        self.0
    }
}

/// The entry of a write, to be inserted into `audit_outbox` by the statement that stores the data.
#[must_use = "a write without its entry must not be committed"]
pub struct OutboxEntry {
    outbox: OutboxBytes,
    noted: Noted,
}

/// Where it is noted that an entry was committed.
#[derive(Clone)]
pub(super) struct Noted {
    /// For the next signed flush to list.
    pub seen: Option<Arc<Seen>>,
    /// For whoever gives it its number.
    pub committed: Arc<Committed>,
}

/// What the data statement needs of the entry.
pub struct OutboxBytes {
    entry: EntryId,
    tenant: TenantId,
    bytes: Vec<u8>,
}

impl OutboxBytes {
    /// Goes into `audit_outbox.entry_id` and `record.audit_entry_id`.
    pub const fn entry_id(&self) -> EntryId {
        self.entry
    }

    pub const fn tenant_id(&self) -> TenantId {
        self.tenant
    }

    /// The canonical bytes, stored as they are.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl OutboxEntry {
    pub(super) const fn new(entry: EntryId, tenant: TenantId, bytes: Vec<u8>, noted: Noted) -> Self {
        Self { outbox: OutboxBytes { entry, tenant, bytes }, noted }
    }

    /// The id, known before the write.
    pub const fn entry_id(&self) -> EntryId {
        self.outbox.entry
    }

    /// Runs the write and makes the receipt when it says that its transaction, the entry included, is committed.
    /// `write` must insert the bytes in the same transaction as the data and return `Ok` only after the commit was
    /// confirmed; an unknown outcome is an error (data and entry are then both there or both not), and so is one that
    /// stored nothing because somebody else was faster: what is noted here is listed by the next flush, and missed by
    /// whoever verifies the log where it is not there. `write` may be tried again by the transaction runner: the bytes and
    /// the id stay the same.
    pub async fn commit_with<T, E>(
        self,
        write: impl AsyncFnOnce(&OutboxBytes) -> Result<T, E>,
    ) -> Result<(T, Receipt), E> {
        let value = write(&self.outbox).await?;
        self.noted.note(self.outbox);
        Ok((value, Receipt::confirmed(1)))
    }

    /// As [`Self::commit_with`], for the entries of one request that are inserted by one transaction.
    pub async fn commit_all_with<T, E>(
        entries: Vec<Self>,
        write: impl AsyncFnOnce(&[OutboxBytes]) -> Result<T, E>,
    ) -> Result<(T, Receipt), E> {
        let noted = entries.first().map(|entry| entry.noted.clone());
        let entries: Vec<OutboxBytes> = entries.into_iter().map(|entry| entry.outbox).collect();
        let value = write(&entries).await?;
        let receipt = Receipt::confirmed(entries.len());
        for (noted, entry) in noted.iter().cycle().zip(entries) {
            noted.note(entry);
        }
        Ok((value, receipt))
    }
}

impl Noted {
    fn note(&self, OutboxBytes { entry, tenant, mut bytes }: OutboxBytes) {
        if let Some(seen) = &self.seen {
            seen.note(entry);
        }
        // It may have room for as much again.
        bytes.shrink_to_fit();
        self.committed.keep([(CommittedId { tenant, entry, is_write: true }, bytes)]);
    }
}
