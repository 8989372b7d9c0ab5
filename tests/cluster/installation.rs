//! Root key, key sets, look-ups, leadership, the clock.

use std::time::{Duration, Instant};

use strongroom::cluster::{
    Api, Bundle, Candidacy, ClusterKeys, ClusterPods, ROOT_KEY_SECRET, RootKeyError, RootKeySource,
    clock_off, contend, publish_trust_bundle, root_key,
};
use strongroom::crypto::{RootKeyFileError, jose};
use strongroom::identity::{KeySets, PodLookup};
use strongroom::model::Namespace;
use strongroom::telemetry::clock;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{config, serve_api};
use crate::e2e::harness::{kubectl, run, tenant};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn of_replicas_that_start_at_once_one_makes_the_root_key_and_all_have_the_same() {
    let tenant = tenant("root_key");
    let namespace = Namespace::parse(&tenant.namespace).unwrap();
    let api = Api::connect(&config().await).unwrap();
    let now = clock::system().now().wall;
    let starts = (0..8).map(|_| root_key(&RootKeySource::Secret, &api, &namespace, now));
    let found: Vec<_> = futures::future::join_all(starts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(found.iter().filter(|f| f.created).count(), 1);
    let again = root_key(&RootKeySource::Secret, &api, &namespace, now)
        .await
        .unwrap();
    assert!(!again.created);
    for each in found {
        assert!(each.key.to_bytes().expose() == again.key.to_bytes().expose());
    }
    let patch = r#"{"data":{"root-key":"AAAA"}}"#;
    let changed = tenant.kubectl(&["patch", "secret", ROOT_KEY_SECRET, "-p", patch]);
    assert!(changed.refused().contains("immutable"));
    tenant.kubectl(&["delete", "secret", ROOT_KEY_SECRET]).ok();
    tenant
        .kubectl(&[
            "create",
            "secret",
            "generic",
            ROOT_KEY_SECRET,
            "--from-literal=root-key=short",
        ])
        .ok();
    assert!(matches!(
        root_key(&RootKeySource::Secret, &api, &namespace, now).await,
        Err(RootKeyError::NotAKey { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_installation_that_lost_all_its_records_does_not_start_with_nothing_by_itself() {
    let tenant = tenant("lost_all_its_records");
    let namespace = Namespace::parse(&tenant.namespace).unwrap();
    let api = Api::connect(&config().await).unwrap();
    let now = clock::system().now().wall;
    let refused = || async {
        matches!(
            root_key(&RootKeySource::Secret, &api, &namespace, now).await,
            Err(RootKeyError::StoreEmpty { .. })
        )
    };
    root_key(&RootKeySource::Secret, &api, &namespace, now)
        .await
        .unwrap();
    assert!(
        !refused().await,
        "a first start that was cut off is finished by the next"
    );
    let opened = |tenant: &str| Bundle {
        pem: "PEM".to_owned(),
        tenant: tenant.to_owned(),
    };
    publish_trust_bundle(&api, &namespace, &opened("t-1"))
        .await
        .unwrap();
    assert!(refused().await, "the store was opened before");
    let say = |at: &str| {
        let annotation = format!("strongroom.dev/start-empty={at}");
        tenant
            .kubectl(&["annotate", "secret", ROOT_KEY_SECRET, "--overwrite", &annotation])
            .ok();
    };
    say("2026-01-01T00:00:00Z");
    assert!(refused().await, "what was said long ago counts no more");
    let at = jiff::Timestamp::from_second(now.0).unwrap().to_string();
    say(&at);
    assert!(!refused().await, "a person said so");

    tenant
        .kubectl(&["delete", "configmap", "strongroom-ca", "--ignore-not-found"])
        .ok();
    tenant.kubectl(&["delete", "secret", ROOT_KEY_SECRET]).ok();
    let restored = "--from-literal=root-key=0123456789abcdef0123456789abcdef";
    tenant
        .kubectl(&["create", "secret", "generic", ROOT_KEY_SECRET, restored])
        .ok();
    assert!(refused().await, "a restored key waits for its records");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn with_a_root_key_in_a_file_only_a_namespace_in_which_nothing_was_opened_begins_anew() {
    let tenant = tenant("root_key_in_a_file");
    let namespace = Namespace::parse(&tenant.namespace).unwrap();
    let api = Api::connect(&config().await).unwrap();
    let now = clock::system().now().wall;
    let folder = tempfile::tempdir().unwrap();
    let source = RootKeySource::File(folder.path().join("root-key"));
    let start = || root_key(&source, &api, &namespace, now);
    assert!(matches!(
        start().await.err(),
        Some(RootKeyError::File(RootKeyFileError::Missing(_)))
    ));
    let key: Vec<u8> = (1..=32).collect();
    std::fs::write(folder.path().join("root-key"), &key).unwrap();
    let found = start().await.unwrap();
    assert!(!found.created && found.key.to_bytes().expose() == key);
    start()
        .await
        .expect("a first start that was cut off is finished by the next");

    let opened = Bundle {
        pem: "PEM".to_owned(),
        tenant: "t-1".to_owned(),
    };
    publish_trust_bundle(&api, &namespace, &opened).await.unwrap();
    let refused = start()
        .await
        .err()
        .expect("the store was opened before")
        .to_string();
    println!("{refused}");
    // What the text says to do is what helps.
    let (_, command) = refused.split_once("kubectl ").unwrap();
    let (command, _) = command.split_once(" (counts").unwrap();
    run("sh", &["-c", &format!("kubectl {command}")], None).ok();
    start().await.expect("a person said so");
    let made = tenant.kubectl(&["get", "secret", ROOT_KEY_SECRET]);
    assert!(!made.success, "no Secret was made");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_token_of_the_cluster_is_verified_by_its_own_keys() {
    let keys = ClusterKeys::fetch(serve_api().await, Vec::new()).await.unwrap();
    let issuers = keys.issuers();
    println!("issuer: {issuers:?}");
    let token = kubectl(&["create", "token", "default", "--audience=strongroom.dev"], None).ok();
    let header = jose::header(token.trim()).unwrap();
    let key = keys
        .find(&issuers[0], &header.kid)
        .expect("the token's key is published");
    let claims = jose::verify(token.trim(), &key).unwrap();
    assert_eq!(claims["iss"], serde_json::json!(*issuers[0]));
    assert!(keys.find("https://somebody.else", &header.kid).is_none());
    assert!(keys.find(&issuers[0], "no-such-key").is_none());
    let before = keys.generation();
    keys.refresh().await.unwrap();
    assert_eq!(keys.generation(), before, "the same keys are no change");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_pod_is_looked_up_by_its_name() {
    let system = Namespace::parse("kube-system").unwrap();
    let pods = ClusterPods::new(serve_api().await);
    let list = kubectl(
        &[
            "-n",
            "kube-system",
            "get",
            "pods",
            "-l",
            "component=kube-apiserver",
            "-o",
            "jsonpath={.items[0].metadata.name}",
        ],
        None,
    );
    let facts = pods.pod(&system, &list.ok()).await.unwrap().unwrap();
    assert!(facts.host_network && facts.node.is_some() && facts.addresses == facts.host_addresses);
    assert_eq!(pods.pod(&system, "no-such-pod").await, Ok(None));
    let nowhere = Namespace::parse("no-such-namespace").unwrap();
    assert_eq!(pods.pod(&nowhere, "no-such-pod").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn our_clock_is_compared_with_the_api_servers() {
    let api = serve_api().await;
    assert_eq!(clock_off(&api, &clock::system()).await, Ok(false));
    let late = strongroom::model::Clock::new(|| {
        let mut now = clock::system().now();
        now.wall = now.wall.plus(40);
        now
    });
    assert_eq!(clock_off(&api, &late).await, Ok(true));
}

fn candidate(api: &Api, namespace: &Namespace, identity: &str) -> (watch::Receiver<bool>, CancellationToken) {
    let candidacy = Candidacy {
        namespace: namespace.clone(),
        lease: "test".to_owned(),
        identity: identity.to_owned(),
    };
    let ((sender, receiver), stop) = (watch::channel(false), CancellationToken::new());
    tokio::spawn(contend(api.clone(), candidacy, sender, stop.clone()));
    (receiver, stop)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn one_of_two_leads_and_the_other_takes_over() {
    let tenant = tenant("leadership");
    let namespace = Namespace::parse(&tenant.namespace).unwrap();
    let api = Api::connect(&config().await).unwrap();
    let (mut first, stop) = candidate(&api, &namespace, "first");
    timeout(Duration::from_secs(10), first.wait_for(|leads| *leads))
        .await
        .unwrap()
        .unwrap();
    let (mut second, _stop_second) = candidate(&api, &namespace, "second");
    let told = timeout(Duration::from_secs(10), second.changed()).await;
    assert!(told.is_ok(), "who waits is told that the lease could be read");
    sleep(Duration::from_secs(8)).await;
    assert!(
        *first.borrow() && !*second.borrow(),
        "one leads, and goes on while it renews"
    );
    stop.cancel();
    let began = Instant::now();
    timeout(Duration::from_secs(20), second.wait_for(|leads| *leads))
        .await
        .unwrap()
        .unwrap();
    println!(
        "the other took over {:.1?} after the first let go",
        began.elapsed()
    );
    assert!(!*first.borrow());
}
