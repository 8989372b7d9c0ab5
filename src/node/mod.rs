//! The face of a node: a CSI driver whose volumes are files of a vault, kept current by `serve`.
//!
//! ```text
//!  kubelet --publish--> services --> volumes --> worker (one a volume) --stream--> serve
//!     ^                                            |
//!     |                                          files: tmpfs, whole at once, `..data` switch
//!     '-- registration                           state: what is mounted and the last tokens, in memory
//! ```
//!
//! # Why
//! This process holds no key and has no access to the API server. It hands a pod's token on and writes what comes back,
//! so whoever takes it over gets what the pods of this node may have while they may, and nothing else. It parses nothing
//! that strangers wrote: `objects` goes to `serve` as text; a file plan that comes back is judged again by its type.
//!
//! Whatever happens here, a container starts on all of its files or not at all, a mounted file keeps its last value, and
//! unmounting needs nobody else.

mod files;
mod host;
mod proto;
mod services;
mod sockets;
mod state;
mod status;
mod upstream;
mod volume;
mod volumes;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::client::Client;
use crate::model::{Clock, Kind};
use crate::telemetry::Metrics;
use crate::telemetry::health::Readiness;

use files::{FilesError, Kubelet};
use host::{Host, Times};
use proto::csi::identity_server::IdentityServer;
use proto::csi::node_server::NodeServer;
use proto::registration::registration_server::RegistrationServer;
use services::{Csi, Registrar};
use state::State;
use upstream::Upstream;
use volumes::Volumes;

/// Name of the driver, as pods and the CSIDriver object have it.
pub const DRIVER: &str = "csi.strongroom.dev";
/// Where the kubelet looks for new plugins, below its folder.
const REGISTRY: &str = "plugins_registry";
/// Largest call of the kubelet.
const MAX_CALL_BYTES: usize = 1024 * 1024;
/// What the last calls have to be answered when this process stops.
const FAREWELL: Duration = Duration::from_millis(500);

/// What the node needs.
pub struct NodeParts {
    /// The kubelet's folder, mounted with Bidirectional propagation at the same path.
    pub kubelet_dir: PathBuf,
    /// Name of this node.
    pub node_name: String,
    /// The way to `serve`.
    pub client: Client,
    /// The time that names of folders show.
    pub clock: Clock,
    /// Counted here: mounts, streams, calls, updates.
    pub metrics: Arc<Metrics>,
    /// Gets one check: whether the kubelet has registered the driver.
    pub readiness: Readiness,
    /// Ends the node when it is cancelled. What is mounted stays.
    pub shutdown: CancellationToken,
}

/// Why the node cannot work.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A folder or a file system on this node.
    #[error("{what}: {error}")]
    Files {
        /// What was attempted.
        what: &'static str,
        /// How it failed.
        error: String,
        /// Its kind.
        kind: Kind,
    },
    /// A folder below the kubelet's.
    #[error("the folder {} cannot be made: {error}", path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
    /// A socket.
    #[error("cannot listen on {}: {error}", path.display())]
    Socket {
        /// Which socket.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
    /// The listener ended.
    #[error("the listener for the kubelet ended: {0}")]
    Listener(tonic::transport::Error),
}

impl NodeError {
    /// What kind of failure.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Files { kind, .. } => *kind,
            Self::Folder { .. } | Self::Socket { .. } => Kind::Unavailable,
            Self::Listener(_) => Kind::Internal,
        }
    }

    fn files(what: &'static str) -> impl Fn(FilesError) -> Self {
        move |error| Self::Files {
            what,
            error: error.to_string(),
            kind: error.kind(),
        }
    }
}

/// Serves the kubelet of this node until `shutdown`. Volumes of a process before are resumed first.
///
/// # Errors
/// [`NodeError`], where it cannot begin; and never for a volume's sake.
pub async fn run(parts: NodeParts) -> Result<(), NodeError> {
    let upstream: Arc<dyn Upstream> = Arc::new(parts.client);
    let NodeParts {
        kubelet_dir,
        node_name,
        clock,
        metrics,
        readiness,
        shutdown,
        ..
    } = parts;
    serve(Node {
        kubelet_dir,
        node_name,
        upstream,
        clock,
        metrics,
        readiness,
        shutdown,
        times: Times::default(),
    })
    .await
}

