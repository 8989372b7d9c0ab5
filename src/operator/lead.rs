//! Of several replicas one works; the others wait for its lease.
//!
//! # Why a lost lease is no danger
//! A lease fences nothing. Two replicas that both believe to lead write the same status, apply the same Services under
//! the revision that they judged, and ask `serve` for actions that may be asked again.

use std::time::Duration;

use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const LEASE: &str = "strongroom-operate";
/// How long after a leader's last word another may take over, and how long before that it renews, in seconds.
const DURATION: u64 = 15;
const GRACE: u64 = 5;
const RETRY: Duration = Duration::from_secs(2);

/// Whether this replica leads. Dropping the receiver gives the lease back.
pub(super) type Leads = watch::Receiver<bool>;

/// Stands for election, under the name of this pod. It waits for the API server where that is away.
pub(super) async fn stand(
    cluster: &kube::Client,
    namespace: &str,
    pod: &str,
) -> (Leads, JoinHandle<kube_lease_manager::Result<LeaseManager>>) {
    loop {
        let manager = LeaseManagerBuilder::new(cluster.clone(), LEASE)
            .with_namespace(namespace)
            .with_identity(pod)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await;
        match manager {
            Ok(manager) => return manager.watch().await,
            Err(error) => {
                tracing::warn!(%error, "the lease can't be had; it is tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
