//! What the platform decided.

use std::sync::Arc;

use super::AccountRef;

/// Settings of one installation; they don't change while a process runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Issuers of service-account tokens, as the API server writes them into `iss`.
    pub issuers: Vec<Arc<str>>,
    /// The one audience of workload tokens.
    pub audience: Arc<str>,
    /// The one audience of our own processes' tokens on the internal listener.
    pub internal_audience: Arc<str>,
    /// Whether a pod-bound token must come from its pod's own address.
    pub pod_address_check: PodAddressCheck,
    /// The account that `operate` runs as.
    pub operate_account: AccountRef,
    /// The account that `node` runs as.
    pub node_account: AccountRef,
}

/// Whether a pod-bound token must come from its pod's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodAddressCheck {
    /// Every address but the pod's own is refused (host network: its node's).
    Enforce,
    /// An address that is positively another pod's is refused; every other foreign one is counted and logged.
    Report,
    /// No address is looked at.
    Off,
}
