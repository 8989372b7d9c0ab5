//! Flags and environment, parsed once into one typed struct per role. Nobody else reads the environment.
//!
//! Static facts only: whatever changes while a process runs is a custom resource.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Azure Key Vault for any Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, about, propagate_version = true)]
pub struct Cli {
    /// What this process is.
    #[command(subcommand)]
    pub role: Role,
}

/// One binary, one role a process.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Data plane: the Azure Key Vault REST API, with the keys.
    Serve(Box<Serve>),
    /// Operator: reconciles custom resources; holds no key.
    Operate(Operate),
    /// Node plugin: mounts secrets into pods of its node.
    Node(Node),
    /// The data plane on this machine, without a cluster.
    Dev(Dev),
}

impl Role {
    /// The command's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::Operate(_) => "operate",
            Self::Node(_) => "node",
            Self::Dev(_) => "dev",
        }
    }

    /// How much it logs.
    #[must_use]
    pub fn log_level(&self) -> &str {
        match self {
            Self::Serve(serve) => &serve.common.log_level,
            Self::Operate(operate) => &operate.common.log_level,
            Self::Node(node) => &node.common.log_level,
            Self::Dev(dev) => &dev.log_level,
        }
    }
}

/// Whether a pod-bound token must come from its pod's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PodAddressCheck {
    /// Refuse every address but the pod's own.
    Enforce,
    /// Refuse another pod's address, report the rest.
    Report,
    /// Look at no address.
    Off,
}

/// Where the root key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum RootKeyProvider {
    /// A Secret of the release namespace, which is made at the first start.
    Secret,
    /// A file that somebody else makes and keeps.
    File,
}

/// Where the audit log lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub enum AuditStorage {
    /// On a volume of each replica, which outlives it.
    Pvc,
    /// In the pod, and gone with it.
    EmptyDir,
}

/// What the in-cluster roles share.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// How much to log: error, warn, info, debug or trace. Dependencies are never logged below info.
    #[arg(long, env = "STRONGROOM_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Address of /metrics, /livez and /readyz (plain HTTP).
    #[arg(long, env = "STRONGROOM_HEALTH_LISTEN", default_value = "0.0.0.0:8080")]
    pub health_listen: SocketAddr,
}

/// `strongroom serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// What the roles share.
    #[command(flatten)]
    pub common: Common,
    /// The namespace of this installation.
    #[arg(
        long,
        env = "STRONGROOM_RELEASE_NAMESPACE",
        default_value = "strongroom-system"
    )]
    pub release_namespace: String,
    /// The cluster's DNS domain.
    #[arg(long, env = "STRONGROOM_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Domains outside of the cluster that are assigned to namespaces, as <domain>=<namespace>, parted by commas:
    /// <vault>.<domain> is then a vault of that namespace.
    #[arg(long, env = "STRONGROOM_EXTERNAL_DOMAINS", value_delimiter = ',')]
    pub external_domains: Vec<String>,
    /// Folder of their certificates: <domain>/tls.crt and <domain>/tls.key. It is read again and again.
    #[arg(
        long,
        env = "STRONGROOM_EXTERNAL_CERTIFICATES",
        default_value = "/etc/strongroom/external"
    )]
    pub external_certificates: PathBuf,
    /// This pod's name: its identity in the leader election.
    #[arg(long, env = "STRONGROOM_POD_NAME")]
    pub pod_name: String,
    /// The one audience of workload tokens.
    #[arg(long, env = "STRONGROOM_WORKLOAD_AUDIENCE", default_value = "strongroom.dev")]
    pub workload_audience: String,
    /// The audience of our own processes' tokens on the internal listener.
    #[arg(
        long,
        env = "STRONGROOM_INTERNAL_AUDIENCE",
        default_value = "internal.strongroom.dev"
    )]
    pub internal_audience: String,
    /// Service account of the operator, in the release namespace.
    #[arg(
        long,
        env = "STRONGROOM_OPERATE_ACCOUNT",
        default_value = "strongroom-operate"
    )]
    pub operate_account: String,
    /// Service account of the node plugin, in the release namespace.
    #[arg(long, env = "STRONGROOM_NODE_ACCOUNT", default_value = "strongroom-node")]
    pub node_account: String,
    /// Whether a pod-bound token must come from its pod's own address.
    #[arg(long, env = "STRONGROOM_POD_ADDRESS_CHECK", value_enum, default_value_t = PodAddressCheck::Report)]
    pub pod_address_check: PodAddressCheck,
    /// How old what reads rely on may be: 10s to 1h.
    #[arg(long, env = "STRONGROOM_STALENESS_BOUND", default_value = "5m", value_parser = staleness_bound)]
    pub staleness_bound: Duration,
    /// Where the root key comes from.
    #[arg(long, env = "STRONGROOM_ROOT_KEY_PROVIDER", value_enum, default_value_t = RootKeyProvider::Secret)]
    pub root_key_provider: RootKeyProvider,
    /// File with the 32 bytes of the root key, where the provider is File. It is read, never made and never written.
    #[arg(
        long,
        env = "STRONGROOM_ROOT_KEY_FILE",
        default_value = "/etc/strongroom/root-key/root-key"
    )]
    pub root_key_file: PathBuf,
    /// Folder of the audit log.
    #[arg(long, env = "STRONGROOM_AUDIT_DIR", default_value = "/var/log/strongroom")]
    pub audit_dir: PathBuf,
    /// Size at which an audit file is closed and the next begun.
    #[arg(long, env = "STRONGROOM_AUDIT_MAX_BYTES", default_value_t = 128 << 20)]
    pub audit_max_bytes: u64,
    /// How many closed audit files are kept.
    #[arg(long, env = "STRONGROOM_AUDIT_KEEP", default_value_t = 6)]
    pub audit_keep: usize,
    /// How much there may be.
    #[command(flatten)]
    pub quotas: Quotas,
    /// How much may be asked for.
    #[command(flatten)]
    pub rates: Rates,
    /// Vaults without a Vault that are deleted within an hour, at least; a tenth of all may be in any case. The others wait.
    #[arg(long, env = "STRONGROOM_VAULT_DELETIONS_PER_HOUR", default_value_t = 3)]
    pub vault_deletions_per_hour: usize,
    /// Address of the vaults' listener.
    #[arg(long, env = "STRONGROOM_VAULT_LISTEN", default_value = "0.0.0.0:8443")]
    pub vault_listen: SocketAddr,
    /// Address of the internal listener.
    #[arg(long, env = "STRONGROOM_INTERNAL_LISTEN", default_value = "0.0.0.0:8444")]
    pub internal_listen: SocketAddr,
    /// What goes wrong on purpose.
    #[cfg(any(test, feature = "failpoints"))]
    #[command(flatten)]
    pub failpoints: Failpoints,
}

