SET LOCAL strongroom.audit_migration = 'yes';
-- The log by months: audit_entry, audit_outbox and audit_index are partitioned by the time in the entry's id (UUIDv7), so
-- that an old month is dropped and not deleted; and what an auditor looks for is indexed where entries get their numbers,
-- not where they are written. Reviewed with audit/README.md.

-- The months are in a schema of their own, in which nobody but the owner has any right: every role goes through the three
-- tables, and their triggers and grants hold.
CREATE SCHEMA strongroom_log AUTHORIZATION strongroom_owner;

-- The tables as they were; their rows move at the end.
ALTER TABLE public.audit_entry SET SCHEMA strongroom_log;
ALTER TABLE public.audit_outbox SET SCHEMA strongroom_log;
ALTER TABLE public.audit_index SET SCHEMA strongroom_log;
ALTER TABLE strongroom_log.audit_entry RENAME TO audit_entry_before;
ALTER TABLE strongroom_log.audit_outbox RENAME TO audit_outbox_before;
ALTER TABLE strongroom_log.audit_index RENAME TO audit_index_before;

CREATE TABLE public.audit_entry (
    src       uuid   NOT NULL,  -- random id of one instance run
    seq       bigint NOT NULL CHECK (seq >= 1),
    entry_id  uuid   NOT NULL,  -- UUIDv7, as in the entry
    tenant_id uuid   NOT NULL,  -- the nil UUID for the service's own entries
    entry     bytea  NOT NULL,  -- RFC 8785 JSON; these bytes are what is hashed
    sha256    bytea  NOT NULL CHECK (octet_length(sha256) = 32),
    xid       xid8   NOT NULL DEFAULT pg_current_xact_id()
) PARTITION BY RANGE (entry_id);

CREATE TABLE public.audit_outbox (
    tenant_id uuid  NOT NULL,
    entry_id  uuid  NOT NULL,
    entry     bytea NOT NULL,
    xid       xid8  NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, entry_id)
) PARTITION BY RANGE (entry_id);

CREATE TABLE public.audit_index (
    idx      bigint NOT NULL CHECK (idx >= 0),   -- from 0, without gaps; unique within a month
    entry_id uuid   NOT NULL,                    -- of audit_entry or audit_outbox
    leaf     bytea  NOT NULL CHECK (octet_length(leaf) = 32), -- SHA-256(0x00 || entry), as it was when it was numbered
    -- What it is looked for by. The first eight bytes of the SHA-256 of the id, big-endian: what is found by them is
    -- compared with the entry.
    kind     integer,                            -- of audit_kind
    subject  bigint,
    record   bigint,
    person   bigint
) PARTITION BY RANGE (entry_id);

ALTER TABLE public.audit_entry ALTER COLUMN entry SET STORAGE EXTERNAL;
ALTER TABLE public.audit_outbox ALTER COLUMN entry SET STORAGE EXTERNAL;
ALTER TABLE public.audit_index ALTER COLUMN leaf SET STORAGE PLAIN;

-- What has few values, in the combinations that there are: some hundreds a tenant. Empty where the entry has none.
CREATE TABLE public.audit_kind (
    tenant_id  uuid    NOT NULL,
    act        text    NOT NULL,
    status     text    NOT NULL,
    actor      text    NOT NULL,
    collection text    NOT NULL,
    purpose    text    NOT NULL,
    kind       integer NOT NULL UNIQUE CHECK (kind > 0),
    PRIMARY KEY (tenant_id, act, status, actor, collection, purpose)
);

ALTER TABLE public.audit_entry OWNER TO strongroom_owner;
ALTER TABLE public.audit_outbox OWNER TO strongroom_owner;
ALTER TABLE public.audit_index OWNER TO strongroom_owner;
ALTER TABLE public.audit_kind OWNER TO strongroom_owner;

-- As in V2 and V20.
REVOKE ALL ON public.audit_entry, public.audit_outbox, public.audit_index, public.audit_kind
    FROM PUBLIC, strongroom_app;
GRANT INSERT (src, seq, entry_id, tenant_id, entry, sha256) ON public.audit_entry TO strongroom_app;
GRANT SELECT (src, seq, sha256) ON public.audit_entry TO strongroom_app;
GRANT INSERT (tenant_id, entry_id, entry) ON public.audit_outbox TO strongroom_app;
GRANT SELECT ON public.audit_entry, public.audit_outbox, public.audit_index, public.audit_kind
    TO strongroom_audit_reader, strongroom_sequencer;
