//! Reading the audit log, which is itself in the log.

use bytes::Bytes;
use uuid::Uuid;

use super::{Error, Part, Service};
use crate::audit::render::Format;
use crate::audit::{
    Act, AuditQuery, Cursor, EntryDraft, Filter, Order, Outcome, Page, PageSize, Scope, Withheld,
};
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;
use crate::storage::StorageError;

/// What an auditor asks for; whose entries is decided here, from the identity.
#[derive(Debug, Default)]
pub struct EventsRequest {
    pub filter: Filter,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub order: Order,
    pub after: Option<Cursor>,
    pub size: PageSize,
    /// Other than the entries as they are stored.
    pub form: Option<Format>,
}

/// A page of entries.
pub struct EventsAnswer {
    body: Vec<u8>,
    next: Option<String>,
    pruned_until: Option<String>,
}

impl EventsAnswer {
    /// The cursor of the next page; `None` on the last one.
    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// Entries before this time are in the exported files only; `None` where none was asked for.
    pub fn pruned_until(&self) -> Option<&str> {
        self.pruned_until.as_deref()
    }

    /// In the form that was asked for, or, each exactly as it is stored and hashed,
    /// `{"entries":[…],"next":"…","pruned_until":"…"}`, where `next` is absent on the last page.
    pub fn into_body(self) -> Bytes {
        Bytes::from(self.body)
    }
}

impl Service {
    /// Entries of the caller's tenant and of the service itself. The reading is in the log before it is answered.
    pub async fn events(
        &self,
        context: &OperationContext,
        request: EventsRequest,
    ) -> Result<EventsAnswer, Error> {
        let permit = self.authorise_audit(context).await?;
        let EventsRequest { filter, from, until, order, after, size, form } = request;
        let scope = Scope::TenantAndService(permit.tenant());
        let query = AuditQuery { scope, filter, from, until, order, after, size };
        let page = self.audit_reader.page(&query).await.map_err(unavailable)?;
        let pruned = self.audit_reader.pruned_until().await.map_err(unavailable)?;
        let pruned_until =
            pruned.filter(|until| from.is_none_or(|from| from < *until)).map(Timestamp::to_rfc3339);
        let body = match form {
            Some(form) => self.formed(&page, form).await?,
            None => render(&page, pruned_until.as_deref()),
        };
        let draft = EntryDraft::of_request(context, Act::AuditRead, Outcome::SUCCESS)
            .policies(permit.policies())
            .count(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        let body = Withheld::new(body);
        let receipt = self.commit(draft).await?;
        Ok(EventsAnswer { body: body.release(&receipt), next: page.next.map(Cursor::to_text), pruned_until })
    }

    /// Each with the number by which it is proven, as far as it has one by now.
    async fn formed(&self, page: &Page, form: Format) -> Result<Vec<u8>, Error> {
        let ids: Vec<Option<Uuid>> = page.entries.iter().map(|entry| id_of(entry)).collect();
        let known: Vec<Uuid> = ids.iter().copied().flatten().collect();
        let numbers = self.audit_reader.numbers(&known).await.map_err(unavailable)?;
        let number = |id: &Option<Uuid>| numbers.get(id.as_ref()?).copied();
        let lines = page.entries.iter().zip(&ids);
        let lines = lines.map(|(entry, id)| form.line(self.origin.as_str(), number(id), entry));
        // What is no entry has no such form.
        let lines: Vec<String> = lines.collect::<Option<_>>().ok_or(Error::Tampered)?;
        Ok(form.document(&lines).into_bytes())
    }
}

fn id_of(entry: &[u8]) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: Uuid,
    }
    serde_json::from_slice::<Named>(entry).ok().map(|named| named.id)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn unavailable(error: StorageError) -> Error {
    tracing::warn!(error = %error, "audit.read_failed");
    Error::Unavailable(Part::Audit)
}

fn render(page: &Page, pruned_until: Option<&str>) -> Vec<u8> {
    let mut body = br#"{"entries":["#.to_vec();
    body.extend_from_slice(&page.entries.join(&b','));
    body.push(b']');
    if let Some(next) = page.next {
        body.extend_from_slice(format!(r#","next":"{}""#, next.to_text()).as_bytes());
    }
    if let Some(until) = pruned_until {
        body.extend_from_slice(format!(r#","pruned_until":"{until}""#).as_bytes());
    }
    body.push(b'}');
    body
}
