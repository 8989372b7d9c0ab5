//! `strongroom dev`: the same gate, engine and data plane on one machine, without a cluster. Its store is memory.
//!
//! What a cluster would tell comes from a file of the same custom resources and from a fixed list of pods: one for each
//! service account that a policy names. Nothing is switched off: tokens are signed, verified and bound to those pods.

mod cluster;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditLog, FileConfig};
use crate::compile;
use crate::config;
use crate::crd;
use crate::crypto::{IssuerKey, JwkSet, RootKey, SigningAlgorithm};
use crate::dataplane::{Internal, Limits, Vaults, serve_internal, serve_vaults};
use crate::engine::{Engine, EngineParts, Quotas};
use crate::gate::{Gate, GateParts, Rates, Request};
use crate::identity::{AccountRef, Identity, PodAddressCheck, Settings};
use crate::model::{
    Clock, EnsureVault, Namespace, Operation, RefusedVolume, RootKeyCare, SecretBytes, Uid, UnixSeconds,
    VaultEntry,
};
use crate::roles::{Attempt, RoleError};
use crate::store::SealedStore;
use crate::store::installation::load_or_create;
use crate::store::memory::MemoryStore;
use crate::telemetry::metrics::{Metrics, Shown};
use crate::tls::{Authority, HostRule, TlsResolver, server_config};
use crate::world::{Feed, Shared, Standing};
use cluster::{Keys, NoOtherPods};

/// What there is without `--apply`.
const DEFAULT_DOCUMENTS: &str = "
apiVersion: strongroom.dev/v1alpha1
kind: Vault
metadata: {name: demo, namespace: dev}
spec: {}
---
apiVersion: strongroom.dev/v1alpha1
kind: AccessPolicy
metadata: {name: demo-developer, namespace: dev}
spec:
  vaultRef: demo
  subjects: [{kind: ServiceAccount, name: developer}]
  permissions: {secrets: [all]}
";

/// The one audience of workload tokens.
pub const AUDIENCE: &str = "strongroom.dev";
/// The one audience of our own processes' tokens.
pub const INTERNAL_AUDIENCE: &str = "internal.strongroom.dev";
/// The issuer of every token.
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// The namespace of our own processes.
pub const RELEASE_NAMESPACE: &str = "strongroom-system";
/// Name of the node that every pod is on.
pub const NODE: &str = "this-machine";

const OPERATE: &str = "strongroom-operate";
const NODE_PROCESS: &str = "strongroom-node";
/// A day at the desk.
const TOKEN_SECONDS: i64 = 12 * 3600;

/// What a development vault is started with.
pub struct Options {
    /// Address of the vaults' listener; loopback alone.
    pub listen: SocketAddr,
    /// Address of the internal listener, loopback alone, and what its clients are allowed; none for no such listener.
    pub internal: Option<(SocketAddr, Limits)>,
    /// Vaults, access policies, network rules and secrets, as YAML.
    pub documents: String,
    /// Signs the tokens that are accepted.
    pub issuer: IssuerKey,
    /// Folder of the audit log.
    pub audit_dir: PathBuf,
    /// What the vaults' clients are allowed.
    pub limits: Limits,
    /// How much may be asked for.
    pub rates: Rates,
    /// What time it is.
    pub clock: Clock,
}

