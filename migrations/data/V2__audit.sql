-- The audit log's tables: insert-only for the service, readable by the audit reader alone, unchangeable for everybody
-- short of a superuser (who is caught by the tree and the witness, not here). Run by an administrator: event triggers
-- need a superuser. Expects the roles of V1. Reviewed with audit/README.md.

-- Entries of the group committer: reads, refusals, system events. They carry a chain (src, seq, prev).
CREATE TABLE public.audit_entry (
    src       uuid   NOT NULL,  -- random id of one instance run
    seq       bigint NOT NULL CHECK (seq >= 1),
    entry_id  uuid   NOT NULL,  -- UUIDv7, as in the entry
    tenant_id uuid   NOT NULL,  -- the nil UUID for the service's own entries
    entry     bytea  NOT NULL,  -- RFC 8785 JSON; these bytes are what is hashed
    sha256    bytea  NOT NULL CHECK (octet_length(sha256) = 32),
    xid       xid8   NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (src, seq),
    UNIQUE (entry_id)
);

-- Entries of writes, inserted by the statement that stores the data. No chain: they are reconciled with
-- record.audit_entry_id.
CREATE TABLE public.audit_outbox (
    tenant_id uuid  NOT NULL,
    entry_id  uuid  NOT NULL,
    entry     bytea NOT NULL,
    xid       xid8  NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, entry_id)
);

-- Random ids and digests do not compress, and an entry must not cost a pass of pglz (figures: audit/README.md).
ALTER TABLE public.audit_entry ALTER COLUMN entry SET STORAGE EXTERNAL;
ALTER TABLE public.audit_outbox ALTER COLUMN entry SET STORAGE EXTERNAL;

ALTER TABLE public.audit_entry OWNER TO strongroom_owner;
ALTER TABLE public.audit_outbox OWNER TO strongroom_owner;

-- The writer may insert everything but the transaction id. To find out about a commit whose answer was lost it needs
-- the arbiter of ON CONFLICT and the digest; of the outbox it can read nothing at all.
REVOKE ALL ON public.audit_entry, public.audit_outbox FROM PUBLIC, strongroom_app;
GRANT INSERT (src, seq, entry_id, tenant_id, entry, sha256) ON public.audit_entry TO strongroom_app;
GRANT SELECT (src, seq, sha256) ON public.audit_entry TO strongroom_app;
GRANT INSERT (tenant_id, entry_id, entry) ON public.audit_outbox TO strongroom_app;
GRANT SELECT ON public.audit_entry, public.audit_outbox TO strongroom_audit_reader;

CREATE FUNCTION public.audit_refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are not changed or removed' USING ERRCODE = 'insufficient_privilege';
END
$$;
ALTER FUNCTION public.audit_refuse_change() OWNER TO strongroom_owner;

-- For the statement, which catches TRUNCATE and changes of no row; and for each row, since logical replication fires
-- row triggers only. ALWAYS: session_replication_role does not switch them off.
CREATE TRIGGER audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_refuse_row BEFORE UPDATE OR DELETE ON public.audit_entry
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.audit_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_refuse_row BEFORE UPDATE OR DELETE ON public.audit_outbox
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_entry ENABLE ALWAYS TRIGGER audit_refuse_statement;
ALTER TABLE public.audit_entry ENABLE ALWAYS TRIGGER audit_refuse_row;
ALTER TABLE public.audit_outbox ENABLE ALWAYS TRIGGER audit_refuse_statement;
ALTER TABLE public.audit_outbox ENABLE ALWAYS TRIGGER audit_refuse_row;

-- The event triggers' functions live in a schema of their own and belong to the administrator, so that dropping the
-- schema or the owner of the tables cannot take the guard away with what it guards.
CREATE SCHEMA strongroom_guard;

-- Which catalogue rows belong to the log: its tables, whatever hangs on them (triggers, rules, policies, constraints,
-- defaults), and the functions that guard them.
CREATE FUNCTION strongroom_guard.audit_owns(class oid, object oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    -- By their triggers too: after a RENAME or SET SCHEMA the names lead nowhere.
    WITH guarded AS (
        SELECT unnest(ARRAY[to_regclass('public.audit_entry'), to_regclass('public.audit_outbox')])::oid AS relation
        UNION
        SELECT tgrelid FROM pg_trigger WHERE tgname IN ('audit_refuse_statement', 'audit_refuse_row')
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

-- A migration that changes the log's tables says so in its first line, where a reviewer reads it:
-- SET LOCAL strongroom.audit_migration = 'yes'. Against slips, not against an administrator who means it.
CREATE FUNCTION strongroom_guard.audit_refuse_ddl() RETURNS event_trigger
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
                   address_names[1] = 'public' AND (
                       (object_type IN ('table', 'table column', 'table constraint', 'trigger', 'rule', 'policy',
                                        'default value') AND address_names[2] IN ('audit_entry', 'audit_outbox'))
                       OR (object_type = 'index' AND address_names[2] LIKE 'audit\_%')
                       OR (object_type = 'function' AND address_names[2] LIKE 'audit\_%'))), false)
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

CREATE EVENT TRIGGER audit_refuse_drop ON sql_drop EXECUTE FUNCTION strongroom_guard.audit_refuse_ddl();
CREATE EVENT TRIGGER audit_refuse_ddl ON ddl_command_end EXECUTE FUNCTION strongroom_guard.audit_refuse_ddl();
ALTER EVENT TRIGGER audit_refuse_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER audit_refuse_ddl ENABLE ALWAYS;
