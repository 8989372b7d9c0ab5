//! `strongroom serve`: the data plane, with the keys.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditLog, FileConfig};
use crate::clock;
use crate::cluster::{
    Api, Bundle, Candidacy, ClusterKeys, ClusterPods, FeedsConfig, HighWater, KubernetesStore, RecordSink,
    RootKeySource, clock_off, contend, declared_vaults, keep_high_water, keep_trust_bundle, open_store,
    root_key, run_feeds, tell_pods, watch_clock, watch_root_key, went_back,
};
use crate::config;
use crate::dataplane::{Internal, Limits, Vaults, serve_internal, serve_vaults};
use crate::engine::{Engine, EngineParts, Quotas, Usage};
#[cfg(any(test, feature = "failpoints"))]
use crate::failpoints;
use crate::gate::{Gate, GateParts, Rates};
use crate::identity::{AccountRef, Identity, PodAddressCheck, Settings};
use crate::model::{Clock, Namespace};
use crate::roles::{Attempt, RoleError, patiently, serve_health, show_fill, spawn_until, stay_tidy};
use crate::store::{Record, SealedStore, StoreEvent};
use crate::telemetry::health::Readiness;
use crate::telemetry::metrics::{Metrics, Shown};
use crate::tls::{Authority, ExternalCertificates, ExternalDomain, HostRule, TlsResolver, server_config};
use crate::world::{Shared, Standing};

/// Name of the lease by which one of several replicas runs the lifecycle clock.
const LEASE: &str = "strongroom-serve";

/// How long requests that are under way may take to end once this process is asked to stop.
const GRACE: Duration = Duration::from_secs(20);

/// How often damaged records are counted: that walks over all of them.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How often certificates of external domains are read.
const READ_EXTERNAL_EVERY: Duration = Duration::from_secs(30);
/// Refused volumes that wait to be told on their pods.
const REFUSED_AT_ONCE: usize = 1024;