/// A development vault that serves.
pub struct Dev {
    /// Where the vaults' listener is.
    pub address: SocketAddr,
    /// Where the internal listener is, if there is one.
    pub internal_address: Option<SocketAddr>,
    /// The namespace of its vaults.
    pub namespace: Namespace,
    /// Its vaults, the first one first.
    pub vaults: Vec<VaultEntry>,
    /// What clients must trust, as PEM.
    pub trust_bundle: String,
    /// The tenant id.
    pub tenant: String,
    /// The service accounts that have a pod and so a token, in the vaults' namespace.
    pub accounts: Vec<String>,
    /// Signs tokens.
    pub issuer: IssuerKey,
    /// What requests are judged by.
    pub world: Arc<Shared>,
    /// The vaults' content.
    pub engine: Arc<Engine>,
    /// The one door.
    pub gate: Arc<Gate>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the pods of a cluster would be told.
    pub refused_volumes: mpsc::Receiver<RefusedVolume>,
    /// What the operator is told of the root key.
    pub root_key: watch::Sender<Option<RootKeyCare>>,
    release: Namespace,
    clock: Clock,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Runs until `stop`. When it serves it writes the ready file, and beside it what a client needs.
///
/// # Errors
/// [`RoleError`].
pub async fn run(config: config::Dev, clock: Clock, stop: CancellationToken) -> Result<(), RoleError> {
    let folder = config
        .ready_file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new(".")).to_owned();
    let documents = match &config.apply {
        Some(file) => tokio::fs::read_to_string(file)
            .await
            .attempting("reading --apply")?,
        None => DEFAULT_DOCUMENTS.to_owned(),
    };
    let issuer = match &config.issuer_key {
        Some(file) => {
            let pem = SecretBytes::new(tokio::fs::read(file).await.attempting("reading --issuer-key")?);
            IssuerKey::from_pem(&pem).attempting("reading --issuer-key")?
        }
        None => IssuerKey::generate(SigningAlgorithm::ES256).attempting("making the issuer's key")?,
    };
    let dev = Dev::start(Options {
        listen: config.listen,
        internal: None,
        documents,
        issuer,
        audit_dir: folder.join("audit"),
        limits: Limits::vaults(),
        rates: Rates::DEFAULT,
        clock,
    })
    .await?;
    dev.write_ready(&config.ready_file, &folder).await?;
    tracing::info!(address = %dev.address, ready_file = %config.ready_file.display(), "a development vault serves");
    stop.cancelled().await;
    dev.stop().await;
    Ok(())
}

impl Dev {
    /// Starts everything and returns when the vaults answer.
    ///
    /// # Errors
    /// [`RoleError`].
    pub async fn start(options: Options) -> Result<Self, RoleError> {
        let Options {
            listen,
            internal,
            documents,
            issuer,
            audit_dir,
            limits,
            rates,
            clock,
        } = options;
        let documents = compile::documents(&documents).attempting("reading the documents")?;
        let namespace = one_namespace(&documents.vaults)?;
        let namespace_uid = Uid::new(namespace.as_str());
        let release = Namespace::parse(RELEASE_NAMESPACE).attempting("naming our own namespace")?;
        let now = clock.now();

        let metrics = Arc::new(Metrics::new(Shown::DataPlane).attempting("making metrics")?);
        let root = RootKey::generate().attempting("making the root key")?;
        let store: Arc<dyn SealedStore> = Arc::new(MemoryStore::new());
        let installation = load_or_create(&*store, &root, true, now.wall)
            .await
            .attempting("opening the store")?;
        let hosts = HostRule::loopback(&namespace);
        let (sealing, permitted) = (root.sealing_key(), hosts.permitted());
        let authority =
            Authority::load_or_create(&*store, &sealing, &installation.id, &permitted, now.wall).await;
        let authority = Arc::new(authority.attempting("making the certificate authority")?);

        let world = Arc::new(Shared::new(Standing::new(
            now.monotonic,
            Duration::from_secs(3600),
        )));
        let vaults = documents
            .vaults
            .iter()
            .map(|vault| compile::vault(vault, &namespace_uid));
        let vaults: Vec<_> = vaults
            .collect::<Result<_, _>>()
            .attempting("reading the vaults")?;
        let accounts = accounts(&documents.policies, &namespace);
        let policies: Vec<_> = documents.policies.iter().collect();
        let rules: Vec<_> = documents.rules.iter().collect();
        world.update(|world| {
            for vault in &vaults {
                let compiled = compile::policies(&vault.id, &policies);
                let network = compile::network_rules(&vault.id, &rules).network;
                world.network.set(vault.id.clone(), Arc::new(network));
                world.policy.set(vault.id.clone(), Arc::new(compiled.policy));
                world.vaults.insert(vault.id.clone(), Arc::new(vault.clone()));
            }
            for name in &accounts {
                cluster::run_pod(&mut world.liveness, &namespace, name);
            }
            for name in [&namespace, &release] {
                let labels = cluster::namespace_labels(name);
                world.network.label_namespace(name.clone(), labels);
            }
            for name in [OPERATE, NODE_PROCESS] {
                cluster::run_pod(&mut world.liveness, &release, name);
            }
        });

        let engine = Arc::new(Engine::new(EngineParts {
            store,
            root: Arc::new(root),
            installation: installation.id,
            quotas: Quotas::default(),
        }));
        engine.relist().await.attempting("reading the store")?;
        let keys = JwkSet::parse(&issuer.jwks()).attempting("reading the issuer's key")?;
        let identity = Identity::new(
            settings(&release),
            Arc::new(Keys(keys)),
            Arc::new(NoOtherPods),
            Arc::clone(&metrics),
        );
        let log = FileConfig {
            dir: audit_dir,
            max_bytes: 64 * 1024 * 1024,
            keep: 4,
        };
        let audit = AuditLog::open_file(log, Arc::clone(&metrics)).attempting("opening the audit log")?;
        let gate = Arc::new(Gate::new(GateParts {
            world: Arc::clone(&world),
            identity,
            audit,
            engine: Arc::clone(&engine),
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            rates,
            deletions_per_hour: 0,
        }));

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        mark_fresh(&world, &clock);
        tasks.spawn(stay_fresh(Arc::clone(&world), clock.clone(), stop.clone()));
        let tls = |protocols: &[&[u8]]| {
            let resolver = TlsResolver::new(Arc::clone(&authority), hosts.clone(), clock.clone());
            server_config(Arc::new(resolver), protocols).attempting("preparing TLS")
        };
        let (tcp, address) = bind(listen).await?;
        let face = Vaults {
            gate: Arc::clone(&gate),
            hosts: hosts.clone(),
            authority: format!(
                "https://strongroom-token.{RELEASE_NAMESPACE}.svc/{}",
                installation.tenant
            ),
            limits,
            metrics: Arc::clone(&metrics),
        };
        tasks.spawn(serve_vaults(tcp, tls(&[b"h2", b"http/1.1"])?, face, stop.clone()));
        let (refused, refused_volumes) = mpsc::channel(64);
        // Made anew at each start, with nothing below it that outlives the process.
        let root_key = watch::Sender::new(Some(RootKeyCare::Escrowed));
        let mut internal_address = None;
        if let Some((listen, limits)) = internal {
            let (tcp, address) = bind(listen).await?;
            let face = Internal {
                gate: Arc::clone(&gate),
                trust_bundle: authority.bundle_pem().to_owned(),
                refused,
                root_key: root_key.subscribe(),
                limits,
                metrics: Arc::clone(&metrics),
            };
            tasks.spawn(serve_internal(tcp, tls(&[b"h2"])?, face, stop.clone()));
            internal_address = Some(address);
        }

        let dev = Self {
            address,
            internal_address,
            namespace,
            vaults,
            trust_bundle: authority.bundle_pem().to_owned(),
            tenant: installation.tenant,
            accounts,
            issuer,
            world,
            engine,
            gate,
            metrics,
            refused_volumes,
            root_key,
            release,
            clock,
            stop,
            tasks,
        };
        dev.operate(&documents.secrets, &namespace_uid).await?;
        Ok(dev)
    }