/// What goes wrong on purpose, in a build for tests.
#[cfg(any(test, feature = "failpoints"))]
#[derive(Debug, Clone, Args)]
pub struct Failpoints {
    /// Folder of the files that arm points at which this process dies.
    #[arg(long, env = "STRONGROOM_FAILPOINTS")]
    pub failpoints: Option<PathBuf>,
    /// Seconds by which this process takes it to be later than it is; less than 0 for earlier.
    #[arg(
        long,
        env = "STRONGROOM_FAILPOINTS_CLOCK",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub failpoints_clock: i64,
    /// Seconds after which a record that nobody names is collected, where not after the time of the product.
    #[arg(long, env = "STRONGROOM_FAILPOINTS_COLLECT")]
    pub failpoints_collect: Option<u64>,
}

/// How much of the store may be taken: MiB of sealed records, and how many of them.
#[derive(Debug, Clone, Args)]
pub struct Quotas {
    /// MiB of one vault.
    #[arg(long, env = "STRONGROOM_QUOTA_VAULT_MEBIBYTES", default_value_t = 128)]
    pub quota_vault_mebibytes: u64,
    /// Records of one vault.
    #[arg(long, env = "STRONGROOM_QUOTA_VAULT_RECORDS", default_value_t = 50_000)]
    pub quota_vault_records: u64,
    /// MiB of all vaults of one namespace.
    #[arg(long, env = "STRONGROOM_QUOTA_NAMESPACE_MEBIBYTES", default_value_t = 256)]
    pub quota_namespace_mebibytes: u64,
    /// Records of all vaults of one namespace.
    #[arg(long, env = "STRONGROOM_QUOTA_NAMESPACE_RECORDS", default_value_t = 100_000)]
    pub quota_namespace_records: u64,
    /// MiB of all vaults.
    #[arg(long, env = "STRONGROOM_QUOTA_INSTALLATION_MEBIBYTES", default_value_t = 512)]
    pub quota_installation_mebibytes: u64,
    /// Records of all vaults.
    #[arg(
        long,
        env = "STRONGROOM_QUOTA_INSTALLATION_RECORDS",
        default_value_t = 200_000
    )]
    pub quota_installation_records: u64,
}

