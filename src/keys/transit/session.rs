//! Who the service is to Vault: login, renewal in the background, one fresh login after a 403.
//!
//! Credentials are read from their files at every login, so that replacing a file is enough to change them.
//!
//! Not here: what is asked of Vault once logged in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::TransitError;
use super::wire::{Answer, Body, Wire};
use crate::config::{VaultAuth, VaultConfig};
use crate::domain::random::{Random, SharedRandom, jittered};
use crate::domain::secret::SecretBytes;

/// A renewal that leaves less than this much of the first lease has met the token's maximum life.
const WORTH_KEEPING: f32 = 0.5;
const IDLE_CHECK: Duration = Duration::from_hours(1);

/// A token in use, with the connections it was issued over: certificate login binds the two.
pub(in crate::keys) struct Session {
    pub wire: Wire,
    pub token: Arc<SecretBytes>,
    renewable: bool,
    obtained: Instant,
    /// `None`: never expires.
    lease: Option<Duration>,
    first_lease: Option<Duration>,
}

impl Session {
    fn renew_at(&self) -> Instant {
        self.obtained + self.lease.map_or(IDLE_CHECK, |lease| lease / 2)
    }

    fn is_expired(&self) -> bool {
        self.lease.is_some_and(|lease| self.obtained.elapsed() >= lease)
    }

    /// Whether the last renewal bought enough time to renew again.
    fn is_worth_keeping(&self) -> bool {
        match (self.lease, self.first_lease) {
            (Some(lease), Some(first)) => lease > first.mul_f32(WORTH_KEEPING),
            _ => true,
        }
    }
}

/// Where tokens come from.
enum Credentials {
    Login(Box<VaultConfig>),
    /// An administrator's or issuer's token, given from outside: never renewed, never replaced.
    Given,
}

/// The current session and the way to the next one.
pub(in crate::keys) struct Sessions {
    credentials: Credentials,
    current: ArcSwapOption<Session>,
    login: Mutex<()>,
    /// How long one login may take, waiting for another's included.
    deadline: Duration,
    random: SharedRandom,
}

impl Sessions {
    /// Checks what can be checked without Vault; logs in on first use.
    pub fn by_login(config: &VaultConfig, random: SharedRandom) -> Result<Self, TransitError> {
        wire_for(config)?;
        Ok(Self {
            credentials: Credentials::Login(Box::new(config.clone())),
            current: ArcSwapOption::empty(),
            login: Mutex::new(()),
            deadline: Duration::from_millis(config.timeout_ms.saturating_mul(2)),
            random,
        })
    }

    /// Uses a token as it is.
    pub fn by_token(
        config: &VaultConfig,
        token: SecretBytes,
        random: SharedRandom,
    ) -> Result<Self, TransitError> {
        let session = Session {
            wire: Wire::open(config, None)?,
            token: Arc::new(token),
            renewable: false,
            obtained: Instant::now(),
            lease: None,
            first_lease: None,
        };
        Ok(Self {
            credentials: Credentials::Given,
            current: ArcSwapOption::from_pointee(session),
            login: Mutex::new(()),
            deadline: Duration::from_millis(config.timeout_ms),
            random,
        })
    }

    /// The current session, or a fresh login when there is none or it has run out.
    pub async fn current(&self) -> Result<Arc<Session>, TransitError> {
        match self.current.load_full() {
            Some(session) if !session.is_expired() => Ok(session),
            stale => self.replace(stale.as_ref()).await,
        }
    }

    /// Logs in again, unless someone else already replaced `refused`. Concurrent callers share one login.
    pub async fn replace(&self, refused: Option<&Arc<Session>>) -> Result<Arc<Session>, TransitError> {
        let Credentials::Login(config) = &self.credentials else {
            return Err(TransitError::Denied);
        };
        let fresh = async {
            let _one_at_a_time = self.login.lock().await;
            let current = self.current.load_full();
            if let Some(session) = current.filter(|now| !refused.is_some_and(|old| Arc::ptr_eq(now, old))) {
                return Ok(session);
            }
            let session = Arc::new(log_in(config).await?);
            self.current.store(Some(Arc::clone(&session)));
            Ok(session)
        };
        tokio::time::timeout(self.deadline, fresh).await.unwrap_or(Err(TransitError::Unavailable))
    }

    /// Keeps a session alive for as long as the task lives: renews at half its life, logs in again when renewal is
    /// refused or no longer helps, and tries on with jittered pauses while Vault is away.
    pub async fn keep(self: Arc<Self>) {
        let mut failures = 0_u32;
        loop {
            let kept = match self.current.load_full() {
                None => self.replace(None).await.map(drop),
                Some(session) if Instant::now() < session.renew_at() => {
                    tokio::time::sleep_until(session.renew_at()).await;
                    continue;
                }
                Some(session) => self.extend(&session).await,
            };
            match kept {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(vault.failures = failures, error = %error, "vault.session_not_renewed");
                    tokio::time::sleep(pause(failures, &*self.random)).await;
                }
            }
        }
    }

    async fn extend(&self, session: &Arc<Session>) -> Result<(), TransitError> {
        if session.renewable && session.is_worth_keeping() {
            match renew(session).await {
                Ok(renewed) => {
                    // Compare and swap: a login that happened meanwhile is newer.
                    self.current.compare_and_swap(session, Some(Arc::new(renewed)));
                    return Ok(());
                }
                Err(TransitError::Unavailable) if !session.is_expired() => {
                    return Err(TransitError::Unavailable);
                }
                Err(_) => {}
            }
        }
        self.replace(Some(session)).await.map(drop)
    }
}

