SET LOCAL strongroom.audit_migration = 'yes';
-- What of the log has left the database, and what must not: an old month is dropped by `strongroom audit prune` alone, when the
-- exported files have all of it, and what was dropped stays on record here. Reviewed with audit/README.md.

-- Every month of each table that was ever made: one that is gone and not in audit_pruned was dropped by hand.
CREATE TABLE public.audit_month (
    name    text        NOT NULL PRIMARY KEY, -- in strongroom_log
    month   date        NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO public.audit_month (name, month)
    SELECT relname, to_date(right(relname, 7), 'YYYY_MM') FROM pg_class
    WHERE relnamespace = 'strongroom_log'::regnamespace AND relkind = 'r' AND relispartition
      AND relname ~ '_[0-9]{4}_[0-9]{2}$';

-- The months that were dropped, in their order. Of the tree that is left: every leaf from `size` on is in audit_index, or, where it
-- stood beside entries that stay, in audit_pruned_tile.
CREATE TABLE public.audit_pruned (
    month           date        NOT NULL PRIMARY KEY CHECK (extract(day FROM month) = 1),
    from_id         uuid        NOT NULL,       -- the smallest id of the month, and of the next
    until_id        uuid        NOT NULL CHECK (until_id > from_id),
    first_idx       bigint      NOT NULL CHECK (first_idx >= 0), -- the lowest number in it, and one more than the highest
    end_idx         bigint      NOT NULL CHECK (end_idx >= first_idx),
    entries         bigint      NOT NULL CHECK (entries BETWEEN 0 AND end_idx - first_idx),
    size            bigint      NOT NULL CHECK (size >= 0 AND size % 256 = 0),
    edge            bytea       NOT NULL,       -- the tree over the first `size` entries, as audit_head.edge
    checkpoint_size bigint      NOT NULL,       -- what the files were verified against
    checkpoint_root bytea       NOT NULL CHECK (octet_length(checkpoint_root) = 32),
    pruned_at       timestamptz NOT NULL DEFAULT now(),
    pruned_by       text        NOT NULL DEFAULT session_user,
    entry_id        uuid        NOT NULL,       -- of the audit.prune
    xid             xid8        NOT NULL DEFAULT pg_current_xact_id()
);

-- Tiles of leaves of which some were dropped and some stay: these need the others for their proofs, and the tree does.
CREATE TABLE public.audit_pruned_tile (
    idx    bigint NOT NULL PRIMARY KEY CHECK (idx >= 0), -- C2SP tlog-tiles, level 0
    hashes bytea  NOT NULL CHECK (octet_length(hashes) = 8192)
);
ALTER TABLE public.audit_pruned_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Months that must stay, whatever their age; a hold that is over stays on record.
CREATE TABLE public.audit_hold (
    hold_id       uuid        NOT NULL PRIMARY KEY,
    from_month    date        NOT NULL CHECK (extract(day FROM from_month) = 1),
    until_month   date        CHECK (extract(day FROM until_month) = 1 AND until_month >= from_month), -- the last one; none: no end
    reason        text        NOT NULL CHECK (reason ~ '^[A-Za-z0-9._/-]{1,64}$'), -- a case's number, never prose
    placed_at     timestamptz NOT NULL DEFAULT now(),
    placed_by     text        NOT NULL DEFAULT session_user,
    placed_entry  uuid        NOT NULL,
    released_at   timestamptz,
    released_by   text,
    released_entry uuid,
    CHECK ((released_at IS NULL) = (released_by IS NULL) AND (released_at IS NULL) = (released_entry IS NULL))
);

-- Only the owner writes here, as `strongroom audit prune` and `audit hold` do for an administrator.
ALTER TABLE public.audit_month OWNER TO strongroom_owner;
ALTER TABLE public.audit_pruned OWNER TO strongroom_owner;
ALTER TABLE public.audit_pruned_tile OWNER TO strongroom_owner;
ALTER TABLE public.audit_hold OWNER TO strongroom_owner;
REVOKE ALL ON public.audit_month, public.audit_pruned, public.audit_pruned_tile, public.audit_hold FROM PUBLIC, strongroom_app;
GRANT SELECT ON public.audit_month TO strongroom_sequencer;
GRANT SELECT ON public.audit_pruned, public.audit_pruned_tile TO strongroom_sequencer, strongroom_audit_reader;

DO $$
DECLARE
    guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY['audit_month', 'audit_pruned', 'audit_pruned_tile'] LOOP
        EXECUTE format('CREATE TRIGGER audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change()', guarded);
        EXECUTE format('CREATE TRIGGER audit_refuse_row BEFORE UPDATE OR DELETE ON public.%I
                        FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change()', guarded);
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse_statement', guarded);
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_refuse_row', guarded);
    END LOOP;
END
$$;

-- A hold is released, once, and nothing else of it changes.
CREATE FUNCTION public.audit_refuse_other_hold() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF OLD.released_at IS NOT NULL OR NEW.released_at IS NULL
       OR (NEW.hold_id, NEW.from_month, NEW.until_month, NEW.reason, NEW.placed_at, NEW.placed_by, NEW.placed_entry)
          IS DISTINCT FROM
          (OLD.hold_id, OLD.from_month, OLD.until_month, OLD.reason, OLD.placed_at, OLD.placed_by, OLD.placed_entry) THEN
        RAISE EXCEPTION 'a hold is only released, and once' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;
ALTER FUNCTION public.audit_refuse_other_hold() OWNER TO strongroom_owner;
CREATE TRIGGER audit_refuse_statement BEFORE DELETE OR TRUNCATE ON public.audit_hold
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_refuse_row BEFORE UPDATE ON public.audit_hold
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_other_hold();
ALTER TABLE public.audit_hold ENABLE ALWAYS TRIGGER audit_refuse_statement;
ALTER TABLE public.audit_hold ENABLE ALWAYS TRIGGER audit_refuse_row;

-- As in V22, and the month is remembered.
CREATE OR REPLACE FUNCTION public.audit_make_partition(parent text, suffix text, bounds text) RETURNS void
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
    IF suffix ~ '^[0-9]{4}_[0-9]{2}$' THEN
        INSERT INTO public.audit_month (name, month) VALUES (parent || '_' || suffix, to_date(suffix, 'YYYY_MM'))
            ON CONFLICT DO NOTHING;
    END IF;
END
$$;

-- As in V22; what hangs on a month that this very transaction has put on record as pruned may go with it.
CREATE OR REPLACE FUNCTION strongroom_guard.audit_refuse_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    touched boolean;
    going text;
BEGIN
    IF current_setting('strongroom.audit_migration', true) = 'yes' THEN
        RETURN;
    END IF;
    IF tg_event = 'sql_drop' THEN
        BEGIN
            SELECT string_agg(to_char(month, 'YYYY_MM'), '|') INTO going
                FROM public.audit_pruned WHERE xid = pg_current_xact_id_if_assigned();
        EXCEPTION WHEN undefined_table THEN
            NULL; -- it is what is dropped
        END;
        -- What is dropped is out of the catalogue by now; its address is what is left.
        SELECT coalesce(bool_or(
                   address_names[1] IN ('public', 'strongroom_log') AND address_names[2] LIKE 'audit\_%'
                   AND object_type IN ('table', 'table column', 'table constraint', 'trigger', 'rule', 'policy',
                                       'default value', 'index', 'function')
                   AND NOT (going IS NOT NULL AND address_names[1] = 'strongroom_log'
                            AND address_names[2] ~ ('^audit_(entry|outbox|index)_(' || going || ')(_|$)'))), false)
          INTO touched FROM pg_event_trigger_dropped_objects();
    ELSE
        SELECT coalesce(bool_or(strongroom_guard.audit_owns(classid, objid)), false)
          INTO touched FROM pg_event_trigger_ddl_commands();
    END IF;
    IF touched THEN
        RAISE EXCEPTION 'the audit log''s tables change in a migration only' USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;
