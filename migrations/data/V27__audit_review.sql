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
