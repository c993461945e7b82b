-- Keys of deleted records that are still to be destroyed in the key database. A row is made in the transaction that
-- deletes the record, and goes in the one that says in the audit log that its key is gone.

SET LOCAL ROLE strongroom_owner;

CREATE TABLE key_destruction (
    tenant_id uuid NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    collection text COLLATE "C" NOT NULL,
    subject_id uuid,
    requested_at timestamptz NOT NULL,
    -- When the key database had first confirmed it.
    confirmed_at timestamptz,
    PRIMARY KEY (tenant_id, record_id)
);

GRANT SELECT, INSERT, DELETE, UPDATE (confirmed_at) ON key_destruction TO strongroom_app;

RESET ROLE;
