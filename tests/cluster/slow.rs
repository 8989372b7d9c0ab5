//! What takes minutes: `make e2e` leaves it out.
//!
//! The API server's watch cache forgets events once it is full and they are older than 75 s, and only then is a feed told
//! to read all anew.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams};
use strongroom::cluster::Api;
use strongroom::identity::AccountRef;
use strongroom::model::Namespace;
use strongroom::world::Feed;
use tokio::time::sleep;

use super::feeds::{follow, in_world};
use super::proxy::{Cable, Proxy};
use super::{config, serve_config, unique};
use crate::e2e::harness::kubectl;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster, and some minutes: `make e2e` leaves it out"]
async fn a_feed_whose_revision_was_forgotten_reads_all_anew() {
    let account_of_serve = serve_config().await;
    let proxy = Proxy::before(&account_of_serve).await;
    let through = Api::connect(&proxy.through(account_of_serve)).unwrap();
    let followed = follow(through, Duration::from_secs(3600)).await;
    let namespace = Namespace::parse(&unique("forgotten-")).unwrap();
    kubectl(&["create", "namespace", namespace.as_str()], None).ok();
    sleep(Duration::from_secs(1)).await;
    proxy.is(Cable::Hole);
    let made = [
        "-n",
        namespace.as_str(),
        "create",
        "serviceaccount",
        "app",
        "-o",
        "jsonpath={.metadata.resourceVersion}",
    ];
    let missed: u64 = kubectl(&made, None).ok().parse().unwrap();
    sleep(Duration::from_secs(80)).await;
    let server = kube::Client::try_from(config().await).unwrap();
    for burst in 0..20 {
        annotate(&server, &namespace, "app", burst).await;
        if forgotten(&server, missed - 1).await {
            break;
        }
    }
    assert!(followed.lists(Feed::ServiceAccounts) == 1, "it was not cut off");
    proxy.is(Cable::Whole);
    let account = AccountRef {
        namespace: namespace.clone(),
        name: Arc::from("app"),
    };
    in_world(&followed, "the account that was made meanwhile is there", |w| {
        w.liveness.account(&account).cloned()
    });
    kubectl(&["delete", "namespace", namespace.as_str(), "--wait=false"], None).ok();
    assert_eq!(followed.lists(Feed::ServiceAccounts), 2, "it was read by a list");
    assert_eq!(
        followed.lists(Feed::SealedRecords),
        1,
        "what was not forgotten was not read anew"
    );
}

/// Changes an account 500 times.
async fn annotate(server: &kube::Client, namespace: &Namespace, account: &str, burst: usize) {
    let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(server.clone(), namespace.as_str());
    let annotate = |n: usize| {
        let accounts = &accounts;
        async move {
            let patch = serde_json::json!({ "metadata": { "annotations": { "n": format!("{burst} {n}") } } });
            let parameters = PatchParams::default();
            accounts
                .patch_metadata(account, &parameters, &Patch::Merge(patch))
                .await
                .unwrap();
        }
    };
    stream::iter(0..500).for_each_concurrent(16, annotate).await;
}

/// Whether the API server no longer knows what came after this revision.
async fn forgotten(server: &kube::Client, revision: u64) -> bool {
    let path = format!("/api/v1/serviceaccounts?watch=1&timeoutSeconds=1&resourceVersion={revision}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    server
        .request_text(request)
        .await
        .unwrap()
        .contains("\"reason\":\"Expired\"")
}
