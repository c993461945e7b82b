-- Replacing a tenant key: asked for by one custodian, done by the service, the end of the old key approved by another. Who
-- wanted what and which step was taken; how far the keys themselves have come is in the key database.
-- src/storage/records/rotations.rs

SET LOCAL ROLE strongroom_owner;

CREATE TABLE key_rotation (
    tenant_id uuid NOT NULL,
    rotation_id uuid NOT NULL,
    class text COLLATE "C" NOT NULL CHECK (class IN ('phi', 'pii', 'chd')),
    from_key bigint NOT NULL CHECK (from_key >= 1),
    to_key bigint NOT NULL CHECK (to_key > from_key),
    reason text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    requested_by text COLLATE "C" NOT NULL,  -- a custodian
    requested_at timestamptz NOT NULL,
    -- The new key wraps what is new.
    began_at timestamptz,
    -- Nothing is under the old key any more; so many keys were wrapped again.
    rewrapped_at timestamptz,
    rewrapped_keys bigint CHECK (rewrapped_keys >= 0),
    approved_by text COLLATE "C" CHECK (approved_by <> requested_by),
    approved_at timestamptz,
    -- The old key is gone.
    destroyed_at timestamptz,
    -- When it last went on.
    advanced_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, rotation_id),
    CHECK (num_nulls(rewrapped_at, rewrapped_keys) IN (0, 2)),
    CHECK (num_nulls(approved_by, approved_at) IN (0, 2)),
    CHECK (rewrapped_at IS NULL OR began_at IS NOT NULL),
    CHECK (approved_at IS NULL OR rewrapped_at IS NOT NULL),
    CHECK (destroyed_at IS NULL OR approved_at IS NOT NULL)
);

-- One of a class at a time. Also how the open ones are found.
CREATE UNIQUE INDEX key_rotation_one_open ON key_rotation (tenant_id, class) WHERE destroyed_at IS NULL;

GRANT SELECT ON key_rotation TO strongroom_app;
GRANT INSERT (tenant_id, rotation_id, class, from_key, to_key, reason, reference, requested_by, requested_at, advanced_at)
    ON key_rotation TO strongroom_app;
GRANT UPDATE (began_at, rewrapped_at, rewrapped_keys, approved_by, approved_at, destroyed_at, advanced_at)
    ON key_rotation TO strongroom_app;

-- Each step is taken once.
CREATE FUNCTION refuse_rotation_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.began_at IS NOT NULL AND NEW.began_at IS DISTINCT FROM OLD.began_at)
       OR (OLD.rewrapped_at IS NOT NULL AND (NEW.rewrapped_at, NEW.rewrapped_keys)
            IS DISTINCT FROM (OLD.rewrapped_at, OLD.rewrapped_keys))
       OR (OLD.approved_at IS NOT NULL AND (NEW.approved_at, NEW.approved_by)
            IS DISTINCT FROM (OLD.approved_at, OLD.approved_by))
       OR OLD.destroyed_at IS NOT NULL THEN
        RAISE EXCEPTION 'a rotation goes on, and never back' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER key_rotation_goes_on
    BEFORE UPDATE ON key_rotation
    FOR EACH ROW EXECUTE FUNCTION refuse_rotation_again();
ALTER TABLE key_rotation ENABLE ALWAYS TRIGGER key_rotation_goes_on;

CREATE TRIGGER key_rotation_is_kept
    BEFORE DELETE OR TRUNCATE ON key_rotation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE key_rotation ENABLE ALWAYS TRIGGER key_rotation_is_kept;

RESET ROLE;
