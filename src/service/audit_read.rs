//! Reading the audit log, which is itself in the log.

use bytes::Bytes;

use super::{Error, Part, Service};
use crate::audit::{
    Act, AuditQuery, Cursor, EntryDraft, Filter, Order, Outcome, Page, PageSize, Scope, Withheld,
};
use crate::domain::clock::Timestamp;
use crate::domain::context::OperationContext;

/// What an auditor asks for; whose entries is decided here, from the identity.
#[derive(Debug, Default)]
pub struct EventsRequest {
    pub filter: Filter,
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub order: Order,
    pub after: Option<Cursor>,
    pub size: PageSize,
}

/// A page of entries, each exactly as it is stored and hashed.
pub struct EventsAnswer {
    body: Vec<u8>,
}

impl EventsAnswer {
    /// `{"entries":[…],"next":"…"}`; `next` is absent on the last page.
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
        let EventsRequest { filter, from, until, order, after, size } = request;
        let scope = Scope::TenantAndService(permit.tenant());
        let query = AuditQuery { scope, filter, from, until, order, after, size };
        let page = self.audit_reader.page(&query).await.map_err(|error| {
            tracing::warn!(error = %error, "audit.read_failed");
            Error::Unavailable(Part::Audit)
        })?;
        let draft = EntryDraft::of_request(context, Act::AuditRead, Outcome::SUCCESS)
            .policies(permit.policies())
            .count(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        let body = Withheld::new(render(&page));
        let receipt = self.commit(draft).await?;
        Ok(EventsAnswer { body: body.release(&receipt) })
    }
}

fn render(page: &Page) -> Vec<u8> {
    let mut body = br#"{"entries":["#.to_vec();
    body.extend_from_slice(&page.entries.join(&b','));
    body.push(b']');
    if let Some(next) = page.next {
        body.extend_from_slice(format!(r#","next":"{}""#, next.to_text()).as_bytes());
    }
    body.push(b'}');
    body
}
