-- Keys of single records, which end with their record. A subject's keys stay out of the service's reach.

SET LOCAL ROLE strongroom_owner;

-- Whose key it is: an id alone does not tell a record from a subject.
ALTER TABLE subject_key
    ADD COLUMN scope text COLLATE "C" NOT NULL DEFAULT 'subject' CHECK (scope IN ('subject', 'record'));
ALTER TABLE subject_key ALTER COLUMN scope DROP DEFAULT;

ALTER TABLE tombstone
    ADD COLUMN scope text COLLATE "C" NOT NULL DEFAULT 'subject' CHECK (scope IN ('subject', 'record'));
ALTER TABLE tombstone ALTER COLUMN scope DROP DEFAULT;

-- Ends the keys of records for good: tombstones first, so that none is ever made again, then the keys. Called twice for
-- each record, as the comment on tombstone says. This is all that the service can destroy, whatever it is told: an owner
-- with a subject's key stops the whole call.
CREATE FUNCTION destroy_record_keys(tenants uuid[], owners text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM unnest(tenants, owners) AS d (tenant_id, owner)
        JOIN public.subject_key s ON s.tenant_id = d.tenant_id AND s.owner = d.owner
        WHERE s.scope <> 'record'
    ) THEN
        RAISE EXCEPTION 'only keys of records are destroyed here' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO public.tombstone (tenant_id, owner, scope)
    SELECT d.tenant_id, d.owner, 'record' FROM unnest(tenants, owners) AS d (tenant_id, owner)
    ORDER BY 1, d.owner COLLATE "C"
    ON CONFLICT DO NOTHING;
    DELETE FROM public.subject_key s USING unnest(tenants, owners) AS d (tenant_id, owner)
    WHERE s.tenant_id = d.tenant_id AND s.owner = d.owner AND s.scope = 'record';
END
$$;
REVOKE ALL ON FUNCTION destroy_record_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION destroy_record_keys TO strongroom_keys;

RESET ROLE;
