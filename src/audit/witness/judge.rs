//! What a witness signs: that a log only grew.

use super::key::WitnessKey;
use super::ledger::{Head, Ledger, LedgerFault};
use super::request::{AddCheckpoint, RequestFault};
use crate::audit::checkpoint::{Distrust, SignatureLine, SignedCheckpoint, Trust};
use crate::audit::tree::{TreeHash, check_consistency};

/// Why nothing is signed. Each has its status in tlog-witness, add-checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// 400.
    #[error(transparent)]
    Malformed(#[from] RequestFault),
    /// 404.
    #[error("this witness does not watch a log of this origin")]
    UnknownLog,
    /// 403.
    #[error("the checkpoint is not to be believed: {0}")]
    Untrusted(Distrust),
    /// 409, with the size.
    #[error("the newest checkpoint that was cosigned has {size} entries")]
    OtherSize { size: u64 },
    /// 422.
    #[error("the checkpoint does not continue the one that was cosigned")]
    Inconsistent,
    /// 503: a witness that cannot remember does not sign.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// A key, what it remembers, and whose logs it watches.
pub struct Witness {
    key: WitnessKey,
    logs: Trust,
    ledger: Ledger,
}

impl Witness {
    /// `logs` names the keys of the logs; witnesses and quorum in it mean nothing here.
    pub const fn new(key: WitnessKey, logs: Trust, ledger: Ledger) -> Self {
        Self { key, logs, ledger }
    }

    pub const fn key(&self) -> &WitnessKey {
        &self.key
    }

    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Answers a request of tlog-witness, add-checkpoint, with signature lines. Writes files: call it where that may
    /// block. The cosignature exists only after the new checkpoint is durable, and `now_s` never goes back in it.
    pub fn add_checkpoint(&self, body: &[u8], now_s: u64) -> Result<String, Refusal> {
        let request = AddCheckpoint::parse(body)?;
        let signed = request.checkpoint();
        let origin = signed.checkpoint().origin();
        let is_known = self.logs.logs().iter().any(|key| key.name().as_str() == origin);
        if !is_known || self.ledger.head(origin).is_none() {
            return Err(Refusal::UnknownLog);
        }
        let log_keys = self.logs.endorse(signed).map_err(Refusal::Untrusted)?.log_keys;
        let judged = self.ledger.advance(origin, |head| self.judge(head, &request, &log_keys, now_s))?;
        if let Err(Refusal::Inconsistent) = &judged {
            self.ledger.keep_evidence(&believed_lines(signed, &log_keys))?;
        }
        let cosigned = judged?;
        let own = cosigned.note().signatures().iter().filter(|line| self.is_own(line));
        Ok(own.map(ToString::to_string).collect())
    }

    /// The newest checkpoint of a log, with the log's signature and this witness's (tlog-witness, Monitor Retrieval
    /// Mechanism). `None` where nothing was cosigned.
    pub fn newest(&self, origin_hash: &str) -> Option<String> {
        Some(self.ledger.head_by_hash(origin_hash)?.signed?.to_string())
    }

    fn judge(
        &self,
        head: Option<&Head>,
        request: &AddCheckpoint,
        log_keys: &[u32],
        now_s: u64,
    ) -> Result<SignedCheckpoint, Refusal> {
        let head = head.ok_or(Refusal::UnknownLog)?;
        let (old, new) = (&head.checkpoint, request.checkpoint().checkpoint());
        if request.old_size() != old.size() {
            return Err(Refusal::OtherSize { size: old.size() });
        }
        // An empty tree has one root (RFC 6962 section 2.1), whoever signs another.
        let is_empty_or_not = new.size() > 0 || *new.root() == TreeHash::of_nothing();
        let consistent = check_consistency(old.size(), old.root(), new.size(), new.root(), request.proof());
        if !is_empty_or_not || consistent.is_err() {
            return Err(Refusal::Inconsistent);
        }
        let own_time = |signed: &SignedCheckpoint| {
            let line = signed.note().signatures().iter().find(|line| self.is_own(line))?;
            line.signature.first_chunk::<8>().copied().map(u64::from_be_bytes)
        };
        let time_s = now_s.max(head.time_s(own_time));
        // Of witnesses' signatures none but this one.
        let mut cosigned = believed_lines(request.checkpoint(), log_keys);
        let cosignature = self.key.cosign(time_s, cosigned.note().text()).ok_or(Refusal::Inconsistent)?;
        cosigned.cosign(self.key.verifier(), cosignature).map_err(|_| Refusal::Inconsistent)?;
        Ok(cosigned)
    }

    fn is_own(&self, line: &SignatureLine) -> bool {
        let own = self.key.verifier();
        (line.key_id, &line.name) == (own.id(), own.name())
    }
}

/// A checkpoint with those of the log's signatures that were verified.
fn believed_lines(signed: &SignedCheckpoint, log_keys: &[u32]) -> SignedCheckpoint {
    let origin = signed.checkpoint().origin();
    signed.with_lines(|line: &SignatureLine| line.name.as_str() == origin && log_keys.contains(&line.key_id))
}
