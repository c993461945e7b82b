-- Erasing a person: asked for by one, approved by another, brought to its end by the service. src/storage/records/erasures.rs

SET LOCAL ROLE strongroom_owner;

CREATE TABLE erasure (
    tenant_id uuid NOT NULL,
    erasure_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    reason text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    requested_by text COLLATE "C" NOT NULL,  -- a client
    -- Of the person's issuer and id, which may be an address: who it was is in the audit log.
    requester_sha256 bytea NOT NULL CHECK (octet_length(requester_sha256) = 32),
    requested_at timestamptz NOT NULL,
    lapses_at timestamptz NOT NULL CHECK (lapses_at > requested_at),
    approved_by text COLLATE "C",
    approver_sha256 bytea CHECK (octet_length(approver_sha256) = 32 AND approver_sha256 <> requester_sha256),
    approved_at timestamptz CHECK (approved_at < lapses_at),
    -- When the key database had first confirmed that the keys are gone.
    confirmed_at timestamptz,
    erased_at timestamptz,
    certificate text,
    PRIMARY KEY (tenant_id, erasure_id),
    FOREIGN KEY (tenant_id, subject_id) REFERENCES subject (tenant_id, subject_id),
    CHECK (num_nulls(approved_by, approver_sha256, approved_at) IN (0, 3)),
    CHECK (num_nulls(erased_at, certificate) IN (0, 2)),
    CHECK (confirmed_at IS NULL OR approved_at IS NOT NULL),
    CHECK (erased_at IS NULL OR confirmed_at IS NOT NULL)
);

GRANT SELECT ON erasure TO strongroom_app;
GRANT INSERT (tenant_id, erasure_id, subject_id, reason, reference, requested_by, requester_sha256, requested_at,
              lapses_at) ON erasure TO strongroom_app;
GRANT UPDATE (approved_by, approver_sha256, approved_at, confirmed_at, erased_at, certificate) ON erasure TO strongroom_app;

-- Each step is taken once.
CREATE FUNCTION refuse_erasure_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.approved_at IS NOT NULL AND (NEW.approved_at, NEW.approved_by, NEW.approver_sha256)
            IS DISTINCT FROM (OLD.approved_at, OLD.approved_by, OLD.approver_sha256))
       OR (OLD.confirmed_at IS NOT NULL AND NEW.confirmed_at IS DISTINCT FROM OLD.confirmed_at)
       OR (OLD.erased_at IS NOT NULL AND (NEW.erased_at, NEW.certificate)
            IS DISTINCT FROM (OLD.erased_at, OLD.certificate)) THEN
        RAISE EXCEPTION 'an erasure goes on, and never back' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER erasure_goes_on
    BEFORE UPDATE ON erasure
    FOR EACH ROW EXECUTE FUNCTION refuse_erasure_again();
ALTER TABLE erasure ENABLE ALWAYS TRIGGER erasure_goes_on;

CREATE TRIGGER erasure_is_kept
    BEFORE DELETE OR TRUNCATE ON erasure
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE erasure ENABLE ALWAYS TRIGGER erasure_is_kept;

-- Nobody comes back, and nobody goes while a hold is in force.
CREATE FUNCTION refuse_subject_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (('active', 'erasing'), ('erasing', 'erased')) OR NEW.holds > 0 THEN
        RAISE EXCEPTION 'a subject is erased once, never brought back, and not while it is held'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER subject_state_goes_on
    BEFORE UPDATE ON subject
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION refuse_subject_state();
ALTER TABLE subject ENABLE ALWAYS TRIGGER subject_state_goes_on;

RESET ROLE;
