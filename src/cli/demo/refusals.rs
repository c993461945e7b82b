//! Five ways not to get in, and how each is answered.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustls::AlertDescription;
use serde_json::Value;

use super::super::local::Local;
use super::load::Stored;
use super::tale::Tale;
use super::wire::{Silence, Wire};

const PORTAL_URI: &str = "spiffe://strongroom.internal/client/clinic-north/portal";
const UNLISTED_URI: &str = "spiffe://strongroom.internal/client/clinic-north/not-on-the-list";
const ASK_EVERY: Duration = Duration::from_millis(100);
/// The lists are fetched every second here; production's are every 30.
const REVOKED_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn all(tale: &mut Tale, local: &Local, stored: &Stored) -> Result<()> {
    let path = format!("/api/v1/patients/{}", stored.patient);
    no_certificate(tale, local).await?;
    unlisted(tale, local, &path).await?;
    wrong_purpose(tale, local, &path).await?;
    other_tenant(tale, local, &path).await?;
    revoked(tale, local, &path).await
}

async fn no_certificate(tale: &mut Tale, local: &Local) -> Result<()> {
    tale.say("No certificate:");
    let silence = match Wire::open(local.address(), local.site.roots_file(), None).await {
        Ok(wire) => wire.listen().await,
        Err(silence) => silence,
    };
    tale.show(&silence.to_string());
    tale.check(
        matches!(silence, Silence::Alert(AlertDescription::CertificateRequired)),
        "the door ended the connection in the TLS handshake: not one byte of HTTP",
    )?;
    tale.refusals.push(String::from("no certificate (TLS alert)"));
    Ok(())
}

async fn unlisted(tale: &mut Tale, local: &Local, path: &str) -> Result<()> {
    tale.say("A genuine certificate of our own CA, for a name that policy/identities.toml does not list:");
    let files = local.site.issue("unlisted", "client", UNLISTED_URI).await?;
    let answer = local.application_with(&files)?.for_purpose("TREAT").get(path).await?;
    refused(tale, answer.status, &answer.body, (403, "identity_unlisted"), "an unlisted certificate")
}

async fn wrong_purpose(tale: &mut Tale, local: &Local, path: &str) -> Result<()> {
    tale.say("Billing says that it treats the patient (X-Purpose-Of-Use: TREAT):");
    let answer = local.application("billing")?.for_purpose("TREAT").get(path).await?;
    refused(tale, answer.status, &answer.body, (403, "purpose_not_allowed"), "a purpose that the role lacks")
}

async fn other_tenant(tale: &mut Tale, local: &Local, path: &str) -> Result<()> {
    tale.say("The portal of another tenant, clinic-south, asks for this very record:");
    let files = local.files_of("clinic-south", "portal")?;
    let answer = local.application_with(files)?.for_purpose("TREAT").get(path).await?;
    refused(tale, answer.status, &answer.body, (404, "record_not_found"), "another tenant")
}

/// A second certificate of the portal is revoked while its connection is open and in use.
async fn revoked(tale: &mut Tale, local: &Local, path: &str) -> Result<()> {
    tale.say("A certificate is revoked while its connection is open:");
    let files = local.site.issue("portal-stolen", "client", PORTAL_URI).await?;
    let (address, roots) = (local.address(), local.site.roots_file());
    let mut wire = Wire::open(address, roots, Some(&files)).await?;
    let (status, _) = wire.get(path, "TREAT").await?;
    tale.show(&format!("GET {path} → {status}"));
    tale.check(status == 200, "before: the stolen certificate still opens the record")?;
    local.site.revoke(&files.serial).await?;
    let revoked_at = Instant::now();
    tale.show(&format!("revoked serial {}", files.serial));
    tale.show(&format!("GET /livez on the same connection, every {} ms …", ASK_EVERY.as_millis()));
    let (end, after) = ask_until_refused(&mut wire, revoked_at).await?;
    tale.show(&format!("… and {} ms after the revocation → {end}", after.as_millis()));
    tale.check(true, &format!("after: the open connection was refused within {:.1} s", after.as_secs_f64()))?;
    let silence = match Wire::open(address, roots, Some(&files)).await {
        Ok(wire) => wire.listen().await,
        Err(silence) => silence,
    };
    tale.show(&format!("a new connection → {silence}"));
    tale.check(
        matches!(silence, Silence::Alert(AlertDescription::CertificateRevoked)),
        "and a new connection does not get through the handshake",
    )?;
    tale.refusals
        .push(format!("a revoked certificate, on its open connection after {:.1} s", after.as_secs_f64()));
    Ok(())
}

/// What ended it, and how long after `since`. Only the refusal of a revoked certificate counts.
async fn ask_until_refused(wire: &mut Wire, since: Instant) -> Result<(String, Duration)> {
    let mut tick = tokio::time::interval(ASK_EVERY);
    while since.elapsed() < REVOKED_WITHIN {
        tick.tick().await;
        match wire.get("/livez", "TREAT").await {
            Ok((200, _)) => {}
            Ok((403, body)) if code(&body) == "certificate_revoked" => {
                return Ok((String::from("403 certificate_revoked"), since.elapsed()));
            }
            Ok((status, body)) => bail!("the revoked connection was answered {status} {}", code(&body)),
            Err(Silence::Closed) => return Ok((Silence::Closed.to_string(), since.elapsed())),
            Err(silence @ Silence::Alert(_)) => return Ok((silence.to_string(), since.elapsed())),
            Err(other) => bail!("the revoked connection broke: {other}"),
        }
    }
    bail!("a revoked certificate was still good after {REVOKED_WITHIN:?}")
}

fn refused(tale: &mut Tale, status: u16, body: &Value, wanted: (u16, &str), who: &str) -> Result<()> {
    let detail = body.get("detail").and_then(Value::as_str).unwrap_or_default();
    tale.show(&format!("{status} {}: {detail}", code(body)));
    let (wanted_status, wanted_code) = wanted;
    tale.check(
        status == wanted_status && code(body) == wanted_code && body.get("fields").is_none(),
        &format!("refused with {status}, and no field of the record"),
    )?;
    tale.refusals.push(format!("{who} ({wanted_status} {wanted_code})"));
    Ok(())
}

fn code(body: &Value) -> &str {
    body.get("code").and_then(Value::as_str).unwrap_or_default()
}
