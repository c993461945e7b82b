//! `strongroom doctor`: looks at everything that the service would run on, changes nothing, and says what to do.

use std::fmt::Display;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::ConfigArgs;
use super::harden::harden;
use super::output::{self, Style};
use crate::config::{self, AuditBucketConfig, AuditExportPlace, Config, DatabaseConfig};
use crate::domain::clock::{Clock, SharedClock, SystemClock};
use crate::domain::random::SystemRandom;
use crate::jobs::bucket::LogBucket;
use crate::jobs::sequencer::count_witnesses;
use crate::keys::{Transit, TransitError};
use crate::people::{self, Known, People};
use crate::policy::{PolicySet, run_cases};
use crate::relay::RelayClient;
use crate::service::with_known;
use crate::storage::Database;
use crate::tls::{FileFault, Identities, IdentityError, LiveTls, ServerConfigError, TlsFiles};

/// Certificates that end sooner are worth a word.
const SOON_SECONDS: i64 = 2 * 24 * 3_600;

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// The service runs, and it should be put right.
    Weak,
    /// The service would not start, or not serve.
    Bad,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Weak => "weak",
            Self::Bad => "bad",
        }
    }
}

struct Finding {
    about: &'static str,
    state: State,
    found: String,
    /// Empty where there is nothing to do.
    advice: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, about: &'static str, found: &dyn Display) {
        self.add(about, State::Good, found, "");
    }

    fn weak(&mut self, about: &'static str, found: &dyn Display, advice: &str) {
        self.add(about, State::Weak, found, advice);
    }

    fn bad(&mut self, about: &'static str, found: &dyn Display, advice: &str) {
        self.add(about, State::Bad, found, advice);
    }

    fn add(&mut self, about: &'static str, state: State, found: &dyn Display, advice: &str) {
        self.0.push(Finding { about, state, found: found.to_string(), advice: advice.to_owned() });
    }

    fn count(&self, state: State) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }
}

/// Exit code 1 when the service would not start, or not serve, on what was found.
pub(super) async fn doctor(args: DoctorArgs) -> Result<()> {
    let mut findings = Findings::default();
    host(&mut findings);
    match config::load(&args.config.config) {
        Err(error) => findings.bad("configuration", &error, "see infra/strongroom.sample.toml"),
        Ok(config) => {
            findings.good("configuration", &"every key is known");
            let policy = policy(&mut findings, &config);
            if let Some(policy) = &policy {
                tls(&mut findings, &config, Arc::clone(policy));
                people(&mut findings, &config, policy).await;
            }
            log(&mut findings, &config).await;
            databases(&mut findings, &config).await;
            let transit = vault(&mut findings, &config).await;
            relay(&mut findings, &config, (policy.as_deref(), transit.as_ref())).await;
        }
    }
    if args.json {
        print_json(&findings)?;
    } else {
        print_table(&findings);
    }
    let bad = findings.count(State::Bad);
    if bad > 0 {
        bail!("{bad} of {} checks must be put right before the service can serve", findings.0.len());
    }
    Ok(())
}

/// What this process could do for itself says what the service could, under the same account and limits.
fn host(findings: &mut Findings) {
    let weaknesses = harden().messages;
    if weaknesses.is_empty() {
        findings.good("host", &"memory is locked, and no core file is written");
    }
    for weakness in weaknesses {
        let (found, advice) = weakness.split_once(": ").unwrap_or((weakness, ""));
        findings.weak("host", &found, advice);
    }
}

fn policy(findings: &mut Findings, config: &Config) -> Option<Arc<PolicySet>> {
    let policy = match PolicySet::load(&config.policy.directory) {
        Err(error) => {
            findings.bad("policy", &error, "`strongroom policy check` tells more");
            return None;
        }
        Ok(policy) => policy,
    };
    match run_cases(&policy, &config.policy.directory) {
        Ok(report) if report.failures.is_empty() => {
            findings.good("policy", &format!("valid, {} cases hold", report.cases));
        }
        Ok(report) => {
            let found = format!("{} of {} cases do not hold", report.failures.len(), report.cases);
            findings.weak("policy", &found, "`strongroom policy check` names them");
        }
        Err(error) => findings.weak("policy", &error, "`strongroom policy check` tells more"),
    }
    Some(Arc::new(policy))
}

