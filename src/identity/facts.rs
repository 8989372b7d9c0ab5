//! What is known of pods and service accounts: little, and nothing secret.

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Labels, Namespace, Uid};

/// A service account by its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountRef {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
}

/// A pod, as far as access depends on it. Nothing else of a pod is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID: a pod made anew under the name is another.
    pub uid: Uid,
    /// Name of its service account (`spec.serviceAccountName`).
    pub service_account: Arc<str>,
    /// Its labels (`metadata.labels`).
    pub labels: Labels,
    /// The node that it is bound to (`spec.nodeName`).
    pub node: Option<Arc<str>>,
    /// Its addresses (`status.podIPs`); the node's, where it uses the host's network.
    pub addresses: Vec<IpAddr>,
    /// Its node's addresses (`status.hostIPs`).
    pub host_addresses: Vec<IpAddr>,
    /// Whether it uses the host's network (`spec.hostNetwork`).
    pub host_network: bool,
    /// How far it is in its life.
    pub phase: Phase,
    /// Whether it has a deletion timestamp. It still runs, and keeps its access, until it is gone or terminal.
    pub deleting: bool,
}

/// How far a pod is in its life (`status.phase`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers were started.
    Pending,
    /// Containers run, or the node does not say.
    Running,
    /// All containers ended and none starts again: `Succeeded` or `Failed`.
    Terminal,
}

impl Phase {
    /// Reads `status.phase`. What is not known to have ended may still run.
    #[must_use]
    pub fn of(text: Option<&str>) -> Self {
        match text {
            Some("Succeeded" | "Failed") => Self::Terminal,
            None | Some("" | "Pending") => Self::Pending,
            Some(_) => Self::Running,
        }
    }
}
