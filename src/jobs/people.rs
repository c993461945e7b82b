//! Takes up a changed `people.toml`, and keeps the key sets of its issuers fresh, each in a task of its own. What was taken
//! up is on record.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::JoinSet;

use crate::audit::Act;
use crate::domain::random::jittered;
use crate::people::{FetchFault, IgnoredKey, KeysTaken, People, PeopleError, Source};
use crate::service::Service;
use crate::telemetry::metrics;
use crate::tls::{Admission, changed_at};

/// The first pause after a fetch that failed; it doubles up to the usual one.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// What keeps the table.
#[derive(Clone)]
pub struct Keeper {
    pub people: Arc<People>,
    pub admission: Arc<Admission>,
    pub service: Arc<Service>,
}

/// Looks at the file every `interval`, and reads it at every `hangup`; what is wrong with it is logged and on record once.
pub async fn keep(keeper: Keeper, interval: Duration, mut hangup: Signal) {
    let mut fetchers = JoinSet::new();
    keeper.begin_to_fetch(&mut fetchers);
    let mut seen = changed_at(keeper.people.file());
    let mut refused = None;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_told = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangup.recv() => true,
        };
        keeper.report();
        let now = changed_at(keeper.people.file());
        // What was refused may be right since its role or its key file is there.
        if now == seen && !is_told && refused.is_none() {
            continue;
        }
        seen = now;
        match keeper.reload().await {
            Ok(taken) => {
                refused = None;
                if let Some(sha256) = taken {
                    tracing::info!("people.reloaded");
                    keeper.service.note_load(Act::PeopleLoad, sha256).await;
                    fetchers.shutdown().await;
                    keeper.begin_to_fetch(&mut fetchers);
                }
            }
            Err(error) if refused.as_ref() != Some(&error) => {
                tracing::error!(error = %error, "people.reload_refused");
                keeper.service.note_refused_load(Act::PeopleLoad, "people_invalid").await;
                refused = Some(error);
            }
            Err(_) => {}
        }
    }
}

impl Keeper {
    async fn reload(&self) -> Result<Option<[u8; 32]>, PeopleError> {
        let Self { people, admission, service } = self.clone();
        let load = move || {
            service.with_known(&admission.identities(), |known| people.reload(known, service.clock().now()))
        };
        // It fails only if that thread panicked; the next look is soon.
        tokio::task::spawn_blocking(load).await.unwrap_or(Ok(None))
    }

    fn begin_to_fetch(&self, fetchers: &mut JoinSet<()>) {
        for source in self.people.sources() {
            let (people, service) = (Arc::clone(&self.people), Arc::clone(&self.service));
            let fetcher = Fetcher { people, service, source, said: None, ignored: Vec::new() };
            fetchers.spawn(fetcher.run());
        }
    }

    fn report(&self) {
        let now = self.service.clock().now();
        let ages = self.people.sources().into_iter().map(|source| source.age_seconds(now));
        metrics::people_keys_age(ages.max().unwrap_or(0));
    }
}

/// Keeps the keys of one issuer fresh.
struct Fetcher {
    people: Arc<People>,
    service: Arc<Service>,
    source: Arc<Source>,
    /// What was last logged, so that it is not logged at every fetch.
    said: Option<FetchFault>,
    ignored: Vec<IgnoredKey>,
}

impl Fetcher {
    async fn run(mut self) {
        let mut longest = SHORTEST_PAUSE;
        loop {
            let pause = match self.people.fetch_keys(&self.source, self.service.clock()).await {
                Ok(taken) => {
                    longest = SHORTEST_PAUSE;
                    self.tell(taken).await;
                    self.source.pause()
                }
                Err(fault) => {
                    self.tell_fault(fault);
                    let pause = jittered(longest, self.service.random());
                    longest = (longest * 2).min(self.source.pause().max(SHORTEST_PAUSE));
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.source.wanted() => {}
            }
        }
    }

    async fn tell(&mut self, taken: KeysTaken) {
        let issuer = &*self.source.issuer.name;
        if self.said.take().is_some() {
            tracing::info!(issuer, "people.keys_back");
        }
        if self.ignored != taken.ignored {
            for key in &taken.ignored {
                tracing::warn!(issuer, place = key.place, why = key.why, "people.key_ignored");
            }
            self.ignored = taken.ignored;
        }
        if let Some(change) = taken.change {
            tracing::info!(issuer, keys = taken.usable, "people.keys_taken");
            self.service.note_load_of(change.tenant, Act::JwksLoad, change.sha256).await;
        }
    }

    fn tell_fault(&mut self, fault: FetchFault) {
        metrics::people_keys_failure();
        if self.said != Some(fault) {
            tracing::error!(issuer = &*self.source.issuer.name, error = %fault, "people.keys_not_fetched");
            self.said = Some(fault);
        }
    }
}
