//! Asks witnesses to cosign what the log signed (C2SP tlog-witness), and takes nothing else from them.
//!
//! Which witnesses there are, where, and how many of them a checkpoint needs stands in a policy file (C2SP tlog-policy).

use futures_util::future::join_all;
use reqwest::{Method, Url};
use ring::digest::{SHA256, digest};

use super::compare::{follow, gone};
use super::outgoing::{Answer, Outgoing};
use super::{Fault, LEAVES};
use crate::audit::checkpoint::{Distrust, SignatureLine, SignedCheckpoint, Trust, VerifierKey, decimal};
use crate::audit::export::LogFile;
use crate::audit::tiles::{Edge, Tile, TileId};
use crate::audit::tree::{NodeId, Plan, TreeHash, root_of};
use crate::audit::witness::AddCheckpoint;
use crate::config::AuditWitnessConfig;
use crate::storage::SequenceStore;

/// What became of asking one witness.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Cosigned(Vec<SignatureLine>),
    /// It cannot be reached, or does not answer as a witness.
    Nothing,
    /// It has forgotten a checkpoint that it cosigned.
    Forgot,
}

/// What asking all of them came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Enough of them have cosigned, as the policy says.
    pub is_quorum: bool,
    /// One of them did not.
    pub is_one_absent: bool,
    /// One of them has forgotten what it cosigned before.
    pub has_one_forgotten: bool,
}

/// All witnesses of the policy.
pub(super) struct Witnesses {
    policy: Trust,
    each: Vec<Witness>,
}

struct Witness {
    key: VerifierKey,
    outgoing: Outgoing,
    url: Url,
    /// The tree as it last cosigned it, or said to have.
    seen: Edge,
    /// The size that it is known to have cosigned.
    cosigned: u64,
}

impl Witnesses {
    /// `None` where a witness has no address that could be asked.
    pub fn new(policy: Trust, config: &AuditWitnessConfig) -> Option<Self> {
        let each = policy.witnesses().iter().zip(policy.witness_urls()).map(|((_, key), url)| {
            let mut url = url.as_deref()?.trim_end_matches('/').to_owned();
            url.push('/');
            let url = Url::parse(&url).ok().filter(|url| url.scheme() == "https")?;
            let outgoing = Outgoing::new(config.clone());
            Some(Witness { key: key.clone(), outgoing, url, seen: Edge::default(), cosigned: 0 })
        });
        let each = each.collect::<Option<Vec<_>>>()?;
        Some(Self { policy, each })
    }

    /// Whom it believes.
    pub const fn policy(&self) -> &Trust {
        &self.policy
    }

    /// The keys of all of them, as files.
    pub fn key_files(&self) -> Vec<LogFile> {
        self.policy.witnesses().iter().map(|(name, key)| LogFile::of_witness_key(name, key)).collect()
    }

    /// What each of them last cosigned, as far as they answer, if the log signed it.
    pub async fn newest(&mut self, origin: &str) -> Vec<Result<SignedCheckpoint, Distrust>> {
        let policy = &self.policy;
        let asked = join_all(self.each.iter_mut().map(|witness| witness.newest(origin))).await;
        let signed = asked.into_iter().flatten();
        signed.map(|signed| policy.endorse(&signed).map(|_| signed)).collect()
    }

    /// A new lead begins with what is known: the tree at the newest checkpoint that was published, and who cosigned that.
    pub fn resume(&mut self, published: &SignedCheckpoint, edge: &Edge) {
        let by = |witness: &Witness, line: &SignatureLine| {
            line.key_id == witness.key.id() && line.name == *witness.key.name()
        };
        for witness in &mut self.each {
            witness.seen = edge.clone();
            if published.note().signatures().iter().any(|line| by(witness, line)) {
                witness.cosigned = witness.cosigned.max(edge.size());
            }
        }
    }

    /// Has a checkpoint of the tree `head` cosigned by all who answer.
    pub async fn cosign(
        &mut self,
        store: &SequenceStore,
        signed: &mut SignedCheckpoint,
        head: &Edge,
    ) -> Result<Heard, Fault> {
        let asking = self.each.iter_mut().map(|witness| witness.ask(store, signed, head));
        let told = join_all(asking).await;
        let keys: Vec<VerifierKey> = self.each.iter().map(|witness| witness.key.clone()).collect();
        let mut answers = Heard::default();
        for (told, witness) in told.into_iter().zip(&mut self.each) {
            match told? {
                // A line that is not a witness's is no answer.
                Told::Cosigned(lines) => match signed.cosign_with_lines(lines, &keys) {
                    Ok(taken) if taken > 0 => witness.cosigned = head.size(),
                    _ => answers.is_one_absent = true,
                },
                Told::Nothing => answers.is_one_absent = true,
                Told::Forgot => answers.has_one_forgotten = true,
            }
        }
        answers.is_quorum = self.policy.endorse(signed).is_ok_and(|endorsed| endorsed.quorum);
        Ok(answers)
    }
}

impl Witness {
    /// tlog-witness, Monitor Retrieval Mechanism: its newest checkpoint.
    async fn newest(&mut self, origin: &str) -> Option<SignedCheckpoint> {
        let digest = digest(&SHA256, origin.as_bytes());
        let hash = TreeHash::from_bytes(digest.as_ref().try_into().ok()?);
        let url = self.url.join(&format!("{hash}/checkpoint")).ok()?;
        let answer = self.outgoing.send(Method::GET, url, None).await?;
        SignedCheckpoint::parse(&answer.body).ok().filter(|_| answer.status == 200)
    }

