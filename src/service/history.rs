//! History: which versions a record has had. Their values are read one version at a time, as any other read.

use std::sync::Arc;

use serde_json::json;

use super::create_many::count;
use super::{Error, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject, Withheld};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{RecordId, RecordVersion};
use crate::policy::Collection;
use crate::storage::FoundVersion;

impl Service {
    /// A page of versions below `before`, newest first: `{"versions":[{"version","updated_at","entry"}],"next"}`, where
    /// `entry` is the id of the audit entry that was committed with the version and `next`, absent on the last page,
    /// goes into the next request's `before`. A record that is deleted has no history for anybody.
    pub async fn history(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        record: RecordId,
        before: Option<RecordVersion>,
        limit: u16,
    ) -> Result<serde_json::Value, Error> {
        let permit = self.authorise(context, collection, Action::History, Some(&record)).await?;
        let name = permit.collection().name();
        // One more than the page, to know whether there is another.
        let mut versions =
            self.records.versions(permit.tenant(), name, &record, before, i64::from(limit) + 1).await?;
        // Below version 1 there is nothing, and whoever follows `next` never gets there.
        if versions.is_empty() {
            let code = "record_not_found";
            return Err(self.note_failure(context, &permit, Some(&record), code, Error::NotFound).await);
        }
        let has_more = versions.len() > usize::from(limit);
        versions.truncate(limit.into());
        let entry = EntryDraft::of_request(context, Act::RecordHistory, Outcome::SUCCESS)
            .policies(permit.policies())
            .record(RecordObject::new(name.clone()).id(record))
            .count(count(versions.len()));
        let answer = Withheld::new(render(&versions, has_more));
        let receipt = self.commit(entry).await?;
        Ok(answer.release(&receipt))
    }
}

fn render(versions: &[FoundVersion], has_more: bool) -> serde_json::Value {
    let each = |found: &FoundVersion| {
        json!({
            "version": found.version.get(),
            "updated_at": found.at.to_rfc3339(),
            "entry": found.entry.to_string(),
        })
    };
    let mut answer = json!({ "versions": versions.iter().map(each).collect::<Vec<_>>() });
    if let (true, Some(last), Some(members)) = (has_more, versions.last(), answer.as_object_mut()) {
        members.insert("next".to_owned(), json!(last.version.get()));
    }
    answer
}
