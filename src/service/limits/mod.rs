//! Limits: how many requests and how many revealed records a client, and the person behind it, may have, as
//! `policy/limits.toml` says. Kept in the memory of this instance; several instances give as much each. Counted by time that nobody
//! sets: a clock that is put right refuses nobody.
//!
//! A flood of refusals is no flood of entries: the first is on record before it is answered, what follows within a minute
//! is counted, and the count is in the next entry, of a later refusal or of [`Service::report_refusals`].

mod refusals;
mod uses;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::authorise::act_of;
use super::{Error, Service};
use crate::audit::{Act, EntryDraft, Outcome, RecordObject};
use crate::domain::action::Action;
use crate::domain::actor::CertificateFacts;
use crate::domain::context::OperationContext;
use crate::domain::id::RecordId;
use crate::policy::Collection;
use crate::telemetry::metrics;
use refusals::Noted;
pub use uses::Limit;
pub(super) use uses::{Charge, Uses};
use uses::{Use, Whose};

impl Service {
    /// Counts a request of a listed client, before anything else is done for it.
    pub async fn charge_client(&self, context: &OperationContext) -> Result<(), Error> {
        self.charge_request(context, Whose::Client).await
    }

    /// Counts it for the person behind the client, if there is one.
    pub async fn charge_person(&self, context: &OperationContext) -> Result<(), Error> {
        self.charge_request(context, Whose::Person).await
    }

    /// Puts a caller with a valid chain but no admission on record. It is refused whether or not the log can be written, so a
    /// failure is only logged. It leaves no more entries than a client may make requests; what is beyond is counted, as for
    /// a client.
    pub async fn note_refused_caller(
        &self,
        certificate: &Arc<CertificateFacts>,
        source: SocketAddr,
        code: &'static str,
    ) {
        let draft = || EntryDraft::of_stranger(source, Some(certificate), Outcome::refused(code));
        let now = self.clock.steady();
        let taken = {
            let policy = self.policy.load();
            self.uses.take_from_stranger(certificate, policy.policy_set().limits(), now)
        };
        let Err(owner) = taken else { return self.note(draft()).await };
        metrics::limited(Limit::Requests.word(), owner.whose.word());
        let noted = owner.refused(Limit::Requests).note(now, draft);
        match noted {
            Noted::Report(number) => {
                if self.put_on_record(draft().count(number)).await.is_err() {
                    owner.refused(Limit::Requests).restore(number, None);
                }
            }
            Noted::Counted(true) => self.uses.unreported().push((owner, Limit::Requests)),
            Noted::Counted(false) => {}
        }
    }

    async fn charge_request(&self, context: &OperationContext, whose: Whose) -> Result<(), Error> {
        let (now, limit) = (self.clock.steady(), Limit::Requests);
        let taken = {
            let policy = self.policy.load();
            self.uses.take(&context.actor, policy.policy_set().limits(), (whose, limit), 1, now)
        };
        match taken {
            Ok(_) => Ok(()),
            Err((owner, wait)) => {
                let draft =
                    || EntryDraft::of_request(context, Act::AccessDenied, Outcome::refused(limit.code()));
                Err(self.refuse(&owner, limit, wait, draft).await)
            }
        }
    }

    /// Takes `amount` records from the allowances of the person and of the client, before anything of them is looked for.
    /// The person first: one who is over the limit takes nothing from the client that others use as well.
    pub(super) async fn charge_records(
        &self,
        context: &OperationContext,
        (collection, action): (&Collection, Action),
        record: Option<&RecordId>,
        amount: usize,
    ) -> Result<Charge, Error> {
        let draft = || {
            let object = RecordObject::new(collection.name().clone());
            let object = record.into_iter().fold(object, |object, record| object.id(record.clone()));
            let outcome = Outcome::refused(Limit::Records.code());
            EntryDraft::of_request(context, act_of(action), outcome).record(object)
        };
        self.charge_amount(context, amount, draft).await
    }

    /// The same of records of whatever collections; `draft` is the entry of the refusal.
    pub(super) async fn charge_amount(
        &self,
        context: &OperationContext,
        amount: usize,
        draft: impl Fn() -> EntryDraft,
    ) -> Result<Charge, Error> {
        let amount = u32::try_from(amount).unwrap_or(u32::MAX);
        let (now, limit) = (self.clock.steady(), Limit::Records);
        let taken = {
            let policy = self.policy.load();
            let limits = policy.policy_set().limits();
            let take = |whose| self.uses.take(&context.actor, limits, (whose, limit), amount, now);
            take(Whose::Person).and_then(|person| match take(Whose::Client) {
                Ok(client) => Ok(Charge([person, client])),
                Err(refused) => {
                    Charge([person, None]).give_back();
                    Err(refused)
                }
            })
        };
        match taken {
            Ok(charge) => Ok(charge),
            Err((owner, wait)) => Err(self.refuse(&owner, limit, wait, draft).await),
        }
    }

    /// The refusal by a limit, on record before it is told or counted for the next entry.
    async fn refuse(
        &self,
        owner: &Arc<Use>,
        limit: Limit,
        wait: Duration,
        draft: impl Fn() -> EntryDraft,
    ) -> Error {
        metrics::limited(limit.word(), owner.whose.word());
        let rule: Arc<str> = format!("limits.toml:{}:{}", owner.whose.word(), limit.word()).into();
        let draft = || draft().policies(std::slice::from_ref(&rule));
        let noted = owner.refused(limit).note(self.clock.steady(), draft);
        match noted {
            Noted::Report(number) => {
                if let Err(error) = self.put_on_record(draft().count(number)).await {
                    owner.refused(limit).restore(number, None);
                    return error;
                }
            }
            Noted::Counted(true) => self.uses.unreported().push((Arc::clone(owner), limit)),
            Noted::Counted(false) => {}
        }
        // Whole seconds, after which it succeeds.
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        Error::Limited { limit, retry_after_seconds: seconds.max(1) }
    }

    /// Puts the number of those refusals on record that no entry tells of, of callers whose last entry is a minute ago, or
    /// of `all`.
    pub async fn report_refusals(&self, all: bool) {
        let now = self.clock.steady();
        let waiting = std::mem::take(&mut *self.uses.unreported());
        for (owner, limit) in waiting {
            let due = owner.refused(limit).report_due(now, all);
            let is_open = match due {
                Ok(None) => false,
                Ok(Some((draft, number))) => match self.put_on_record(draft.clone().count(number)).await {
                    Ok(()) => false,
                    Err(_) => {
                        owner.refused(limit).restore(number, Some(draft));
                        true
                    }
                },
                Err(()) => true,
            };
            if is_open {
                self.uses.unreported().push((owner, limit));
            }
        }
    }
}
