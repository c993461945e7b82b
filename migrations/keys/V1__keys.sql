-- Wrapped keys: tenant keys under Vault's, subject keys under tenant keys. Useless without Vault, and Vault without it.
-- This database has an administrator, backups and a life of its own: its backups, WAL and replicas live at most 14
-- days, which is what makes an erasure final. tenant_id leads every primary key, so that the tables can be distributed.

DO $$
DECLARE
    role_name text;
BEGIN
    -- strongroom_keys gets its password, and with it the right to log in, outside the migration.
    FOREACH role_name IN ARRAY ARRAY['strongroom_owner', 'strongroom_keys'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster has made it
        END;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO strongroom_keys', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO strongroom_keys;
GRANT USAGE, CREATE ON SCHEMA public TO strongroom_owner;

SET LOCAL ROLE strongroom_owner;

-- K1, one row per epoch. `class` and `purpose` are the words of the derivation context in Vault ('phi' and 'seal').
CREATE TABLE tenant_key (
    tenant_id uuid NOT NULL,
    class text COLLATE "C" NOT NULL CHECK (class <> ''),
    purpose text COLLATE "C" NOT NULL CHECK (purpose <> ''),
    key_id bigint NOT NULL CHECK (key_id >= 1),
    -- Ciphertext of Vault's transit engine; its version number says which version of the key-encryption key.
    wrapped text COLLATE "C" NOT NULL CHECK (wrapped ~ '^vault:v[1-9][0-9]*:'),
    -- 'active': new subject keys are wrapped with it; 'retired': opens what it wrapped, until nothing is left.
    state text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retired')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, class, purpose, key_id)
);

-- One active key at a time: two instances that make the first one converge on one row.
CREATE UNIQUE INDEX tenant_key_one_active ON tenant_key (tenant_id, class, purpose) WHERE state = 'active';

-- K2. `owner` is a subject id, or a record id in collections whose records have keys of their own.
-- No foreign key to tenant_key: it would lock the tenant's one row on every insert. The insert reads that its tenant
-- key is active instead, and a tenant key cannot be deleted while a row here names it (trigger below).
CREATE TABLE subject_key (
    tenant_id uuid NOT NULL,
    owner text COLLATE "C" NOT NULL CHECK (length(owner) BETWEEN 1 AND 64),
    class text COLLATE "C" NOT NULL CHECK (class <> ''),
    key_id bigint NOT NULL CHECK (key_id >= 1),
    tenant_key_id bigint NOT NULL CHECK (tenant_key_id >= 1),
    -- Wrap v1: header with version, suite, tenant key id, salt and commitment; then 32 bytes and a 16-byte tag.
    header bytea NOT NULL CHECK (octet_length(header) = 66),
    wrapped bytea NOT NULL CHECK (octet_length(wrapped) = 48),
    -- The highest 'active' version seals; 'open_only' versions open what they sealed.
    state text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'open_only')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, owner, class, key_id)
);

-- Random bytes do not compress; trying costs time on every write.
ALTER TABLE subject_key ALTER COLUMN header SET STORAGE PLAIN, ALTER COLUMN wrapped SET STORAGE PLAIN;

-- Who was erased, for all classes. No key is ever made for such an owner again. Append-only.
-- Burying takes two passes: an insert that began before the tombstone committed does not see it, so keys are deleted
-- in the tombstone's transaction and once more when every statement of that time has ended (statement_timeout).
CREATE TABLE tombstone (
    tenant_id uuid NOT NULL,
    owner text COLLATE "C" NOT NULL CHECK (length(owner) BETWEEN 1 AND 64),
    erased_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, owner)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER tombstone_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON tombstone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE tombstone ENABLE ALWAYS TRIGGER tombstone_is_append_only;

-- Losing a tenant key loses every record under it.
CREATE FUNCTION keep_needed_tenant_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'active' THEN
        RAISE EXCEPTION 'a tenant key is deleted only after it was retired' USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.purpose = 'seal' AND EXISTS (
        SELECT FROM subject_key s
        WHERE s.tenant_id = OLD.tenant_id AND s.class = OLD.class AND s.tenant_key_id = OLD.key_id
    ) THEN
        RAISE EXCEPTION 'subject keys still need this tenant key' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END
$$;

CREATE TRIGGER tenant_key_is_kept_while_needed
    BEFORE DELETE ON tenant_key
    FOR EACH ROW EXECUTE FUNCTION keep_needed_tenant_key();
ALTER TABLE tenant_key ENABLE ALWAYS TRIGGER tenant_key_is_kept_while_needed;

CREATE TRIGGER tenant_key_is_not_truncated
    BEFORE TRUNCATE ON tenant_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE tenant_key ENABLE ALWAYS TRIGGER tenant_key_is_not_truncated;

-- The service finds keys and adds keys. It neither changes nor removes any, and it cannot bury anyone.
GRANT SELECT, INSERT ON tenant_key TO strongroom_keys;
GRANT SELECT, INSERT ON subject_key TO strongroom_keys;
GRANT SELECT ON tombstone TO strongroom_keys;

RESET ROLE;
