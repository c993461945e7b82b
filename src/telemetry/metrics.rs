//! Metrics: every name, what it means, and the only functions that record one.
//!
//! Labels are program text (a route's template, a status, a storage function), never an id, a name or a path, so what a
//! client sends can neither show here nor make the number of series grow. Not here: who may read them (`service`), and
//! gauges' sources, which are asked when somebody reads.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// From a quarter of a millisecond, doubling, to 8 s: what waits longer is cut.
const SECONDS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048,
    4.096, 8.192,
];
const ENTRIES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! names {
    ($($name:ident = $kind:ident $text:literal [$($label:literal)*] $help:literal;)+) => {
        $(const $name: &str = $text;)+

        /// Every metric of the service itself: name, kind, labels, meaning. `metrics-process` adds `process_*`.
        pub const CATALOGUE: &[(&str, Kind, &[&str], &str)] = &[$(($text, Kind::$kind, &[$($label),*], $help),)+];
    };
}

names! {
    REQUEST = Histogram "strongroom_request_duration_seconds" ["route" "method" "status"] "Requests, from their head to the head of their answer";
    PROBLEM = Counter "strongroom_problems_total" ["code"] "Answers that were problem documents";
    IN_FLIGHT = Gauge "strongroom_requests_in_flight" [] "Requests being worked on";
    LIMITED = Counter "strongroom_limited_total" ["limit" "whose"] "Requests refused by a limit: of requests or records, of a client or a person";
    GLASS_OPENED = Counter "strongroom_break_glass_opened_total" [] "How often the glass was broken";
    GLASS_USED = Counter "strongroom_break_glass_uses_total" [] "Requests about records that were let through under broken glass";
    GLASS_OVERDUE = Gauge "strongroom_break_glass_overdue_reviews" [] "Broken glass that nobody has reviewed in time";
    ERASURES_OVERDUE = Gauge "strongroom_erasures_overdue" [] "Erasures that were approved and have not come to their end in time";
    RELAYED = Counter "strongroom_relayed_total" ["outcome"] "Requests sent on to destinations, by what became of them: answered, unreachable, answer_invalid, timed_out";
    CONNECTIONS = Gauge "strongroom_connections_open" [] "Connections open, handshakes not counted";
    ACCEPTED = Counter "strongroom_connections_accepted_total" [] "TCP connections taken";
    TURNED_AWAY = Counter "strongroom_connections_turned_away_total" [] "Connections closed because there were too many";
    SWEPT = Counter "strongroom_connections_swept_total" [] "Connections closed because their certificate no longer passed";
    STALLED = Counter "strongroom_connections_stalled_total" [] "Connections closed because their client asked nothing, or did not go on with what it asked";
    HANDSHAKE_FAILURE = Counter "strongroom_handshake_failures_total" ["reason"] "TLS handshakes that let nobody in";
    POOL = Gauge "strongroom_pool_connections" ["database" "state"] "Connections to PostgreSQL: most, open, idle";
    POOL_WAITING = Gauge "strongroom_pool_waiting" ["database"] "Callers that wait for a connection to PostgreSQL";
    STORAGE = Histogram "strongroom_storage_duration_seconds" ["function"] "Statements and transactions, waiting for a connection not counted";
    STORAGE_FAILURE = Counter "strongroom_storage_failures_total" ["function"] "Statements and transactions that failed, and callers that got no connection";
    KEY_CACHE = Counter "strongroom_key_cache_total" ["result"] "Look-ups of subject and record keys in memory: hit or miss";
    KEY_CACHE_KEYS = Gauge "strongroom_key_cache_keys" ["level"] "Tenant keys in memory, and owners of subject and record keys in memory";
    KEY_ROTATIONS = Gauge "strongroom_key_rotations_open" [] "Rotations of tenant keys that are not at their end, of all tenants";
    KEYS_REWRAPPED = Counter "strongroom_keys_rewrapped_total" [] "Keys that this instance wrapped by a tenant key's successor";
    AUDIT_QUEUE = Gauge "strongroom_audit_queue_entries" [] "Audit entries that wait for their commit";
    AUDIT_BATCH = Histogram "strongroom_audit_batch_entries" [] "Audit entries in one commit";
    AUDIT_COMMIT = Histogram "strongroom_audit_commit_duration_seconds" [] "Commits of audit entries, retries included";
    AUDIT_FAILING = Gauge "strongroom_audit_failing_seconds" [] "How long the audit log has not been writable; 0 when it is";
    AUDIT_LEADING = Gauge "strongroom_audit_sequencer_leading" [] "1 while this instance numbers the log's entries, else 0";
    AUDIT_ENTRIES = Gauge "strongroom_audit_log_entries" [] "Entries of the log that have a number, as this instance last saw it";
    AUDIT_PUBLISHED = Gauge "strongroom_audit_published_timestamp_seconds" [] "When the log last signed a checkpoint, as this instance last saw it";
    AUDIT_EXPORTED = Gauge "strongroom_audit_exported_entries" [] "Entries that this instance has written as files with a checkpoint";
    ALARM = Gauge "strongroom_alarm" ["alarm"] "1 while the alarm is on, else 0";
    VAULT = Histogram "strongroom_vault_request_duration_seconds" ["operation" "outcome"] "Requests to Vault, by what they are for and the status or unreachable";
    SERVER_CERTIFICATE = Gauge "strongroom_server_certificate_expiry_timestamp_seconds" [] "When the server's certificate ends";
    CRL = Gauge "strongroom_crl_expiry_timestamp_seconds" [] "When the first of the revocation lists runs out; then nobody comes in";
    CLIENT_CERTIFICATE = Gauge "strongroom_client_certificate_expiry_timestamp_seconds" [] "When the first certificate of the open connections ends; 0 without any";
    PEOPLE_KEYS_AGE = Gauge "strongroom_people_keys_age_seconds" [] "How long ago the keys of an identity provider were last fetched, of the one where it is longest; 0 without any";
    PEOPLE_KEYS_FAILURE = Counter "strongroom_people_keys_failures_total" [] "Fetches of identity providers' keys that failed";
    PART_UP = Gauge "strongroom_part_up" ["part"] "1 while the part answers, else 0";
    BUILD = Gauge "strongroom_build_info" ["version"] "1";
}

