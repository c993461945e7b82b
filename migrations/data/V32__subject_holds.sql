-- Legal holds on a person's records: while one is in force, none of them is deleted and none expires.
-- src/storage/records/holds.rs

SET LOCAL ROLE strongroom_owner;

-- How many are in force. On the subject's row, which a delete locks anyway: what it waited for, it sees.
ALTER TABLE subject ADD COLUMN holds integer NOT NULL DEFAULT 0 CHECK (holds >= 0);

CREATE TABLE subject_hold (
    tenant_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    reason text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    placed_by text COLLATE "C" NOT NULL,  -- a client; for whom it acted is in the audit log
    placed_at timestamptz NOT NULL,
    released_by text COLLATE "C",
    released_at timestamptz CHECK ((released_at IS NULL) = (released_by IS NULL)),
    PRIMARY KEY (tenant_id, subject_id, hold_id),
    FOREIGN KEY (tenant_id, subject_id) REFERENCES subject (tenant_id, subject_id)
);

-- The service places and releases. It forgets none, and it does not set the count.
GRANT SELECT, INSERT, UPDATE (released_by, released_at) ON subject_hold TO strongroom_app;

CREATE FUNCTION count_subject_hold() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.released_at IS NOT NULL THEN
            RAISE EXCEPTION 'a hold is in force when it is placed' USING ERRCODE = 'insufficient_privilege';
        END IF;
    ELSIF OLD.released_at IS NOT NULL OR NEW.released_at IS NULL THEN
        RAISE EXCEPTION 'a hold is released once, and for good' USING ERRCODE = 'insufficient_privilege';
    END IF;
    UPDATE public.subject s SET holds = s.holds + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END
    WHERE s.tenant_id = NEW.tenant_id AND s.subject_id = NEW.subject_id;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION count_subject_hold FROM PUBLIC;

CREATE TRIGGER subject_hold_counts
    AFTER INSERT OR UPDATE ON subject_hold
    FOR EACH ROW EXECUTE FUNCTION count_subject_hold();
ALTER TABLE subject_hold ENABLE ALWAYS TRIGGER subject_hold_counts;

CREATE TRIGGER subject_hold_is_kept
    BEFORE DELETE OR TRUNCATE ON subject_hold
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE subject_hold ENABLE ALWAYS TRIGGER subject_hold_is_kept;

RESET ROLE;