GRANT INSERT (idx, entry_id, leaf, kind, subject, record, person) ON public.audit_index TO strongroom_sequencer;
GRANT INSERT (tenant_id, act, status, actor, collection, purpose, kind) ON public.audit_kind TO strongroom_sequencer;

-- For the log by tenant and time, and by commit (for whoever follows it: never "id greater than the last one seen").
CREATE INDEX audit_entry_tenant ON public.audit_entry (tenant_id, entry_id);
CREATE INDEX audit_entry_xid ON public.audit_entry (xid);
CREATE INDEX audit_outbox_entry_id ON public.audit_outbox (entry_id);
CREATE INDEX audit_outbox_xid ON public.audit_outbox (xid);
-- For searches. `kind` beside what is looked for, so that those of another kind need not be fetched.
CREATE INDEX audit_index_kind ON public.audit_index (kind, entry_id) WHERE kind IS NOT NULL;
CREATE INDEX audit_index_subject ON public.audit_index (subject, entry_id) INCLUDE (kind) WHERE subject IS NOT NULL;
CREATE INDEX audit_index_record ON public.audit_index (record, entry_id) INCLUDE (kind) WHERE record IS NOT NULL;
CREATE INDEX audit_index_person ON public.audit_index (person, entry_id) INCLUDE (kind) WHERE person IS NOT NULL;

-- An entry's own: last, since of two indexes that a plan for an empty month finds equally good PostgreSQL takes the younger.
-- (src, seq) and idx are unique within a month besides (audit_make_partition). A repeat of an entry has its id, and so comes
-- into its month.
ALTER TABLE public.audit_entry ADD PRIMARY KEY (entry_id);
ALTER TABLE public.audit_index ADD UNIQUE (entry_id);

