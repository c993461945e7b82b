SET LOCAL strongroom.audit_migration = 'yes';
-- How far what is stored of the log was read again, and when each part last was (src/jobs/sequencer/review.rs): kept across
-- restarts and leads, so that a review that did not happen shows.
CREATE TABLE public.audit_review (
    part    text        NOT NULL PRIMARY KEY CHECK (part IN ('recent', 'old')),
    size    bigint      NOT NULL CHECK (size >= 0), -- entries before which it goes on
    edge    bytea       NOT NULL,                   -- the tree over them, as audit_head.edge
    done_at timestamptz NOT NULL
);
INSERT INTO public.audit_review VALUES ('recent', 0, '', now()), ('old', 0, '', now());

ALTER TABLE public.audit_review SET (fillfactor = 50);
ALTER TABLE public.audit_review OWNER TO strongroom_owner;
REVOKE ALL ON public.audit_review FROM PUBLIC, strongroom_app;
GRANT SELECT, UPDATE (size, edge, done_at) ON public.audit_review TO strongroom_sequencer;
GRANT SELECT ON public.audit_review TO strongroom_audit_reader;

CREATE TRIGGER audit_refuse_statement BEFORE INSERT OR DELETE OR TRUNCATE ON public.audit_review
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_review ENABLE ALWAYS TRIGGER audit_refuse_statement;

-- Full tiles of the log's tree above the leaves, each made by the transaction that filled it, so that a proof reads a few rows
-- however long the log is.
CREATE TABLE public.audit_tile (
    level  smallint NOT NULL CHECK (level BETWEEN 1 AND 7), -- C2SP tlog-tiles; level 0 is audit_index
    idx    bigint   NOT NULL CHECK (idx >= 0),
    hashes bytea    NOT NULL CHECK (octet_length(hashes) = 8192),
    PRIMARY KEY (level, idx)
);
ALTER TABLE public.audit_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;
ALTER TABLE public.audit_tile OWNER TO strongroom_owner;
REVOKE ALL ON public.audit_tile FROM PUBLIC, strongroom_app;
GRANT SELECT, INSERT ON public.audit_tile TO strongroom_sequencer;
GRANT SELECT ON public.audit_tile TO strongroom_audit_reader;

CREATE TRIGGER audit_refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON public.audit_tile
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_refuse_row BEFORE UPDATE OR DELETE ON public.audit_tile
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_tile ENABLE ALWAYS TRIGGER audit_refuse_statement;
ALTER TABLE public.audit_tile ENABLE ALWAYS TRIGGER audit_refuse_row;