fn tls(findings: &mut Findings, config: &Config, policy: Arc<PolicySet>) {
    let clock: SharedClock = Arc::new(SystemClock);
    let files = TlsFiles::of(&config.server, &config.policy.directory);
    let check = move |identities: &Identities| {
        identities
            .roles()
            .find(|role| !policy.has_role(role))
            .map_or(Ok(()), |role| Err(IdentityError::Role(role.to_owned())))
    };
    match LiveTls::open(files, Arc::clone(&clock), Box::new(check)) {
        // Before the first start; the service does not open its door without them.
        Err(error) if error.fault == FileFault::Config(ServerConfigError::NoCrl) => {
            findings.weak(
                "revocation lists",
                &error.fault,
                "the service gets them from Vault when it starts",
            );
        }
        Err(error) => {
            let advice = "`strongroom cert issue` makes a certificate; revocation lists come from Vault";
            findings.bad("tls", &error, advice);
        }
        Ok(tls) => lives(findings, &tls, &*clock),
    }
}

fn lives(findings: &mut Findings, tls: &LiveTls, clock: &dyn Clock) {
    let now = clock.now();
    let ends = [
        ("server certificate", tls.certificate_not_after(), SOON_SECONDS, "issue a new one"),
        (
            "revocation lists",
            tls.admission().revocations().next_update(),
            0,
            "Vault must be reached for new ones",
        ),
    ];
    for (about, end, soon, advice) in ends {
        let Some(end) = end else {
            findings.bad(about, &"its end cannot be read", advice);
            continue;
        };
        let found = format!("good until {}", end.to_rfc3339());
        if end <= now {
            findings.bad(about, &format!("ended at {}", end.to_rfc3339()), advice);
        } else if end <= now.plus_seconds(soon) {
            findings.weak(about, &found, advice);
        } else {
            findings.good(about, &found);
        }
    }
}

/// Whose people are believed, and whether their keys are to be had. Identities that are not valid are told with the door.
async fn people(findings: &mut Findings, config: &Config, policy: &PolicySet) {
    let Ok(identities) = Identities::load(&config.policy.directory.join("identities.toml")) else { return };
    let file = config.policy.directory.join(people::FILE);
    let open = |known: &Known<'_>| People::open(file, known, SystemClock.now());
    let people = match with_known(policy, &identities, open) {
        Ok(people) => people,
        Err(error) => {
            return findings.bad("people", &error, "see policy/README.md, \"An identity provider\"");
        }
    };
    let sources = people.sources();
    if sources.is_empty() {
        findings.good("people", &"no issuers: every person's token is refused");
    }
    for source in sources {
        let name = &source.issuer.name;
        match people.fetch_keys(&source, &SystemClock).await {
            Err(error) => findings.weak(
                "people",
                &format!("{name}: no keys: {error}"),
                "until they can be fetched, tokens of its people are answered 503",
            ),
            Ok(taken) => {
                for key in &taken.ignored {
                    let found = format!("{name}: key {} of its set is not used: {}", key.place, key.why);
                    findings.weak("people", &found, "");
                }
                if taken.usable == 0 {
                    findings.weak(
                        "people",
                        &format!("{name}: its set holds no usable key"),
                        "no token of its people is good",
                    );
                } else {
                    findings.good("people", &format!("{name}: {} usable keys", taken.usable));
                }
            }
        }
    }
}

/// Asks the store for the log, and writes nothing.
async fn bucket_of_log(findings: &mut Findings, bucket: &AuditBucketConfig) {
    let (bucket, runtime) = (bucket.clone(), tokio::runtime::Handle::current());
    let looked = tokio::task::spawn_blocking(move || LogBucket::open(&bucket, runtime)?.look()).await;
    match looked {
        Ok(Ok(true)) => findings.good("audit log", &"in its bucket, and locked"),
        Ok(Ok(false)) => {
            findings.good("audit log", &"its bucket can be read; whether it locks is seen at the first file");
        }
        Ok(Err(error)) => {
            findings.bad("audit log", &error, "see [audit.export.bucket] in infra/strongroom.sample.toml");
        }
        Err(error) => findings.bad("audit log", &error, "try again"),
    }
}

/// What becomes of the log. The directory is made when it is first written.
async fn log(findings: &mut Findings, config: &Config) {
    match config.audit.export.as_ref().map(|export| &export.place) {
        None => findings.weak(
            "audit log",
            &"it is not written as files: nobody but its database has it",
            "name a directory or a bucket in [audit.export]",
        ),
        Some(AuditExportPlace::Directory(directory)) => match std::fs::metadata(directory) {
            Ok(found) if !found.is_dir() => {
                findings.bad("audit log", &"audit.export.directory is no directory", "name another");
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                findings.bad("audit log", &error, "let the service's account use audit.export.directory");
            }
            _ => findings.good("audit log", &"written as files"),
        },
        Some(AuditExportPlace::Bucket(bucket)) => bucket_of_log(findings, bucket).await,
    }
    let advice = "see infra/strongroom.sample.toml, [audit.witness]";
    match config.audit.witness.as_ref().map(count_witnesses) {
        None => {
            findings.weak("witnesses", &"none: a log that is taken back is not noticed elsewhere", advice);
        }
        Some(Ok(count)) => findings.good("witnesses", &format!("{count} in the policy file")),
        Some(Err(error)) => findings.bad("witnesses", &error, advice),
    }
}

