-- The service compares the schema with its own at the start, and runs on no other.
GRANT SELECT ON refinery_schema_history TO strongroom_app, strongroom_audit_reader;