/// Renders everything that was recorded since [`install`].
#[derive(Clone)]
pub struct Renderer(PrometheusHandle);

/// What every request touches, looked up once: finding a series by its labels takes longer than counting.
struct Handles {
    in_flight: Gauge,
    key_hit: Counter,
    key_miss: Counter,
    requests: RwLock<HashMap<(&'static str, &'static str, u16), Histogram>>,
}

/// There once something records.
static HANDLES: OnceLock<Handles> = OnceLock::new();

impl Handles {
    fn new() -> Self {
        Self {
            in_flight: gauge!(IN_FLIGHT),
            key_hit: counter!(KEY_CACHE, "result" => "hit"),
            key_miss: counter!(KEY_CACHE, "result" => "miss"),
            requests: RwLock::default(),
        }
    }
}

/// Starts recording, for the whole process. A second call is an error; without any, recording does nothing.
pub fn install() -> Result<Renderer, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, kind, ..) in CATALOGUE {
        let name = (*name).to_owned();
        if *kind == Kind::Histogram {
            let buckets = if name.ends_with("_seconds") { &SECONDS[..] } else { &ENTRIES[..] };
            builder = builder.set_buckets_for_metric(Matcher::Full(name), buckets)?;
        }
    }
    let renderer = Renderer(builder.install_recorder()?);
    for (name, kind, _, help) in CATALOGUE {
        match kind {
            Kind::Counter => describe_counter!(*name, *help),
            Kind::Gauge => describe_gauge!(*name, *help),
            Kind::Histogram => describe_histogram!(*name, *help),
        }
    }
    metrics_process::Collector::default().describe();
    // There from the start, so that the first refusal is an increase.
    for limit in ["requests", "records"] {
        for whose in ["client", "person"] {
            counter!(LIMITED, "limit" => limit, "whose" => whose).absolute(0);
        }
    }
    counter!(GLASS_OPENED).absolute(0);
    counter!(GLASS_USED).absolute(0);
    counter!(KEYS_REWRAPPED).absolute(0);
    for outcome in ["answered", "unreachable", "answer_invalid", "timed_out"] {
        counter!(RELAYED, "outcome" => outcome).absolute(0);
    }
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    HANDLES.get_or_init(Handles::new);
    Ok(renderer)
}