/// Serves until `stop`.
///
/// # Errors
/// [`RoleError`]: what was attempted, and what to do.
pub async fn run(config: config::Serve, clock: Clock, stop: CancellationToken) -> Result<(), RoleError> {
    #[cfg(any(test, feature = "failpoints"))]
    let clock = go_wrong(&config.failpoints, clock);
    let metrics = Arc::new(Metrics::new(Shown::DataPlane).attempting("making metrics")?);
    let readiness = Readiness::new();
    let keyed = readiness.flag("root-key", "the root key has not been read yet; the log says why");
    let listening = readiness.flag("start", "the store has not been opened yet");
    serve_health(&config.common, &metrics, &readiness).await?;

    let namespace =
        Namespace::parse(&config.release_namespace).attempting("reading the release namespace's name")?;
    let api = Api::infer().await.attempting("finding the API server")?;

    let source = root_key_source(&config);
    let root = patiently(
        &stop,
        "reading the root key",
        || root_key(&source, &api, &namespace, clock.now().wall),
        |e| e.kind(),
    )
    .await?;
    keyed.set(true);
    if root.created {
        tracing::warn!(
            namespace = namespace.as_str(),
            "a root key was made (RootKeyNotEscrowed): keep a copy of Secret strongroom-root-key offline; without it \
             nothing that is stored can be opened"
        );
    }
    let store: Arc<dyn SealedStore> = Arc::new(KubernetesStore::new(
        api.clone(),
        &namespace,
        Arc::clone(&metrics),
    ));
    let installation = patiently(
        &stop,
        "opening the store",
        || open_store(&*store, &root, &source, &namespace, clock.now().wall),
        |e| e.kind(),
    )
    .await?;
    let root = Arc::new(root.key);
    let domains = ExternalDomain::parse_all(&config.external_domains, &config.cluster_domain)
        .attempting("reading the external domains")?;
    let vault_hosts = HostRule::vaults(&config.cluster_domain, domains.clone());
    let external = Arc::new(ExternalCertificates::new(
        config.external_certificates.clone(),
        domains,
    ));
    let internal_hosts = HostRule::internal(&namespace, &config.cluster_domain);
    let (sealing, permitted) = (root.sealing_key(), vault_hosts.permitted());
    let authority = patiently(
        &stop,
        "opening the certificate authority",
        || Authority::load_or_create(&*store, &sealing, &installation.id, &permitted, clock.now().wall),
        |e| e.kind(),
    )
    .await?;
    let authority = Arc::new(authority);
    let keys = patiently(
        &stop,
        "reading the cluster's token keys",
        || ClusterKeys::fetch(api.clone(), Vec::new()),
        |e| e.kind(),
    );
    let keys = Arc::new(keys.await?);

    let world = Arc::new(Shared::new(Standing::new(
        clock.now().monotonic,
        config.staleness_bound,
    )));
    if patiently(
        &stop,
        "reading the API server's time",
        || clock_off(&api, &clock),
        |e| e.kind(),
    )
    .await?
    {
        tracing::error!(
            "this replica's clock differs from the API server's by more than 30 s: it refuses tokens"
        );
        world.standing.clock_off(true);
    }
    let high_water = HighWater::in_folder(&config.audit_dir);
    if patiently(
        &stop,
        "looking whether the store went back",
        || went_back(&high_water, &api, &namespace),
        |e| e.kind(),
    )
    .await?
    {
        world.standing.store_rolled_back();
    }
    let engine = Engine::new(EngineParts {
        store,
        root: Arc::clone(&root),
        installation: installation.id,
        quotas: quotas(&config.quotas),
    });
    #[cfg(any(test, feature = "failpoints"))]
    let engine = match config.failpoints.failpoints_collect {
        Some(seconds) => engine.collecting_after(Duration::from_secs(seconds)),
        None => engine,
    };
    let engine = Arc::new(engine);
    let settings = identity_settings(&config, &namespace, &keys);
    let identity = Identity::new(
        settings,
        Arc::clone(&keys) as _,
        Arc::new(ClusterPods::new(api.clone())),
        Arc::clone(&metrics),
    );
    let audit = AuditLog::open_file(
        FileConfig {
            dir: config.audit_dir,
            max_bytes: config.audit_max_bytes,
            keep: config.audit_keep,
        },
        Arc::clone(&metrics),
    )
    .attempting("opening the audit log")?;
    let record = audit.clone();
    let gate = Arc::new(Gate::new(GateParts {
        world: Arc::clone(&world),
        identity,
        audit,
        engine: Arc::clone(&engine),
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        rates: rates(config.rates),
        deletions_per_hour: config.vault_deletions_per_hour,
    }));

    let feeds = FeedsConfig {
        api: api.clone(),
        release_namespace: namespace.clone(),
        staleness_bound: config.staleness_bound,
        metrics: Arc::clone(&metrics),
    };
    spawn_until(&stop, stay_tidy(Arc::clone(&engine), clock.clone()));
    spawn_until(&stop, show_fill(Arc::clone(&engine), Arc::clone(&metrics)));
    spawn_until(
        &stop,
        run_feeds(feeds, Arc::clone(&world), Arc::new(Records(Arc::clone(&engine)))),
    );
    let (seen, on_record) = (Arc::clone(&engine), record.clone());
    let (wall, again) = (clock.clone(), stop.clone());
    let keep = keep_high_water(
        high_water,
        api.clone(),
        namespace.clone(),
        clock.clone(),
        Arc::clone(&world),
        move || seen.revision(),
        move || {
            let (record, clock) = (on_record.clone(), wall.clone());
            async move { record.store_accepted(clock.now()).await.is_ok() }
        },
    );
    spawn_until(&stop, keep.then(async move |()| again.cancel()));
    spawn_until(&stop, watch_clock(api.clone(), clock.clone(), Arc::clone(&world)));
    spawn_until(&stop, keys.keep_current());
    let (care, root_key) = watch::channel(None);
    spawn_until(
        &stop,
        watch_root_key(
            source,
            api.clone(),
            namespace.clone(),
            root,
            Arc::clone(&metrics),
            care,
        ),
    );
    spawn_until(&stop, show_damage(Arc::clone(&engine), Arc::clone(&metrics)));
    let candidacy = Candidacy {
        namespace: namespace.clone(),
        lease: LEASE.to_owned(),
        identity: config.pod_name.clone(),
    };
    let (leading, leads) = watch::channel(false);
    let election = tokio::spawn(contend(api.clone(), candidacy, leading, stop.clone()));
    let of_cluster = api.clone();
    let ask: clock::Ask = Box::new(move || {
        let api = of_cluster.clone();
        async move { declared_vaults(&api).await.map_err(|error| error.to_string()) }.boxed()
    });
    spawn_until(
        &stop,
        clock::run(
            Arc::clone(&gate),
            ask,
            config.staleness_bound,
            Arc::clone(&metrics),
            leads,
        ),
    );
    let (refused, to_tell) = mpsc::channel(REFUSED_AT_ONCE);
    spawn_until(
        &stop,
        tell_pods(api.clone(), clock.clone(), Arc::clone(&metrics), to_tell),
    );
    let bundle = Bundle {
        pem: authority.bundle_pem().to_owned(),
        tenant: installation.tenant.clone(),
    };
    spawn_until(&stop, keep_trust_bundle(api, namespace.clone(), bundle));
    ready_while(&readiness, world, record, clock.clone());

    let resolver = |rule: &HostRule| TlsResolver::new(Arc::clone(&authority), rule.clone(), clock.clone());
    let for_vaults = resolver(&vault_hosts).and_external(Arc::clone(&external));
    if !config.external_domains.is_empty() {
        spawn_until(&stop, renew_external(external, Arc::clone(&metrics)));
    }
    let vault_tls =
        server_config(Arc::new(for_vaults), &[b"h2", b"http/1.1"]).attempting("preparing TLS for vaults")?;
    let internal_tls = server_config(Arc::new(resolver(&internal_hosts)), &[b"h2"])
        .attempting("preparing TLS for our own processes")?;
    let vault_tcp = TcpListener::bind(config.vault_listen)
        .await
        .attempting("listening for vaults")?;
    let internal_tcp = TcpListener::bind(config.internal_listen)
        .await
        .attempting("listening for our own processes")?;
    let token_authority = format!("https://strongroom-token.{namespace}.svc/{}", installation.tenant);
    let vaults = serve_vaults(
        vault_tcp,
        vault_tls,
        Vaults {
            gate: Arc::clone(&gate),
            hosts: vault_hosts,
            authority: token_authority,
            limits: Limits::vaults(),
            metrics: Arc::clone(&metrics),
        },
        stop.clone(),
    );
    let internal = serve_internal(
        internal_tcp,
        internal_tls,
        Internal {
            gate: Arc::clone(&gate),
            limits: Limits::internal(),
            trust_bundle: authority.bundle_pem().to_owned(),
            refused,
            root_key,
            metrics,
        },
        stop.clone(),
    );
    listening.set(true);
    tracing::info!(vaults = %config.vault_listen, internal = %config.internal_listen, "serving");
    let both = async { tokio::join!(vaults, internal) };
    tokio::pin!(both);
    tokio::select! {
        _ = &mut both => {}
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("some requests were still under way when the time to end them was over");
        }
    }
    if election.await.is_err() {
        tracing::error!("the election of a leader ended by a defect");
    }
    if tokio::time::timeout(GRACE, gate.settle()).await.is_err() {
        tracing::warn!("some changes were still under way when this process had to end");
    }
    Ok(())
}

