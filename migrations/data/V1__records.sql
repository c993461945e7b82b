-- Subjects, records and their history. Only sealed values are stored; see SECURITY.md for what each column tells a thief.
-- tenant_id leads every primary key so that the tables can be distributed by tenant.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['strongroom_owner', 'strongroom_app', 'strongroom_audit_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster has made it
        END;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO strongroom_app, strongroom_audit_reader', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO strongroom_app, strongroom_audit_reader;
GRANT USAGE, CREATE ON SCHEMA public TO strongroom_owner;

SET LOCAL ROLE strongroom_owner;

-- The person that records are about. Reads check the state in their SELECT and writes lock the row FOR KEY SHARE,
-- so no cache outlives a decision to erase.
CREATE TABLE subject (
    tenant_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'erasing', 'erased')),
    lowest_phi_key bigint NOT NULL DEFAULT 1 CHECK (lowest_phi_key >= 1),
    lowest_pii_key bigint NOT NULL DEFAULT 1 CHECK (lowest_pii_key >= 1),
    lowest_chd_key bigint NOT NULL DEFAULT 1 CHECK (lowest_chd_key >= 1),
    PRIMARY KEY (tenant_id, subject_id)
);

-- The current version of each record. src/storage/sealed_columns.rs describes the bytes of seal_headers (67 for each
-- seal) and sealed_values. A deleted record is a version without seals.
CREATE TABLE record (
    tenant_id uuid NOT NULL,
    collection text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    subject_id uuid,
    deleted boolean NOT NULL,
    seal_headers bytea NOT NULL,
    sealed_values bytea NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz,
    audit_entry_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, collection, record_id),
    FOREIGN KEY (tenant_id, subject_id) REFERENCES subject (tenant_id, subject_id)
);

-- Sealed bytes do not compress; trying costs time on every write.
ALTER TABLE record ALTER COLUMN sealed_values SET STORAGE EXTERNAL;

-- Older versions, as they were. Append-only.
CREATE TABLE record_history (
    tenant_id uuid NOT NULL,
    collection text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    subject_id uuid,
    deleted boolean NOT NULL,
    seal_headers bytea NOT NULL,
    sealed_values bytea NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz,
    audit_entry_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, collection, record_id, version)
);

ALTER TABLE record_history ALTER COLUMN sealed_values SET STORAGE EXTERNAL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER record_history_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON record_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE record_history ENABLE ALWAYS TRIGGER record_history_is_append_only;

-- FOR KEY SHARE needs UPDATE on one column; no path of the service sets it back to 'active'.
GRANT SELECT, INSERT, UPDATE (state) ON subject TO strongroom_app;
GRANT SELECT, INSERT ON record TO strongroom_app;
GRANT UPDATE (version, deleted, seal_headers, sealed_values, updated_at, expires_at, audit_entry_id) ON record TO strongroom_app;
GRANT INSERT ON record_history TO strongroom_app;

RESET ROLE;
