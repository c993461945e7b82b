-- The end of a subject's keys, and of those of its records that have keys of their own. By a role that can do this and
-- nothing else: it reads no key, and the service's usual role cannot do it.

DO $$
BEGIN
    -- Gets its password, and with it the right to log in, outside the migration.
    CREATE ROLE strongroom_key_eraser NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database of this cluster has made it
END
$$;

DO $$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO strongroom_key_eraser', current_database());
END
$$;

GRANT USAGE ON SCHEMA public TO strongroom_key_eraser;
GRANT SELECT ON refinery_schema_history TO strongroom_key_eraser;

SET LOCAL ROLE strongroom_owner;

-- Tombstones first, so that no key is ever made again, then the keys. Called twice for each subject, as the comment on
-- tombstone says, each time for some of its records after the other. A record that never had a key of its own gets no
-- tombstone; an owner with a key of the other scope stops the whole call.
CREATE FUNCTION destroy_subject_keys(tenant uuid, subject text, records text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM public.subject_key s
        WHERE s.tenant_id = tenant AND s.owner = subject AND s.scope <> 'subject' AND NOT s.owner = ANY (records)
    ) THEN
        RAISE EXCEPTION 'this is no subject' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO public.tombstone (tenant_id, owner, scope)
    SELECT tenant, o.owner, o.scope FROM (
        SELECT subject, 'subject'
        UNION
        SELECT s.owner, s.scope FROM public.subject_key s
        WHERE s.tenant_id = tenant AND s.owner = ANY (records) AND s.scope = 'record'
    ) AS o (owner, scope)
    ORDER BY o.owner COLLATE "C"
    ON CONFLICT DO NOTHING;
    DELETE FROM public.subject_key s
    WHERE s.tenant_id = tenant
      AND ((s.owner = subject AND s.scope = 'subject') OR (s.owner = ANY (records) AND s.scope = 'record'));
END
$$;
REVOKE ALL ON FUNCTION destroy_subject_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION destroy_subject_keys TO strongroom_key_eraser;

RESET ROLE;
