-- Indexes that nothing but speed depends on, of the data database. `strongroom migrate` builds each one that is missing
-- after the migrations, without locking the table, and builds anew what was left half built. A changed index gets a new
-- name, and the old one's removal a migration.

-- Everything about one person: key versions still needed, erasure, export.
CREATE INDEX CONCURRENTLY record_by_subject ON public.record (tenant_id, subject_id) WHERE subject_id IS NOT NULL;

-- For the jobs that remove what has expired.
CREATE INDEX CONCURRENTLY idempotency_key_expiry ON public.idempotency_key (expires_at);
CREATE INDEX CONCURRENTLY upload_expiry ON public.upload (expires_at);

-- What still waits for its review, in all tenants.
CREATE INDEX CONCURRENTLY break_glass_unreviewed ON public.break_glass (opened_at) WHERE reviewed_at IS NULL;

-- Whose records somebody lists: of those whom their care teams look after.
CREATE INDEX CONCURRENTLY subject_by_care_team ON public.subject USING gin (care_teams) WHERE care_teams IS NOT NULL;

-- Whether there are records whose terms are of another declaration than today's: a search says so. Of expressions that nothing
-- else asks for: by the columns themselves, a statement that was planned while the table was empty went through a whole
-- collection for one record.
CREATE INDEX CONCURRENTLY record_by_declaration ON public.record ((tenant_id::text), (collection || ''), indexed_as)
    WHERE NOT deleted;

-- The erasures of one person, and those of all that were approved and have not come to their end.
CREATE INDEX CONCURRENTLY erasure_of_subject ON public.erasure (tenant_id, subject_id);
CREATE INDEX CONCURRENTLY erasure_unfinished ON public.erasure (approved_at, erasure_id)
    WHERE approved_at IS NOT NULL AND erased_at IS NULL;
