//! One step of the log's order: entries that have no number get theirs, with what they are looked for by, and the head goes
//! on with them.
//!
//! Not here: who has the lead (`sequence`), and asking for what is found so (`search`).

mod bytes;
mod look;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement, Transaction};
use uuid::Uuid;

use self::bytes::{BYTES, Bytes};
use self::look::{After, Look, Round, STRETCH_END, transaction_id};
use super::pool::{Session, StorageError};
use super::sequence::{HEAD, NumberedEntry, StoredHead, Taken, into_head, number, one};
use crate::audit::tiles::{Edge, LARGEST_ENTRY_BYTES, Tile, TileId};
use crate::audit::tree::TreeHash;
use crate::audit::{Committed, CommittedBefore, CommittedId, Kind, Marks};

/// What a lead keeps from one step to the next. Cheap to clone.
#[derive(Clone)]
pub(super) struct Numbering {
    // Planned once: with a partition for each month a plan costs as much as some hundred entries.
    new: Statement,
    new_places: Statement,
    unnumbered: Statement,
    stretch_end: Statement,
    insert: Statement,
    kinds: Arc<Kinds<'static>>,
    bytes: Statement,
    /// What this process commits.
    committed: Option<Arc<Committed>>,
    /// Most of what the last step found was among it, so that the next one reads the bytes of none but the others.
    is_fed: bool,
    /// The last step took all that it saw, so that what the head has not seen has no number.
    is_exact: bool,
    /// How far all entries were looked at once more, while that lasts.
    round: Option<Round>,
}

/// Numbers of the combinations that are known, by tenant.
type Kinds<'a> = HashMap<(Uuid, Kind<'a>), i32>;

