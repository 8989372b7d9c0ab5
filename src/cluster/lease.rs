//! Which of several replicas leads.
//!
//! A lease fences nothing: between two looks at it another may have taken over, so whatever a leader does must be right
//! even when two do it. It only keeps replicas from doing the same work twice.

use std::time::Duration;

use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError, LeaseParams};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::model::Namespace;

use super::api::Api;

/// For how long a lease holds after its holder last renewed it: how long nobody leads after a leader dies.
const HOLDS_SECONDS: u64 = 15;
/// How long before that it is renewed.
const RENEWED_BEFORE_SECONDS: u64 = 10;
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What is contended for, and as whom.
#[derive(Debug, Clone)]
pub struct Candidacy {
    /// Namespace of the Lease.
    pub namespace: Namespace,
    /// Name of the Lease.
    pub lease: String,
    /// Who we are: unique among replicas, such as the pod's name.
    pub identity: String,
}

/// Contends for the lease until `stop`, then releases it. `leading` says at any time whether we lead; it is told for the
/// first time once the lease could be read, and turns false at the first sign that the lease cannot be renewed, which is
/// before another may take it.
pub async fn contend(api: Api, candidacy: Candidacy, leading: watch::Sender<bool>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match manager(&api, &candidacy).await {
            Ok(manager) => {
                leading.send_replace(false);
                tokio::select! {
                    error = follow(&manager, &leading) => {
                        tracing::warn!(%error, lease = candidacy.lease, "the lease could not be renewed or read");
                    }
                    () = stop.cancelled() => {
                        leading.send_replace(false);
                        if let Err(error) = manager.release().await {
                            tracing::warn!(%error, lease = candidacy.lease, "the lease could not be released");
                        }
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, lease = candidacy.lease, "the lease could not be read");
            }
        }
        leading.send_if_modified(|leads| std::mem::replace(leads, false));
        tokio::select! {
            () = sleep(AGAIN_AFTER) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// A fresh manager knows nothing: it reads the lease, and goes on leading where the lease still names us.
async fn manager(api: &Api, candidacy: &Candidacy) -> Result<LeaseManager, LeaseManagerError> {
    LeaseManagerBuilder::new(api.impatient_client(), &candidacy.lease)
        .with_namespace(candidacy.namespace.as_str())
        .with_parameters(LeaseParams::new(
            &candidacy.identity,
            HOLDS_SECONDS,
            RENEWED_BEFORE_SECONDS,
        ))
        .build()
        .await
}

async fn follow(manager: &LeaseManager, leading: &watch::Sender<bool>) -> LeaseManagerError {
    loop {
        match manager.changed().await {
            Ok(now) => {
                if leading.send_replace(now) != now {
                    tracing::info!(leading = now, "leadership changed");
                }
            }
            Err(error) => return error,
        }
    }
}