/// How many requests may come in ten seconds. Each replica counts for itself; 0 means as many as come.
#[derive(Debug, Clone, Copy, Args)]
pub struct Rates {
    /// From one address, before any token is looked at.
    #[arg(long, env = "STRONGROOM_RATE_ADDRESS", default_value_t = 20_000)]
    pub rate_address: u32,
    /// Of one service account.
    #[arg(long, env = "STRONGROOM_RATE_CALLER", default_value_t = 10_000)]
    pub rate_caller: u32,
    /// To one vault, but for those that make new versions.
    #[arg(long, env = "STRONGROOM_RATE_VAULT", default_value_t = 20_000)]
    pub rate_vault: u32,
    /// To one vault, those that make new versions.
    #[arg(long, env = "STRONGROOM_RATE_VAULT_CREATES", default_value_t = 1_000)]
    pub rate_vault_creates: u32,
}

/// `strongroom operate`.
#[derive(Debug, Clone, Args)]
pub struct Operate {
    /// What the roles share.
    #[command(flatten)]
    pub common: Common,
    /// The namespace of this installation.
    #[arg(
        long,
        env = "STRONGROOM_RELEASE_NAMESPACE",
        default_value = "strongroom-system"
    )]
    pub release_namespace: String,
    /// The cluster's DNS domain.
    #[arg(long, env = "STRONGROOM_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// This pod's name: its identity in the leader election.
    #[arg(long, env = "STRONGROOM_POD_NAME")]
    pub pod_name: String,
    /// The internal listener, as `https://host` or `https://host:port`.
    #[arg(long, env = "STRONGROOM_INTERNAL_URL")]
    pub internal_url: String,
    /// File of this process's own token for the internal listener.
    #[arg(
        long,
        env = "STRONGROOM_INTERNAL_TOKEN_FILE",
        default_value = "/var/run/secrets/strongroom.dev/token"
    )]
    pub internal_token_file: PathBuf,
    /// Where the audit log of `serve` lies.
    #[arg(long, env = "STRONGROOM_AUDIT_STORAGE", value_enum, default_value_t = AuditStorage::Pvc)]
    pub audit_storage: AuditStorage,
}

/// `strongroom node`.
#[derive(Debug, Clone, Args)]
pub struct Node {
    /// What the roles share.
    #[command(flatten)]
    pub common: Common,
    /// The internal listener, as `https://host` or `https://host:port`.
    #[arg(long, env = "STRONGROOM_INTERNAL_URL")]
    pub internal_url: String,
    /// File of this process's own token for the internal listener.
    #[arg(
        long,
        env = "STRONGROOM_INTERNAL_TOKEN_FILE",
        default_value = "/var/run/secrets/strongroom.dev/token"
    )]
    pub internal_token_file: PathBuf,
    /// The trust bundle (ConfigMap strongroom-ca, mounted); may appear after the process starts.
    #[arg(long, env = "STRONGROOM_CA_FILE", default_value = "/etc/strongroom/ca/ca.crt")]
    pub ca_file: PathBuf,
    /// Name of this node.
    #[arg(long, env = "STRONGROOM_NODE_NAME")]
    pub node_name: String,
    /// The kubelet's folder, mounted with Bidirectional propagation at the same path.
    #[arg(long, env = "STRONGROOM_KUBELET_DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,
}

/// `strongroom dev`.
#[derive(Debug, Clone, Args)]
pub struct Dev {
    /// How much to log: error, warn, info, debug or trace. Dependencies are never logged below info.
    #[arg(long, env = "STRONGROOM_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Address of the vaults' listener; loopback only. Port 0 takes a free one.
    #[arg(long, env = "STRONGROOM_DEV_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Written, as JSON, when the vault answers: vaultUri, caFile, tenantId, tokenFile, pid. The other files stand beside it.
    #[arg(long, env = "STRONGROOM_DEV_READY_FILE")]
    pub ready_file: PathBuf,
    /// Vaults, access policies, network rules and secrets as YAML; without it, one vault `demo` and one policy that gives everything.
    #[arg(long, env = "STRONGROOM_DEV_APPLY")]
    pub apply: Option<PathBuf>,
    /// Key (PKCS#8 PEM) that signs the service-account tokens that are accepted; made anew without it.
    #[arg(long, env = "STRONGROOM_DEV_ISSUER_KEY")]
    pub issuer_key: Option<PathBuf>,
}

fn staleness_bound(text: &str) -> Result<Duration, String> {
    let seconds = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(factor));
    seconds
        .filter(|seconds| (10..=3600).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "give 10s to 1h, as 30s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_staleness_bound_is_ten_seconds_to_an_hour() {
        for (text, seconds) in [("10s", 10), ("5m", 300), ("1h", 3600), ("60m", 3600)] {
            assert_eq!(staleness_bound(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "s",
            "9s",
            "2h",
            "61m",
            "5",
            "-5m",
            "5 m",
            "ä",
            "99999999999999999999s",
            "300000000000000000h",
        ] {
            assert!(staleness_bound(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
