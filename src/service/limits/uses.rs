//! How much everybody has taken. Each caller has counters of its own; the maps are locked for a look-up and never across a
//! wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use quick_cache::sync::Cache;

use super::super::Error;
use super::refusals::Refusals;
use crate::domain::actor::{Actor, CertificateFacts};
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::domain::meter::{Meter, Rate};
use crate::policy::Limits;

/// Persons whose use is remembered; of more, those who asked least lately are forgotten, and begin anew.
const MOST_PERSONS: usize = 16_384;
/// The same of certificates that are not let in.
const MOST_STRANGERS: usize = 1_024;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Requests,
    Records,
}

impl Limit {
    /// In the problem and in the entry.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Requests => "rate_limited",
            Self::Records => "volume_limited",
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Records => "records",
        }
    }
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Client,
    Person,
}

impl Whose {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Person => "person",
        }
    }
}

/// Tenant and name.
type ClientKey = (TenantId, Arc<str>);
/// Tenant, issuer and id.
type PersonKey = (TenantId, Arc<str>, Arc<str>);

/// Everybody's use.
pub(in crate::service) struct Uses {
    /// One for each listed client that has ever asked.
    clients: RwLock<HashMap<ClientKey, Arc<Use>>>,
    persons: Cache<PersonKey, Arc<Use>>,
    /// By the certificate's digest: there is nobody who could be known.
    strangers: Cache<String, Arc<Use>>,
    /// Those who have refusals that no entry tells of yet.
    unreported: Mutex<Vec<(Arc<Use>, Limit)>>,
}

/// What one caller has taken.
pub(super) struct Use {
    pub whose: Whose,
    requests: Meter,
    records: Meter,
    requests_refused: Mutex<Refusals>,
    records_refused: Mutex<Refusals>,
}

impl Default for Uses {
    fn default() -> Self {
        Self {
            clients: RwLock::default(),
            persons: Cache::new(MOST_PERSONS),
            strangers: Cache::new(MOST_STRANGERS),
            unreported: Mutex::default(),
        }
    }
}

