//! `strongroom operate`: reconciles custom resources; holds no key.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Api, Candidacy, contend};
use crate::config;
use crate::model::{Clock, Namespace};
use crate::operator::{self, Settings};
use crate::roles::{Attempt, RoleError, serve_health};
use crate::telemetry::health::Readiness;
use crate::telemetry::metrics::{Metrics, Shown};

/// Name of the lease by which one of several replicas works.
const LEASE: &str = "strongroom-operate";

/// Reconciles until `stop`.
///
/// # Errors
/// [`RoleError`]: what was attempted, and what to do.
pub async fn run(config: config::Operate, clock: Clock, stop: CancellationToken) -> Result<(), RoleError> {
    let metrics = Arc::new(Metrics::new(Shown::Operator).attempting("making metrics")?);
    let readiness = Readiness::new();
    serve_health(&config.common, &metrics, &readiness).await?;
    let namespace =
        Namespace::parse(&config.release_namespace).attempting("reading the release namespace's name")?;
    let api = Api::infer().await.attempting("finding the API server")?;
    let candidacy = Candidacy {
        namespace,
        lease: LEASE.to_owned(),
        identity: config.pod_name.clone(),
    };
    let ((leading, leads), resign) = (watch::channel(false), CancellationToken::new());
    let election = tokio::spawn(contend(api, candidacy, leading, resign.clone()));
    let settings = Settings {
        namespace: config.release_namespace,
        cluster_domain: config.cluster_domain,
        pod: config.pod_name,
        internal_url: config.internal_url,
        internal_token_file: config.internal_token_file,
        audit_durable: config.audit_storage == config::AuditStorage::Pvc,
    };
    let ended = operator::run(
        settings,
        clock,
        metrics,
        &readiness,
        leads,
        stop.cancelled_owned(),
    )
    .await;
    // Once nothing is reconciled any more the lease is given back, so that another takes over.
    resign.cancel();
    if election.await.is_err() {
        tracing::error!("the election of a leader ended by a defect");
    }
    ended.attempting("running the operator")
}
