-- What records are found by: terms of blind indexes, keyed digests of what values are (src/crypto/index.rs). They are written,
-- replaced and removed by the statements that do so to their record. To somebody without the key hierarchy they tell which
-- records share a value of one field, or its beginning or its day, among others that share a term by chance.

SET LOCAL ROLE strongroom_owner;

CREATE TABLE index_term (
    tenant_id uuid NOT NULL,
    collection text COLLATE "C" NOT NULL,
    field_id integer NOT NULL,
    -- src/domain/index/mod.rs, Transform::number: all of the value, a beginning of so many characters, or its day.
    transform smallint NOT NULL,
    -- Of the root that the term was made under: tenant_key.key_id of the class 'index' and the purpose 'terms'.
    index_version bigint NOT NULL CHECK (index_version >= 1),
    term bytea NOT NULL CHECK (octet_length(term) BETWEEN 1 AND 16),
    record_id text COLLATE "C" NOT NULL,
    -- A search reads a stretch of it, in the order of the records' ids.
    PRIMARY KEY (tenant_id, collection, field_id, transform, index_version, term, record_id)
);

-- All terms of a record, for the statement that replaces or ends it.
CREATE INDEX index_term_of_record ON index_term (tenant_id, collection, record_id);

-- By which declaration of indexes, under which root, the record's terms were made: a digest. None before there were any.
ALTER TABLE record ADD COLUMN indexed_as bigint;

GRANT SELECT, INSERT, DELETE ON index_term TO strongroom_app;
GRANT UPDATE (indexed_as) ON record TO strongroom_app;

RESET ROLE;