/// What one step did.
pub(super) struct Step {
    pub head: StoredHead,
    pub taken: Taken,
    kinds: Vec<((Uuid, Kind<'static>), i32)>,
    is_exact: bool,
    round: Option<Round>,
    is_fed: bool,
    began: Option<CommittedBefore>,
    /// What got numbers, and its place among the bytes.
    numbered: Vec<(TreeHash, usize)>,
    bytes: Bytes,
}

/// What was visible in `seen` has a number: what was not are transactions that were open then ($1) and all from its end on
/// ($2). Said so and not by `pg_visible_in_snapshot`, each is a range of an index, and no entry is looked at twice however much
/// waits and however long a transaction stays open. What has an id ahead of all that were given ($4)
/// came with a dump and was looked at then, or is forged (`reconcile`).
/// Each part gives its first ones in its index's order and need not be sorted whole; put together they are sorted here
/// ([`in_order`]), since PostgreSQL would copy every entry for that.
macro_rules! new {
    ($entry:literal, $of_chains:literal, $of_writes:literal) => {
        concat!(
            "/* storage::sequence::take */
    SELECT e.entry_id, e.tenant_id, e.entry, e.xid::text, e.is_write, e.seq FROM (
        (SELECT xid, seq, entry_id, tenant_id, ",
            $entry,
            " AS entry, false AS is_write FROM audit_entry WHERE xid = ANY ($1::text[]::xid8[]) ",
            $of_chains,
            " ORDER BY xid, seq, entry_id LIMIT $3)
        UNION ALL
        (SELECT xid, seq, entry_id, tenant_id, ",
            $entry,
            ", false FROM audit_entry WHERE xid >= $2::text::xid8 AND xid < $4::text::xid8 ",
            $of_chains,
            " ORDER BY xid, seq, entry_id LIMIT $3)
        UNION ALL
        (SELECT xid, 0::bigint, entry_id, tenant_id, ",
            $entry,
            ", true FROM audit_outbox WHERE xid = ANY ($1::text[]::xid8[]) ",
            $of_writes,
            " ORDER BY xid, entry_id LIMIT $3)
        UNION ALL
        (SELECT xid, 0::bigint, entry_id, tenant_id, ",
            $entry,
            ", true FROM audit_outbox WHERE xid >= $2::text::xid8 AND xid < $4::text::xid8 ",
            $of_writes,
            " ORDER BY xid, entry_id LIMIT $3)
    ) AS e"
        )
    };
}

const NEW: &str = new!("entry", "", "");

/// Where most of it is at hand: the bytes of the others are asked for then (`bytes`).
const NEW_PLACES: &str = new!("NULL::bytea", "", "");

/// Where it is not known that all of these have none, each is looked for in the index. What no file has room for is passed over: of
/// as much as a step takes nothing would come after it.
const UNNUMBERED: &str = new!(
    "entry",
    "AND octet_length(entry) <= 65535 AND (SELECT i.idx FROM audit_index i WHERE i.entry_id = audit_entry.entry_id) IS NULL",
    "AND octet_length(entry) <= 65535 AND (SELECT i.idx FROM audit_index i WHERE i.entry_id = audit_outbox.entry_id) IS NULL"
);

/// No COPY: no time limit of a statement or a session ends one that waits for rows, so that an instance which stands still there
/// would keep the lead for as long as it likes.
const INSERT: &str = "/* storage::sequence::take */
    INSERT INTO audit_index (idx, entry_id, leaf, kind, subject, record, person)
    SELECT $1 + place - 1, id, leaf, kind, subject, record, person
    FROM unnest($2::uuid[], $3::bytea[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[])
        WITH ORDINALITY AS new (id, leaf, kind, subject, record, person, place)";

const KINDS: &str = "/* storage::sequence::lead */
    SELECT tenant_id, act, status, actor, collection, purpose, kind FROM audit_kind";

const INSERT_KIND: &str = "/* storage::sequence::take */
    INSERT INTO audit_kind (tenant_id, act, status, actor, collection, purpose, kind)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

const TILE: &str =
    "/* storage::sequence::take */ INSERT INTO audit_tile (level, idx, hashes) VALUES ($1, $2, $3)";

const ADVANCE: &str = "/* storage::sequence::take */
    UPDATE audit_head SET size = $1, edge = $2, scan_from = $3::text::xid8, seen = $4::text::pg_snapshot, cluster = $7
    WHERE epoch = $5 AND size = $6";

impl Numbering {
    /// For a session that has just got the lead: nobody else adds kinds any more.
    pub async fn of(session: &Session) -> Result<Self, StorageError> {
        session
            .run("sequence::lead", async |client| {
                let mut kinds = Kinds::new();
                for row in client.query(KINDS, &[]).await? {
                    kinds.insert((row.try_get(0)?, kind_of(&row)?), row.try_get(6)?);
                }
                Ok(Self {
                    new: client.prepare_cached(NEW).await?,
                    new_places: client.prepare_cached(NEW_PLACES).await?,
                    unnumbered: client.prepare_cached(UNNUMBERED).await?,
                    stretch_end: client.prepare_cached(STRETCH_END).await?,
                    insert: client.prepare_cached(INSERT).await?,
                    bytes: client.prepare_cached(BYTES).await?,
                    kinds: Arc::new(kinds),
                    committed: None,
                    is_fed: false,
                    is_exact: false,
                    round: None,
                })
            })
            .await
    }

    /// From now on bytes are taken from there as far as it has them.
    pub fn feed(&mut self, committed: Arc<Committed>) {
        self.committed = Some(committed);
    }

    /// Looks for each entry in the index until a step has taken all that it saw. `false`: so it did.
    pub fn look_twice(&mut self) -> bool {
        std::mem::take(&mut self.is_exact)
    }

    /// Remembers what a committed step added, and lets go what got numbers. What this process committed and the step did not come
    /// upon, which is lent with this, is to be found in the index.
    pub fn learn(&mut self, step: &mut Step) -> Vec<(CommittedId, Vec<u8>)> {
        let entry = |(leaf, at)| Some(NumberedEntry { leaf, bytes: step.bytes.take(at)? });
        step.taken.entries = step.numbered.drain(..).filter_map(entry).collect();
        (self.is_exact, self.is_fed) = (step.is_exact, step.is_fed);
        self.round = step.round.take();
        if !step.kinds.is_empty() {
            Arc::make_mut(&mut self.kinds).extend(step.kinds.drain(..));
        }
        let began = step.began.filter(|_| step.taken.is_all);
        self.committed
            .as_ref()
            .zip(began)
            .map(|(committed, began)| committed.settle(began))
            .unwrap_or_default()
    }

    /// Takes back what was lent.
    pub fn take_back(&self, entries: Vec<(CommittedId, Vec<u8>)>) {
        if let Some(committed) = &self.committed {
            committed.take_back(entries);
        }
    }

    /// Numbers up to `most` entries, if the head is `known`.
    pub async fn step(
        self,
        transaction: &Transaction<'_>,
        known: &StoredHead,
        most: usize,
    ) -> Result<Step, StorageError> {
        // Before anything is looked at: what was committed before this, it sees.
        let began = self.committed.as_ref().map(|committed| committed.tick());
        let sql = format!("/* storage::sequence::take */ {HEAD} FOR UPDATE");
        let row = transaction.query_one(&sql, &[]).await?;
        let head = into_head(&row)?;
        if (head.epoch, &head.edge) != (known.epoch, &known.edge) {
            return Err(StorageError::Stale);
        }
        let mut look = Look::by(transaction, &row, &self).await?;
        let found = look.find(transaction, self.statement(&look), most).await?;
        let mut rows = in_order(&found, most)?;
        let is_all = rows.len() < most;
        let last = rows.last().map(|(place, _)| place.transaction).filter(|_| !is_all);
        rows.retain(|(place, _)| !look.is_left(place.transaction));
        let is_whole = look.is_round() || keep_whole(&mut rows, last);
        let bytes = Bytes::of(transaction, &self.bytes, self.committed.as_ref(), &rows).await?;
        let is_fed = bytes.are_at_hand().unwrap_or(self.is_fed);
        let batch = Batch::of(&rows, bytes.all(), &self.kinds)?;
        let refused = rows.len() - batch.rows.len();
        let is_all = is_all && look.is_all();
        let taken = Taken { first: head.edge.size(), entries: Vec::new(), is_all, refused, lost: 0 };
        let After { scan_from, seen, round, is_exact } = look.seen_after(last, is_whole)?;
        // Nothing is no news to the head, unless it says how far a stretch is.
        if rows.is_empty() && look.is_last() && !look.is_round() {
            let (is_exact, kinds, numbered) = (self.is_exact, Vec::new(), Vec::new());
            return Ok(Step { head, taken, kinds, is_exact, round, is_fed, began, numbered, bytes });
        }
        let mut edge = head.edge.clone();
        let first = number(edge.size())?;
        let tiles = batch.append_to(&mut edge);
        self.insert(transaction, first, &batch, tiles).await?;
        let (size, edge_bytes) = (number(edge.size())?, edge.to_bytes());
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&size, &edge_bytes, &scan_from.to_string(), &seen, &head.epoch, &first, &look.cluster];
        one(transaction.execute(ADVANCE, &parameters).await?)?;
        let numbered = batch.rows.iter().map(|row| (row.leaf, row.at)).collect();
        let (head, kinds) = (StoredHead { edge, ..head }, batch.new_kinds);
        Ok(Step { head, taken, kinds, is_exact, round, is_fed, began, numbered, bytes })
    }

    const fn statement(&self, look: &Look) -> &Statement {
        match (look.is_exact, self.is_fed) {
            (true, true) => &self.new_places,
            (true, false) => &self.new,
            (false, _) => &self.unnumbered,
        }
    }

    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        first: i64,
        batch: &Batch,
        filled: Vec<(TileId, Tile)>,
    ) -> Result<(), StorageError> {
        for ((tenant, kind), number) in &batch.new_kinds {
            let Kind { act, status, actor, collection, purpose } = kind;
            let parameters: [&(dyn ToSql + Sync); 7] =
                [tenant, act, status, actor, collection, purpose, number];
            one(transaction.execute(INSERT_KIND, &parameters).await?)?;
        }
        let rows = &batch.rows;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let leaves: Vec<&[u8]> = rows.iter().map(|row| row.leaf.as_bytes().as_slice()).collect();
        let kinds: Vec<i32> = rows.iter().map(|row| row.kind).collect();
        let marks = |of: fn(&NumberedRow) -> Option<i64>| rows.iter().map(of).collect::<Vec<_>>();
        let (subjects, records, persons) =
            (marks(|row| row.subject), marks(|row| row.record), marks(|row| row.person));
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&first, &ids, &leaves, &kinds, &subjects, &records, &persons];
        let numbered = transaction.execute(&self.insert, &parameters).await?;
        if usize::try_from(numbered) != Ok(batch.rows.len()) {
            return Err(StorageError::Malformed("the index took another number of entries"));
        }
        for (id, tile) in filled {
            let (level, index, hashes) = (i16::from(id.level()), number(id.index())?, tile.to_bytes());
            one(transaction.execute(TILE, &[&level, &index, &hashes]).await?)?;
        }
        Ok(())
    }
}

/// Where an entry stands: by its transaction, and within it by its place in its chain (0 for a write).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    transaction: u64,
    number: i64,
    id: Uuid,
}

/// The first `most` of what was found, in the log's order.
fn in_order(found: &[Row], most: usize) -> Result<Vec<(Place, &Row)>, StorageError> {
    let placed = found.iter().map(|row| {
        let place = Place {
            transaction: transaction_id(row.try_get(3)?)?,
            number: row.try_get(5)?,
            id: row.try_get(0)?,
        };
        Ok((place, row))
    });
    let mut placed = placed.collect::<Result<Vec<_>, StorageError>>()?;
    placed.sort_by_key(|(place, _)| *place);
    placed.truncate(most);
    Ok(placed)
}

/// Leaves to the next step the last transaction, which may have more, unless there is no other. Whether what is kept are whole
/// transactions.
fn keep_whole(rows: &mut Vec<(Place, &Row)>, last: Option<u64>) -> bool {
    let has_another = rows.first().is_some_and(|(place, _)| Some(place.transaction) != last);
    if has_another {
        rows.retain(|(place, _)| Some(place.transaction) != last);
    }
    has_another
}

/// What gets a number. Where an id stands in both tables, the one of a chain does; the other never gets one, nor does what no file
/// of the log has room for, and `reconcile` finds it for as long as it is there.
#[derive(Default)]
struct Batch {
    rows: Vec<NumberedRow>,
    new_kinds: Vec<((Uuid, Kind<'static>), i32)>,
}

struct NumberedRow {
    id: Uuid,
    /// Its place among what was found.
    at: usize,
    /// RFC 9162 section 2.1.1.
    leaf: TreeHash,
    kind: i32,
    subject: Option<i64>,
    record: Option<i64>,
    person: Option<i64>,
}

impl Batch {
    fn of<'a>(
        rows: &[(Place, &Row)],
        entries: &'a [Option<Vec<u8>>],
        known: &Kinds<'a>,
    ) -> Result<Self, StorageError> {
        let mut batch = Self::default();
        let mut new = Kinds::new();
        let mut next = known.values().copied().max().unwrap_or(0);
        let mut chained = HashSet::new();
        for (place, row) in rows {
            if !row.try_get::<_, bool>(4)? {
                chained.insert(place.id);
            }
        }
        let mut met = HashSet::new();
        for (at, ((Place { id, .. }, row), entry)) in rows.iter().zip(entries).enumerate() {
            if (row.try_get(4)? && chained.contains(id)) || !met.insert(*id) {
                continue;
            }
            let Some(entry) = entry.as_ref().filter(|entry| entry.len() <= LARGEST_ENTRY_BYTES) else {
                continue;
            };
            let Marks { kind, subject, record, person } = Marks::of(entry);
            let key = (row.try_get(1)?, kind);
            let kind = match known.get(&key).or_else(|| new.get(&key)) {
                Some(kind) => *kind,
                None => {
                    next += 1;
                    new.insert(key, next);
                    next
                }
            };
            let leaf = TreeHash::of_leaf(entry);
            batch.rows.push(NumberedRow { id: *id, at, leaf, kind, subject, record, person });
        }
        let owned = |((tenant, kind), number): ((_, Kind<'_>), _)| ((tenant, kind.into_owned()), number);
        batch.new_kinds = new.into_iter().map(owned).collect();
        Ok(batch)
    }

    /// The full tiles above the leaves that the tree gets with it.
    fn append_to(&self, edge: &mut Edge) -> Vec<(TileId, Tile)> {
        let filled = self.rows.iter().flat_map(|row| edge.append(row.leaf));
        filled.filter(|(id, _)| id.level() > 0).collect()
    }
}

fn kind_of(row: &Row) -> Result<Kind<'static>, StorageError> {
    let text = |column: usize| row.try_get::<_, String>(column).map(Cow::Owned);
    Ok(Kind { act: text(1)?, status: text(2)?, actor: text(3)?, collection: text(4)?, purpose: text(5)? })
}
