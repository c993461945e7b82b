-- What makes a row of an erasure count: keyed digests by a root of the tenant, which is in the key database and opens in Vault
-- alone. Whoever can write this database and nothing else asks for no erasure and approves none. src/crypto/erasure.rs

SET LOCAL ROLE strongroom_owner;

DO $$
BEGIN
    IF EXISTS (SELECT FROM erasure WHERE approved_at IS NOT NULL AND erased_at IS NULL) THEN
        RAISE EXCEPTION 'erasures that were approved have not come to their end: let the service end them, then migrate';
    END IF;
END
$$;

-- What was asked for before has no digest that fits, and is asked for again.
ALTER TABLE erasure
    -- tenant_key.key_id of the class 'index' and the purpose 'requests'.
    ADD COLUMN root_key_id bigint NOT NULL DEFAULT 1 CHECK (root_key_id >= 1),
    ADD COLUMN request_mac bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(request_mac) = 32),
    ADD COLUMN approval_mac bytea CHECK (octet_length(approval_mac) = 32),
    ADD CHECK (approval_mac IS NULL OR approved_at IS NOT NULL);
ALTER TABLE erasure ALTER COLUMN root_key_id DROP DEFAULT, ALTER COLUMN request_mac DROP DEFAULT;

GRANT INSERT (root_key_id, request_mac) ON erasure TO strongroom_app;
GRANT UPDATE (approval_mac) ON erasure TO strongroom_app;

CREATE OR REPLACE FUNCTION refuse_erasure_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.approved_at IS NOT NULL AND (NEW.approved_at, NEW.approved_by, NEW.approver_sha256, NEW.approval_mac)
            IS DISTINCT FROM (OLD.approved_at, OLD.approved_by, OLD.approver_sha256, OLD.approval_mac))
       OR (OLD.confirmed_at IS NOT NULL AND NEW.confirmed_at IS DISTINCT FROM OLD.confirmed_at)
       OR (OLD.erased_at IS NOT NULL AND (NEW.erased_at, NEW.certificate)
            IS DISTINCT FROM (OLD.erased_at, OLD.certificate)) THEN
        RAISE EXCEPTION 'an erasure goes on, and never back' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

RESET ROLE;
