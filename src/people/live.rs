//! The table and the key sets in force, and the judgement of a token by them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;

use super::claims::{TokenFault, Verified};
use super::fetch::FetchFault;
use super::file::{self, Issuer, Known, PeopleError};
use super::jwk::{IgnoredKey, KeySet, NotFound, sha256};
use super::source::Source;
use super::token::Token;
use crate::domain::actor::{CertificateFacts, Identity};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::TenantId;
use crate::domain::person::Person;

/// Verified tokens that are remembered; the least used go first.
pub(super) const REMEMBERED_TOKENS: usize = 4_096;

/// Why no person is seen behind a request that came with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the client may not act for people")]
    NotAllowed,
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// The issuer's keys could not be fetched, so the token cannot be judged.
    #[error("the keys of the token's issuer are not to be had")]
    Unavailable,
}

/// An issuer's keys that were taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyChange {
    pub tenant: TenantId,
    pub sha256: [u8; 32],
}

/// A fetch that went well.
#[derive(Debug)]
pub struct KeysTaken {
    /// Absent where the keys are those that were there.
    pub change: Option<KeyChange>,
    pub usable: usize,
    pub ignored: Vec<IgnoredKey>,
}

/// Everybody whose token is believed. One for the process.
pub struct People {
    file: PathBuf,
    pub(super) in_force: ArcSwap<InForce>,
}

/// Never changed; a new table or a new key set makes a new one, which remembers no token.
pub(super) struct InForce {
    issuers: Vec<Live>,
    /// Of the file.
    pub(super) sha256: [u8; 32],
    pub(super) verified: Cache<[u8; 32], Arc<Remembered>>,
}

#[derive(Clone)]
struct Live {
    source: Arc<Source>,
    /// Absent until they could be fetched once.
    keys: Option<Arc<KeySet>>,
}

pub(super) struct Remembered {
    issuer: usize,
    verified: Verified,
}

/// What a first look at a token gives.
enum Judgement {
    Good(Arc<Person>),
    Bad(Refusal),
    /// No key of this issuer has the id: the set may have been replaced since it was fetched.
    UnknownKey(Arc<Source>),
}

