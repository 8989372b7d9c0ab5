//! `strongroom operate`: reconciles custom resources; holds no key.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config;
use crate::model::Clock;
use crate::operator::{self, Settings};
use crate::roles::{Attempt, RoleError, serve_health};
use crate::telemetry::health::Readiness;
use crate::telemetry::metrics::{Metrics, Shown};

/// Reconciles until `stop`.
///
/// # Errors
/// [`RoleError`]: what was attempted, and what to do.
pub async fn run(config: config::Operate, clock: Clock, stop: CancellationToken) -> Result<(), RoleError> {
    let metrics = Arc::new(Metrics::new(Shown::Operator).attempting("making metrics")?);
    let readiness = Readiness::new();
    serve_health(&config.common, &metrics, &readiness).await?;
    let settings = Settings {
        namespace: config.release_namespace,
        cluster_domain: config.cluster_domain,
        pod: config.pod_name,
        internal_url: config.internal_url,
        internal_token_file: config.internal_token_file,
    };
    operator::run(settings, clock, metrics, &readiness, stop.cancelled_owned())
        .await
        .attempting("running the operator")
}
