//! List: which records a collection holds. Ids, versions and times; no value, sealed or not, is touched.

use std::sync::Arc;

use serde_json::json;

use super::create_many::count;
use super::{Error, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject, Withheld};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::RecordId;
use crate::policy::Collection;
use crate::storage::ListedRecord;

impl Service {
    /// A page of records after `after`, in the order of their ids, which is that of their making to the millisecond:
    /// `{"records":[{"id","version","updated_at"}],"next"}`, where `next`, absent on the last page, goes into the next
    /// request's cursor. Records that are made while somebody pages are met, none is met twice.
    pub async fn list(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        after: Option<RecordId>,
        limit: u16,
    ) -> Result<serde_json::Value, Error> {
        let permit = self.authorise(context, collection, Action::List, None).await?;
        let name = permit.collection().name();
        let wanted = i64::from(limit) + 1;
        let mut records = self.records.list(permit.tenant(), name, after.as_ref(), wanted).await?;
        let has_more = records.len() > usize::from(limit);
        records.truncate(limit.into());
        let entry = EntryDraft::of_request(context, Act::RecordList, Outcome::SUCCESS)
            .policies(permit.policies())
            .record(RecordObject::new(name.clone()))
            .count(count(records.len()));
        let answer = Withheld::new(render(&records, has_more));
        let receipt = self.commit(entry).await?;
        Ok(answer.release(&receipt))
    }
}

fn render(records: &[ListedRecord], has_more: bool) -> serde_json::Value {
    let each = |listed: &ListedRecord| {
        json!({
            "id": listed.record.as_str(),
            "version": listed.version.get(),
            "updated_at": listed.updated_at.to_rfc3339(),
        })
    };
    let mut answer = json!({ "records": records.iter().map(each).collect::<Vec<_>>() });
    if let (true, Some(last), Some(members)) = (has_more, records.last(), answer.as_object_mut()) {
        members.insert("next".to_owned(), json!(last.record.as_str()));
    }
    answer
}
