//! Whether a database is one that the service may run on: settings that would lose what was acknowledged, roles that could
//! do more than they may, triggers that somebody disabled, a schema of another build.

use super::pool::{Database, StorageError};
use super::schema::Which;
use crate::domain::clock::Timestamp;

/// Something about a database that is not as it should be. It names settings and never a value of anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// The key under `database` in the configuration.
    pub database: &'static str,
    /// The service must not run on it; otherwise it should be put right.
    pub is_unsafe: bool,
    /// What was found.
    pub found: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

impl std::fmt::Display for Weakness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "database.{}: {}; {}", self.database, self.found, self.advice)
    }
}

impl std::error::Error for Weakness {}

/// A row of the table below: how PostgreSQL is asked, whether a "yes" is unsafe, and the two sentences.
struct Rule(&'static str, bool, &'static str, &'static str);

/// Each is true where something is wrong. They read settings and the catalogue only, which every role may.
const RULES: [Rule; 15] = [
    Rule(
        "current_setting('server_version_num')::int < 150000",
        true,
        "PostgreSQL is older than 15",
        "upgrade the server",
    ),
    Rule(
        "current_setting('fsync') <> 'on'",
        true,
        "fsync is off, so a crash loses what was acknowledged",
        "set fsync = on",
    ),
    Rule(
        "current_setting('full_page_writes') <> 'on'",
        true,
        "full_page_writes is off, so a crash can tear pages",
        "set full_page_writes = on",
    ),
    Rule(
        "current_setting('server_encoding') <> 'UTF8'",
        true,
        "the database is not in UTF-8",
        "create it anew with ENCODING 'UTF8'",
    ),
    Rule(
        "current_setting('session_replication_role') <> 'origin'",
        true,
        "session_replication_role is set for this role, which keeps triggers from running",
        "reset it (ALTER ROLE … RESET session_replication_role)",
    ),
    Rule("pg_is_in_recovery()", true, "this is a standby, which takes no writes", "connect to the primary"),
    Rule(
        "(SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
          FROM pg_roles WHERE rolname = current_user)",
        true,
        "the service's role may do more than it must (superuser, CREATEROLE, CREATEDB, REPLICATION or BYPASSRLS)",
        "use the roles that `strongroom migrate` makes, as they are",
    ),
    Rule(
        "EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'strongroom_owner' \
                 AND pg_has_role(current_user, r.oid, 'MEMBER'))",
        true,
        "the service's role is a member of the tables' owner",
        "revoke the membership",
    ),
    Rule(
        "EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname IN ('public', 'strongroom_log') AND pg_get_userbyid(c.relowner) = current_user)",
        true,
        "the service's role owns tables",
        "give them back to the owner that `strongroom migrate` makes",
    ),
    Rule(
        "EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname IN ('public', 'strongroom_log') AND NOT t.tgisinternal AND t.tgenabled <> 'A') \
         OR EXISTS (SELECT FROM pg_event_trigger WHERE evtname LIKE 'audit_refuse_%' AND evtenabled <> 'A')",
        true,
        "a trigger that keeps rows from being changed is disabled",
        "find out who did it, then ALTER TABLE … ENABLE ALWAYS TRIGGER",
    ),
    // Months come and go while the service runs: not what they were, but what they must be.
    Rule(
        "EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = 'strongroom_log' AND c.relkind NOT IN ('i', 'I', 't') AND NOT (c.relkind = 'r' \
                 AND c.relispartition AND c.relowner::regrole::text = 'strongroom_owner' AND NOT c.relrowsecurity \
                 AND NOT c.relhasrules \
                 AND NOT EXISTS (SELECT FROM aclexplode(c.relacl) g WHERE g.grantee <> c.relowner) \
                 AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL) \
                 AND (SELECT count(*) = 2 AND bool_and(t.tgname IN ('audit_refuse_statement', 'audit_refuse_row') \
                             AND t.tgfoid = to_regproc('public.audit_refuse_change')) \
                      FROM pg_trigger t WHERE t.tgrelid = c.oid))) \
         OR EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = ANY (ARRAY[to_regclass('public.audit_entry'), to_regclass('public.audit_outbox'), \
                 to_regclass('public.audit_index')]) AND c.relnamespace IS DISTINCT FROM to_regnamespace('strongroom_log'))",
        true,
        "a month of the audit log is not guarded as the others are",
        "find out who did it; every partition has both triggers, the owner, and no grants",
    ),
    Rule(
        "abs(extract(epoch FROM clock_timestamp()) - $1 / 1000000.0) > 2",
        false,
        "its clock and this host's are more than 2 seconds apart",
        "keep both by NTP or PTP",
    ),
    Rule(
        "current_setting('data_checksums') <> 'on'",
        false,
        "data checksums are off, so a failing disk goes unnoticed",
        "enable them (pg_checksums --enable, with the server stopped)",
    ),
    Rule(
        "current_setting('synchronous_standby_names') = ''",
        false,
        "there is no synchronous standby, so a lost disk loses acknowledged writes",
        "set synchronous_standby_names",
    ),
    Rule(
        "current_setting('password_encryption') <> 'scram-sha-256'",
        false,
        "new passwords are not kept as SCRAM verifiers",
        "set password_encryption = 'scram-sha-256'",
    ),
];

