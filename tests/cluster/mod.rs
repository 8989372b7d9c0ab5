//! `cluster` against a real API server: what no table can show. They speak as the data plane's own account, so its
//! permissions and the guards are tried on the way. KUBECONFIG names the cluster, Strongroom's chart is installed in it;
//! `make e2e` runs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

mod feeds;
mod installation;
mod proxy;
mod slow;
mod store;

use std::sync::Arc;
use std::time::Duration;

use strongroom::cluster::{Api, KubernetesStore};
use strongroom::model::Namespace;
use strongroom::store::RecordName;
use strongroom::telemetry::Metrics;
use strongroom::telemetry::metrics::Shown;

const RELEASE: &str = "strongroom-system";

fn release() -> Namespace {
    Namespace::parse(RELEASE).unwrap()
}

/// The cluster, as whoever the kubeconfig names.
async fn config() -> kube::Config {
    kube::Config::infer()
        .await
        .expect("no cluster; run these tests by `make e2e`")
}

/// The cluster, as the data plane's own account.
async fn serve_config() -> kube::Config {
    let mut config = config().await;
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{RELEASE}:strongroom-serve"));
    config.auth_info.impersonate_groups = Some(
        ["system:serviceaccounts", "system:authenticated"]
            .map(str::to_owned)
            .to_vec(),
    );
    config
}

async fn serve_api() -> Api {
    Api::connect(&serve_config().await).unwrap()
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Shown::DataPlane).unwrap())
}

fn store(api: &Api) -> KubernetesStore {
    KubernetesStore::new(api.clone(), &release(), metrics())
}

/// Something that no other run has: lower-case letters and digits.
fn unique(what: &str) -> String {
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    format!("{what}{:x}", nanos & 0xffff_ffff_ffff)
}

fn record_name(text: &str) -> RecordName {
    RecordName::parse(text).unwrap()
}

/// Median and worst.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}