async fn databases(findings: &mut Findings, config: &Config) {
    let all: [(&'static str, &'static str, &DatabaseConfig); 6] = [
        ("database.data", "data", &config.database.data),
        ("database.keys", "keys", &config.database.keys),
        ("database.key_eraser", "key_eraser", &config.database.key_eraser),
        ("database.key_rotator", "key_rotator", &config.database.key_rotator),
        ("database.audit_export", "audit_export", &config.database.audit_export),
        ("database.audit_sequencer", "audit_sequencer", &config.database.audit_sequencer),
    ];
    for (about, name, database) in all {
        let looked = match Database::open(database) {
            Ok(database) => database.weaknesses(name, SystemClock.now()).await,
            Err(error) => Err(error),
        };
        match looked {
            Err(error) => {
                findings.bad(
                    about,
                    &error,
                    "start it, check the connection and its files, run `strongroom migrate`",
                );
            }
            Ok(weaknesses) if weaknesses.is_empty() => {
                findings.good(about, &"settings, role and triggers are as they must be");
            }
            Ok(weaknesses) => {
                for weakness in weaknesses {
                    let state = if weakness.is_unsafe { State::Bad } else { State::Weak };
                    findings.add(about, state, &weakness.found, weakness.advice);
                }
            }
        }
    }
}

async fn vault(findings: &mut Findings, config: &Config) -> Option<Transit> {
    let random = Arc::new(SystemRandom::default());
    let checked = match Transit::connect(&config.vault, &config.environment, random) {
        Ok(transit) => transit.check_keys().await.map(|()| transit),
        Err(error) => Err(error),
    };
    match checked {
        Ok(transit) => {
            findings.good("vault", &"reached; its keys are as they must be");
            return Some(transit);
        }
        Err(error @ (TransitError::UnsafeKey { .. } | TransitError::Missing)) => {
            findings.bad(
                "vault",
                &error,
                "`strongroom bootstrap` makes the keys; an unsafe one is for the security team",
            );
        }
        Err(error) => findings.bad("vault", &error, "unseal it, check the connection and the login"),
    }
    None
}

/// Whether values can be sent to outside services. Where they can't, the service serves everything else.
async fn relay(
    findings: &mut Findings,
    config: &Config,
    (policy, transit): (Option<&PolicySet>, Option<&Transit>),
) {
    match RelayClient::open(&config.relay) {
        Err(error) => {
            let advice = "name in relay.ca_file the PEM roots of the destinations, or leave it out";
            return findings.bad("relay", &error, advice);
        }
        Ok(None) => {
            return findings.good("relay", &"no roots are named: nothing is sent to outside services");
        }
        Ok(Some(_)) => findings.good("relay", &"the roots of destinations can be read"),
    }
    let Some(transit) = transit else { return };
    match transit.check_credentials().await {
        Ok(()) => findings.good("relay", &"so can the credentials that Vault has for them"),
        Err(error) => {
            let advice = "`strongroom bootstrap` mounts the store of their credentials";
            return findings.weak("relay", &error, advice);
        }
    }
    for destination in policy.into_iter().flat_map(PolicySet::destinations) {
        let Some(credential) = destination.credential() else { continue };
        if let Err(error) = transit.relay_credential(&credential.place).await {
            let found = format!("{}: its credential: {error}", destination.name().as_str());
            findings.weak(
                "relay",
                &found,
                "write it into Vault where policy/relay.toml says, or name another place",
            );
        }
    }
}

fn print_json(findings: &Findings) -> Result<()> {
    let each = |finding: &Finding| {
        json!({
            "check": finding.about,
            "state": finding.state.as_str(),
            "found": finding.found,
            "advice": (!finding.advice.is_empty()).then_some(&finding.advice),
        })
    };
    output::line(&serde_json::to_string(&findings.0.iter().map(each).collect::<Vec<_>>())?);
    Ok(())
}

fn print_table(findings: &Findings) {
    let style = Style::detect();
    for finding in &findings.0 {
        let word = format!("{:<4}", finding.state.as_str());
        let word = match finding.state {
            State::Good => style.green(&word),
            State::Weak => style.bold(&word),
            State::Bad => style.red(&word),
        };
        output::line(&format!("{word}  {:<22}  {}", finding.about, finding.found));
        if !finding.advice.is_empty() {
            output::line(&format!("      {:<22}  {}", "", style.dim(&finding.advice)));
        }
    }
}
