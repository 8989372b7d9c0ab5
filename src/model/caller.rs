//! Who asks.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Kind, Namespace, Uid, UnixSeconds};

/// Who a request speaks for, after verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A workload: its service account is its managed identity.
    ServiceAccount(ServiceAccountCaller),
    /// The `operate` process, on the internal listener, with its closed list of actions. Made by `identity` alone.
    Operator,
    /// The lifecycle clock of this very process, with its closed list of actions: what is due is done, whoever wanted it.
    Clock,
}

/// A verified service-account token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountCaller {
    /// Namespace of the account.
    pub namespace: Namespace,
    /// Name of the account.
    pub name: Arc<str>,
    /// UID of the account: one that is made anew is another.
    pub uid: Uid,
    /// The pod that the token is bound to; none for tokens that a person minted.
    pub pod: Option<PodRef>,
    /// End of the token's life.
    pub expires: UnixSeconds,
    /// Where the call came from; none where a node asks for the pod.
    pub address: Option<IpAddr>,
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Uid,
    /// Its node, where known.
    pub node: Option<Arc<str>>,
}

/// A mounted volume whose pod may no longer have what is in it: for the people who look at the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedVolume {
    /// Namespace of the pod.
    pub namespace: Namespace,
    /// The pod.
    pub pod: PodRef,
    /// What kind of refusal.
    pub kind: Kind,
    /// What Azure's error says, and no more.
    pub message: String,
}

/// The `node` process of one node, on the internal listener. It is no [`Caller`]: whatever it asks for is decided as the
/// workload pod in whose name it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCaller {
    /// Name of the node that its pod runs on.
    pub node: Arc<str>,
    /// Its own pod.
    pub pod: Uid,
    /// End of its token's life.
    pub expires: UnixSeconds,
}
