-- Glass that was broken: who may see more than usual, of whom, until when, and who looked at it afterwards. In the data
-- database, so that all instances agree, and what an instance forgets is not forgotten. src/storage/records/break_glass.rs

SET LOCAL ROLE strongroom_owner;

CREATE TABLE break_glass (
    tenant_id uuid NOT NULL,
    break_glass_id uuid NOT NULL,
    client text COLLATE "C" NOT NULL,
    -- Of the person's issuer and id, which may be an address: who it was is in the audit log.
    person_sha256 bytea NOT NULL CHECK (octet_length(person_sha256) = 32),
    reason text NOT NULL,
    reference text NOT NULL,
    opened_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at >= opened_at),
    reviewed_at timestamptz,
    verdict text CHECK ((verdict IS NULL) = (reviewed_at IS NULL)),
    PRIMARY KEY (tenant_id, break_glass_id)
);

CREATE TABLE break_glass_subject (
    tenant_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    break_glass_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, subject_id, break_glass_id),
    FOREIGN KEY (tenant_id, subject_id) REFERENCES subject (tenant_id, subject_id),
    FOREIGN KEY (tenant_id, break_glass_id) REFERENCES break_glass (tenant_id, break_glass_id)
);

-- Nobody makes it last longer, and nobody is taken off it or put on it.
GRANT SELECT, INSERT, UPDATE (ends_at, reviewed_at, verdict) ON break_glass TO strongroom_app;
GRANT SELECT, INSERT ON break_glass_subject TO strongroom_app;

CREATE FUNCTION refuse_longer_break_glass() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.ends_at > OLD.ends_at OR OLD.reviewed_at IS NOT NULL THEN
        RAISE EXCEPTION 'broken glass only ends, and is reviewed once' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER break_glass_only_ends
    BEFORE UPDATE ON break_glass
    FOR EACH ROW EXECUTE FUNCTION refuse_longer_break_glass();
ALTER TABLE break_glass ENABLE ALWAYS TRIGGER break_glass_only_ends;

RESET ROLE;
