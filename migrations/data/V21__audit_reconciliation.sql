-- The sequencer compares every stored version with the entry that it names, and the other way round. It sees ids and versions,
-- never a sealed value.
GRANT SELECT (tenant_id, collection, record_id, version, audit_entry_id) ON record, record_history TO strongroom_sequencer;