/// Half a second doubling to sixteen, of which a random half to all is taken.
fn pause(failures: u32, random: &dyn Random) -> Duration {
    let most = Duration::from_millis(500 << failures.clamp(1, 6).saturating_sub(1));
    jittered(most, random)
}

#[derive(Deserialize)]
struct Granted<'a> {
    #[serde(borrow)]
    auth: Auth<'a>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    client_token: &'a str,
    lease_duration: u64,
    renewable: bool,
}

impl<'a> Auth<'a> {
    fn read(answer: &'a Answer) -> Result<Self, TransitError> {
        serde_json::from_slice::<Granted>(&answer.body)
            .map(|granted| granted.auth)
            .map_err(|_| TransitError::Malformed)
    }

    fn lease(&self) -> Option<Duration> {
        (self.lease_duration > 0).then(|| Duration::from_secs(self.lease_duration))
    }
}

async fn log_in(config: &VaultConfig) -> Result<Session, TransitError> {
    let wire = wire_for(config)?;
    let (path, body) = match &config.auth {
        VaultAuth::AppRole { role_id_file, secret_id_file } => ("auth/approle/login", {
            let role_id = read_line(role_id_file, "vault.auth.role_id_file cannot be read")?;
            let secret_id = read_line(secret_id_file, "vault.auth.secret_id_file cannot be read")?;
            app_role_body(&role_id, &secret_id)?
        }),
        VaultAuth::Certificate { role, .. } => {
            #[derive(Serialize)]
            struct Login<'a> {
                name: &'a str,
            }
            ("auth/cert/login", Body::json(&Login { name: role })?)
        }
    };
    let obtained = Instant::now();
    let answer = wire.call(Method::POST, path, None, Some(&body)).await.map_err(|error| match error {
        // Vault answers a wrong credential with 400.
        TransitError::Refused { .. } | TransitError::Missing => TransitError::Denied,
        other => other,
    })?;
    let auth = Auth::read(&answer)?;
    let token = Arc::new(SecretBytes::new(auth.client_token.as_bytes().to_vec()));
    let lease = auth.lease();
    tracing::info!(vault.lease_seconds = auth.lease_duration, "vault.logged_in");
    Ok(Session { wire, token, renewable: auth.renewable, obtained, lease, first_lease: lease })
}

async fn renew(session: &Session) -> Result<Session, TransitError> {
    let obtained = Instant::now();
    let body = Body::from_secret(Zeroizing::new(b"{}".to_vec()));
    let answer =
        session.wire.call(Method::POST, "auth/token/renew-self", Some(&session.token), Some(&body)).await?;
    let auth = Auth::read(&answer)?;
    Ok(Session {
        wire: session.wire.clone(),
        token: Arc::clone(&session.token),
        renewable: auth.renewable,
        obtained,
        lease: auth.lease(),
        first_lease: session.first_lease,
    })
}

fn wire_for(config: &VaultConfig) -> Result<Wire, TransitError> {
    match &config.auth {
        VaultAuth::AppRole { .. } => Wire::open(config, None),
        VaultAuth::Certificate { certificate_file, private_key_file, .. } => {
            Wire::open(config, Some((certificate_file, private_key_file)))
        }
    }
}

fn app_role_body(role_id: &Zeroizing<String>, secret_id: &Zeroizing<String>) -> Result<Body, TransitError> {
    #[derive(Serialize)]
    struct Login<'a> {
        role_id: &'a str,
        secret_id: &'a str,
    }
    // JSON may write a byte as six.
    let capacity = 64 + 6 * (role_id.len() + secret_id.len());
    Body::secret_json(&Login { role_id, secret_id }, capacity)
}

fn read_line(path: &PathBuf, refusal: &'static str) -> Result<Zeroizing<String>, TransitError> {
    let mut text = Zeroizing::new(std::fs::read_to_string(path).map_err(|_| TransitError::Setting(refusal))?);
    while text.ends_with(|last: char| last.is_ascii_whitespace()) {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::random::NoRandomness;

    struct Byte(u8);
    impl Random for Byte {
        fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
            destination.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn pauses_grow_to_sixteen_seconds_and_never_vanish() {
        assert_eq!(pause(1, &Byte(0)), Duration::from_millis(250));
        assert_eq!(pause(1, &Byte(255)), Duration::from_millis(500));
        assert_eq!(pause(u32::MAX, &Byte(255)), Duration::from_secs(16));
        assert!(pause(3, &Byte(7)) >= Duration::from_secs(1));
    }
}
