//! Where a step of numbering looks for entries without a number, and what has been seen after it.

use tokio_postgres::{Row, Statement, Transaction};

use super::super::pool::StorageError;
use super::Numbering;

/// What this snapshot sees, and the lowest transaction id that it may not see; whether ids were counted anew since `seen`,
/// and in which cluster they are counted. In a database that was loaded from a dump every entry has to be looked at once more.
const SNAPSHOT: &str = "/* storage::sequence::take */
    SELECT s::text, pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s) < pg_snapshot_xmax($1::text::pg_snapshot),
        (SELECT system_identifier::text FROM pg_control_system())
    FROM pg_current_snapshot() AS s";

const BEGUN: &str = "/* storage::sequence::take */ SELECT pg_snapshot_xmax(pg_current_snapshot())::text";

/// Where a stretch ends: entries up to there are few enough to be looked for in the index in one statement.
pub(super) const STRETCH_END: &str = "/* storage::sequence::take */
    (SELECT e.xid::text FROM audit_entry e WHERE e.xid >= $1::text::xid8 ORDER BY e.xid OFFSET $2 LIMIT 1)
    UNION ALL
    (SELECT o.xid::text FROM audit_outbox o WHERE o.xid >= $1::text::xid8 ORDER BY o.xid OFFSET $2 LIMIT 1)";
const STRETCH: i64 = 8_192;

/// The start of time: nothing is below it, and nothing visible in it.
const NOTHING_SEEN: &str = "3:3:";
/// No transaction has it.
const NO_LIMIT: &str = "18446744073709551615";

/// A look at every entry that was visible when it began, in stretches. What is committed meanwhile comes after it, so that chains
/// keep their order. Another lead begins one of its own, where what is known to be settled ends (`scan_from`).
#[derive(Clone)]
pub(super) struct Round {
    from: u64,
    /// What was visible when it began, and the lowest transaction id that might not have been: so much has been seen at its end.
    seen: String,
    lowest: u64,
    /// Transactions that were open then, and the first that had not begun.
    running: Vec<u64>,
    begun: u64,
}

/// Where one step looks.
pub(super) struct Look {
    /// Transactions that were open when it was last looked, and the first of those that had not begun.
    open: Vec<u64>,
    from: u64,
    /// Where there is more than one statement may look for.
    stretch_end: Option<u64>,
    /// Whether nothing of it has a number.
    pub is_exact: bool,
    round: Option<Round>,
    /// The round begins with this step.
    is_new: bool,
    scan_from: u64,
    seen: String,
    snapshot: String,
    /// Transactions that are open now, and the first that has not begun.
    running: Vec<u64>,
    begun: u64,
    lowest: u64,
    pub cluster: String,
}

/// What has been seen after a step.
pub(super) struct After {
    pub scan_from: u64,
    pub seen: String,
    pub round: Option<Round>,
    pub is_exact: bool,
}

impl Look {
    /// Where to look, by what the head's row says has been seen.
    pub async fn by(
        transaction: &Transaction<'_>,
        head: &Row,
        numbering: &Numbering,
    ) -> Result<Self, StorageError> {
        let (scan_from, seen): (String, String) = (head.try_get(5)?, head.try_get(6)?);
        let known_cluster: String = head.try_get(7)?;
        // Before the entries are looked for, so that whatever it sees they see.
        let row = transaction.query_one(SNAPSHOT, &[&seen]).await?;
        let (snapshot, lowest): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (is_counted_anew, cluster): (bool, String) = (row.try_get(2)?, row.try_get(3)?);
        let lowest = transaction_id(&lowest)?;
        let (running, begun) = parts(&snapshot)?;
        let (open, end) = parts(&seen)?;
        let scan_from = transaction_id(&scan_from)?;
        let is_other = is_counted_anew || cluster != known_cluster;
        let is_round = is_other || seen == NOTHING_SEEN;
        let known = numbering.round.clone().filter(|_| !is_other);
        let is_new = is_round && known.is_none();
        let round = is_round.then(|| {
            known.unwrap_or_else(|| Round {
                from: if is_other { 0 } else { scan_from },
                seen: snapshot.clone(),
                lowest,
                running: running.clone(),
                begun,
            })
        });
        let (open, from) = match &round {
            Some(round) => (Vec::new(), round.from),
            None => (open, end),
        };
        let is_exact = numbering.is_exact && round.is_none();
        let stretch_end =
            if is_exact { None } else { stretch_end(transaction, &numbering.stretch_end, from).await? };
        // In a round what came with a dump, and is ahead of all ids that were given, is looked at as well.
        let stretch_end = stretch_end.filter(|end| round.is_some() || *end < begun);
        Ok(Self {
            open,
            from,
            stretch_end,
            is_exact,
            round,
            is_new,
            scan_from,
            seen,
            snapshot,
            running,
            begun,
            lowest,
            cluster,
        })
    }

    /// Whether every entry is looked at once more.
    pub const fn is_round(&self) -> bool {
        self.round.is_some()
    }

    /// Whether nothing is left behind what it looks at.
    pub const fn is_last(&self) -> bool {
        self.stretch_end.is_none()
    }

    /// Whether all that is visible is seen with it: a round of several steps leaves what was committed meanwhile.
    pub const fn is_all(&self) -> bool {
        self.is_last() && (!self.is_round() || self.is_new)
    }