fn root_key_source(config: &config::Serve) -> RootKeySource {
    match config.root_key_provider {
        config::RootKeyProvider::Secret => RootKeySource::Secret,
        config::RootKeyProvider::File => RootKeySource::File(config.root_key_file.clone()),
    }
}

/// Has go wrong what is asked for, and says what time this process is to take it for.
#[cfg(any(test, feature = "failpoints"))]
fn go_wrong(config: &config::Failpoints, clock: Clock) -> Clock {
    tracing::warn!("this is a build for tests: it goes wrong on purpose");
    if let Some(folder) = &config.failpoints {
        failpoints::look_in(folder.clone());
    }
    match config.failpoints_clock {
        0 => clock,
        seconds => crate::telemetry::clock::off_by(seconds),
    }
}

fn quotas(config: &config::Quotas) -> Quotas {
    let usage = |mebibytes: u64, records| Usage {
        bytes: mebibytes.saturating_mul(1024 * 1024),
        records,
    };
    Quotas {
        vault: usage(config.quota_vault_mebibytes, config.quota_vault_records),
        namespace: usage(config.quota_namespace_mebibytes, config.quota_namespace_records),
        installation: usage(
            config.quota_installation_mebibytes,
            config.quota_installation_records,
        ),
        ..Quotas::default()
    }
}

