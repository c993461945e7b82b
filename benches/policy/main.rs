//! `cargo bench --bench policy`: what a decision costs that was made before, and one that is made now, by the shipped policy.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use strongroom::domain::action::Action;
use strongroom::domain::actor::{Actor, CertificateFacts, ClientKind, Identity, KeyKeeping};
use strongroom::domain::clock::Timestamp;
use strongroom::domain::context::{OperationContext, RequestFacts};
use strongroom::domain::id::{RequestId, TenantId};
use strongroom::domain::person::Person;
use strongroom::domain::purpose::Purpose;
use strongroom::domain::relationship::Relationship;
use strongroom::policy::{Authoriser, Collection, PolicySet};
use uuid::Uuid;

/// What the issue asks of a table that is at hand, and of 20 fields that are decided.
const HIT: Duration = Duration::from_micros(2);
const MISS_OF_20: Duration = Duration::from_millis(2);
const HITS: u32 = 100_000;
const MISSES: u32 = 200;
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this as well, without the option.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("policy: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policy"));
    let set = Arc::new(PolicySet::load(folder)?);
    let patients = set.collection("patients").context("there are patients")?;
    let fields = u32::try_from(patients.fields().len())?;
    let portal = context("portal", None);
    let doctor = context("clinician", Some(person()));
    for (who, context) in [("portal", &portal), ("clinician's person", &doctor)] {
        let authoriser = Authoriser::new(Arc::clone(&set));
        let hit = fastest(HITS, || authoriser.prospect(context, patients, Action::Read).is_ok())?;
        report(who, "hit", hit, HIT);
        let miss = fastest(MISSES, || decided(&set, context, patients))?;
        report(who, &format!("miss, {fields} fields"), miss, MISS_OF_20 * fields / 20);
    }
    Ok(())
}

/// One decision by an authoriser that has made none; to somebody in the care team, where that matters.
fn decided(set: &Arc<PolicySet>, context: &OperationContext, collection: &Arc<Collection>) -> bool {
    let relationship = Relationship { in_care_team: context.actor.person().is_some(), ..Relationship::NONE };
    Authoriser::new(Arc::clone(set)).permit(context, collection, Action::Read, relationship).is_ok()
}

/// The time of one, in the fastest of some rounds: what the machine does when nothing else runs.
fn fastest(count: u32, mut work: impl FnMut() -> bool) -> Result<Duration> {
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..count {
            ensure!(std::hint::black_box(work()), "the policy does not permit what is measured");
        }
        fastest = fastest.min(started.elapsed() / count);
    }
    Ok(fastest)
}

fn report(who: &str, what: &str, took: Duration, target: Duration) {
    let verdict = if took <= target { "within" } else { "OVER" };
    say(&format!("{who}, {what}: {took:.2?}, {verdict} the target of {target:.2?}"));
}

fn person() -> Person {
    Person {
        issuer: "staff".into(),
        id: "p-1".into(),
        roles: Arc::from([Arc::from("clinician")]),
        department: Some("cardiology".into()),
        care_teams: Arc::from([Arc::from("ward-3")]),
        subject: None,
        has_second_factor: false,
        expires_at: Timestamp::from_micros(i64::MAX),
    }
}

fn context(role: &str, person: Option<Person>) -> OperationContext {
    let roles: Arc<[Arc<str>]> = Arc::from([Arc::from(role)]);
    let identity = Identity {
        client: role.into(),
        kind: ClientKind::App,
        tenant: TenantId::from_uuid(Uuid::nil()),
        roles: Arc::clone(&roles),
        acts_for: roles,
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
    let alone = Actor::new(Arc::new(identity), Arc::new(certificate), source);
    OperationContext {
        actor: match person {
            Some(person) => alone.for_person(Arc::new(person)),
            None => alone,
        },
        request: RequestFacts { id: RequestId::from_uuid(Uuid::nil()), trace: None, route: "/" },
        purpose: Some(Purpose::Treat),
        at: Timestamp::from_micros(0),
        break_glass: OnceLock::new(),
    }
}

fn say(line: &str) {
    // Nobody is left to tell when standard output is gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}
