//! Pods as the feed decodes them, and the one GET for a pod that it has not shown yet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use serde::Deserialize;

use crate::identity::{Phase, PodFacts, PodLookup, Unavailable};
use crate::model::{Namespace, Uid};

use super::api::{Api, Ask, Reason};
use super::wire::Object;

/// Look-ups a second, and in one burst: strangers' tokens are verified before they cause one, but a fleet of new pods is
/// not to be felt by the API server.
const LOOKUPS_A_SECOND: u32 = 50;

/// Looks pods up at the API server.
#[derive(Debug)]
pub struct ClusterPods {
    api: Api,
    bucket: Mutex<Bucket>,
}

impl ClusterPods {
    /// Over this connection.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self {
            api,
            bucket: Mutex::new(Bucket::full(LOOKUPS_A_SECOND, Instant::now())),
        }
    }

    async fn look_up(&self, namespace: &Namespace, name: &str) -> Result<Option<PodFacts>, Unavailable> {
        if !is_object_name(name) {
            return Ok(None);
        }
        let allowed = self
            .bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now());
        if !allowed {
            tracing::warn!("too many look-ups of pods that the feed has not shown yet");
            return Err(Unavailable);
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        match self.api.read::<PodObject>(Ask::get(&path)).await {
            // The API server never gives a pod without these.
            Ok(pod) => pod.facts().ok_or(Unavailable).map(Some),
            Err(error) if error.is(Reason::NotFound) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "a pod could not be looked up");
                Err(Unavailable)
            }
        }
    }
}

impl PodLookup for ClusterPods {
    fn pod<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<PodFacts>, Unavailable>> {
        self.look_up(namespace, name).boxed()
    }
}

/// Whether a text can be an object's name (RFC 1123 subdomain), so that it cannot reach beyond its place in a path.
fn is_object_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// A token bucket: so many a second, and as many at once.
#[derive(Debug)]
struct Bucket {
    rate: u32,
    /// When it would be full: each token taken moves that on by one token's time.
    full_at: Instant,
}

impl Bucket {
    const fn full(rate: u32, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let one = Duration::from_secs(1) / self.rate;
        let full_at = self.full_at.max(now) + one;
        let allowed = full_at.duration_since(now) <= Duration::from_secs(1);
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

/// A Pod, as far as it is decoded. Whatever the API server may leave out is optional.
#[derive(Debug, Deserialize)]
pub(crate) struct PodObject {
    metadata: PodMetadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMetadata {
    name: String,
    namespace: Option<String>,
    uid: String,
    #[serde(default)]
    resource_version: String,
    deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    service_account_name: Option<String>,
    node_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default, rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(default, rename = "hostIPs")]
    host_ips: Option<Vec<PodIp>>,
}

#[derive(Debug, Deserialize)]
struct PodIp {
    #[serde(default)]
    ip: String,
}

impl Object for PodObject {
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl PodObject {
    /// Its UID.
    pub(crate) fn uid(&self) -> Uid {
        Uid::new(&self.metadata.uid)
    }

    /// What is kept of it; none where it has no valid namespace.
    pub(crate) fn facts(self) -> Option<PodFacts> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        Some(PodFacts {
            namespace: Namespace::parse(metadata.namespace.as_deref()?).ok()?,
            name: Arc::from(metadata.name),
            uid: Uid::new(&metadata.uid),
            service_account: Arc::from(spec.service_account_name.unwrap_or_default()),
            labels: metadata.labels.into_iter().flatten().collect(),
            node: spec.node_name.filter(|node| !node.is_empty()).map(Arc::from),
            addresses: addresses(status.pod_ips, status.pod_ip),
            host_addresses: addresses(status.host_ips, status.host_ip),
            host_network: spec.host_network.unwrap_or(false),
            phase: Phase::of(status.phase.as_deref()),
            deleting: metadata.deletion_timestamp.is_some(),
        })
    }
}

fn addresses(all: Option<Vec<PodIp>>, one: Option<String>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = all
        .into_iter()
        .flatten()
        .map(|entry| entry.ip)
        .chain(one)
        .filter_map(|text| text.parse().ok())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn facts(text: &str) -> Option<PodFacts> {
        serde_json::from_str::<PodObject>(text).unwrap().facts()
    }

    #[test]
    fn of_a_pod_only_what_access_depends_on_is_kept() {
        let pod = facts(
            r#"{"kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u1","resourceVersion":"7",
                "labels":{"a":"b"},"deletionTimestamp":"2026-01-01T00:00:00Z"},
                "spec":{"serviceAccountName":"web","nodeName":"n1","containers":[{"env":[{"value":"x"}]}]},
                "status":{"phase":"Running","podIP":"10.0.0.7","podIPs":[{"ip":"10.0.0.7"},{"ip":"fd00::7"}],
                "hostIP":"192.0.2.1","hostIPs":[{"ip":"192.0.2.1"}]}}"#,
        );
        let expected = PodFacts {
            namespace: Namespace::parse("shop").unwrap(),
            name: Arc::from("web-1"),
            uid: Uid::new("u1"),
            service_account: Arc::from("web"),
            labels: Labels::from_iter([("a", "b")]),
            node: Some(Arc::from("n1")),
            addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            host_addresses: vec!["192.0.2.1".parse().unwrap()],
            host_network: false,
            phase: Phase::Running,
            deleting: true,
        };
        assert_eq!(pod, Some(expected));
    }

    #[test]
    fn a_pod_that_was_just_made_has_no_node_and_no_address() {
        let pod = facts(
            r#"{"metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"1"},
            "spec":{"serviceAccountName":"default","hostNetwork":true},"status":{"phase":"Pending","podIPs":null}}"#,
        )
        .unwrap();
        assert_eq!(
            (pod.node, pod.addresses, pod.phase, pod.host_network),
            (None, vec![], Phase::Pending, true)
        );
    }

    #[test]
    fn a_burst_of_look_ups_is_cut_off_and_heals() {
        let start = Instant::now();
        let mut bucket = Bucket::full(50, start);
        assert_eq!((0..200).filter(|_| bucket.take(start)).count(), 50);
        let later = start + Duration::from_millis(100);
        assert_eq!((0..200).filter(|_| bucket.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..200).filter(|_| bucket.take(much_later)).count(), 50);
    }

    #[test]
    fn no_name_from_a_token_reaches_beyond_its_place_in_a_path() {
        for good in ["a", "web-1", "a.b-c"] {
            assert!(is_object_name(good), "{good}");
        }
        for bad in ["", "..", "a/b", "a?b", "a%2fb", "A", "a b", "-a"] {
            assert!(!is_object_name(bad), "{bad}");
        }
    }
}
