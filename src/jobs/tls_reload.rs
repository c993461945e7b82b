//! Has the door take up changed files (certificate, roots, revocation lists, identities) and puts on record what was
//! taken up and what was refused.
//!
//! Not here: reading and checking the files (`tls`), fetching revocation lists ([`super::revocation`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;

use crate::audit::Act;
use crate::service::Service;
use crate::tls::{Change, LiveTls, Part, ReloadError};

/// Looks at the files every `interval`, and reads them at every `hangup` even if they look unchanged. The only caller of
/// [`LiveTls::poll`] and [`LiveTls::reload`] in the service: whoever else took a change up would keep it from the log.
pub async fn keep(tls: Arc<LiveTls>, service: Arc<Service>, interval: Duration, mut hangup: Signal) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut refused = Vec::new();
    loop {
        let is_told = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangup.recv() => true,
        };
        let tls = Arc::clone(&tls);
        let looked = move || {
            let looked = if is_told { tls.reload() } else { tls.poll() };
            tls.report();
            looked
        };
        // It fails only if that thread panicked; the next look is soon.
        let Ok((changes, errors)) = tokio::task::spawn_blocking(looked).await else { continue };
        note_changes(&service, &changes).await;
        note_refusals(&service, &errors, &refused).await;
        refused = errors;
    }
}

async fn note_changes(service: &Service, changes: &[Change]) {
    for change in changes {
        if let Some(act) = act_of(change.part) {
            service.note_load(act, change.sha256).await;
        }
    }
}

/// A file that stays wrong is refused at every look, and is on record once.
async fn note_refusals(service: &Service, errors: &[ReloadError], before: &[ReloadError]) {
    for error in errors.iter().filter(|error| !before.contains(error)) {
        if let Some((act, code)) = act_of(error.part).zip(code_of(error.part)) {
            service.note_refused_load(act, code).await;
        }
    }
}

/// Certificates and roots of the server are in its own log only: the catalogue of events has no act for them.
const fn act_of(part: Part) -> Option<Act> {
    match part {
        Part::Identities => Some(Act::IdentityLoad),
        Part::Crls => Some(Act::RevocationLoad),
        Part::ServerCertificate | Part::ClientRoots => None,
    }
}

const fn code_of(part: Part) -> Option<&'static str> {
    match part {
        Part::Identities => Some("identities_invalid"),
        Part::Crls => Some("revocation_list_invalid"),
        Part::ServerCertificate | Part::ClientRoots => None,
    }
}