fn identity_settings(config: &config::Serve, namespace: &Namespace, keys: &ClusterKeys) -> Settings {
    let own = |name: &str| AccountRef {
        namespace: namespace.clone(),
        name: name.into(),
    };
    Settings {
        issuers: keys.issuers(),
        audience: config.workload_audience.as_str().into(),
        internal_audience: config.internal_audience.as_str().into(),
        pod_address_check: match config.pod_address_check {
            config::PodAddressCheck::Enforce => PodAddressCheck::Enforce,
            config::PodAddressCheck::Report => PodAddressCheck::Report,
            config::PodAddressCheck::Off => PodAddressCheck::Off,
        },
        operate_account: own(&config.operate_account),
        node_account: own(&config.node_account),
    }
}

const fn rates(rates: config::Rates) -> Rates {
    Rates {
        address: rates.rate_address,
        caller: rates.rate_caller,
        vault: rates.rate_vault,
        vault_creates: rates.rate_vault_creates,
    }
}

/// This replica is sent requests while it can judge them and can put them on record. What is refused for want of either
/// heals by itself, so that no restart helps: liveness asks for neither.
fn ready_while(readiness: &Readiness, world: Arc<Shared>, record: AuditLog, clock: Clock) {
    readiness.check("standing", move || {
        let standing = world.standing.check(clock.now().monotonic);
        standing.map_err(|out| out.to_string().into())
    });
    readiness.check("audit", move || {
        if record.is_writable() {
            return Ok(());
        }
        Err(
            "the audit log cannot be written, and nothing is done off the record: is its volume full, read-only or gone?"
                .into(),
        )
    });
}

async fn show_damage(engine: Arc<Engine>, metrics: Arc<Metrics>) {
    loop {
        metrics.damaged_records(engine.damaged_records());
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// Serves external domains with the certificates that are there now.
async fn renew_external(external: Arc<ExternalCertificates>, metrics: Arc<Metrics>) {
    let mut told = Vec::new();
    loop {
        let read = Arc::clone(&external);
        if let Ok(failed) = tokio::task::spawn_blocking(move || read.load()).await {
            metrics.external_domains_unusable(failed.len());
            let failed: Vec<_> = failed
                .into_iter()
                .map(|(domain, error)| format!("{domain}: {error}"))
                .collect();
            if failed != told && !failed.is_empty() {
                tracing::error!(
                    failed = failed.join("; "),
                    "certificates of external domains cannot be used; hosts there are served with what was read before, if \
                     anything was"
                );
            }
            told = failed;
        }
        tokio::time::sleep(READ_EXTERNAL_EVERY).await;
    }
}

/// Hands sealed records from the feed to the engine.
struct Records(Arc<Engine>);

impl RecordSink for Records {
    fn replace_all(&self, records: Vec<Record>, revision: u64) {
        self.0.replace_all(&records, revision);
    }

    fn apply(&self, event: &StoreEvent) {
        self.0.apply(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Moment;
    use crate::telemetry::clock;
    use crate::world::Feed;

    fn record(dir: &std::path::Path) -> AuditLog {
        let config = FileConfig {
            dir: dir.to_owned(),
            max_bytes: 1 << 20,
            keep: 1,
        };
        AuditLog::open_file(config, Arc::new(Metrics::new(Shown::DataPlane).unwrap())).unwrap()
    }

    /// What is not ready once the log was tried.
    async fn missing(dir: &std::path::Path) -> Vec<&'static str> {
        let now: Moment = clock::system().now();
        let world = Shared::new(Standing::new(now.monotonic, Duration::from_secs(60)));
        Feed::ALL
            .into_iter()
            .for_each(|feed| world.standing.mark(feed, now.monotonic));
        let (readiness, record) = (Readiness::new(), record(dir));
        ready_while(&readiness, Arc::new(world), record.clone(), clock::system());
        let _ = record.flush().await;
        readiness.missing().into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn a_replica_whose_record_cannot_be_written_is_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(missing(folder.path()).await, Vec::<&str>::new());
        let no_folder = folder.path().join("file");
        std::fs::write(&no_folder, "").unwrap();
        assert_eq!(missing(&no_folder).await, ["audit"]);
    }
}