impl Renderer {
    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        metrics_process::Collector::default().collect();
        self.0.render()
    }

    /// Sums up what histograms have taken in; without it they keep every sample until somebody reads.
    pub fn keep_small(&self) {
        self.0.run_upkeep();
    }
}

/// A request that was answered. `status` and `method` are from closed lists.
pub fn request(route: &'static str, method: &'static str, status: u16, took: Duration) {
    let Some(Handles { requests, .. }) = HANDLES.get() else { return };
    let series = (route, method, status);
    let known = requests.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(histogram) = known.get(&series) {
        return histogram.record(took);
    }
    drop(known);
    let histogram = histogram!(REQUEST, "route" => route, "method" => method, "status" => status.to_string());
    histogram.record(took);
    requests.write().unwrap_or_else(PoisonError::into_inner).insert(series, histogram);
}

pub fn problem(code: &'static str) {
    counter!(PROBLEM, "code" => code).increment(1);
}

/// A refusal by a limit; both words are program text.
pub fn limited(limit: &'static str, whose: &'static str) {
    counter!(LIMITED, "limit" => limit, "whose" => whose).increment(1);
}

pub fn break_glass_opened() {
    counter!(GLASS_OPENED).increment(1);
}

pub fn break_glass_used() {
    counter!(GLASS_USED).increment(1);
}

/// A request that was sent on, or was to be; the word is program text.
pub fn relayed(outcome: &'static str) {
    counter!(RELAYED, "outcome" => outcome).increment(1);
}

pub fn break_glass_overdue(reviews: u64) {
    gauge!(GLASS_OVERDUE).set(u32::try_from(reviews).map_or(f64::MAX, f64::from));
}

pub fn erasures_overdue(erasures: u64) {
    gauge!(ERASURES_OVERDUE).set(u32::try_from(erasures).map_or(f64::MAX, f64::from));
}

/// Counts a request as being worked on for as long as it lives.
#[must_use]
pub struct InFlight(());

impl InFlight {
    pub fn begin() -> Self {
        if let Some(handles) = HANDLES.get() {
            handles.in_flight.increment(1.0);
        }
        Self(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(handles) = HANDLES.get() {
            handles.in_flight.decrement(1.0);
        }
    }
}

/// What the door has counted since it opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoorCounts {
    pub accepted: u64,
    pub turned_away: u64,
    pub swept: u64,
    pub stalled: u64,
    pub open: u64,
    /// When the first certificate of the open connections ends, in seconds since 1970; 0 without any.
    pub first_expiry: i64,
}

pub fn door(counts: DoorCounts) {
    counter!(ACCEPTED).absolute(counts.accepted);
    counter!(TURNED_AWAY).absolute(counts.turned_away);
    counter!(SWEPT).absolute(counts.swept);
    counter!(STALLED).absolute(counts.stalled);
    gauge!(CONNECTIONS).set(number(counts.open));
    gauge!(CLIENT_CERTIFICATE).set(number(counts.first_expiry));
}

pub fn handshake_failure(reason: &'static str) {
    counter!(HANDSHAKE_FAILURE, "reason" => reason).increment(1);
}

