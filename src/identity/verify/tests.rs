//! Real signatures, keys that come and go, and a cluster that answers or does not.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::*;
use crate::crypto::{IssuerKey, JwkSet, SigningAlgorithm, VerificationKey};
use crate::identity::{AccountRef, Phase, PodAddressCheck, Unavailable};
use crate::model::{Labels, Namespace, SourceAddresses, UnixSeconds};
use crate::telemetry::metrics::Shown as ShownMetrics;

mod strangers;

const NOW: i64 = 1_700_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What the cluster publishes, and what it says about pods.
#[derive(Default)]
struct Cluster {
    published: Mutex<Vec<(&'static str, Arc<JwkSet>)>>,
    /// Comes to be published with the next refresh.
    to_come: Mutex<Option<Arc<JwkSet>>>,
    generation: AtomicU64,
    refreshes: AtomicUsize,
    pods: Mutex<Vec<PodFacts>>,
    asked: AtomicUsize,
    away: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    fn publish(&self, issuer: &'static str, key: &IssuerKey) {
        let set = Arc::new(JwkSet::parse(&key.jwks()).unwrap());
        lock(&self.published).push((issuer, set));
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn withdraw_all(&self) {
        lock(&self.published).clear();
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl KeySets for Cluster {
    fn find(&self, issuer: &str, kid: &str) -> Option<Arc<VerificationKey>> {
        let published = lock(&self.published);
        let mut sets = published.iter().filter(|(name, _)| *name == issuer);
        sets.find_map(|(_, set)| set.key(kid).cloned())
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(async {
            self.refreshes.fetch_add(1, Ordering::SeqCst);
            if self.away.load(Ordering::SeqCst) {
                return Err(Unavailable);
            }
            if let Some(set) = lock(&self.to_come).take() {
                lock(&self.published).push((ISSUER, set));
                self.generation.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        })
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

impl PodLookup for Cluster {
    fn pod<'a>(
        &'a self,
        namespace: &'a Namespace,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<PodFacts>, Unavailable>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.away.load(Ordering::SeqCst) {
                return Err(Unavailable);
            }
            let pods = lock(&self.pods);
            Ok(pods
                .iter()
                .find(|pod| pod.namespace == *namespace && *pod.name == *name)
                .cloned())
        })
    }
}

fn now() -> Moment {
    Moment {
        wall: UnixSeconds(NOW),
        nanos: 0,
        monotonic: Instant::now(),
    }
}

fn account(namespace: &str, name: &str) -> AccountRef {
    AccountRef {
        namespace: Namespace::parse(namespace).unwrap(),
        name: name.into(),
    }
}

fn web() -> PodFacts {
    PodFacts {
        labels: Labels::default(),
        namespace: Namespace::parse("shop").unwrap(),
        name: "web".into(),
        uid: Uid::new("uid-of-web"),
        service_account: "shopper".into(),
        node: Some("node-1".into()),
        addresses: vec![peer()],
        host_addresses: Vec::new(),
        host_network: false,
        phase: Phase::Running,
        deleting: false,
    }
}

fn peer() -> IpAddr {
    "10.0.0.7".parse().unwrap()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["strongroom.dev"], "sub": "system:serviceaccount:shop:shopper", "exp": NOW + 600,
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "shopper", "uid": "uid-of-shopper"},
            "pod": {"name": "web", "uid": "uid-of-web"},
        },
    })
}

fn world(pods: impl IntoIterator<Item = PodFacts>) -> Liveness {
    let mut world = Liveness::default();
    world.replace_pods(pods);
    world.upsert_account(account("shop", "shopper"), Uid::new("uid-of-shopper"));
    world
}

struct Bench {
    cluster: Arc<Cluster>,
    metrics: Arc<Metrics>,
    identity: Identity,
    key: IssuerKey,
    memory: ConnectionMemory,
}

