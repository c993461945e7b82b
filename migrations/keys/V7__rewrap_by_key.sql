-- Each key that is wrapped again is looked up by itself. As one join, the statement went through all keys of the tenant for each of
-- them where the table was planned without statistics, as after it was restored: seconds for 256 of 40,000 keys, not milliseconds.

SET LOCAL ROLE strongroom_owner;

-- Puts other wrappings in the place of those that were read, as far as these are still there and nobody holds them: a key that
-- was destroyed meanwhile stays so. From a retired key to the active one, whose number the new headers must say. How many.
CREATE OR REPLACE FUNCTION rewrap_subject_keys(tenant uuid, data_class text, old_key bigint, new_key bigint, owners text[],
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
    -- The limit, which a whole key needs not, keeps each look-up as it is written: by the whole key and nothing else.
    WITH free AS MATERIALIZED (
        SELECT k.part, k.place, a.new_header, a.new_wrapped
        FROM unnest(owners, key_ids, old_headers, old_wraps, new_headers, new_wraps)
            AS a (owner, key_id, old_header, old_wrapped, new_header, new_wrapped)
        CROSS JOIN LATERAL (
            SELECT s.tableoid AS part, s.ctid AS place, s.tenant_key_id, s.header, s.wrapped
            FROM public.subject_key s
            WHERE s.tenant_id = tenant AND s.owner = a.owner AND s.class = data_class AND s.key_id = a.key_id
            LIMIT 1
            FOR NO KEY UPDATE SKIP LOCKED) AS k
        WHERE k.tenant_key_id = old_key AND k.header = a.old_header AND k.wrapped = a.old_wrapped)
    UPDATE public.subject_key s SET tenant_key_id = new_key, header = f.new_header, wrapped = f.new_wrapped
    FROM free f
    WHERE s.tableoid = f.part AND s.ctid = f.place;
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN done;
END
$$;

RESET ROLE;
