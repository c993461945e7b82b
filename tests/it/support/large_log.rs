//! A log of any size, made by PostgreSQL itself in the form of the service's entries: twelve months, two tenants, a hundred
//! thousand patients, two thousand people who look at them.

use tokio_postgres::Client;
use uuid::Uuid;

/// Entries of one transaction, about as many as a full batch of the committer has: numbering goes through all of one again in every
/// step that begins within it.
const STEP: i64 = 500;

const MONTHS: &str = "
    SET strongroom.audit_migration = 'yes';
    SELECT audit_make_month(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        - make_interval(months => back)) FROM generate_series(1, 12) AS back;
    RESET strongroom.audit_migration";

const SETUP: &str = "
    CREATE FUNCTION pg_temp.pick(i bigint, salt bigint, n int) RETURNS int LANGUAGE sql IMMUTABLE AS
        $$ SELECT ((hashint8(i # (salt << 40))::bigint & 2147483647) % n)::int $$;
    CREATE FUNCTION pg_temp.made_up(kind int, i bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
        $$ SELECT (lpad(to_hex(kind), 8, '0') || '00007000800000' || lpad(to_hex(i), 10, '0'))::uuid $$;";

/// Evenly over the year that ends now.
const FILL: &str = "
    INSERT INTO audit_entry (src, seq, entry_id, tenant_id, entry, sha256)
    SELECT $1::uuid, place, id, tenant, bytes, sha256(bytes) FROM (
        SELECT place, id, tenant, convert_to('{\"act\":\"' || act || '\",\"basis\":{\"policy\":[\"clinician-reads-patients\"]},\"chain\":{\"prev\":\"'
            || repeat('3', 64) || '\",\"seq\":' || place || ',\"src\":\"' || $1::uuid || '\"},\"client\":{\"cert_sha256\":\"' || repeat('2', 64)
            || '\",\"san\":\"spiffe://strongroom.test/client/portal\"},\"dst\":{\"build\":\"1.2.3\",\"instance\":\"room-1\",\"service\":\"strongroom\"},\"id\":\"'
            || id || '\",\"obj\":[{\"class\":[\"phi\"],\"collection\":\"' || collection || '\",\"fields\":[\"birth_date\",\"family_name\"],\"record\":\"'
            || pg_temp.made_up(CASE collection WHEN 'patients' THEN 2 ELSE 3 END, patient) || '\",\"version\":3}],\"out\":{\"status\":\"' || status || '\"},\"purpose\":\"' || purpose
            || '\",\"req\":{\"id\":\"019b76da-0000-7000-8000-00000000000b\",\"route\":\"/api/v1/{collection}/{id}\"},\"src\":{\"ip\":\"10.8.0.7\",\"port\":50123},\"subj\":\"'
            || pg_temp.made_up(2, patient) || '\",\"tenant\":\"' || tenant || '\",\"ts\":\"2026-01-01T00:00:00.123456Z\",\"v\":1,\"who\":{\"kind\":\"app\",\"on_behalf_of\":{\"issuer\":\"staff-login\",\"mfa\":true,\"roles\":[\"clinician\"],\"uid\":\"p-'
            || pg_temp.pick(place, 2, 2000) || '\"},\"roles\":[\"portal\"],\"uid\":\"' || actor || '\"}}', 'UTF8') AS bytes
        FROM (
            SELECT place, (lpad(to_hex((extract(epoch FROM now())::float8 * 1000
                    - 31104000000 * (1 - place::float8 / $4::bigint))::bigint), 12, '0')
                    || '7' || substr(md5(place::text), 1, 3) || '8' || substr(md5(place::text), 4, 15))::uuid AS id,
                pg_temp.made_up(1, CASE WHEN pg_temp.pick(place, 3, 100) < 80 THEN 1 ELSE 2 END) AS tenant,
                pg_temp.pick(place, 1, 100000) AS patient,
                CASE WHEN pg_temp.pick(place, 4, 20000) = 0 THEN 'record.history' ELSE
                    (ARRAY['record.read', 'record.update', 'record.list', 'record.create'])
                        [1 + width_bucket(pg_temp.pick(place, 5, 100), ARRAY[90, 95, 99])] END AS act,
                CASE WHEN pg_temp.pick(place, 6, 100) = 0 THEN 'refused' ELSE 'success' END AS status,
                (ARRAY['patients', 'cards', 'encounters'])[1 + pg_temp.pick(place, 7, 3)] AS collection,
                (ARRAY['TREAT', 'HPAYMT', 'HOPERAT'])[1 + pg_temp.pick(place, 8, 3)] AS purpose,
                (ARRAY['portal', 'billing', 'mobile', 'desk', 'batch'])[1 + pg_temp.pick(place, 9, 5)] AS actor
            FROM generate_series($2::bigint, $3::bigint - 1) AS place
        ) AS drawn
    ) AS made";

pub const TENANT: Uuid = Uuid::from_u128(0x0000_0001_0000_7000_8000_0000_0000_0001);

/// A patient's subject, and the patient's own record.
pub const fn subject(patient: u128) -> Uuid {
    Uuid::from_u128(0x0000_0002_0000_7000_8000_0000_0000_0000 | patient)
}

/// Another record about a patient.
pub const fn record(patient: u128) -> Uuid {
    Uuid::from_u128(0x0000_0003_0000_7000_8000_0000_0000_0000 | patient)
}

/// The months that a log of a year has, empty.
pub async fn make_months(superuser: &Client) {
    superuser.batch_execute(MONTHS).await.unwrap();
}

/// Makes so many entries, none of them with a number. As a superuser, who says how it goes on.
pub async fn make_log(superuser: &Client, entries: i64, mut progress: impl FnMut(i64)) {
    make_months(superuser).await;
    superuser.batch_execute(SETUP).await.unwrap();
    let fill = superuser.prepare(FILL).await.unwrap();
    for from in (1..=entries).step_by(usize::try_from(STEP).unwrap()) {
        let end = (from + STEP).min(entries + 1);
        let chain = Uuid::from_u128(from.unsigned_abs().into());
        superuser.execute(&fill, &[&chain, &from, &end, &entries]).await.unwrap();
        progress(end - 1);
    }
}
