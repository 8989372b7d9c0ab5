//! `strongroom node`: mounts secrets into the pods of its node; holds no key and has no access to the API server.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::client::{self, Client, Trust};
use crate::config;
use crate::model::Clock;
use crate::node::{self, NodeParts};
use crate::roles::{Attempt, RoleError, serve_health};
use crate::telemetry::health::Readiness;
use crate::telemetry::metrics::{Metrics, Shown};

/// Serves the kubelet until `stop`. What is mounted stays.
///
/// # Errors
/// [`RoleError`]: what was attempted, and what to do.
pub async fn run(config: config::Node, clock: Clock, stop: CancellationToken) -> Result<(), RoleError> {
    let metrics = Arc::new(Metrics::new(Shown::Node).attempting("making metrics")?);
    let readiness = Readiness::new();
    serve_health(&config.common, &metrics, &readiness).await?;
    let client = Client::new(client::Settings {
        url: config.internal_url,
        trust: Trust::file(config.ca_file),
        token_file: config.internal_token_file,
        connect_to: None,
    })
    .attempting("reading the internal listener's address")?;
    node::run(NodeParts {
        kubelet_dir: config.kubelet_dir,
        node_name: config.node_name,
        client,
        clock,
        metrics,
        readiness,
        shutdown: stop,
    })
    .await
    .attempting("serving the kubelet")
}
