-- The care teams that look after a person, for decisions about who may see their records. Columns of the subject, whose row
-- every read of a record looks at anyway; src/storage/records/care_teams.rs. Names only: who belongs to a team is the identity
-- provider's business.

SET LOCAL ROLE strongroom_owner;

ALTER TABLE subject
    -- Sorted, each once; absent until somebody sets them.
    ADD COLUMN care_teams text[] CHECK (cardinality(care_teams) BETWEEN 1 AND 64),
    -- What an ETag says, from 1 on.
    ADD COLUMN care_team_version bigint NOT NULL DEFAULT 1 CHECK (care_team_version BETWEEN 1 AND 4294967295);

GRANT UPDATE (care_teams, care_team_version) ON subject TO strongroom_app;

RESET ROLE;
