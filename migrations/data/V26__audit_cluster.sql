SET LOCAL strongroom.audit_migration = 'yes';
-- Which cluster the transaction ids of `scan_from` and `seen` are of: in another one, loaded from a dump, they are counted anew,
-- and everything is looked at once more.
ALTER TABLE public.audit_head ADD COLUMN cluster text NOT NULL DEFAULT '';
GRANT UPDATE (cluster) ON public.audit_head TO strongroom_sequencer;

-- Who holds the sequencer's lock keeps the log from being numbered. No other role of this database takes advisory locks; a
-- superuser needs no grant.
DO $$
DECLARE
    lock_function regprocedure;
BEGIN
    FOR lock_function IN SELECT oid FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_(xact_)?lock(_shared)?$'
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', lock_function);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO strongroom_sequencer', lock_function);
    END LOOP;
END
$$;