fn bench() -> Bench {
    let cluster = Arc::new(Cluster::default());
    let key = IssuerKey::generate(SigningAlgorithm::ES256).unwrap();
    cluster.publish(ISSUER, &key);
    let settings = Settings {
        issuers: vec![ISSUER.into(), "https://second".into()],
        audience: "strongroom.dev".into(),
        internal_audience: "internal.strongroom.dev".into(),
        pod_address_check: PodAddressCheck::Enforce,
        operate_account: account("strongroom-system", "strongroom-operate"),
        node_account: account("strongroom-system", "strongroom-node"),
    };
    let metrics = Arc::new(Metrics::new(ShownMetrics::DataPlane).unwrap());
    let (keys, pods) = (Arc::clone(&cluster), Arc::clone(&cluster));
    let identity = Identity::new(settings, keys, pods, Arc::clone(&metrics));
    Bench {
        cluster,
        metrics,
        identity,
        key,
        memory: ConnectionMemory::default(),
    }
}

impl Bench {
    async fn show(&self, token: &str, world: &Liveness) -> Result<Arc<Caller>, Rejection> {
        let proof = Proof::Bearer {
            token,
            peer: peer(),
            memory: &self.memory,
        };
        self.identity.caller(&proof, world, now()).await
    }

    fn counts(&self, line: &str) -> bool {
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        text.lines().any(|it| it == line)
    }
}

#[tokio::test]
async fn a_pods_token_makes_its_service_account_the_caller() {
    let bench = bench();
    let token = bench.key.sign(&claims()).unwrap();
    let caller = bench.show(&token, &world([web()])).await.unwrap();
    let Caller::ServiceAccount(account) = &*caller else {
        panic!("{caller:?}");
    };
    assert_eq!((account.namespace.as_str(), &*account.name), ("shop", "shopper"));
    assert_eq!(account.uid, Uid::new("uid-of-shopper"));
    let pod = account.pod.as_ref().unwrap();
    assert_eq!((&*pod.name, &pod.uid), ("web", &Uid::new("uid-of-web")));
    assert_eq!(pod.node.as_deref(), Some("node-1"));
    assert_eq!(
        (account.expires, account.address),
        (UnixSeconds(NOW + 600), Some(peer()))
    );
}

