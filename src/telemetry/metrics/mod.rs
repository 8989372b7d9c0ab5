//! What is counted, under the names that people search for.
//!
//! # Why
//! One struct, made by a role and passed on: no global, so a test sees its own counts alone. A role shows the families that
//! it uses; the others count into nothing.

mod families;
mod labels;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Error, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::model::{Kind, OperationName, QuotaScope, RootKeyCare};

use families::{Counters, Counters2, Durations, Gauges};
use labels::Outcome;
pub use labels::{
    AddressFinding, AuditIncident, Label, Listener, PodAsked, Reconciled, StoreWrite, Throttle, TokenCheck,
    TokenRejection,
};

/// Which families a process shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Those of the data plane: `serve` and `dev`.
    DataPlane,
    /// Those of `operate`.
    Operator,
    /// Those of `node`.
    Node,
}

/// Every metric of a process.
pub struct Metrics {
    registry: Registry,
    requests: Counters2<OperationName, Outcome>,
    request_seconds: Durations<OperationName>,
    unauthenticated: IntCounter,
    throttled: Counters<Throttle>,
    token_rejections: Counters<TokenRejection>,
    token_checks: Counters<TokenCheck>,
    pods_asked: Counters<PodAsked>,
    address_findings: Counters<AddressFinding>,
    audit_lines: IntCounter,
    audit_failures: IntCounter,
    audit_incidents: Counters<AuditIncident>,
    audit_writable: IntGauge,
    store_writes: Counters2<StoreWrite, Outcome>,
    store_write_seconds: Durations<StoreWrite>,
    root_key_escrowed: IntGauge,
    root_key_missing: IntGauge,
    damaged_records: IntGauge,
    pod_addresses_rewritten: IntGauge,
    external_domains_unusable: IntGauge,
    clock_leader: IntGauge,
    deleted_vaults: IntGauge,
    vault_deletions_waiting: IntGauge,
    stored_bytes: IntGauge,
    stored_records: IntGauge,
    quota_used: GaugeVec,
    feed_age: GaugeVec,
    feed_lists: IntCounterVec,
    connections: Gauges<Listener>,
    handshake_failures: IntCounter,
    streams: IntGauge,
    deliveries: Counters<Outcome>,
    pod_events: Counters<Outcome>,
    reconciles: Counters2<Reconciled, Outcome>,
    reconcile_seconds: Durations<Reconciled>,
    leader: IntGauge,
    guard_missing: IntGaugeVec,
    mounts: IntGauge,
    publishes: Counters<Outcome>,
    file_updates: Counters<Outcome>,
    oldest_update: Gauge,
}

