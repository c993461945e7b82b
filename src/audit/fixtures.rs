//! A context, a clock and a random source that never change, for the tests of this module.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use super::act::{Act, Outcome};
use super::encode::Place;
use super::event::{EntryDraft, RecordObject};
use super::scribe::Scribe;
use crate::domain::actor::{Actor, CertificateFacts, ClientKind, Identity, KeyKeeping};
use crate::domain::class::DataClass;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::context::{OperationContext, RequestFacts};
use crate::domain::id::{CollectionName, FieldName, RecordId, RecordVersion, RequestId, SubjectId, TenantId};
use crate::domain::purpose::Purpose;
use crate::domain::random::{NoRandomness, Random};

pub struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_767_225_600_123_456)
    }
}

/// 1, 2, 3 … as 64-bit words.
#[derive(Default)]
pub struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, destination: &mut [u8]) -> Result<(), NoRandomness> {
        let next = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        destination.fill(0);
        let at = destination.len() - 8;
        destination[at..].copy_from_slice(&next.to_be_bytes());
        Ok(())
    }
}

pub fn scribe() -> Scribe {
    let place = Place { instance: "room-1".into(), build: "1.2.3" };
    Scribe { clock: Arc::new(FixedClock), random: Arc::new(Counting::default()), place }
}

pub fn uuid(tail: u128) -> Uuid {
    Uuid::from_u128(0x019b_76da_0000_7000_8000_0000_0000_0000 | tail)
}

pub fn names(words: &[&str]) -> Arc<[FieldName]> {
    words.iter().map(|word| FieldName::parse(word).unwrap()).collect()
}

pub fn context() -> OperationContext {
    OperationContext {
        actor: Actor::new(
            Arc::new(Identity {
                client: "portal".into(),
                kind: ClientKind::App,
                tenant: TenantId::from_uuid(uuid(0xa)),
                roles: Arc::from([Arc::from("portal"), Arc::from("scheduling")]),
                acts_for: Arc::from([Arc::from("clinician"), Arc::from("patient")]),
                key: KeyKeeping::File,
            }),
            Arc::new(CertificateFacts {
                san: "spiffe://strongroom.test/client/portal".into(),
                issuer_sha256: "11".repeat(32),
                serial: "0a".into(),
                not_after: Timestamp::from_micros(1_800_000_000_000_000),
                sha256: "22".repeat(32),
            }),
            "[::ffff:10.8.0.7]:50123".parse().unwrap(),
        ),
        request: RequestFacts {
            id: RequestId::from_uuid(uuid(0xb)),
            trace: Some("0af7651916cd43dd8448eb211c80319c".into()),
            route: "/api/v1/{collection}/{id}",
        },
        purpose: Some(Purpose::Treat),
        at: FixedClock.now(),
        break_glass: OnceLock::new(),
    }
}

pub fn patient() -> RecordObject {
    RecordObject::new(CollectionName::parse("patients").unwrap())
        .id(RecordId::from_uuid(uuid(0xc)))
        .version(RecordVersion::new(3).unwrap())
}

/// The commonest entry: a patient read with some fields masked.
pub fn read() -> EntryDraft {
    EntryDraft::of_request(&context(), Act::RecordRead, Outcome::SUCCESS)
        .subject(SubjectId::from_uuid(uuid(0xd)))
        .asked(names(&["birth_date", "family_name", "ssn"]))
        .policies(&[Arc::from("portal-reads-patients")])
        .record(
            patient()
                .fields(names(&["birth_date", "family_name"]))
                .masked(names(&["ssn"]))
                .class(DataClass::Phi)
                .class(DataClass::Pii),
        )
}

/// The bytes of entries as a log holds them: two processes' chains, and a write outside of both in every third place.
pub fn log_entries(count: u64) -> Vec<Vec<u8>> {
    let scribe = scribe();
    let mut chains = [(uuid(0xe0), 0, None), (uuid(0xe1), 0, None)];
    let mut entries = Vec::new();
    for number in 0..count {
        if number % 3 == 2 {
            let draft =
                EntryDraft::of_request(&context(), Act::RecordCreate, Outcome::SUCCESS).record(patient());
            entries.push(scribe.write(&draft.seals([0x44; 32])).unwrap().into_unchained());
            continue;
        }
        let (src, seq, head) = &mut chains[usize::try_from(number % 2).unwrap()];
        *seq += 1;
        let bytes = scribe.write(&read()).unwrap().chained(src, *seq, head.as_ref());
        *head = Some(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref().try_into().unwrap());
        entries.push(bytes);
    }
    entries
}

/// A folder that is gone with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("strongroom-audit-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
