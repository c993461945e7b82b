//! What a log asks of a witness: to cosign a checkpoint that continues one it has cosigned (C2SP tlog-witness,
//! add-checkpoint).

use std::fmt;

use crate::audit::checkpoint::{
    SignedCheckpoint, SignedCheckpointFault, decimal, hash_from_base64, to_base64,
};
use crate::audit::tree::TreeHash;

/// tlog-witness, add-checkpoint.
const MOST_HASHES: usize = 63;

/// Bytes are no such request: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    #[error("the request begins with old and the size of a checkpoint")]
    OldSize,
    #[error("a line of the proof is not the base64 of 32 bytes, or there are more than {MOST_HASHES}")]
    Proof,
    #[error("the request has no checkpoint: {0}")]
    Checkpoint(#[from] SignedCheckpointFault),
    #[error("the old size is larger than the checkpoint's")]
    Shrinks,
}

/// A checkpoint, and the proof that it continues the one of `old_size` entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    old_size: u64,
    proof: Vec<TreeHash>,
    checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// `proof` from [`crate::audit::tree::Plan::consistency`].
    pub fn new(
        old_size: u64,
        proof: Vec<TreeHash>,
        checkpoint: SignedCheckpoint,
    ) -> Result<Self, RequestFault> {
        if old_size > checkpoint.checkpoint().size() {
            return Err(RequestFault::Shrinks);
        }
        if proof.len() > MOST_HASHES {
            return Err(RequestFault::Proof);
        }
        Ok(Self { old_size, proof, checkpoint })
    }

    /// What this reads, [`fmt::Display`] gives back byte for byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestFault> {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").ok_or(RequestFault::OldSize)?;
        let (head, checkpoint) = bytes.split_at_checked(end + 2).ok_or(RequestFault::OldSize)?;
        let head =
            head.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or(RequestFault::Proof)?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old_size = old_size.ok_or(RequestFault::OldSize)?;
        let proof: Option<Vec<TreeHash>> = lines.map(hash_from_base64).collect();
        Self::new(old_size, proof.ok_or(RequestFault::Proof)?, SignedCheckpoint::parse(checkpoint)?)
    }

    pub const fn old_size(&self) -> u64 {
        self.old_size
    }

    pub fn proof(&self) -> &[TreeHash] {
        &self.proof
    }

    pub const fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", to_base64(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checkpoint::CheckpointFault;

    /// The example of tlog-witness, with one of its two signatures.
    const EXAMPLE: &str = "old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
";

    #[test]
    fn requests_are_read_strictly() {
        let request = AddCheckpoint::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((request.old_size(), request.proof().len()), (20_852_014, 4));
        assert_eq!(request.to_string(), EXAMPLE);
        let fault = |from: &str, to: &str| {
            AddCheckpoint::parse(EXAMPLE.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        assert_eq!(fault("old ", "new "), RequestFault::OldSize);
        assert_eq!(fault("old 2", "old 02"), RequestFault::OldSize);
        assert_eq!(fault("old 20852014\n", "\n"), RequestFault::OldSize);
        assert_eq!(fault("old 20852014", "old 20852164"), RequestFault::Shrinks);
        assert_eq!(fault("PlRN", "PlR"), RequestFault::Proof);
        assert_eq!(
            fault(
                "old 20852014\n",
                &format!("old 20852014\n{}", "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n".repeat(60))
            ),
            RequestFault::Proof
        );
        let size = SignedCheckpointFault::Checkpoint(CheckpointFault::Size);
        assert_eq!(fault("\n20852163\n", "\n020852163\n"), RequestFault::Checkpoint(size));
        assert_eq!(AddCheckpoint::parse(b""), Err(RequestFault::OldSize));
    }
}