impl Metrics {
    /// Metrics that start at zero, shown as `shown` says.
    ///
    /// # Errors
    /// A name or label that Prometheus does not take: a defect.
    pub fn new(shown: Shown) -> Result<Self, Error> {
        let metrics = Self {
            registry: Registry::new(),
            requests: Counters2::new(
                "strongroom_requests_total",
                "Requests by operation and outcome.",
                ["operation", "outcome"],
            )?,
            request_seconds: Durations::new(
                "strongroom_request_seconds",
                "Time from a request's decision to its reply.",
                "operation",
            )?,
            unauthenticated: IntCounter::new(
                "strongroom_unauthenticated_total",
                "Requests that proved no identity, challenges included.",
            )?,
            throttled: Counters::new(
                "strongroom_throttled_total",
                "Requests that were refused because too much was asked for, by limit.",
                "limit",
            )?,
            token_rejections: Counters::new(
                "strongroom_token_rejections_total",
                "Tokens that were not accepted, by reason.",
                "reason",
            )?,
            token_checks: Counters::new(
                "strongroom_token_checks_total",
                "Tokens whose signature was good, by how that was known.",
                "how",
            )?,
            pods_asked: Counters::new(
                "strongroom_pod_lookups_total",
                "Questions to the API server for a pod that the feed has not shown yet.",
                "result",
            )?,
            address_findings: Counters::new(
                "strongroom_foreign_addresses_total",
                "Pod-bound tokens from an address that is not the pod's own.",
                "finding",
            )?,
            audit_lines: IntCounter::new("strongroom_audit_lines_total", "Lines written to the audit log.")?,
            audit_failures: IntCounter::new(
                "strongroom_audit_failures_total",
                "Requests that were refused because the audit log could not be written.",
            )?,
            audit_incidents: Counters::new(
                "strongroom_audit_incidents_total",
                "What happened to the audit log's file.",
                "incident",
            )?,
            audit_writable: IntGauge::new(
                "strongroom_audit_writable",
                "1 while the audit log can be written.",
            )?,
            store_writes: Counters2::new(
                "strongroom_store_writes_total",
                "Writes to the sealed store by operation and outcome.",
                ["operation", "outcome"],
            )?,
            store_write_seconds: Durations::new(
                "strongroom_store_write_seconds",
                "Time of writes to the sealed store.",
                "operation",
            )?,
            root_key_escrowed: IntGauge::new(
                "strongroom_root_key_escrowed",
                "1 once somebody said that a copy of the root key is kept elsewhere, or where it comes from a file.",
            )?,
            root_key_missing: IntGauge::new(
                "strongroom_root_key_missing",
                "1 while the root key's Secret or file is gone or holds another key, and only running replicas have it.",
            )?,
            damaged_records: IntGauge::new(
                "strongroom_damaged_records",
                "Stored records that are refused: they do not open, went back, were replaced or are gone.",
            )?,
            pod_addresses_rewritten: IntGauge::new(
                "strongroom_pod_addresses_rewritten",
                "1 while our own operator calls from an address that is not its pod's: something on the way rewrites them.",
            )?,
            external_domains_unusable: IntGauge::new(
                "strongroom_external_domains_unusable",
                "External domains whose certificate or key cannot be read or used.",
            )?,
            clock_leader: IntGauge::new(
                "strongroom_clock_leader",
                "1 while this replica runs the lifecycle clock, which deletes and purges what is due.",
            )?,
            deleted_vaults: IntGauge::new(
                "strongroom_deleted_vaults",
                "Vaults that are deleted and kept until their purge date; the clock tells.",
            )?,
            vault_deletions_waiting: IntGauge::new(
                "strongroom_vault_deletions_waiting",
                "Vaults without a Vault resource that are not deleted yet, since too many went at once; the clock tells.",
            )?,
            stored_bytes: IntGauge::new(
                "strongroom_stored_bytes",
                "Bytes of all sealed records of vaults.",
            )?,
            stored_records: IntGauge::new("strongroom_stored_records", "Sealed records of vaults.")?,
            quota_used: GaugeVec::new(
                Opts::new(
                    "strongroom_quota_used_ratio",
                    "Part of its quota that the fullest vault, the fullest namespace and the installation use.",
                ),
                &["scope"],
            )?,
            feed_age: GaugeVec::new(
                Opts::new(
                    "strongroom_feed_age_seconds",
                    "Age of what is known by each feed.",
                ),
                &["feed"],
            )?,
            feed_lists: IntCounterVec::new(
                Opts::new(
                    "strongroom_feed_lists_total",
                    "Complete lists that each feed read.",
                ),
                &["feed"],
            )?,
            connections: Gauges::new(
                "strongroom_connections",
                "Open connections by listener.",
                "listener",
            )?,
            handshake_failures: IntCounter::new(
                "strongroom_handshake_failures_total",
                "TLS handshakes that failed or took too long.",
            )?,
            streams: IntGauge::new("strongroom_streams", "Open projection streams.")?,
            deliveries: Counters::new(
                "strongroom_deliveries_total",
                "Deliveries to nodes by outcome.",
                "outcome",
            )?,
            pod_events: Counters::new(
                "strongroom_pod_events_total",
                "Events on pods whose mounted volume is refused, by whether they could be written; throttled: there \
                 were too many at once.",
                "outcome",
            )?,
            reconciles: Counters2::new(
                "strongroom_reconcile_total",
                "Reconciliations by kind and outcome.",
                ["kind", "outcome"],
            )?,
            reconcile_seconds: Durations::new(
                "strongroom_reconcile_seconds",
                "Time of reconciliations by kind.",
                "kind",
            )?,
            leader: IntGauge::new("strongroom_leader", "1 while this process leads.")?,
            guard_missing: IntGaugeVec::new(
                Opts::new(
                    "strongroom_guard_missing",
                    "1 while an admission policy of the chart is missing or changed; the leader tells.",
                ),
                &["guard"],
            )?,
            mounts: IntGauge::new("strongroom_mounts", "Volumes that are mounted on this node.")?,
            publishes: Counters::new(
                "strongroom_publishes_total",
                "Mount requests of the kubelet by outcome.",
                "outcome",
            )?,
            file_updates: Counters::new(
                "strongroom_file_updates_total",
                "Updates of mounted files by outcome.",
                "outcome",
            )?,
            oldest_update: Gauge::new(
                "strongroom_oldest_refusal_seconds",
                "How long the mount that is refused for the longest time keeps its last value.",
            )?,
        };
        metrics.show(shown)?;
        Ok(metrics)
    }