impl Uses {
    fn client(&self, actor: &Actor) -> Arc<Use> {
        let identity = &actor.identity;
        let key = (identity.tenant, Arc::clone(&identity.client));
        // A panic elsewhere cannot leave the map half changed.
        if let Some(known) = self.clients.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(known);
        }
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clients.entry(key).or_insert_with(|| Arc::new(Use::of(Whose::Client))))
    }

    fn person(&self, actor: &Actor) -> Option<Arc<Use>> {
        let person = actor.person()?;
        let tenant = actor.identity.tenant;
        let key = (tenant, Arc::clone(&person.issuer), Arc::clone(&person.id));
        let new = || Ok::<_, std::convert::Infallible>(Arc::new(Use::of(Whose::Person)));
        let Ok(known) = self.persons.get_or_insert_with(&key, new);
        Some(known)
    }

    /// Takes from one caller's allowance, or says how long to wait.
    pub(super) fn take(
        &self,
        actor: &Actor,
        limits: &Limits,
        (whose, limit): (Whose, Limit),
        amount: u32,
        now: Timestamp,
    ) -> Result<Option<Taken>, (Arc<Use>, Duration)> {
        let (owner, allowance) = match whose {
            Whose::Client => (Some(self.client(actor)), limits.of_client(&actor.identity.roles)),
            Whose::Person => (self.person(actor), limits.of_person(actor.person_roles())),
        };
        let Some(owner) = owner else { return Ok(None) };
        let rate = match limit {
            Limit::Requests => allowance.requests,
            Limit::Records => allowance.records,
        };
        match owner.meter(limit).take(rate, amount, now) {
            Ok(()) => Ok(Some(Taken { owner, rate, amount })),
            Err(wait) => Err((owner, wait)),
        }
    }

    /// Takes a request from the allowance of a certificate that is not let in.
    pub(super) fn take_from_stranger(
        &self,
        certificate: &CertificateFacts,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<(), Arc<Use>> {
        let new = || Ok::<_, std::convert::Infallible>(Arc::new(Use::of(Whose::Client)));
        let Ok(owner) = self.strangers.get_or_insert_with(&certificate.sha256, new);
        let rate = limits.of_client(&[]).requests;
        if owner.meter(Limit::Requests).take(rate, 1, now).is_ok() { Ok(()) } else { Err(owner) }
    }

    pub(super) fn unreported(&self) -> MutexGuard<'_, Vec<(Arc<Use>, Limit)>> {
        self.unreported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    fn of(whose: Whose) -> Self {
        Self {
            whose,
            requests: Meter::default(),
            records: Meter::default(),
            requests_refused: Mutex::new(Refusals::NONE),
            records_refused: Mutex::new(Refusals::NONE),
        }
    }

    const fn meter(&self, limit: Limit) -> &Meter {
        match limit {
            Limit::Requests => &self.requests,
            Limit::Records => &self.records,
        }
    }

    pub fn refused(&self, limit: Limit) -> MutexGuard<'_, Refusals> {
        let refusals = match limit {
            Limit::Requests => &self.requests_refused,
            Limit::Records => &self.records_refused,
        };
        refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of somebody's allowance.
pub(super) struct Taken {
    owner: Arc<Use>,
    rate: Rate,
    amount: u32,
}

/// Proof that the records about to be revealed were counted; revealing demands it.
#[must_use]
pub(in crate::service) struct Charge(pub(super) [Option<Taken>; 2]);

impl Charge {
    /// Gives back what was taken if a part was down: then nothing was revealed, and the caller will ask again. Anything
    /// else is counted, also what was not found: looking for records is what the limit is about.
    pub fn settle<T>(self, outcome: Result<T, Error>) -> Result<T, Error> {
        if matches!(outcome, Err(Error::Unavailable(_))) {
            self.give_back();
        }
        outcome
    }

    /// Gives back what was taken beyond `amount`: there turned out to be fewer.
    pub fn give_back_but(self, amount: usize) {
        let amount = u32::try_from(amount).unwrap_or(u32::MAX);
        for taken in self.0.into_iter().flatten() {
            taken.owner.records.give_back(taken.rate, taken.amount.saturating_sub(amount));
        }
    }

    pub(super) fn give_back(self) {
        for taken in self.0.into_iter().flatten() {
            taken.owner.records.give_back(taken.rate, taken.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use uuid::Uuid;

    use super::*;
    use crate::domain::actor::{ClientKind, Identity, KeyKeeping};
    use crate::domain::person::Person;

    const FILE: &str = "
        default.client = { requests_per_minute = 60, requests_at_once = 4, records_per_hour = 3600, records_at_once = 9 }
        default.person = { requests_per_minute = 60, requests_at_once = 2, records_per_hour = 3600, records_at_once = 5 }
        role.clinician.person = { requests_per_minute = 60, requests_at_once = 3, records_per_hour = 3600, records_at_once = 5 }
    ";

    fn limits() -> Limits {
        Limits::parse(FILE, &["portal".into(), "clinician".into()]).unwrap()
    }

    fn actor(tenant: u128, client: &str, person: Option<(&str, &[&str])>) -> Actor {
        let roles = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        let identity = Identity {
            client: client.into(),
            kind: ClientKind::App,
            tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
            roles: roles(&["portal"]),
            acts_for: roles(&["clinician"]),
            key: KeyKeeping::File,
        };
        let certificate = CertificateFacts {
            san: String::new(),
            issuer_sha256: String::new(),
            serial: String::new(),
            not_after: Timestamp::from_micros(i64::MAX),
            sha256: String::new(),
        };
        let source = SocketAddr::from(([127, 0, 0, 1], 1));
        let actor = Actor::new(Arc::new(identity), Arc::new(certificate), source);
        let Some((id, names)) = person else { return actor };
        actor.for_person(Arc::new(Person {
            issuer: "clinic".into(),
            id: id.into(),
            roles: roles(names),
            department: None,
            care_teams: Arc::from([]),
            subject: None,
            has_second_factor: false,
            expires_at: Timestamp::from_micros(i64::MAX),
        }))
    }

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    /// How many of ten requests at once are let through.
    fn passed(uses: &Uses, actor: &Actor, whose: Whose) -> usize {
        let limits = limits();
        let take = || uses.take(actor, &limits, (whose, Limit::Requests), 1, NOW).is_ok();
        (0..10).filter(|_| take()).count()
    }

    #[test]
    fn each_client_of_each_tenant_has_an_allowance_of_its_own() {
        let uses = Uses::default();
        for (tenant, client) in [(1, "portal"), (1, "mobile"), (2, "portal")] {
            assert_eq!(passed(&uses, &actor(tenant, client, None), Whose::Client), 4, "{tenant} {client}");
            assert_eq!(passed(&uses, &actor(tenant, client, None), Whose::Client), 0, "{tenant} {client}");
        }
    }

    #[test]
    fn a_person_has_one_allowance_behind_all_clients_of_the_tenant() {
        let uses = Uses::default();
        let behind = |tenant, client, id| actor(tenant, client, Some((id, &[])));
        assert_eq!(passed(&uses, &behind(1, "portal", "ana"), Whose::Person), 2);
        assert_eq!(passed(&uses, &behind(1, "mobile", "ana"), Whose::Person), 0);
        assert_eq!(passed(&uses, &behind(1, "portal", "bo"), Whose::Person), 2);
        assert_eq!(passed(&uses, &behind(2, "portal", "ana"), Whose::Person), 2);
        let doctor = actor(1, "desk", Some(("cy", &["clinician"])));
        assert_eq!(passed(&uses, &doctor, Whose::Person), 3, "her role has more");
        // Without a person nothing is taken from one.
        assert_eq!(passed(&uses, &actor(1, "portal", None), Whose::Person), 10);
        assert_eq!(uses.persons.len(), 4);
    }

    #[test]
    fn persons_are_remembered_up_to_a_bound() {
        let (uses, limits) = (Uses::default(), limits());
        for number in 0..(MOST_PERSONS + 2_000) {
            let person = actor(1, "portal", Some((&number.to_string(), &[])));
            assert!(uses.take(&person, &limits, (Whose::Person, Limit::Requests), 1, NOW).is_ok());
        }
        assert!(uses.persons.len() <= MOST_PERSONS);
        assert_eq!(uses.clients.read().unwrap().len(), 0);
    }

    #[test]
    fn a_stranger_has_the_allowance_of_any_client_and_is_remembered_up_to_a_bound() {
        let (uses, limits) = (Uses::default(), limits());
        let certificate = |number: usize| {
            let actor = actor(1, "portal", None);
            CertificateFacts { sha256: number.to_string(), ..(*actor.certificate).clone() }
        };
        for number in [1, 2] {
            let take = || uses.take_from_stranger(&certificate(number), &limits, NOW).is_ok();
            assert_eq!((0..10).filter(|_| take()).count(), 4, "{number}");
        }
        for number in 0..(MOST_STRANGERS + 500) {
            let _ = uses.take_from_stranger(&certificate(number), &limits, NOW);
        }
        assert!(uses.strangers.len() <= MOST_STRANGERS);
    }

    #[test]
    fn what_a_part_that_was_down_took_is_given_back() {
        let (uses, limits) = (Uses::default(), limits());
        let caller = actor(1, "portal", Some(("ana", &[])));
        let take = |whose| uses.take(&caller, &limits, (whose, Limit::Records), 5, NOW);
        let charge = || Charge([take(Whose::Person).ok().flatten(), take(Whose::Client).ok().flatten()]);
        let down = || Err::<(), _>(Error::Unavailable(super::super::super::Part::Keys));
        assert!(charge().settle(down()).is_err());
        assert!(charge().settle(Err::<(), _>(Error::NotFound)).is_err());
        assert!(take(Whose::Person).is_err() && take(Whose::Client).is_err());
    }

    /// The best of many batches, so that a busy machine is not what is measured: well under 0.2 µs with optimisation, and
    /// not much more than a microsecond without.
    #[test]
    fn a_check_costs_little() {
        let (uses, limits) = (Uses::default(), limits());
        let caller = actor(1, "portal", Some(("ana", &["clinician"])));
        let batch = |whose| {
            let started = std::time::Instant::now();
            for _ in 0..1_000 {
                let _ = uses.take(&caller, &limits, (whose, Limit::Requests), 1, NOW);
            }
            started.elapsed() / 1_000
        };
        let most = Duration::from_nanos(if cfg!(debug_assertions) { 10_000 } else { 200 });
        for whose in [Whose::Client, Whose::Person] {
            let best = (0..100).map(|_| batch(whose)).min().unwrap();
            assert!(best < most, "{whose:?}: {best:?}");
        }
    }
}