/// As [`NodeParts`], with any other end and any times.
struct Node {
    kubelet_dir: PathBuf,
    node_name: String,
    upstream: Arc<dyn Upstream>,
    clock: Clock,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    shutdown: CancellationToken,
    times: Times,
}

async fn serve(node: Node) -> Result<(), NodeError> {
    let Node {
        kubelet_dir,
        node_name,
        upstream,
        clock,
        metrics,
        readiness,
        shutdown,
        times,
    } = node;
    let plugin = format!("plugins/{DRIVER}");
    let (plugin_dir, registry) = (kubelet_dir.join(&plugin), kubelet_dir.join(REGISTRY));
    for (folder, mode) in [(&plugin_dir, 0o700), (&registry, 0o750)] {
        make_folder(folder, mode)?;
    }
    let kubelet = Kubelet::open(&kubelet_dir).map_err(NodeError::files("the kubelet's folder"))?;
    let state = State::open(&kubelet, &plugin).map_err(NodeError::files("the state of this node"))?;
    let registered = readiness.flag("kubelet", "the kubelet has not registered the driver yet");
    let host = Arc::new(Host {
        kubelet,
        state,
        upstream,
        clock,
        metrics: Arc::clone(&metrics),
        times,
    });
    let volumes = Arc::new(Volumes::new(Arc::clone(&host)));
    volumes
        .resume()
        .await
        .map_err(NodeError::files("the volumes of the process before"))?;

    // First the driver's own socket: the kubelet asks there as soon as it sees the other.
    let (endpoint, registration) = (
        plugin_dir.join("csi.sock"),
        // The kubelet's gRPC client sends the path of this socket, percent-encoded, as `:authority`. HTTP/2 here (the
        // crates `h2` and `http`) refuses a percent sign there (PROTOCOL_ERROR), unless it stands before an `@`, as it
        // may in user information.
        registry.join(format!("{DRIVER}@reg.sock")),
    );
    let socket = |path: &Path| {
        sockets::listen(&plugin_dir, path).map_err(|error| NodeError::Socket {
            path: path.to_owned(),
            error,
        })
    };
    let csi = Csi {
        kubelet: kubelet_dir.into(),
        node: node_name.into(),
        volumes: Arc::clone(&volumes),
        metrics,
    };
    let driver = Server::builder()
        .add_service(IdentityServer::new(csi.clone()))
        .add_service(NodeServer::new(csi).max_decoding_message_size(MAX_CALL_BYTES))
        .serve_with_incoming_shutdown(
            sockets::connections(socket(&endpoint)?),
            shutdown.clone().cancelled_owned(),
        );
    let registrar = Registrar {
        endpoint: endpoint.clone(),
        registered,
    };
    let registrations = Server::builder()
        .add_service(RegistrationServer::new(registrar))
        .serve_with_incoming_shutdown(
            sockets::connections(socket(&registration)?),
            shutdown.clone().cancelled_owned(),
        );
    tracing::info!("the driver listens for the kubelet");

    let mut listening = pin!(async { tokio::try_join!(driver, registrations) });
    let ended = tokio::select! {
        ended = &mut listening => Some(ended),
        () = volumes.look_after(&shutdown) => None,
    };
    volumes.stop().await;
    let served = match ended {
        Some(ended) => ended,
        // The calls that waited have their answer by now; this is for its way.
        None => tokio::time::timeout(FAREWELL, listening)
            .await
            .unwrap_or(Ok(((), ()))),
    };
    for path in [&registration, &endpoint] {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(%error, "a socket cannot be removed");
        }
    }
    if let Err(error) = host.state.close() {
        tracing::warn!(%error, "the state cannot be ended");
    }
    served.map(drop).map_err(NodeError::Listener)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), NodeError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| NodeError::Folder {
        path: path.to_owned(),
        error,
    })
}
