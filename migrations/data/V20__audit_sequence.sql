SET LOCAL strongroom.audit_migration = 'yes';
-- The log in its order: which entry has which number, and how far the tree over them has grown. Written by the sequencer
-- alone (src/jobs/sequencer), one for all instances; its session holds an advisory lock, and each of its transactions
-- asks for its epoch besides. Reviewed with audit/README.md.

DO $$
BEGIN
    BEGIN
        CREATE ROLE strongroom_sequencer NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database of this cluster has made it
    END;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO strongroom_sequencer', current_database());
END
$$;
GRANT USAGE ON SCHEMA public TO strongroom_sequencer;

CREATE TABLE public.audit_index (
    idx      bigint NOT NULL PRIMARY KEY CHECK (idx >= 0),  -- from 0, without gaps
    entry_id uuid   NOT NULL UNIQUE,                        -- of audit_entry or audit_outbox
    leaf     bytea  NOT NULL CHECK (octet_length(leaf) = 32) -- SHA-256(0x00 || entry), as it was when it was numbered
);

-- One row: the head of the log.
CREATE TABLE public.audit_head (
    only_one     boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (only_one),
    epoch        bigint      NOT NULL CHECK (epoch >= 0), -- one more for every sequencer that took the lead
    size         bigint      NOT NULL CHECK (size >= 0),
    edge         bytea       NOT NULL,                    -- hashes of the partial tiles, the lowest level first
    -- What became visible after `seen`, with a transaction id not below `scan_from`, may still be to be numbered.
    scan_from    xid8        NOT NULL,
    seen         pg_snapshot NOT NULL,
    checkpoint   text        NOT NULL,                    -- the newest that was signed; empty before the first
    published_at timestamptz NOT NULL
);
INSERT INTO public.audit_head VALUES (true, 0, 0, '', '0', '3:3:', '', 'epoch');

ALTER TABLE public.audit_index ALTER COLUMN leaf SET STORAGE PLAIN;
-- It is written once or twice a second: room for new versions of the row in its page.
ALTER TABLE public.audit_head SET (fillfactor = 50);
ALTER TABLE public.audit_index OWNER TO strongroom_owner;
ALTER TABLE public.audit_head OWNER TO strongroom_owner;

REVOKE ALL ON public.audit_index, public.audit_head FROM PUBLIC, strongroom_app;
GRANT SELECT ON public.audit_entry, public.audit_outbox, public.audit_index, public.audit_head TO strongroom_sequencer;
GRANT INSERT (idx, entry_id, leaf) ON public.audit_index TO strongroom_sequencer;
GRANT UPDATE (epoch, size, edge, scan_from, seen, checkpoint, published_at) ON public.audit_head TO strongroom_sequencer;
GRANT SELECT ON public.audit_index, public.audit_head TO strongroom_audit_reader;
GRANT SELECT ON refinery_schema_history TO strongroom_sequencer;

-- The index only grows, and the head goes nowhere but on.
CREATE TRIGGER audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.audit_index
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_refuse_row BEFORE UPDATE OR DELETE ON public.audit_index
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();

CREATE FUNCTION public.audit_refuse_retreat() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NEW.size < OLD.size OR NEW.epoch < OLD.epoch THEN
        RAISE EXCEPTION 'the head of the audit log does not go back' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Nor ahead of what can have been seen: entries below would never get a number.
    IF (NEW.scan_from > OLD.scan_from AND NEW.scan_from > pg_snapshot_xmax(pg_current_snapshot()))
       OR (NEW.seen::text <> OLD.seen::text AND pg_snapshot_xmax(NEW.seen) > pg_snapshot_xmax(pg_current_snapshot())) THEN
        RAISE EXCEPTION 'the audit log has not come as far' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
ALTER FUNCTION public.audit_refuse_retreat() OWNER TO strongroom_owner;

CREATE TRIGGER audit_refuse_statement BEFORE INSERT OR DELETE OR TRUNCATE ON public.audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_refuse_row BEFORE UPDATE ON public.audit_head
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_retreat();

ALTER TABLE public.audit_index ENABLE ALWAYS TRIGGER audit_refuse_statement;
ALTER TABLE public.audit_index ENABLE ALWAYS TRIGGER audit_refuse_row;
ALTER TABLE public.audit_head ENABLE ALWAYS TRIGGER audit_refuse_statement;
ALTER TABLE public.audit_head ENABLE ALWAYS TRIGGER audit_refuse_row;

-- As in V2, for every table of the log: their names begin with audit_.
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
                   address_names[1] = 'public' AND address_names[2] LIKE 'audit\_%'
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