impl People {
    /// Reads the file, and the key files that it names; each must be good. Keys behind a URL are for [`Self::fetch_keys`].
    /// Reads files: call it before serving, or on a blocking thread.
    pub fn open(file: PathBuf, known: &Known<'_>, now: Timestamp) -> Result<Self, PeopleError> {
        let (text, sha256) = file::read(&file)?;
        let issuers = load_all(&text, &file, known, now, None)?;
        let in_force = InForce::new(issuers, sha256);
        Ok(Self { file, in_force: ArcSwap::from_pointee(in_force) })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The issuers in force, in the order of the file.
    pub fn sources(&self) -> Vec<Arc<Source>> {
        self.in_force.load().issuers.iter().map(|live| Arc::clone(&live.source)).collect()
    }

    /// SHA-256 of the file in force.
    pub fn sha256(&self) -> [u8; 32] {
        self.in_force.load().sha256
    }

    /// Whether there are all roles and departments that the table in force speaks of.
    pub fn check_words(&self, known: &Known<'_>) -> Result<(), PeopleError> {
        self.in_force.load().issuers.iter().try_for_each(|live| live.source.issuer.check_words(known))
    }

    /// Takes up the file as it is now, where it is another than the one in force; on an error that one stays. An issuer
    /// whose keys come from where they came from keeps them. Reads files: call it on a blocking thread.
    pub fn reload(&self, known: &Known<'_>, now: Timestamp) -> Result<Option<[u8; 32]>, PeopleError> {
        let before = self.in_force.load_full();
        let (text, sha256) = file::read(&self.file)?;
        if sha256 == before.sha256 {
            return Ok(None);
        }
        let issuers = load_all(&text, &self.file, known, now, Some(&before))?;
        self.in_force.store(Arc::new(InForce::new(issuers, sha256)));
        Ok(Some(sha256))
    }

    /// Fetches an issuer's keys and takes them into use. On an error those in use stay, until they are stale.
    pub async fn fetch_keys(&self, source: &Arc<Source>, clock: &dyn Clock) -> Result<KeysTaken, FetchFault> {
        // Counted from before: what is fetched is no newer than the asking.
        let asked_at = clock.now();
        source.begin_attempt();
        let fetched = source.issuer.keys.fetch().await;
        let taken = fetched.and_then(|bytes| self.take_keys(source, &bytes));
        source.note_attempt(taken.as_ref().ok().map(|_| asked_at));
        taken
    }

    pub(super) fn take_keys(&self, source: &Arc<Source>, bytes: &[u8]) -> Result<KeysTaken, FetchFault> {
        let (keys, ignored) = KeySet::parse(bytes, &source.issuer.algorithms)?;
        let (usable, sha256, keys) = (keys.len(), keys.sha256(), Arc::new(keys));
        let mut change = None;
        self.in_force.rcu(|in_force| {
            let next = in_force.with_keys(source, &keys);
            change = next.is_some().then_some(KeyChange { tenant: source.issuer.tenant, sha256 });
            next.unwrap_or_else(|| Arc::clone(in_force))
        });
        Ok(KeysTaken { change, usable, ignored })
    }

    /// The person whose token a client sent. A token that was judged before costs a digest and a look-up; one of an
    /// unknown key waits for the issuer's keys to be fetched, at most once in a while.
    pub async fn authenticate(
        &self,
        text: &str,
        identity: &Identity,
        certificate: &CertificateFacts,
        clock: &dyn Clock,
    ) -> Result<Arc<Person>, Refusal> {
        if identity.acts_for.is_empty() {
            return Err(Refusal::NotAllowed);
        }
        let judge = || self.in_force.load().judge(text, identity, certificate, clock.now());
        let source = match judge() {
            Judgement::Good(person) => return Ok(person),
            Judgement::Bad(refusal) => return Err(refusal),
            Judgement::UnknownKey(source) => source,
        };
        source.ask(clock.now()).await;
        match judge() {
            Judgement::Good(person) => Ok(person),
            Judgement::Bad(refusal) => Err(refusal),
            Judgement::UnknownKey(source) if source.is_failing() => Err(Refusal::Unavailable),
            Judgement::UnknownKey(_) => Err(TokenFault::Invalid.into()),
        }
    }
}

impl InForce {
    fn new(issuers: Vec<Live>, sha256: [u8; 32]) -> Self {
        Self { issuers, sha256, verified: Cache::new(REMEMBERED_TOKENS) }
    }

    /// The same with other keys for one issuer; `None` where that would change nothing, or the issuer is of a table that is
    /// no longer in force.
    fn with_keys(&self, source: &Arc<Source>, keys: &Arc<KeySet>) -> Option<Arc<Self>> {
        let place = self.issuers.iter().position(|live| Arc::ptr_eq(&live.source, source))?;
        let mut issuers = self.issuers.clone();
        let live = issuers.get_mut(place)?;
        if live.keys.as_ref().is_some_and(|known| known.sha256() == keys.sha256()) {
            return None;
        }
        live.keys = Some(Arc::clone(keys));
        Some(Arc::new(Self::new(issuers, self.sha256)))
    }

    fn judge(
        &self,
        text: &str,
        identity: &Identity,
        certificate: &CertificateFacts,
        now: Timestamp,
    ) -> Judgement {
        let digest = sha256(text.as_bytes());
        let known = match self.verified.get(&digest) {
            Some(known) => known,
            None => match self.verify(text, identity.tenant, now) {
                Ok(verified) => verified,
                Err(judgement) => return judgement,
            },
        };
        let checked = self.check(&known, identity, certificate, now);
        match checked {
            Ok(()) => {
                let person = Arc::clone(&known.verified.person);
                // Replacing a known one by itself would cost as much as making it known.
                if self.verified.peek(&digest).is_none() {
                    self.verified.insert(digest, known);
                }
                Judgement::Good(person)
            }
            Err(refusal) => Judgement::Bad(refusal),
        }
    }