-- Triggers for rows are copied to every partition by PostgreSQL, those for statements are not: audit_make_partition.
DO $$
DECLARE
    guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY['audit_entry', 'audit_outbox', 'audit_index', 'audit_kind'] LOOP
        EXECUTE format('CREATE TRIGGER audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change()', guarded);
        EXECUTE format('CREATE TRIGGER audit_refuse_row BEFORE UPDATE OR DELETE ON public.%I
                        FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change()', guarded);
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse_statement', guarded);
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse_row', guarded);
    END LOOP;
END
$$;

-- A partition: the same columns, checks, indexes and triggers, and no grants. Made beside the table and then attached,
-- which does not wait for the table's writers.
CREATE FUNCTION public.audit_make_partition(parent text, suffix text, bounds text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    made text := format('%I.%I', 'strongroom_log', parent || '_' || suffix);
    place text;
BEGIN
    EXECUTE format('CREATE TABLE %s (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', made, parent);
    -- Rows only come, and VACUUM would wait for a fifth of them to be new: until then index scans look each of those up.
    EXECUTE format('ALTER TABLE %s SET (autovacuum_vacuum_insert_scale_factor = 0, '
                   'autovacuum_vacuum_insert_threshold = 250000)', made);
    place := CASE parent WHEN 'audit_entry' THEN 'src, seq' WHEN 'audit_index' THEN 'idx' END;
    IF place IS NOT NULL THEN
        EXECUTE format('CREATE UNIQUE INDEX %I ON %s (%s)', parent || '_' || suffix || '_place', made, place);
    END IF;
    EXECUTE format('CREATE TRIGGER audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
                    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change()', made);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_refuse_statement', made);
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION %s %s', parent, made, bounds);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_refuse_row', made);
END
$$;
ALTER FUNCTION public.audit_make_partition(text, text, text) OWNER TO strongroom_owner;

-- The smallest id of a time (RFC 9562 section 5.7: 48 bits of milliseconds come first).
CREATE FUNCTION public.audit_first_id(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
ALTER FUNCTION public.audit_first_id(timestamptz) OWNER TO strongroom_owner;

-- The month of each table, if it is not there. Where the partition of the rest has rows of it already, it stays there.
CREATE FUNCTION public.audit_make_month(month timestamptz) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog SET timezone = 'UTC' AS $$
DECLARE
    suffix text := to_char(month, 'YYYY_MM');
    bounds text := format('FOR VALUES FROM (%L) TO (%L)', public.audit_first_id(month),
                          public.audit_first_id(month + interval '1 month'));
    parent text;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['audit_entry', 'audit_outbox', 'audit_index'] LOOP
        IF to_regclass(format('strongroom_log.%I', parent || '_' || suffix)) IS NULL THEN
            BEGIN
                PERFORM public.audit_make_partition(parent, suffix, bounds);
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
    RETURN made;
END
$$;
ALTER FUNCTION public.audit_make_month(timestamptz) OWNER TO strongroom_owner;

-- What the service may call: this month and the next ones, and nothing else. Returns how many partitions it made. Nobody
-- waits long for it: what reads the log holds it up for two seconds at most, and then it is tried again.
CREATE FUNCTION public.audit_make_months() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog SET timezone = 'UTC' SET lock_timeout = '2s' SET strongroom.audit_migration = 'yes' AS $$
DECLARE
    made integer := 0;
BEGIN
    -- One at a time, and the others have nothing left to do. No reader or writer waits for it, and no other role can hold it.
    LOCK TABLE public.audit_entry IN SHARE UPDATE EXCLUSIVE MODE;
    FOR ahead IN 0..3 LOOP
        made := made + public.audit_make_month(date_trunc('month', now()) + make_interval(months => ahead));
    END LOOP;
    RETURN made;
END
$$;
ALTER FUNCTION public.audit_make_months() OWNER TO strongroom_owner;
REVOKE ALL ON FUNCTION public.audit_make_partition(text, text, text), public.audit_make_month(timestamptz),
    public.audit_make_months() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_make_months() TO strongroom_sequencer;

-- Whether an entry contains what a filter names. Bytes that are no entry contain nothing, and hold no search up.
CREATE FUNCTION public.audit_contains(entry bytea, wanted jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
BEGIN
    RETURN convert_from(entry, 'UTF8')::jsonb @> wanted;
EXCEPTION WHEN others THEN
    RETURN false;
END
$$;
ALTER FUNCTION public.audit_contains(bytea, jsonb) OWNER TO strongroom_owner;
REVOKE ALL ON FUNCTION public.audit_contains(bytea, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_contains(bytea, jsonb) TO strongroom_audit_reader;

-- As in V2, and every relation of the months' schema.
CREATE OR REPLACE FUNCTION strongroom_guard.audit_owns(class oid, object oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    -- By their triggers too: after a RENAME or SET SCHEMA the names lead nowhere.
    WITH guarded AS (
        SELECT tgrelid AS relation FROM pg_trigger WHERE tgname IN ('audit_refuse_statement', 'audit_refuse_row')
        UNION
        SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace('strongroom_log')
    )
    SELECT CASE class
        WHEN 'pg_class'::regclass THEN EXISTS (SELECT FROM guarded WHERE relation = object)
        WHEN 'pg_trigger'::regclass THEN
            EXISTS (SELECT FROM pg_trigger JOIN guarded ON relation = tgrelid WHERE pg_trigger.oid = object)
        WHEN 'pg_rewrite'::regclass THEN
            EXISTS (SELECT FROM pg_rewrite JOIN guarded ON relation = ev_class WHERE pg_rewrite.oid = object)
        WHEN 'pg_policy'::regclass THEN
            EXISTS (SELECT FROM pg_policy JOIN guarded ON relation = polrelid WHERE pg_policy.oid = object)
        WHEN 'pg_constraint'::regclass THEN
            EXISTS (SELECT FROM pg_constraint JOIN guarded ON relation = conrelid WHERE pg_constraint.oid = object)
        WHEN 'pg_proc'::regclass THEN
            EXISTS (SELECT FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
                    WHERE pg_proc.oid = object AND proname LIKE 'audit\_%'
                      AND nspname IN ('public', 'strongroom_guard'))
            OR EXISTS (SELECT FROM pg_trigger JOIN guarded ON relation = tgrelid WHERE tgfoid = object)
        ELSE false
    END
$$;

CREATE OR REPLACE FUNCTION strongroom_guard.audit_refuse_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    touched boolean;
BEGIN
    IF current_setting('strongroom.audit_migration', true) = 'yes' THEN
        RETURN;
    END IF;
    IF tg_event = 'sql_drop' THEN
        -- What is dropped is out of the catalogue by now; its address is what is left.
        SELECT coalesce(bool_or(
                   address_names[1] IN ('public', 'strongroom_log') AND address_names[2] LIKE 'audit\_%'
                   AND object_type IN ('table', 'table column', 'table constraint', 'trigger', 'rule', 'policy',
                                       'default value', 'index', 'function')), false)
          INTO touched FROM pg_event_trigger_dropped_objects();
    ELSE
        -- By their triggers the tables of this migration are known to audit_owns as well.
        SELECT coalesce(bool_or(strongroom_guard.audit_owns(classid, objid)), false)
          INTO touched FROM pg_event_trigger_ddl_commands();
    END IF;
    IF touched THEN
        RAISE EXCEPTION 'the audit log''s tables change in a migration only' USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;

-- Whatever has an id of no month that is there: it is never refused.
SELECT public.audit_make_partition(parent, 'rest', 'DEFAULT')
    FROM unnest(ARRAY['audit_entry', 'audit_outbox', 'audit_index']) AS parent;
-- The months of a log that is there already, from 2020 on.
SELECT public.audit_make_month(month) FROM (
    SELECT DISTINCT date_trunc('month', to_timestamp(('x' || left(replace(entry_id::text, '-', ''), 12))::bit(48)::bigint
                                                     / 1000.0) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS month
    FROM (SELECT entry_id FROM strongroom_log.audit_entry_before
          UNION ALL SELECT entry_id FROM strongroom_log.audit_outbox_before) AS every
    WHERE entry_id BETWEEN public.audit_first_id('2020-01-01 00:00Z') AND public.audit_first_id(now() + interval '1 month')
) AS months;
SELECT public.audit_make_months();
-- Partitions that were made by whoever migrates belong to the owner like all others.
DO $$
DECLARE
    made regclass;
BEGIN
    FOR made IN SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
                WHERE c.relnamespace = 'strongroom_log'::regnamespace AND c.relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO strongroom_owner', made);
    END LOOP;
END
$$;

INSERT INTO public.audit_entry (src, seq, entry_id, tenant_id, entry, sha256, xid)
    SELECT src, seq, entry_id, tenant_id, entry, sha256, xid FROM strongroom_log.audit_entry_before;
INSERT INTO public.audit_outbox (tenant_id, entry_id, entry, xid)
    SELECT tenant_id, entry_id, entry, xid FROM strongroom_log.audit_outbox_before;

-- What src/audit/marks.rs says of an entry that gets its number, of those that have theirs. One that cannot be read has no
-- marks.
CREATE FUNCTION pg_temp.as_json(entry bytea) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert_from(entry, 'UTF8')::jsonb;
EXCEPTION WHEN others THEN
    RETURN '{}'::jsonb;
END
$$;
CREATE FUNCTION pg_temp.mark(id text) RETURNS bigint LANGUAGE sql AS $$
    SELECT ('x' || encode(substring(sha256(convert_to(id, 'UTF8')) FROM 1 FOR 8), 'hex'))::bit(64)::bigint
$$;
CREATE TEMP TABLE marked ON COMMIT DROP AS
    SELECT i.idx, i.entry_id, i.leaf, e.tenant_id, coalesce(j->>'act', '') AS act, coalesce(j#>>'{out,status}', '') AS status,
        coalesce(j#>>'{who,uid}', '') AS actor, coalesce(j#>>'{obj,0,collection}', '') AS collection,
        coalesce(j->>'purpose', '') AS purpose, pg_temp.mark(j->>'subj') AS subject,
        pg_temp.mark(j#>>'{obj,0,record}') AS record, pg_temp.mark(j#>>'{who,on_behalf_of,uid}') AS person
    FROM strongroom_log.audit_index_before i
    JOIN (SELECT entry_id, tenant_id, pg_temp.as_json(entry) AS j FROM public.audit_entry
          UNION ALL SELECT entry_id, tenant_id, pg_temp.as_json(entry) FROM public.audit_outbox) AS e USING (entry_id);
INSERT INTO public.audit_kind (tenant_id, act, status, actor, collection, purpose, kind)
    SELECT tenant_id, act, status, actor, collection, purpose, row_number() OVER () FROM (
        SELECT DISTINCT tenant_id, act, status, actor, collection, purpose FROM marked) AS kinds;
INSERT INTO public.audit_index (idx, entry_id, leaf, kind, subject, record, person)
    SELECT i.idx, i.entry_id, i.leaf, k.kind, m.subject, m.record, m.person
    FROM strongroom_log.audit_index_before i
    LEFT JOIN marked m ON m.idx = i.idx
    LEFT JOIN public.audit_kind k USING (tenant_id, act, status, actor, collection, purpose);
DROP FUNCTION pg_temp.as_json(bytea);
DROP FUNCTION pg_temp.mark(text);

DROP TABLE strongroom_log.audit_entry_before, strongroom_log.audit_outbox_before, strongroom_log.audit_index_before;
