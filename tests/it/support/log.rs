//! An exported log without a service: entries by the real encoder through real committers, signed by keys of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use ring::signature::{Ed25519KeyPair, KeyPair};
use strongroom::audit::checkpoint::{
    Checkpoint, Cosignature, KeyKind, KeyName, SignedCheckpoint, VerifierKey, cosigned_message,
};
use strongroom::audit::export::{Directory, LogFile, LogWriter};
use strongroom::audit::tree::TreeHash;
use strongroom::audit::{
    Act, Batch, Committer, EntryDraft, EntrySink, Outcome, RecordObject, Scribe, Settled, SinkFailure,
};
use strongroom::config::AuditConfig;
use strongroom::domain::actor::{Actor, CertificateFacts, ClientKind, Identity, KeyKeeping};
use strongroom::domain::class::DataClass;
use strongroom::domain::clock::{SystemClock, Timestamp};
use strongroom::domain::context::{OperationContext, RequestFacts};
use strongroom::domain::id::{
    CollectionName, FieldName, RecordId, RecordVersion, RequestId, SubjectId, TenantId,
};
use strongroom::domain::purpose::Purpose;
use strongroom::domain::random::SystemRandom;
use uuid::Uuid;

pub const ORIGIN: &str = "strongroom.test/log";

/// The log's key and a witness's.
pub struct LogKeys {
    log: Ed25519KeyPair,
    pub log_key: VerifierKey,
    witness: Ed25519KeyPair,
    pub witness_key: VerifierKey,
}

impl LogKeys {
    pub fn new(seed: u8) -> Self {
        let pair = |seed: u8, name: &str, kind| {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let public = pair.public_key().as_ref().try_into().unwrap();
            let key = VerifierKey::new(KeyName::parse(name).unwrap(), kind, public);
            (pair, key)
        };
        let (log, log_key) = pair(seed, ORIGIN, KeyKind::Log);
        let (witness, witness_key) = pair(seed ^ 0x80, "witness.test/w1", KeyKind::Witness);
        Self { log, log_key, witness, witness_key }
    }

    /// Whom to believe, as a file.
    pub fn policy(&self) -> String {
        format!("log {}\nwitness w1 {}\nquorum w1\n", self.log_key, self.witness_key)
    }

    pub fn sign(&self, size: u64, root: TreeHash) -> SignedCheckpoint {
        let checkpoint = Checkpoint::new(ORIGIN, size, root).unwrap();
        let signature = self.log.sign(checkpoint.text().as_bytes());
        SignedCheckpoint::signed(checkpoint, &self.log_key, signature.as_ref()).unwrap()
    }

    pub fn cosigned(&self, size: u64, root: TreeHash, time_s: u64) -> SignedCheckpoint {
        let mut signed = self.sign(size, root);
        let message = cosigned_message(time_s, signed.note().text());
        let signature = self.witness.sign(message.as_bytes()).as_ref().try_into().unwrap();
        signed.cosign(&self.witness_key, Cosignature { time_s, signature }).unwrap();
        signed
    }
}

/// Writes a log with a checkpoint at each of the sizes.
pub fn write_log(directory: &Path, entries: &[Vec<u8>], sizes: &[usize], keys: &LogKeys) {
    let mut writer = LogWriter::open(Directory::open(directory).unwrap()).unwrap();
    let mut done = 0;
    for size in sizes {
        writer.append(entries[done..*size].iter().map(Vec::as_slice)).unwrap();
        let (count, root) = (writer.tail().size(), writer.tail().root());
        writer.publish(&keys.cosigned(count, root, 1_800_000_000 + count)).unwrap();
        done = *size;
    }
    writer.keep_key(&LogFile::of_log_key(&keys.log_key)).unwrap();
    writer.keep_key(&LogFile::of_witness_key("w1", &keys.witness_key)).unwrap();
}

/// Where committers put their entries: the order in which a sequencer finds them.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<Vec<u8>>>>);

impl EntrySink for Shelf {
    async fn append(&self, batch: &Batch) -> Result<(), SinkFailure> {
        self.0.lock().unwrap().extend(batch.entries.iter().map(|entry| entry.bytes.clone()));
        Ok(())
    }

    async fn settle(&self, _: &Batch) -> Result<Settled, SinkFailure> {
        Ok(Settled::Stored)
    }
}

