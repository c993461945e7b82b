-- Replacing a tenant key: a new one wraps what is new, everything that the old one wraps is wrapped again, and the old one is
-- deleted when nothing needs it. By a role that can do this and nothing else: it reads no key.

DO $$
BEGIN
    -- Gets its password, and with it the right to log in, outside the migration.
    CREATE ROLE strongroom_key_rotator NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database of this cluster has made it
END
$$;

DO $$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO strongroom_key_rotator', current_database());
END
$$;

GRANT USAGE ON SCHEMA public TO strongroom_key_rotator;
GRANT SELECT ON refinery_schema_history TO strongroom_key_rotator;

SET LOCAL ROLE strongroom_owner;

ALTER TABLE tenant_key ADD COLUMN retired_at timestamptz;

-- It is called from functions that look nowhere else, too.
ALTER FUNCTION keep_needed_tenant_key() SET search_path = pg_catalog, public, pg_temp;

-- Nothing new comes under a key that was retired, whatever the statement says and whenever it began. The lock is kept to the
-- commit: whoever retires the key waits for what was on its way, and what comes later sees that it is retired. One lock for
-- each tenant, class and statement, and none waits for another's.
CREATE FUNCTION refuse_retired_tenant_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM public.tenant_key k
    WHERE k.purpose = 'seal'
      AND (k.tenant_id, k.class, k.key_id) IN (SELECT m.tenant_id, m.class, m.tenant_key_id FROM made m)
    FOR KEY SHARE;
    -- A statement of its own: it sees what was committed while the lock was waited for.
    IF EXISTS (
        SELECT FROM made m WHERE NOT EXISTS (
            SELECT FROM public.tenant_key k
            WHERE k.tenant_id = m.tenant_id AND k.class = m.class AND k.purpose = 'seal' AND k.key_id = m.tenant_key_id
              AND k.state = 'active')
    ) THEN
        RAISE EXCEPTION 'this tenant key wraps nothing new' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER subject_key_is_under_an_active_one
    AFTER INSERT ON subject_key REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_retired_tenant_key();
ALTER TABLE subject_key ENABLE ALWAYS TRIGGER subject_key_is_under_an_active_one;

-- Retires a key and makes its successor the active one, in that moment or not at all; once it is done, again changes nothing.
-- Whether the successor is the active one now.
CREATE FUNCTION replace_tenant_key(tenant uuid, data_class text, old_key bigint, new_key bigint, new_wrapped text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    -- Waits for inserts under the old key, which hold it FOR KEY SHARE.
    PERFORM FROM public.tenant_key k
    WHERE k.tenant_id = tenant AND k.class = data_class AND k.purpose = 'seal' AND k.key_id = old_key FOR UPDATE;
    UPDATE public.tenant_key k SET state = 'retired', retired_at = clock_timestamp()
    WHERE k.tenant_id = tenant AND k.class = data_class AND k.purpose = 'seal' AND k.key_id = old_key
      AND k.state = 'active';
    IF FOUND THEN
        -- Later than everything that the old key wraps was made: what is under the new one and older was wrapped again.
        INSERT INTO public.tenant_key (tenant_id, class, purpose, key_id, wrapped, created_at)
        VALUES (tenant, data_class, 'seal', new_key, new_wrapped, clock_timestamp());
    END IF;
    RETURN EXISTS (
        SELECT FROM public.tenant_key k
        WHERE k.tenant_id = tenant AND k.class = data_class AND k.purpose = 'seal' AND k.key_id = new_key
          AND k.state = 'active');
END
$$;
REVOKE ALL ON FUNCTION replace_tenant_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION replace_tenant_key TO strongroom_key_rotator;

-- Puts other wrappings in the place of those that were read, as far as these are still there and nobody holds them: a key that
-- was destroyed meanwhile stays so. From a retired key to the active one, whose number the new headers must say. How many.
CREATE FUNCTION rewrap_subject_keys(tenant uuid, data_class text, old_key bigint, new_key bigint, owners text[],
    key_ids bigint[], old_headers bytea[], old_wraps bytea[], new_headers bytea[], new_wraps bytea[])
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM public.tenant_key k WHERE k.tenant_id = tenant AND k.class = data_class
                   AND k.purpose = 'seal' AND k.key_id = old_key AND k.state = 'retired')
       OR NOT EXISTS (SELECT FROM public.tenant_key k WHERE k.tenant_id = tenant AND k.class = data_class
                      AND k.purpose = 'seal' AND k.key_id = new_key AND k.state = 'active')
       OR EXISTS (SELECT FROM unnest(new_headers) AS h (header)
                  WHERE substring(h.header FROM 3 FOR 8) IS DISTINCT FROM int8send(new_key)) THEN
        RAISE EXCEPTION 'keys are wrapped again from a retired key to the active one' USING ERRCODE = 'restrict_violation';
    END IF;
    WITH free AS MATERIALIZED (
        SELECT s.owner, s.key_id, a.new_header, a.new_wrapped
        FROM unnest(owners, key_ids, old_headers, old_wraps, new_headers, new_wraps)
            AS a (owner, key_id, old_header, old_wrapped, new_header, new_wrapped)
        JOIN public.subject_key s ON s.tenant_id = tenant AND s.owner = a.owner AND s.class = data_class
            AND s.key_id = a.key_id AND s.tenant_key_id = old_key AND s.header = a.old_header AND s.wrapped = a.old_wrapped
        FOR NO KEY UPDATE OF s SKIP LOCKED)
    UPDATE public.subject_key s SET tenant_key_id = new_key, header = f.new_header, wrapped = f.new_wrapped
    FROM free f
    WHERE s.tenant_id = tenant AND s.owner = f.owner AND s.class = data_class AND s.key_id = f.key_id
      AND s.tenant_key_id = old_key;
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN done;
END
$$;
REVOKE ALL ON FUNCTION rewrap_subject_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rewrap_subject_keys TO strongroom_key_rotator;

-- Deletes a retired key that nothing needs: the guard of tenant_key looks, in the same transaction, and nothing can come under
-- it any more. Once it is done, again changes nothing.
CREATE FUNCTION destroy_tenant_key(tenant uuid, data_class text, old_key bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    DELETE FROM public.tenant_key k
    WHERE k.tenant_id = tenant AND k.class = data_class AND k.purpose = 'seal' AND k.key_id = old_key;
END
$$;
REVOKE ALL ON FUNCTION destroy_tenant_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION destroy_tenant_key TO strongroom_key_rotator;

RESET ROLE;
