-- Files that belong to a field of a record, in sealed parts, and the uploads that bring them. src/crypto/file.rs describes
-- a part. Parts are rows of 64 KiB, written a megabyte at a time and read by primary key, so that no transaction is
-- long and no row is ever rewritten; the sealed bytes stand out of line (TOAST), so that headers are read without them.

SET LOCAL ROLE strongroom_owner;

-- An upload is under way until its last part is stored, in the transaction that gives the record its new version. What a
-- file is (media type, name, length) is sealed in its part 0.
CREATE TABLE upload (
    tenant_id uuid NOT NULL,
    file_id uuid NOT NULL,
    collection text COLLATE "C" NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    field_id bigint NOT NULL,
    parts integer NOT NULL CHECK (parts >= 1),
    completed_version bigint,
    started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    audit_entry_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, file_id)
);

CREATE TABLE file_part (
    tenant_id uuid NOT NULL,
    file_id uuid NOT NULL,
    part integer NOT NULL CHECK (part >= 0),
    header bytea NOT NULL CHECK (octet_length(header) = 66),
    sealed bytea NOT NULL,
    PRIMARY KEY (tenant_id, file_id, part)
);

-- Sealed bytes do not compress; trying costs time on every write.
ALTER TABLE file_part ALTER COLUMN sealed SET STORAGE EXTERNAL;

CREATE TRIGGER file_part_is_not_changed
    BEFORE UPDATE OR TRUNCATE ON file_part
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE file_part ENABLE ALWAYS TRIGGER file_part_is_not_changed;

-- What a record refers to stays; what never became part of one may go.
CREATE FUNCTION refuse_part_of_a_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM upload u
               WHERE u.tenant_id = OLD.tenant_id AND u.file_id = OLD.file_id AND u.completed_version IS NULL) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the file belongs to a record: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER file_part_of_a_record_stays
    BEFORE DELETE ON file_part
    FOR EACH ROW EXECUTE FUNCTION refuse_part_of_a_record();
ALTER TABLE file_part ENABLE ALWAYS TRIGGER file_part_of_a_record_stays;

GRANT SELECT, INSERT, DELETE, UPDATE (parts, completed_version, expires_at) ON upload TO strongroom_app;
GRANT SELECT, INSERT, DELETE ON file_part TO strongroom_app;

RESET ROLE;
