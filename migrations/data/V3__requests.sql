-- Requests that carried an Idempotency-Key, for 24 hours, so that a repeated one is answered and not done again; and the
-- right to read older versions.
--
-- Neither the caller's key nor its body is kept: both are HMACs under a root of the tenant (DESIGN: index roots), which
-- somebody who has this table and not the key hierarchy can neither read nor guess.

SET LOCAL ROLE strongroom_owner;

CREATE TABLE idempotency_key (
    tenant_id uuid NOT NULL,
    key_mac bytea NOT NULL CHECK (octet_length(key_mac) = 32),   -- of the client and the key
    body_mac bytea NOT NULL CHECK (octet_length(body_mac) = 32), -- of the operation and the canonical body
    root_key_id bigint NOT NULL CHECK (root_key_id >= 1),        -- under which tenant key both were made
    record_ids text[] NOT NULL,                                  -- what was created, in the order of the request
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key_mac)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_key TO strongroom_app;

-- Older versions: found and opened, still never changed.
GRANT SELECT ON record_history TO strongroom_app;

RESET ROLE;