    /// What `operate` does in a cluster, with its own token: the vaults' heads, then generated secrets.
    async fn operate(&self, secrets: &[crd::Secret], namespace_uid: &Uid) -> Result<(), RoleError> {
        let token = self.own_token(OPERATE)?;
        let connection = self.gate.connection(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let operator = self
            .gate
            .admit_operator(&connection, Some(&token))
            .await
            .attempting("proving who the operator is")?;
        for vault in &self.vaults {
            let ensure = Operation::EnsureVault(EnsureVault {
                resource_uid: vault.uid.clone(),
            });
            let request = Request::new(vault.id.clone(), ensure);
            self.gate
                .perform(operator.clone(), request)
                .await
                .attempting("making a vault")?;
        }
        for secret in secrets {
            let wanted = compile::secret(secret, namespace_uid).attempting("reading the secrets")?;
            let request = Request::new(wanted.vault, Operation::EnsureGeneratedSecret(wanted.ensure));
            self.gate
                .perform(operator.clone(), request)
                .await
                .attempting("generating a secret")?;
        }
        Ok(())
    }

    /// A token of the pod of one of [`Dev::accounts`], as the kubelet would project it.
    ///
    /// # Errors
    /// [`RoleError`] if it cannot be signed.
    pub fn token(&self, account: &str) -> Result<String, RoleError> {
        let claims = cluster::claims(&self.namespace, account, AUDIENCE, self.now(), TOKEN_SECONDS);
        self.issuer.sign(&claims).attempting("signing a token")
    }

    /// A token of one of our own processes, `strongroom-operate` or `strongroom-node`, for the internal listener.
    ///
    /// # Errors
    /// As [`Dev::token`].
    pub fn own_token(&self, account: &str) -> Result<String, RoleError> {
        let claims = cluster::claims(
            &self.release,
            account,
            INTERNAL_AUDIENCE,
            self.now(),
            TOKEN_SECONDS,
        );
        self.issuer.sign(&claims).attempting("signing a token")
    }

    /// The host of one of its vaults.
    #[must_use]
    pub fn host(&self, vault: &VaultEntry) -> String {
        format!("{}.vault.localhost", vault.id.name)
    }

    /// Ends what is under way, then everything.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    fn now(&self) -> UnixSeconds {
        self.clock.now().wall
    }