#[tokio::test]
async fn a_signature_is_checked_once_and_life_every_time() {
    let bench = bench();
    let token = bench.key.sign(&claims()).unwrap();
    let alive = world([web()]);
    let first = bench.show(&token, &alive).await.unwrap();
    let again = bench.show(&token, &alive).await.unwrap();
    assert!(
        Arc::ptr_eq(&first, &again),
        "the same connection makes no new caller"
    );
    let other = ConnectionMemory::default();
    let proof = Proof::Bearer {
        token: &token,
        peer: peer(),
        memory: &other,
    };
    bench.identity.caller(&proof, &alive, now()).await.unwrap();
    for line in [
        r#"strongroom_token_checks_total{how="verified"} 1"#,
        r#"strongroom_token_checks_total{how="connection"} 1"#,
        r#"strongroom_token_checks_total{how="remembered"} 1"#,
    ] {
        assert!(bench.counts(line), "{line}");
    }
    // What is remembered keeps nobody alive, on no connection.
    let mut ended = web();
    ended.phase = Phase::Terminal;
    assert_eq!(
        bench.show(&token, &world([ended])).await,
        Err(Rejection::PodEnded)
    );
    assert_eq!(bench.show(&token, &world([])).await, Err(Rejection::PodGone));
    let late = Moment {
        wall: UnixSeconds(NOW + 610),
        ..now()
    };
    assert_eq!(
        bench.identity.caller(&proof, &alive, late).await,
        Err(Rejection::Expired)
    );
    // Nor does it carry an address over to another.
    let stolen = Proof::Bearer {
        token: &token,
        peer: "10.0.0.8".parse().unwrap(),
        memory: &other,
    };
    assert_eq!(
        bench.identity.caller(&stolen, &alive, now()).await,
        Err(Rejection::ForeignAddress)
    );
    assert!(bench.counts(r#"strongroom_foreign_addresses_total{finding="refused"} 1"#));
}

#[tokio::test]
async fn a_connection_that_changes_its_token_becomes_the_other_caller() {
    let bench = bench();
    let alive = world([web()]);
    let first = bench.key.sign(&claims()).unwrap();
    let mut renewed = claims();
    renewed["exp"] = json!(NOW + 1200);
    let second = bench.key.sign(&renewed).unwrap();
    for (token, ends) in [(&first, 600), (&second, 1200), (&first, 600)] {
        let caller = bench.show(token, &alive).await.unwrap();
        let Caller::ServiceAccount(account) = &*caller else {
            panic!("{caller:?}");
        };
        assert_eq!(account.expires, UnixSeconds(NOW + ends));
    }
}

#[tokio::test]
async fn a_remembered_caller_is_made_anew_when_its_node_or_address_is_another() {
    let bench = bench();
    let token = bench.key.sign(&claims()).unwrap();
    let from = |address: &str, node: Option<&str>| {
        let mut web = web();
        web.host_network = true;
        web.host_addresses = vec!["192.168.1.1".parse().unwrap(), "192.168.1.2".parse().unwrap()];
        web.node = node.map(Into::into);
        (
            address.parse::<IpAddr>().unwrap(),
            world([web]),
            node.map(str::to_owned),
        )
    };
    for (peer, world, node) in [
        from("192.168.1.1", None),
        from("192.168.1.1", Some("node-1")),
        from("192.168.1.2", Some("node-1")),
    ] {
        let proof = Proof::Bearer {
            token: &token,
            peer,
            memory: &bench.memory,
        };
        let caller = bench.identity.caller(&proof, &world, now()).await.unwrap();
        let Caller::ServiceAccount(account) = &*caller else {
            panic!("{caller:?}");
        };
        assert_eq!(account.address, Some(peer));
        assert_eq!(account.pod.as_ref().unwrap().node.as_deref(), node.as_deref());
    }
}

#[tokio::test]
async fn a_key_that_leaves_takes_every_remembered_token_with_it() {
    let bench = bench();
    let token = bench.key.sign(&claims()).unwrap();
    let alive = world([web()]);
    bench.show(&token, &alive).await.unwrap();
    bench.cluster.withdraw_all();
    assert_eq!(bench.show(&token, &alive).await, Err(Rejection::UnknownKey));
    bench.cluster.publish(ISSUER, &bench.key);
    bench.show(&token, &alive).await.unwrap();
}

#[tokio::test]
async fn an_unknown_key_id_asks_for_the_keys_and_a_new_key_works_at_once() {
    let bench = bench();
    let alive = world([web()]);
    let rotated = IssuerKey::generate(SigningAlgorithm::ES256).unwrap();
    let token = rotated.sign(&claims()).unwrap();
    assert_eq!(bench.show(&token, &alive).await, Err(Rejection::UnknownKey));
    *lock(&bench.cluster.to_come) = Some(Arc::new(JwkSet::parse(&rotated.jwks()).unwrap()));
    bench.show(&token, &alive).await.unwrap();
    assert_eq!(bench.cluster.refreshes.load(Ordering::SeqCst), 2);
    // The keys cannot be fetched: it may be a good one, so the answer is not a 401.
    bench.cluster.away.store(true, Ordering::SeqCst);
    let stranger = IssuerKey::generate(SigningAlgorithm::ES256).unwrap();
    let token = stranger.sign(&claims()).unwrap();
    assert_eq!(bench.show(&token, &alive).await, Err(Rejection::Unavailable));
}

#[tokio::test]
async fn what_is_signed_wrongly_or_not_at_all_is_refused() {
    let bench = bench();
    let alive = world([web()]);
    let good = bench.key.sign(&claims()).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let header = |header: Value| BASE64.encode(header.to_string());
    let kid = bench.key.kid();
    let mut forged = claims();
    forged["sub"] = json!("system:serviceaccount:shop:boss");
    let forged = BASE64.encode(forged.to_string());
    let mut flipped = BASE64.decode(parts[2]).unwrap();
    flipped[10] ^= 1;
    let cases = [
        ("", Rejection::Malformed),
        ("x", Rejection::Malformed),
        ("..", Rejection::Malformed),
        (
            &format!("{}.{forged}.{}", parts[0], parts[2]),
            Rejection::BadSignature,
        ),
        (&format!("{}.{}.", parts[0], parts[1]), Rejection::BadSignature),
        (
            &format!("{}.{}.{}", parts[0], parts[1], BASE64.encode(flipped)),
            Rejection::BadSignature,
        ),
        (
            &format!(
                "{}.{}.{}",
                header(json!({"alg": "none", "kid": kid})),
                parts[1],
                parts[2]
            ),
            Rejection::Malformed,
        ),
        (
            &format!("{}.{}.", header(json!({"alg": "none", "kid": kid})), parts[1]),
            Rejection::Malformed,
        ),
        (
            &format!(
                "{}.{}.{}",
                header(json!({"alg": "HS256", "kid": kid})),
                parts[1],
                parts[2]
            ),
            Rejection::Malformed,
        ),
        (
            &format!(
                "{}.{}.{}",
                header(json!({"alg": "RS256", "kid": kid})),
                parts[1],
                parts[2]
            ),
            Rejection::Malformed,
        ),
        (
            &format!("{}.{}.{}", header(json!({"alg": "ES256"})), parts[1], parts[2]),
            Rejection::Malformed,
        ),
        (&format!("{good}."), Rejection::Malformed),
        (&format!("{good} "), Rejection::BadSignature),
        (&format!("{good}{}", "A".repeat(20_000)), Rejection::Malformed),
    ];
    for (token, expected) in cases {
        assert_eq!(
            bench.show(token, &alive).await,
            Err(expected),
            "{}",
            &token[..token.len().min(80)]
        );
    }
    bench.show(&good, &alive).await.unwrap();
}

#[tokio::test]
async fn a_key_speaks_for_the_issuer_that_publishes_it_alone() {
    let bench = bench();
    let alive = world([web()]);
    let second = IssuerKey::generate(SigningAlgorithm::ES256).unwrap();
    bench.cluster.publish("https://second", &second);
    // The second issuer's key under the first one's name, and the other way round.
    let token = second.sign(&claims()).unwrap();
    assert_eq!(bench.show(&token, &alive).await, Err(Rejection::WrongIssuer));
    let mut claims = claims();
    claims["iss"] = json!("https://second");
    let token = bench.key.sign(&claims).unwrap();
    assert_eq!(bench.show(&token, &alive).await, Err(Rejection::WrongIssuer));
    let token = second.sign(&claims).unwrap();
    bench.show(&token, &alive).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_the_feed_has_not_shown_is_asked_for_once() {
    let bench = bench();
    let token = bench.key.sign(&claims()).unwrap();
    let unseen = world([]);
    let asked = || bench.cluster.asked.load(Ordering::SeqCst);

    bench.cluster.away.store(true, Ordering::SeqCst);
    assert_eq!(bench.show(&token, &unseen).await, Err(Rejection::Unavailable));
    bench.cluster.away.store(false, Ordering::SeqCst);
    lock(&bench.cluster.pods).push(web());
    bench.show(&token, &unseen).await.unwrap();
    assert_eq!(asked(), 2);
    // Judged by what the answer says.
    let mut ended = web();
    ended.phase = Phase::Terminal;
    *lock(&bench.cluster.pods) = vec![ended];
    assert_eq!(bench.show(&token, &unseen).await, Err(Rejection::PodEnded));
    // Another holds its name: it is gone for good, and nobody is asked again.
    let mut anew = web();
    anew.uid = Uid::new("anew");
    *lock(&bench.cluster.pods) = vec![anew];
    assert_eq!(bench.show(&token, &unseen).await, Err(Rejection::PodGone));
    let before = asked();
    bench.cluster.away.store(true, Ordering::SeqCst);
    assert_eq!(bench.show(&token, &unseen).await, Err(Rejection::PodGone));
    assert_eq!(asked(), before);
    // Who is known is never asked for.
    bench.show(&token, &world([web()])).await.unwrap();
    assert_eq!(asked(), before);
}

/// One of our own processes as pod `web`, and its token.
fn own_process(bench: &Bench, name: &str) -> (Liveness, String) {
    let mut alive = world([]);
    let mut pod = web();
    pod.namespace = Namespace::parse("strongroom-system").unwrap();
    pod.service_account = name.into();
    alive.upsert_pod(pod);
    alive.upsert_account(account("strongroom-system", name), Uid::new("uid-of-own"));
    let mut claims = claims();
    claims["aud"] = json!("internal.strongroom.dev");
    claims["sub"] = json!(format!("system:serviceaccount:strongroom-system:{name}"));
    claims["kubernetes.io"]["namespace"] = json!("strongroom-system");
    claims["kubernetes.io"]["serviceaccount"] = json!({"name": name, "uid": "uid-of-own"});
    let token = bench.key.sign(&claims).unwrap();
    (alive, token)
}

#[tokio::test]
async fn whether_addresses_come_through_is_seen_from_where_the_operator_seems_to_call() {
    let bench = bench();
    let (alive, token) = own_process(&bench, "strongroom-operate");
    assert_eq!(bench.identity.source_addresses(), None);
    bench
        .identity
        .operator(&token, peer(), &alive, now())
        .await
        .unwrap();
    assert_eq!(bench.identity.source_addresses(), Some(SourceAddresses::Kept));
    let proxy = "192.168.1.1".parse().unwrap();
    let refused = bench.identity.operator(&token, proxy, &alive, now()).await;
    assert_eq!(refused, Err(Rejection::ForeignAddress));
    assert_eq!(
        bench.identity.source_addresses(),
        Some(SourceAddresses::Rewritten)
    );
    assert!(bench.counts("strongroom_pod_addresses_rewritten 1"));
    bench
        .identity
        .operator(&token, peer(), &alive, now())
        .await
        .unwrap();
    assert!(bench.counts("strongroom_pod_addresses_rewritten 0"));
}

#[tokio::test]
async fn our_own_processes_are_known_by_their_accounts() {
    let bench = bench();
    let (alive, token) = own_process(&bench, "strongroom-node");
    let node = bench.identity.node(&token, peer(), &alive, now()).await.unwrap();
    assert_eq!(
        (&*node.node, node.pod.as_str(), node.expires),
        ("node-1", "uid-of-web", UnixSeconds(NOW + 600))
    );
    let operator = bench.identity.operator(&token, peer(), &alive, now()).await;
    assert_eq!(operator, Err(Rejection::ForeignAccount));
    assert_eq!(bench.show(&token, &alive).await, Err(Rejection::WrongAudience));
    assert!(bench.counts(r#"strongroom_token_rejections_total{reason="wrong_audience"} 1"#));
}

#[tokio::test]
async fn a_delivery_is_decided_as_the_workload_pod() {
    let bench = bench();
    let mut alive = world([web()]);
    let mut driver = web();
    (driver.name, driver.uid) = ("driver".into(), Uid::new("uid-of-driver"));
    alive.upsert_pod(driver);
    let node = NodeCaller {
        node: "node-1".into(),
        pod: Uid::new("uid-of-driver"),
        expires: UnixSeconds(NOW + 600),
    };
    let token = bench.key.sign(&claims()).unwrap();
    let proof = Proof::Delivery {
        token: &token,
        node: &node,
    };
    let caller = bench.identity.caller(&proof, &alive, now()).await.unwrap();
    let Caller::ServiceAccount(account) = &*caller else {
        panic!("{caller:?}");
    };
    assert_eq!((&*account.name, account.address), ("shopper", None));
    let elsewhere = NodeCaller {
        node: "node-2".into(),
        ..node
    };
    let proof = Proof::Delivery {
        token: &token,
        node: &elsewhere,
    };
    let refused = bench.identity.caller(&proof, &alive, now()).await;
    assert_eq!(refused, Err(Rejection::NodeCredentialEnded));
}

#[tokio::test]
async fn every_refusal_has_a_text_without_what_was_sent_and_a_kind_that_clients_understand() {
    use crate::model::Kind;
    assert_eq!(Rejection::Unavailable.kind(), Kind::Unavailable);
    assert_eq!(Rejection::PodGone.kind(), Kind::Unauthenticated);
    assert!(Rejection::WrongAudience.to_string().starts_with("AKV10022: "));
    assert!(Rejection::WrongIssuer.to_string().starts_with("AKV10032: "));
    assert!(Rejection::UnknownKey.to_string().starts_with("AKV10046: "));
    assert!(Rejection::Missing.to_string().starts_with("AKV10000: "));
}