    /// Whether a transaction is left to a later step: it was committed since this one began, or since the round did.
    pub fn is_left(&self, transaction: u64) -> bool {
        let since_round = self.round.as_ref().is_some_and(|round| {
            round.running.contains(&transaction) || (round.begun..self.begun).contains(&transaction)
        });
        since_round || self.running.contains(&transaction)
    }

    pub async fn find(
        &mut self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        most: usize,
    ) -> Result<Vec<Row>, StorageError> {
        // What is open still has nothing to show.
        let open = self.open.iter().filter(|open| !self.running.contains(open));
        let open: Vec<String> = open.map(u64::to_string).collect();
        let begun = Some(self.begun).filter(|_| !self.is_round());
        let below = self.stretch_end.or(begun).map_or_else(|| NO_LIMIT.to_owned(), |id| id.to_string());
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let found = transaction.query(statement, &[&open, &self.from.to_string(), &limit, &below]).await?;
        if self.is_round() {
            // Each statement sees more than the one before it: what this one saw had begun by now.
            self.begun = transaction_id(transaction.query_one(BEGUN, &[]).await?.try_get(0)?)?;
        }
        Ok(found)
    }

    /// `last`: the transaction that it stopped in, where it did not take all that it found; `is_whole`: and left that to the next.
    pub fn seen_after(&self, last: Option<u64>, is_whole: bool) -> Result<After, StorageError> {
        let end = last.or(self.stretch_end);
        let Some(round) = &self.round else {
            let (seen, scan_from, is_exact) = match end {
                None => (self.snapshot.clone(), self.lowest, true),
                // Only of what was committed late: all that was looked at before stays so.
                Some(end) if end < self.from => (self.seen.clone(), self.scan_from, false),
                // It is open, so that it is among those that are looked at when they are not.
                Some(end) if self.is_left(end) => {
                    let end = end.saturating_add(1);
                    (cut(&self.snapshot, end)?, end.min(self.lowest), false)
                }
                Some(end) => (cut(&self.snapshot, end)?, end.min(self.lowest), last.is_some() && is_whole),
            };
            return Ok(After { scan_from, seen, round: None, is_exact });
        };
        let Some(end) = end else {
            let (scan_from, seen) = (round.lowest, round.seen.clone());
            return Ok(After { scan_from, seen, round: None, is_exact: self.is_new });
        };
        // Nothing of a transaction that is left is taken however often it is looked at, and all that began meanwhile are.
        let from = match self.is_left(end) {
            true if end >= round.begun => end.saturating_add(1).max(self.begun),
            true => end.saturating_add(1),
            false => end,
        };
        let round = Round { from, ..round.clone() };
        let (scan_from, seen) = (from.min(round.lowest), NOTHING_SEEN.to_owned());
        Ok(After { scan_from, seen, round: Some(round), is_exact: false })
    }
}

/// The first transaction that is not of the stretch from `from` on, which has one at least; `None`: it has all there are.
async fn stretch_end(
    transaction: &Transaction<'_>,
    statement: &Statement,
    from: u64,
) -> Result<Option<u64>, StorageError> {
    let ends = transaction.query(statement, &[&from.to_string(), &STRETCH]).await?;
    let ends =
        ends.iter().map(|row| transaction_id(row.try_get(0)?)).collect::<Result<Vec<_>, StorageError>>()?;
    Ok(ends.into_iter().min().map(|end| end.max(from.saturating_add(1))))
}

/// The transactions that were open in a snapshot, and the first that had not begun: `xmin:xmax:xip,xip…`.
fn parts(snapshot: &str) -> Result<(Vec<u64>, u64), StorageError> {
    let malformed = || StorageError::Malformed("a snapshot");
    let mut parts = snapshot.splitn(3, ':').skip(1);
    let end = transaction_id(parts.next().ok_or_else(malformed)?)?;
    let open = parts.next().ok_or_else(malformed)?;
    let open =
        open.split(',').filter(|open| !open.is_empty()).map(transaction_id).collect::<Result<_, _>>()?;
    Ok((open, end))
}

/// The snapshot, as if transaction `end` and all after it had not begun: what is below has been taken.
fn cut(snapshot: &str, end: u64) -> Result<String, StorageError> {
    let (open, xmax) = parts(snapshot)?;
    let xmax = end.min(xmax);
    let open: Vec<u64> = open.into_iter().filter(|open| *open < xmax).collect();
    let xmin = open.first().copied().unwrap_or(xmax);
    let open: Vec<String> = open.iter().map(u64::to_string).collect();
    Ok(format!("{xmin}:{xmax}:{}", open.join(",")))
}

pub(super) fn transaction_id(text: &str) -> Result<u64, StorageError> {
    text.parse().map_err(|_| StorageError::Malformed("a transaction id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_cut_where_a_step_ended() {
        assert_eq!(parts("10:20:10,14").unwrap(), (vec![10, 14], 20));
        assert_eq!(parts("3:3:").unwrap(), (vec![], 3));
        for (end, cut_at) in
            [(12, "10:12:10"), (14, "10:14:10"), (15, "10:15:10,14"), (30, "10:20:10,14"), (8, "8:8:")]
        {
            assert_eq!(cut("10:20:10,14", end).unwrap(), cut_at);
        }
        for bad in ["", "3", "3:3", "3:x:", "3:4:x"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }
}