    /// tlog-witness, add-checkpoint; a second time where the witness has seen another size than was thought.
    async fn ask(
        &mut self,
        store: &SequenceStore,
        signed: &SignedCheckpoint,
        head: &Edge,
    ) -> Result<Told, Fault> {
        let seen = self.seen.size();
        if seen > 0 && seen < store.boundary().await?.size() {
            // What is between was pruned. Asked so, it says how far it is.
            self.seen = head.clone();
        }
        for _ in 0..2 {
            let Some(answer) = self.add_checkpoint(store, signed, head).await? else { break };
            match answer.status {
                200 => {
                    let lines = std::str::from_utf8(&answer.body).ok().map(SignatureLine::parse_all);
                    self.seen = head.clone();
                    return Ok(lines.and_then(Result::ok).map_or(Told::Nothing, Told::Cosigned));
                }
                409 => {
                    let size =
                        std::str::from_utf8(&answer.body).ok().and_then(|text| decimal(text.trim_end()));
                    let Some(size) = size else { break };
                    if size < self.cosigned {
                        return Ok(Told::Forgot);
                    }
                    if size > head.size() {
                        return Err(Fault::Shrunk { stored: head.size(), published: size });
                    }
                    if !self.look_back(store, size).await? {
                        break;
                    }
                }
                // It has proof that this log and the one that it saw are two.
                422 => return Err(Fault::Changed { from: self.seen.size() }),
                _ => break,
            }
        }
        Ok(Told::Nothing)
    }

    async fn add_checkpoint(
        &mut self,
        store: &SequenceStore,
        signed: &SignedCheckpoint,
        head: &Edge,
    ) -> Result<Option<Answer>, Fault> {
        let proof = prove(store, &self.seen, head.size()).await?;
        let request = AddCheckpoint::new(self.seen.size(), proof, signed.clone()).map_err(|_| Fault::Head)?;
        let Ok(url) = self.url.join("add-checkpoint") else { return Ok(None) };
        Ok(self.outgoing.send(Method::POST, url, Some(request.to_string())).await)
    }

    /// The tree as it was at another size; from the start where it was smaller than what is at hand. `false` where the leaves
    /// since then were pruned: it has been away for longer than the database has entries.
    async fn look_back(&mut self, store: &SequenceStore, size: u64) -> Result<bool, Fault> {
        let boundary = store.boundary().await?;
        if size > 0 && size < boundary.size() {
            tracing::warn!(witness = self.key.name().as_str(), size, "log.witness_behind_what_was_pruned");
            return Ok(false);
        }
        if size < self.seen.size() {
            self.seen = if size == 0 { Edge::default() } else { boundary };
        }
        follow(store, &mut self.seen, size).await?;
        Ok(true)
    }
}

/// That the tree of `size` continues `old` (RFC 6962 section 2.1.2). What is needed left of the old end is at the edge of
/// the old tree; the rest are the leaves since then.
async fn prove(store: &SequenceStore, old: &Edge, size: u64) -> Result<Vec<TreeHash>, Fault> {
    let plan = Plan::consistency(old.size(), size).ok_or(Fault::Head)?;
    let mut leaves: Vec<TreeHash> = Vec::new();
    let mut at = old.size();
    while at < size && plan.nodes().next().is_some() {
        let more = store.leaves(at, LEAVES.min(size - at)).await?;
        if more.is_empty() {
            return Err(gone(store, at).await?);
        }
        at += u64::try_from(more.len()).unwrap_or(0);
        leaves.extend(more);
    }
    let tiles = old.partial_tiles();
    plan.resolve(|node| find(node, old.size(), &tiles, &leaves).ok_or(Fault::Head))
}

fn find(node: NodeId, old: u64, tiles: &[(TileId, Tile)], leaves: &[TreeHash]) -> Option<TreeHash> {
    let (low, count) = (node.index.checked_shl(node.level.into())?, 1_usize.checked_shl(node.level.into())?);
    if let Some(place) = low.checked_sub(old) {
        let from = usize::try_from(place).ok()?;
        return root_of(leaves.get(from..from.checked_add(count)?)?);
    }
    let (id, first) = TileId::of_node(node, old)?;
    let (_, tile) = tiles.iter().find(|(other, _)| *other == id)?;
    tile.node(node, first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tree::check_consistency;

    /// From every size to every later one: what is at hand is enough, and proves it.
    #[test]
    fn the_edge_and_the_later_leaves_prove_growth() {
        let leaves: Vec<TreeHash> = (0..600_u32).map(|n| TreeHash::of_leaf(&n.to_be_bytes())).collect();
        let mut edges = vec![Edge::default()];
        for leaf in &leaves {
            let mut edge = edges.last().unwrap().clone();
            edge.append(*leaf);
            edges.push(edge);
        }
        for old in (0..=600_usize).step_by(7).chain([255, 256, 257, 511, 512, 513, 600]) {
            let tiles = edges[old].partial_tiles();
            for new in (old..=600).step_by(11) {
                let (low, high) = (edges[old].size(), edges[new].size());
                let plan = Plan::consistency(low, high).unwrap();
                let proof =
                    plan.resolve(|node| find(node, low, &tiles, &leaves[old..new]).ok_or(node)).unwrap();
                check_consistency(low, &edges[old].root(), high, &edges[new].root(), &proof).unwrap();
            }
        }
    }
}