    async fn write_ready(&self, ready_file: &Path, folder: &Path) -> Result<(), RoleError> {
        let ca_file = folder.join("ca.crt");
        write(&ca_file, &self.trust_bundle).await?;
        let mut token_file = None;
        for account in &self.accounts {
            let file = folder.join(format!("{account}.token"));
            write(&file, &self.token(account)?).await?;
            token_file.get_or_insert(file);
        }
        let host = self
            .vaults
            .first()
            .map(|vault| self.host(vault))
            .unwrap_or_default();
        let ready = json!({
            "vaultUri": format!("https://{host}:{}", self.address.port()),
            "caFile": absolute(&ca_file),
            "tenantId": self.tenant,
            "tokenFile": token_file.as_deref().map(absolute),
            "pid": std::process::id(),
        });
        write(ready_file, &format!("{ready:#}\n")).await
    }
}

/// The vaults of one namespace: `dev` has one host for each.
fn one_namespace(vaults: &[crd::Vault]) -> Result<Namespace, RoleError> {
    let namespaces: BTreeSet<_> = vaults
        .iter()
        .filter_map(|vault| vault.metadata.namespace.as_deref())
        .collect();
    let mut namespaces = namespaces.into_iter();
    match (namespaces.next(), namespaces.next()) {
        (Some(one), None) => Namespace::parse(one).attempting("reading the vaults"),
        (None, _) => Err("there is none").attempting("finding a vault in the documents"),
        (Some(_), Some(_)) => {
            Err("they are of several namespaces, and dev serves one").attempting("reading the vaults")
        }
    }
}

/// The service accounts that policies name, in their order; one at least.
fn accounts(policies: &[crd::AccessPolicy], namespace: &Namespace) -> Vec<String> {
    let mut accounts: Vec<String> = Vec::new();
    let of_namespace =
        |policy: &&crd::AccessPolicy| policy.metadata.namespace.as_deref() == Some(namespace.as_str());
    for subject in policies
        .iter()
        .filter(of_namespace)
        .flat_map(|policy| &policy.spec.subjects)
    {
        if subject.kind == crd::SERVICE_ACCOUNT
            && !accounts.contains(&subject.name)
            && is_file_name(&subject.name)
        {
            accounts.push(subject.name.clone());
        }
    }
    if accounts.is_empty() {
        accounts.push("default".to_owned());
    }
    accounts
}

/// Service accounts have the names of DNS subdomains.
fn is_file_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

fn settings(release: &Namespace) -> Settings {
    let own = |name: &str| AccountRef {
        namespace: release.clone(),
        name: name.into(),
    };
    Settings {
        issuers: vec![ISSUER.into()],
        audience: AUDIENCE.into(),
        internal_audience: INTERNAL_AUDIENCE.into(),
        // Every process of this machine has the same address.
        pod_address_check: PodAddressCheck::Report,
        operate_account: own(OPERATE),
        node_account: own(NODE_PROCESS),
    }
}

/// What is known here is always current; the standing is told so as feeds would tell it.
async fn stay_fresh(world: Arc<Shared>, clock: Clock, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => mark_fresh(&world, &clock),
        }
    }
}

fn mark_fresh(world: &Shared, clock: &Clock) {
    let now = clock.now().monotonic;
    Feed::ALL
        .into_iter()
        .for_each(|feed| world.standing.mark(feed, now));
}

async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), RoleError> {
    if !listen.ip().is_loopback() {
        return Err("dev listens on loopback addresses alone").attempting("listening");
    }
    let tcp = TcpListener::bind(listen).await.attempting("listening")?;
    let address = tcp.local_addr().attempting("listening")?;
    Ok((tcp, address))
}

/// Writes a file that its owner alone may read, whole or not at all.
async fn write(path: &Path, text: &str) -> Result<(), RoleError> {
    use tokio::io::AsyncWriteExt as _;

    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    // One that an earlier run left behind may have another mode.
    let _ = tokio::fs::remove_file(&unfinished).await;
    let mut options = tokio::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .await;
    let mut file = file.attempting("writing beside the ready file")?;
    file.write_all(text.as_bytes())
        .await
        .attempting("writing beside the ready file")?;
    file.flush().await.attempting("writing beside the ready file")?;
    tokio::fs::rename(&unfinished, path)
        .await
        .attempting("writing beside the ready file")
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
