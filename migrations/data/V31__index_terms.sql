-- What records are found by: terms of blind indexes, keyed digests of what values are (src/crypto/index.rs). They are written,
-- replaced and removed by the statements that do so to their record. To somebody without the key hierarchy they tell which
-- records share a value of one field, or its beginning or its day, among others that share a term by chance.

SET LOCAL ROLE strongroom_owner;

CREATE TABLE index_term (
    tenant_id uuid NOT NULL,
    collection text COLLATE "C" NOT NULL,
    -- Which index it is of, in ten bytes, and the digest (src/storage/records/terms.rs).
    term bytea NOT NULL CHECK (octet_length(term) BETWEEN 11 AND 26),
    record_id text COLLATE "C" NOT NULL,
    -- A search reads a stretch of it, in the order of the records' ids.
    PRIMARY KEY (tenant_id, collection, term, record_id)
);

ALTER TABLE record
    -- By which declaration of indexes, under which root, the record's terms were made: a digest. None before there were any.
    ADD COLUMN indexed_as bigint,
    -- The terms of the record, for the statement that replaces or ends it: a second index on index_term would cost more than
    -- this at each write (benches/README.md).
    ADD COLUMN terms bytea[] NOT NULL DEFAULT '{}';

GRANT SELECT, INSERT, DELETE ON index_term TO strongroom_app;
GRANT UPDATE (indexed_as, terms) ON record TO strongroom_app;

RESET ROLE;
