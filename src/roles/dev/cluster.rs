//! What stands in for a cluster: one issuer's key, a fixed list of pods.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{ISSUER, NODE};
use crate::crypto::{JwkSet, VerificationKey};
use crate::identity::{AccountRef, KeySets, Liveness, Phase, PodFacts, PodLookup, Unavailable};
use crate::model::{Labels, Namespace, Uid, UnixSeconds};

/// The keys of one issuer; they never change.
pub(super) struct Keys(pub(super) JwkSet);

impl KeySets for Keys {
    fn find(&self, issuer: &str, kid: &str) -> Option<Arc<VerificationKey>> {
        if issuer == ISSUER {
            self.0.key(kid).cloned()
        } else {
            None
        }
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        std::future::ready(Ok(())).boxed()
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// There are no pods but those that are known.
pub(super) struct NoOtherPods;

impl PodLookup for NoOtherPods {
    fn pod<'a>(
        &'a self,
        _: &'a Namespace,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<PodFacts>, Unavailable>> {
        std::future::ready(Ok(None)).boxed()
    }
}

/// The one label of a pod: its account's name.
const POD_LABEL: &str = "app";

/// The one label of a namespace, as every cluster sets it.
pub(super) fn namespace_labels(namespace: &Namespace) -> Labels {
    [("kubernetes.io/metadata.name", namespace.as_str())]
        .into_iter()
        .collect()
}

/// Lets an account and its one pod live.
pub(super) fn run_pod(liveness: &mut Liveness, namespace: &Namespace, account: &str) {
    let reference = AccountRef {
        namespace: namespace.clone(),
        name: account.into(),
    };
    liveness.upsert_account(reference, account_uid(namespace, account));
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    liveness.upsert_pod(PodFacts {
        labels: [(POD_LABEL, account)].into_iter().collect(),
        namespace: namespace.clone(),
        name: pod_name(account).into(),
        uid: pod_uid(namespace, account),
        service_account: account.into(),
        node: Some(NODE.into()),
        addresses: vec![here],
        host_addresses: vec![here],
        host_network: true,
        phase: Phase::Running,
        deleting: false,
    });
}

/// The claims that the API server writes into a token of that pod.
pub(super) fn claims(
    namespace: &Namespace,
    account: &str,
    audience: &str,
    now: UnixSeconds,
    seconds: i64,
) -> Value {
    json!({
        "iss": ISSUER,
        "aud": [audience],
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": now.0,
        "nbf": now.0,
        "exp": now.plus(seconds).0,
        "kubernetes.io": {
            "namespace": namespace.as_str(),
            "node": {"name": NODE},
            "pod": {"name": pod_name(account), "uid": pod_uid(namespace, account).as_str()},
            "serviceaccount": {"name": account, "uid": account_uid(namespace, account).as_str()},
        },
    })
}

fn pod_name(account: &str) -> String {
    format!("{account}-0")
}

fn pod_uid(namespace: &Namespace, account: &str) -> Uid {
    Uid::new(&format!("pod/{namespace}/{account}"))
}

fn account_uid(namespace: &Namespace, account: &str) -> Uid {
    Uid::new(&format!("account/{namespace}/{account}"))
}
