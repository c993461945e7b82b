//! The statements that put a version in the place of another one, each with what must happen with it or not at all.

use super::terms::gone;

/// A statement that puts a version in the place of another one: its name, whether that is the record's end, how it locks the
/// subject, what more it needs, what more it sets and does, and how it ends.
macro_rules! succeed {
    ($name:literal, $deleted:literal, $lock:literal, $guard:literal, $set:literal, $more:expr, $end:literal) => {
        concat!(
            "/* storage::records::",
            $name,
            " */ \
    WITH old AS ( \
        SELECT r.* FROM record r \
        WHERE r.tenant_id = $1 AND r.collection = $2 AND r.record_id = $3 AND r.version = $4::bigint - 1 AND NOT r.deleted \
        FOR UPDATE), \
    active_subject AS ( \
        SELECT s.subject_id, s.holds FROM subject s \
        JOIN old ON s.tenant_id = old.tenant_id AND s.subject_id = old.subject_id \
        WHERE s.state = 'active' FOR ",
            $lock,
            " OF s), \
    current AS ( \
        SELECT old.* FROM old \
        WHERE old.subject_id IS NOT DISTINCT FROM $5::uuid \
          AND (old.subject_id IS NULL OR EXISTS (SELECT 1 FROM active_subject))",
            $guard,
            "), \
    kept AS ( \
        INSERT INTO record_history (tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, \
                                    sealed_values, created_at, updated_at, expires_at, audit_entry_id) \
        SELECT tenant_id, collection, record_id, version, subject_id, deleted, seal_headers, sealed_values, created_at, \
               updated_at, expires_at, audit_entry_id FROM current), \
    replaced AS ( \
        UPDATE record SET version = $4, deleted = ",
            $deleted,
            ", seal_headers = $6, sealed_values = $7, updated_at = $8, \
                          audit_entry_id = $9",
            $set,
            " FROM current \
        WHERE record.tenant_id = current.tenant_id AND record.collection = current.collection \
          AND record.record_id = current.record_id \
        RETURNING record.record_id)",
            $more,
            $end
        )
    };
}
pub(super) use succeed;

/// With another version: what more it needs, sets and does.
macro_rules! replace {
    ($guard:literal, $set:literal, $more:expr) => {
        $crate::storage::records::replace::succeed!(
            "replace",
            "false",
            "KEY SHARE",
            $guard,
            $set,
            $more,
            " INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $9, $10 FROM replaced"
        )
    };
}
pub(super) use replace;

/// Terms that stay are left alone, so that a row is never removed and put in by one statement.
pub(super) const REPLACE: &str = replace!(
    "",
    ", indexed_as = $11, terms = $12",
    concat!(
        ", ",
        gone!("current", "$3", "t.term <> ALL ($12::bytea[])"),
        ", new_terms AS ( \
        INSERT INTO index_term (tenant_id, collection, term, record_id) \
        SELECT $1, $2, t.term, $3 FROM current, unnest($12::bytea[]) AS t (term) \
        ON CONFLICT DO NOTHING)"
    )
);

/// With the record's end, unless a hold is in force, and what more it does: a record that has ended is not found. FOR SHARE waits for a hold that is being placed,
/// and sees it; a hold that comes later waits for the end.
macro_rules! end {
    ($more:literal) => {
        $crate::storage::records::replace::succeed!(
            "end",
            "true",
            "SHARE",
            " AND NOT EXISTS (SELECT 1 FROM active_subject WHERE holds > 0)",
            ", terms = '{}'",
            concat!(", ", gone!("current", "$3", "true"), $more),
            ", logged AS (INSERT INTO audit_outbox (tenant_id, entry_id, entry) SELECT $1, $9, $10 FROM replaced) \
            SELECT EXISTS (SELECT FROM replaced), EXISTS (SELECT FROM active_subject WHERE holds > 0)"
        )
    };
}

pub(super) const END: &str = end!("");

pub(super) const END_WITH_KEYS: &str = end!(
    ", destruction AS ( \
        INSERT INTO key_destruction (tenant_id, record_id, collection, subject_id, requested_at) \
        SELECT tenant_id, record_id, collection, subject_id, $8 FROM current)"
);