/// Who may do what, and what stands in the way of whom, as one digest. No value of anybody is in it, and no password.
const FINGERPRINT: &str = "/* storage::fitness::fingerprint */
    SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
        SELECT 'trigger ' || tgrelid::regclass || ' ' || tgenabled::text || ' ' || pg_get_triggerdef(pg_trigger.oid) AS line
            FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
            WHERE NOT tgisinternal AND c.relnamespace IS DISTINCT FROM to_regnamespace('strongroom_log')
        UNION ALL SELECT 'event trigger ' || evtname || ' ' || evtenabled::text || ' ' || evtfoid::regprocedure
            FROM pg_event_trigger
        UNION ALL SELECT 'function ' || p.oid::regprocedure || ' ' || p.proowner::regrole || ' ' || md5(p.prosrc)
            || coalesce(array_to_string(p.proconfig, ','), '')
            FROM pg_proc p WHERE p.pronamespace::regnamespace::text IN ('public', 'strongroom_guard')
        UNION ALL SELECT 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' ' || c.relowner::regrole || ' '
            || c.relrowsecurity || coalesce(c.relacl::text, '')
            FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        UNION ALL SELECT 'column ' || a.attrelid::regclass || ' ' || a.attname || ' ' || a.attacl::text
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            WHERE c.relnamespace = 'public'::regnamespace AND a.attacl IS NOT NULL
        UNION ALL SELECT 'rule ' || ev_class::regclass || ' ' || pg_get_ruledef(r.oid)
            FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'role ' || rolname || ' ' || rolsuper || rolcreaterole || rolcreatedb || rolreplication
            || rolbypassrls || coalesce(array_to_string(rolconfig, ','), '')
            FROM pg_roles WHERE rolname LIKE 'strongroom%'
        UNION ALL SELECT 'member ' || roleid::regrole || ' ' || member::regrole
            FROM pg_auth_members WHERE member::regrole::text LIKE 'strongroom%'
    ) AS lines";

impl Database {
    /// A digest of roles, grants, triggers, functions and rules: another one means that somebody changed them.
    pub async fn fingerprint(&self) -> Result<String, StorageError> {
        let row = self
            .run("fitness::fingerprint", async |client| Ok(client.query_one(FINGERPRINT, &[]).await?))
            .await?;
        Ok(row.try_get(0)?)
    }

    /// What is wrong with this database, the unsafe first; empty if nothing is. `now` is this host's time.
    pub async fn weaknesses(
        &self,
        database: &'static str,
        now: Timestamp,
    ) -> Result<Vec<Weakness>, StorageError> {
        let conditions: Vec<String> =
            RULES.iter().map(|Rule(condition, ..)| format!("coalesce({condition}, true)")).collect();
        let sql = format!(
            "/* storage::fitness::weaknesses */ SELECT ARRAY[{}]",
            conditions.join(", ").replace("$1", "$1::bigint")
        );
        let micros = now.as_micros();
        let is_so: Vec<bool> = self
            .run("fitness::weaknesses", async |client| {
                Ok(client.query_one(&sql, &[&micros]).await?.try_get(0)?)
            })
            .await?;
        let which =
            if ["keys", "key_eraser", "key_rotator"].contains(&database) { Which::Keys } else { Which::Data };
        let schema = self.schema_weaknesses(database, which).await?;
        let found = RULES.iter().zip(is_so).filter(|(_, is_so)| *is_so);
        let mut weaknesses: Vec<Weakness> = found
            .map(|(Rule(_, is_unsafe, found, advice), _)| Weakness {
                database,
                is_unsafe: *is_unsafe,
                found,
                advice,
            })
            .chain(schema)
            .collect();
        weaknesses.sort_by_key(|weakness| !weakness.is_unsafe);
        Ok(weaknesses)
    }
}
