//! What a search shows, after the log durably says so: one entry for each record, and one for the search.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    Disclosure, Error, OpenedField, OperationContext, Page, SearchPermits, SearchRequest, Service, ViewOf,
    render,
};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject};
use crate::domain::id::{FieldName, RecordId};
use crate::policy::Collection;
use crate::service::create_many::count;
use crate::storage::FoundRecord;

/// Records as they leave: only this file makes one, and only with an audit receipt.
pub struct SearchAnswer {
    body: Zeroizing<Vec<u8>>,
}

impl SearchAnswer {
    /// `{"records":[…],"next":"…","incomplete":true,"unreadable":1}`: the records of the page; the last one's id where there
    /// are more; that there are records which are not indexed (yet) as the policy says, and are not found; how many that may
    /// be what was asked for failed their integrity check. The memory is wiped when the last reference to it is gone.
    pub fn into_body(self) -> Bytes {
        Bytes::from_owner(self.body)
    }
}

/// A record that is what was asked for.
pub(super) struct Matched<'p> {
    pub found: FoundRecord,
    pub opened: Vec<OpenedField>,
    pub view: &'p ViewOf<'p>,
}

impl Service {
    pub(super) async fn answer_search(
        &self,
        context: &OperationContext,
        (collection, permits): (&Arc<Collection>, &SearchPermits),
        page: Page<'_>,
        request: &SearchRequest,
    ) -> Result<SearchAnswer, Error> {
        let asked: Option<Arc<[FieldName]>> = request.shown.fields.as_deref().map(Into::into);
        let mut entries = Vec::with_capacity(page.matched.len() + page.unreadable.len() + 1);
        let mut disclosures = Vec::with_capacity(page.matched.len());
        let with_asked = |entry: EntryDraft| asked.iter().cloned().fold(entry, EntryDraft::asked);
        for Matched { found, opened, view } in &page.matched {
            let disclosure = render(found, &view.selection, opened)?;
            let entry = EntryDraft::of_request(context, Act::RecordRead, Outcome::SUCCESS)
                .policies(view.permit.policies())
                .record(disclosure.object.clone());
            entries.push(with_asked(found.stored.place.subject.into_iter().fold(entry, EntryDraft::subject)));
            disclosures.push((&found.stored.place.record, disclosure));
        }
        for (record, permit) in &page.unreadable {
            let object = RecordObject::new(collection.name().clone()).id(record.clone());
            let entry =
                EntryDraft::of_request(context, Act::RecordRead, Outcome::failed("record_unreadable"));
            entries.push(with_asked(entry.policies(permit.policies()).record(object)));
        }
        entries.push(
            EntryDraft::of_request(context, Act::RecordSearch, Outcome::SUCCESS)
                .policies(&permits.policies)
                .record(RecordObject::new(collection.name().clone()))
                .asked(request.query.names())
                .count(count(page.matched.len())),
        );
        let receipt = self.commit_all(entries).await?;
        let mut body = Body::new(&disclosures);
        let mut last = None;
        for (record, disclosure) in disclosures {
            last = Some(record);
            body.record(&disclosure.body.release(&receipt));
        }
        let next = last.filter(|_| page.has_more);
        Ok(SearchAnswer { body: body.finish(next, page.is_complete, page.unreadable.len()) })
    }
}

/// The body, in one buffer that was made large enough.
struct Body {
    out: Zeroizing<Vec<u8>>,
    is_first: bool,
}

impl Body {
    fn new(disclosures: &[(&RecordId, Disclosure)]) -> Self {
        let room: usize = disclosures.iter().map(|(_, disclosure)| disclosure.body_bytes + 1).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(room + 256));
        out.extend_from_slice(br#"{"records":["#);
        Self { out, is_first: true }
    }

    fn record(&mut self, body: &[u8]) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(body);
    }

    fn finish(mut self, next: Option<&RecordId>, is_complete: bool, unreadable: usize) -> Zeroizing<Vec<u8>> {
        self.out.push(b']');
        if let Some(next) = next {
            self.out.extend_from_slice(format!(",\"next\":\"{}\"", next.as_str()).as_bytes());
        }
        if !is_complete {
            self.out.extend_from_slice(b",\"incomplete\":true");
        }
        if unreadable > 0 {
            self.out.extend_from_slice(format!(",\"unreadable\":{unreadable}").as_bytes());
        }
        self.out.push(b'}');
        self.out
    }
}