    fn show(&self, shown: Shown) -> Result<(), Error> {
        let build = IntGauge::with_opts(
            Opts::new("strongroom_build_info", "This build.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        let mut families: Vec<Box<dyn Collector>> = vec![Box::new(build)];
        match shown {
            Shown::DataPlane => families.extend([
                Box::new(self.requests.clone()) as Box<dyn Collector>,
                Box::new(self.request_seconds.clone()),
                Box::new(self.unauthenticated.clone()),
                Box::new(self.throttled.clone()),
                Box::new(self.token_rejections.clone()),
                Box::new(self.token_checks.clone()),
                Box::new(self.pods_asked.clone()),
                Box::new(self.address_findings.clone()),
                Box::new(self.audit_lines.clone()),
                Box::new(self.audit_failures.clone()),
                Box::new(self.audit_incidents.clone()),
                Box::new(self.audit_writable.clone()),
                Box::new(self.store_writes.clone()),
                Box::new(self.store_write_seconds.clone()),
                Box::new(self.root_key_escrowed.clone()),
                Box::new(self.root_key_missing.clone()),
                Box::new(self.damaged_records.clone()),
                Box::new(self.pod_addresses_rewritten.clone()),
                Box::new(self.external_domains_unusable.clone()),
                Box::new(self.clock_leader.clone()),
                Box::new(self.deleted_vaults.clone()),
                Box::new(self.vault_deletions_waiting.clone()),
                Box::new(self.stored_bytes.clone()),
                Box::new(self.stored_records.clone()),
                Box::new(self.quota_used.clone()),
                Box::new(self.feed_age.clone()),
                Box::new(self.feed_lists.clone()),
                Box::new(self.connections.clone()),
                Box::new(self.handshake_failures.clone()),
                Box::new(self.streams.clone()),
                Box::new(self.deliveries.clone()),
                Box::new(self.pod_events.clone()),
            ]),
            Shown::Operator => families.extend([
                Box::new(self.reconciles.clone()) as Box<dyn Collector>,
                Box::new(self.reconcile_seconds.clone()),
                Box::new(self.leader.clone()),
                Box::new(self.guard_missing.clone()),
            ]),
            Shown::Node => families.extend([
                Box::new(self.mounts.clone()) as Box<dyn Collector>,
                Box::new(self.streams.clone()),
                Box::new(self.publishes.clone()),
                Box::new(self.file_updates.clone()),
                Box::new(self.oldest_update.clone()),
            ]),
        }
        families
            .into_iter()
            .try_for_each(|family| self.registry.register(family))
    }

    /// A request was answered: no kind means success.
    pub fn request(&self, operation: OperationName, outcome: Option<Kind>, took: Duration) {
        self.requests.count(operation, Outcome(outcome));
        self.request_seconds.observe(operation, took);
    }

    /// A request proved no identity.
    pub fn unauthenticated(&self) {
        self.unauthenticated.inc();
    }

    /// A request was refused because too much was asked for.
    pub fn throttled(&self, limit: Throttle) {
        self.throttled.count(limit);
    }

    /// A token was not accepted.
    pub fn token_rejected(&self, reason: TokenRejection) {
        self.token_rejections.count(reason);
    }

    /// A token's signature was good.
    pub fn token_checked(&self, how: TokenCheck) {
        self.token_checks.count(how);
    }

    /// The API server was asked for a pod.
    pub fn pod_asked(&self, result: PodAsked) {
        self.pods_asked.count(result);
    }

    /// A token came from an address that is not its pod's own.
    pub fn foreign_address(&self, finding: AddressFinding) {
        self.address_findings.count(finding);
    }

    /// So many lines were written to the audit log.
    pub fn audit_lines(&self, lines: u64) {
        self.audit_lines.inc_by(lines);
    }

    /// A request was refused because the audit log could not be written.
    pub fn audit_failed(&self) {
        self.audit_failures.inc();
    }

    /// Something happened to the audit log's file.
    pub fn audit_incident(&self, incident: AuditIncident) {
        self.audit_incidents.count(incident);
    }

    /// Whether the audit log can be written now.
    pub fn audit_writable(&self, writable: bool) {
        self.audit_writable.set(i64::from(writable));
    }

    /// The sealed store answered a write: no kind means success.
    pub fn store_write(&self, operation: StoreWrite, outcome: Option<Kind>, took: Duration) {
        self.store_writes.count(operation, Outcome(outcome));
        self.store_write_seconds.observe(operation, took);
    }

    /// How the root key is cared for.
    pub fn root_key(&self, care: RootKeyCare) {
        self.root_key_escrowed
            .set(i64::from(care == RootKeyCare::Escrowed));
        self.root_key_missing.set(i64::from(care == RootKeyCare::Missing));
    }

    /// How many stored records are refused.
    pub fn damaged_records(&self, records: usize) {
        self.damaged_records
            .set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Whether addresses of pods come through as others'.
    pub fn pod_addresses_rewritten(&self, rewritten: bool) {
        self.pod_addresses_rewritten.set(i64::from(rewritten));
    }

    /// How many external domains have no certificate that can be used.
    pub fn external_domains_unusable(&self, domains: usize) {
        self.external_domains_unusable
            .set(i64::try_from(domains).unwrap_or(i64::MAX));
    }

    /// Whether this replica runs the lifecycle clock.
    pub fn leads_clock(&self, leads: bool) {
        self.clock_leader.set(i64::from(leads));
        self.vault_lifecycle(0, 0);
    }

    /// How many vaults are deleted and kept, and how many wait to be deleted, since too many resources went at once.
    pub fn vault_lifecycle(&self, deleted: usize, waiting: usize) {
        self.deleted_vaults
            .set(i64::try_from(deleted).unwrap_or(i64::MAX));
        self.vault_deletions_waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// What all sealed records of vaults take.
    pub fn stored(&self, bytes: u64, records: u64) {
        self.stored_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.stored_records
            .set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Which part of its quota the fullest of a scope uses.
    pub fn quota_used(&self, scope: QuotaScope, part: f64) {
        self.quota_used.with_label_values(&[scope.as_str()]).set(part);
    }

    /// How old what a feed shows is.
    pub fn feed_age(&self, feed: &'static str, age: Duration) {
        self.feed_age.with_label_values(&[feed]).set(age.as_secs_f64());
    }

    /// A feed read a complete list.
    pub fn feed_listed(&self, feed: &'static str) {
        self.feed_lists.with_label_values(&[feed]).inc();
    }

    /// A connection is open for as long as what this returns lives.
    #[must_use]
    pub fn connection(&self, listener: Listener) -> Open {
        Open::of(self.connections.cell(listener).cloned())
    }

    /// A TLS handshake failed or took too long.
    pub fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    /// A projection stream is open for as long as what this returns lives.
    #[must_use]
    pub fn stream(&self) -> Open {
        Open::of(Some(self.streams.clone()))
    }

    /// A delivery to a node ended: no kind means success.
    pub fn delivery(&self, outcome: Option<Kind>) {
        self.deliveries.count(Outcome(outcome));
    }

    /// A pod was told that its mounted volume is refused, or could not be: no kind means success.
    pub fn pod_event(&self, outcome: Option<Kind>) {
        self.pod_events.count(Outcome(outcome));
    }

    /// A reconciliation ended: no kind means success.
    pub fn reconciled(&self, kind: Reconciled, outcome: Option<Kind>, took: Duration) {
        self.reconciles.count(kind, Outcome(outcome));
        self.reconcile_seconds.observe(kind, took);
    }

    /// Whether this process leads. What a leader alone looks at is told no more once it does not.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        self.guard_missing.reset();
    }

    /// Whether a guard of the chart, by its name, is missing or changed.
    pub fn guard_missing(&self, guard: &str, missing: bool) {
        self.guard_missing
            .with_label_values(&[guard])
            .set(i64::from(missing));
    }

    /// How many volumes are mounted on this node.
    pub fn mounts(&self, mounts: usize) {
        self.mounts.set(i64::try_from(mounts).unwrap_or(i64::MAX));
    }

    /// A mount request of the kubelet was answered: no kind means success.
    pub fn publish(&self, outcome: Option<Kind>) {
        self.publishes.count(Outcome(outcome));
    }

    /// Mounted files were updated, or could not be: no kind means success.
    pub fn file_update(&self, outcome: Option<Kind>) {
        self.file_updates.count(Outcome(outcome));
    }

    /// How long the mount that is refused for the longest time keeps its last value.
    pub fn oldest_refusal(&self, age: Duration) {
        self.oldest_update.set(age.as_secs_f64());
    }

    /// Everything shown, in Prometheus' text format.
    ///
    /// # Errors
    /// A family without a metric or with two of the same labels: a defect.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// Counts as open until it is dropped.
#[derive(Debug)]
pub struct Open(Option<IntGauge>);

impl Open {
    fn of(gauge: Option<IntGauge>) -> Self {
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.text().unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_counted_under_its_operation_and_outcome() {
        let metrics = Metrics::new(Shown::DataPlane).unwrap();
        metrics.request(OperationName::SecretGet, None, Duration::from_micros(80));
        metrics.request(
            OperationName::SecretGet,
            Some(Kind::Denied),
            Duration::from_millis(3),
        );
        let text = text(&metrics);
        for line in [
            r#"strongroom_requests_total{operation="SecretGet",outcome="success"} 1"#,
            r#"strongroom_requests_total{operation="SecretGet",outcome="denied"} 1"#,
            r#"strongroom_requests_total{operation="SecretSet",outcome="success"} 0"#,
            r#"strongroom_request_seconds_bucket{operation="SecretGet",le="0.0001"} 1"#,
            r#"strongroom_request_seconds_count{operation="SecretGet"} 2"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_role_shows_its_own_families_alone() {
        for (shown, has, has_not) in [
            (Shown::DataPlane, "strongroom_requests_total", "strongroom_mounts"),
            (
                Shown::Operator,
                "strongroom_reconcile_total",
                "strongroom_requests_total",
            ),
            (Shown::Node, "strongroom_mounts", "strongroom_requests_total"),
        ] {
            let text = text(&Metrics::new(shown).unwrap());
            assert!(text.contains(has), "{shown:?}");
            assert!(!text.contains(has_not), "{shown:?}");
        }
    }

    #[test]
    fn open_connections_are_counted_while_they_live() {
        let metrics = Metrics::new(Shown::DataPlane).unwrap();
        let line = |count| format!("strongroom_connections{{listener=\"vaults\"}} {count}");
        let open = metrics.connection(Listener::Vaults);
        assert!(text(&metrics).contains(&line(1)));
        drop(open);
        assert!(text(&metrics).contains(&line(0)));
    }
}