/// Entries of two services: reads of twelve fields, writes between them, refusals and what the service does itself.
pub async fn log_entries(count: usize) -> Vec<Vec<u8>> {
    let shelf = Shelf::default();
    let limits = AuditConfig::default();
    let committers: Vec<(Committer, _)> = ["room-1", "room-2"]
        .into_iter()
        .map(|instance| {
            let scribe = Scribe::new(Arc::new(SystemClock), Arc::new(SystemRandom::default()), instance);
            Committer::start(shelf.clone(), scribe, &limits).unwrap()
        })
        .collect();
    let mut number = 0;
    while shelf.0.lock().unwrap().len() < count {
        let (committer, _) = &committers[number % 2];
        let left = count - shelf.0.lock().unwrap().len();
        let drafts: Vec<EntryDraft> = (0..left.min(500)).map(|place| draft(number * 500 + place)).collect();
        committer.submit(drafts).await.unwrap();
        number += 1;
        if left > 600 {
            for place in 0..100 {
                let entry = committer.outbox_entry(&written(place)).unwrap();
                let bytes = entry.commit_with(async |outbox| Ok::<_, ()>(outbox.bytes().to_vec())).await;
                shelf.0.lock().unwrap().push(bytes.unwrap().0);
            }
        }
    }
    std::mem::take(&mut *shelf.0.lock().unwrap())
}

/// What happened, one of a few kinds of things.
pub fn draft(number: usize) -> EntryDraft {
    let context = context();
    match number % 20 {
        0 => EntryDraft::of_request(&context, Act::RecordRead, Outcome::refused("purpose_not_allowed"))
            .record(patient(number)),
        1 => EntryDraft::of_request(&context, Act::AuditRead, Outcome::SUCCESS).count(100),
        2 => EntryDraft::of_service(Act::PolicyLoad, Outcome::SUCCESS).loaded([7; 32]),
        _ => EntryDraft::of_request(&context, Act::RecordRead, Outcome::SUCCESS)
            .subject(SubjectId::from_uuid(id(number)))
            .policies(&[Arc::from("portal-reads-patients"), Arc::from("portal-masks-identifiers")])
            .record(
                patient(number)
                    .fields(names(&["birth_date", "city", "email", "family_name", "given_name", "phone"]))
                    .masked(names(&["address", "gender", "insurance", "language", "mrn", "ssn"]))
                    .class(DataClass::Phi)
                    .class(DataClass::Pii),
            ),
    }
}

/// A patient's first version.
pub fn written(number: usize) -> EntryDraft {
    EntryDraft::of_request(&context(), Act::RecordCreate, Outcome::SUCCESS)
        .subject(SubjectId::from_uuid(id(number)))
        .policies(&[Arc::from("portal-writes-patients")])
        .record(patient(number).fields(names(&["family_name", "mrn"])).class(DataClass::Phi))
        .seals([0x44; 32])
}

fn patient(number: usize) -> RecordObject {
    RecordObject::new(CollectionName::parse("patients").unwrap())
        .id(RecordId::from_uuid(id(number)))
        .version(RecordVersion::FIRST)
}

/// Of the patient of this number, and of the tenant.
pub fn id(number: usize) -> Uuid {
    Uuid::from_u128(0x019b_76da_0000_7000_8000_0000_0000_0000 | u128::try_from(number).unwrap())
}

fn names(words: &[&str]) -> Arc<[FieldName]> {
    words.iter().map(|word| FieldName::parse(word).unwrap()).collect()
}

fn context() -> OperationContext {
    let identity = Identity {
        client: "portal".into(),
        kind: ClientKind::App,
        tenant: TenantId::from_uuid(id(0xa)),
        roles: Arc::from([Arc::from("portal"), Arc::from("scheduling")]),
        acts_for: Arc::from([]),
        key: KeyKeeping::File,
    };
    let certificate = CertificateFacts {
        san: "spiffe://strongroom.internal/client/clinic-north/portal".into(),
        issuer_sha256: "00".repeat(32),
        serial: "01".into(),
        not_after: Timestamp::from_micros(0),
        sha256: "ab".repeat(32),
    };
    OperationContext {
        actor: Actor::new(Arc::new(identity), Arc::new(certificate), "10.8.0.7:50123".parse().unwrap()),
        request: RequestFacts {
            id: RequestId::from_uuid(id(0xb)),
            trace: Some("0af7651916cd43dd8448eb211c80319c".into()),
            route: "/api/v1/{collection}/{id}",
        },
        purpose: Some(Purpose::Treat),
        at: Timestamp::from_micros(0),
        break_glass: OnceLock::new(),
    }
}