    /// What depends on who sends a token and when; looked at every time.
    fn check(
        &self,
        known: &Remembered,
        identity: &Identity,
        certificate: &CertificateFacts,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let source = &self.issuers.get(known.issuer).ok_or(TokenFault::Invalid)?.source;
        if source.issuer.tenant != identity.tenant {
            return Err(TokenFault::Invalid.into());
        }
        if source.is_stale(now) {
            return Err(Refusal::Unavailable);
        }
        Ok(known.verified.check(certificate, now)?)
    }

    /// Signature and claims of a token that is not remembered.
    fn verify(&self, text: &str, tenant: TenantId, now: Timestamp) -> Result<Arc<Remembered>, Judgement> {
        let invalid = || Judgement::Bad(TokenFault::Invalid.into());
        let token = Token::parse(text).ok_or_else(invalid)?;
        let said = token.issuer();
        let is_meant = |issuer: &Issuer| issuer.tenant == tenant && said == Some(&*issuer.iss);
        let place = self.issuers.iter().position(|live| is_meant(&live.source.issuer));
        let (issuer, live) =
            place.and_then(|place| self.issuers.get(place).map(|live| (place, live))).ok_or_else(invalid)?;
        if !live.source.issuer.algorithms.contains(&token.algorithm) {
            return Err(invalid());
        }
        let keys = live.keys.as_ref().filter(|_| !live.source.is_stale(now));
        let keys = keys.ok_or(Judgement::Bad(Refusal::Unavailable))?;
        let key = keys.find(token.key_id.as_deref(), token.algorithm).map_err(|why| match why {
            NotFound::Unknown => Judgement::UnknownKey(Arc::clone(&live.source)),
            NotFound::Unusable => invalid(),
        })?;
        if !key.verifies(token.signed, &token.signature) {
            return Err(invalid());
        }
        let verified = Verified::read(&token.claims, &live.source.issuer)
            .map_err(|fault| Judgement::Bad(fault.into()))?;
        Ok(Arc::new(Remembered { issuer, verified }))
    }
}

/// The issuers of a file's text, with the keys that are at hand.
fn load_all(
    text: &str,
    file: &Path,
    known: &Known<'_>,
    now: Timestamp,
    before: Option<&InForce>,
) -> Result<Vec<Live>, PeopleError> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let issuers = file::parse(text, folder, known)?;
    issuers.into_iter().map(|issuer| Live::load(issuer, now, before)).collect()
}

impl Live {
    fn load(issuer: Issuer, now: Timestamp, before: Option<&InForce>) -> Result<Self, PeopleError> {
        let same = |live: &&Self| {
            let other = &live.source.issuer;
            (&other.name, other.tenant, &other.keys, &other.algorithms)
                == (&issuer.name, issuer.tenant, &issuer.keys, &issuer.algorithms)
        };
        let before = before.and_then(|table| table.issuers.iter().find(same));
        let refuse = |fault| PeopleError::Keys(issuer.name.to_string(), fault);
        issuer.keys.look().map_err(refuse)?;
        let read = issuer.keys.read_now().transpose().map_err(refuse)?;
        let keys = match read {
            Some(bytes) => Some(Arc::new(
                KeySet::parse(&bytes, &issuer.algorithms).map_err(|fault| refuse(fault.into()))?.0,
            )),
            None => before.and_then(|live| live.keys.clone()),
        };
        let freshness = before.map(|live| Arc::clone(&live.source.freshness));
        let source = Source::new(issuer, freshness, now);
        if source.issuer.keys.is_file() {
            source.note_seen(now);
        }
        Ok(Self { source: Arc::new(source), keys })
    }
}