/// Connections of a pool: the most there may be, those open, those idle, and callers that wait.
pub fn pool(database: &'static str, most: usize, open: usize, idle: usize, waiting: usize) {
    for (state, count) in [("most", most), ("open", open), ("idle", idle)] {
        gauge!(POOL, "database" => database, "state" => state).set(number(count));
    }
    gauge!(POOL_WAITING, "database" => database).set(number(waiting));
}

pub fn storage(function: &'static str, took: Duration) {
    histogram!(STORAGE, "function" => function).record(took);
}

pub fn storage_failure(function: &'static str) {
    counter!(STORAGE_FAILURE, "function" => function).increment(1);
}

pub fn key_cache(is_hit: bool) {
    if let Some(Handles { key_hit, key_miss, .. }) = HANDLES.get() {
        if is_hit { key_hit.increment(1) } else { key_miss.increment(1) }
    }
}

pub fn keys_in_memory(tenant_keys: usize, owners: usize) {
    gauge!(KEY_CACHE_KEYS, "level" => "tenant").set(number(tenant_keys));
    gauge!(KEY_CACHE_KEYS, "level" => "subject").set(number(owners));
}

pub fn key_rotations(open: usize) {
    gauge!(KEY_ROTATIONS).set(number(open));
}

pub fn keys_rewrapped(keys: u64) {
    counter!(KEYS_REWRAPPED).increment(keys);
}

/// A batch of audit entries that is durable.
pub fn audit_commit(entries: usize, took: Duration) {
    histogram!(AUDIT_BATCH).record(number(entries));
    histogram!(AUDIT_COMMIT).record(took);
}

pub fn audit_queue(waiting: usize, failing_for: Duration) {
    gauge!(AUDIT_QUEUE).set(number(waiting));
    gauge!(AUDIT_FAILING).set(failing_for.as_secs_f64());
}

/// How far the log is: whether this instance has the lead, entries with a number, the newest checkpoint's time in seconds
/// since 1970, and entries in files of this instance.
pub fn audit_log(is_leading: bool, entries: u64, published: i64, exported: u64) {
    gauge!(AUDIT_LEADING).set(f64::from(u8::from(is_leading)));
    gauge!(AUDIT_ENTRIES).set(number(entries));
    gauge!(AUDIT_PUBLISHED).set(number(published));
    gauge!(AUDIT_EXPORTED).set(number(exported));
}

pub fn alarm(alarm: &'static str, is_on: bool) {
    gauge!(ALARM, "alarm" => alarm).set(f64::from(u8::from(is_on)));
}

/// A request to Vault; no status when it could not be reached.
pub fn vault(operation: &'static str, status: Option<u16>, took: Duration) {
    let outcome = status.map_or_else(|| String::from("unreachable"), |status| status.to_string());
    histogram!(VAULT, "operation" => operation, "outcome" => outcome).record(took);
}

/// When the server's certificate and the first revocation list end, in seconds since 1970.
pub fn server_expiries(certificate: i64, crl: i64) {
    gauge!(SERVER_CERTIFICATE).set(number(certificate));
    gauge!(CRL).set(number(crl));
}

/// The age of the oldest key set of an identity provider.
pub fn people_keys_age(seconds: i64) {
    gauge!(PEOPLE_KEYS_AGE).set(number(seconds));
    // There from the start, so that the first failure is seen as growth.
    counter!(PEOPLE_KEYS_FAILURE).increment(0);
}

pub fn people_keys_failure() {
    counter!(PEOPLE_KEYS_FAILURE).increment(1);
}

pub fn part(part: &'static str, is_up: bool) {
    gauge!(PART_UP, "part" => part).set(f64::from(u8::from(is_up)));
}

#[expect(clippy::cast_precision_loss, reason = "metrics are doubles; counts stay far below 2^53")]
fn number(count: impl TryInto<i64>) -> f64 {
    count.try_into().unwrap_or(i64::MAX) as f64
}
