//! List: which records a collection holds. Ids, versions and times; no value, sealed or not, is touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::create_many::count;
use super::{Error, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject, Withheld};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::RecordId;
use crate::policy::{Collection, Prospect};
use crate::storage::{ListedFor, ListedRecord};

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
        let name = collection.name();
        let wanted = i64::from(limit) + 1;
        let (policies, mut records) = match self.prospect(context, collection, Action::List, None).await? {
            Prospect::Permit(permit) => {
                let records = self.records.list(permit.tenant(), name, after.as_ref(), wanted).await?;
                (permit.policies().to_vec(), records)
            }
            Prospect::Depends(_) => self.list_related(context, collection, after.as_ref(), wanted).await?,
        };
        let has_more = records.len() > usize::from(limit);
        records.truncate(limit.into());
        let entry = EntryDraft::of_request(context, Act::RecordList, Outcome::SUCCESS)
            .policies(&policies)
            .record(RecordObject::new(name.clone()))
            .count(count(records.len()));
        let answer = Withheld::new(render(&records, has_more));
        let receipt = self.commit(entry).await?;
        Ok(answer.release(&receipt))
    }

    /// The records of those to whom the person behind the caller stands in a way that permits it, and the policies that do.
    async fn list_related(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        after: Option<&RecordId>,
        wanted: i64,
    ) -> Result<(Vec<Arc<str>>, Vec<ListedRecord>), Error> {
        // Who broke the glass knows for whom, and lists nothing by it.
        let permits = self.policy.load().permits(context, collection, Action::List);
        let permits: Vec<_> = permits.into_iter().filter(|(kind, _)| !kind.break_glass).collect();
        let (Some(person), Some((_, first))) = (context.actor.person(), permits.first()) else {
            let unrelated = self.permit_unrelated(context, collection, Action::List).await;
            return Err(unrelated.err().unwrap_or(Error::Internal("nobody is related to somebody")));
        };
        let listed_for = ListedFor {
            subject: person.subject,
            care_teams: Arc::clone(&person.care_teams),
            relationships: permits.iter().map(|(kind, _)| *kind).collect(),
        };
        let place = (first.tenant(), collection.name());
        let records = self.records.list_related(place, &listed_for, after, wanted).await?;
        let policies: BTreeSet<&Arc<str>> =
            permits.iter().flat_map(|(_, permit)| permit.policies()).collect();
        Ok((policies.into_iter().cloned().collect(), records))
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
