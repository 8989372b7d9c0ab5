//! What each role assembles: nothing is decided here.

pub mod dev;
pub mod node;
pub mod operate;
pub mod serve;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Cli, Common, Role};
use crate::engine::Engine;
use crate::model::{Clock, Kind, QuotaScope};
use crate::telemetry::health::{self, Readiness};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{clock, logs};
use crate::tls;

/// Whoever appends to the audit log waits for its disk, and where that hangs the others must go on.
const LEAST_WORKERS: usize = 2;

/// A role could not start, or ended by a defect. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub struct RoleError {
    attempted: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Installs what a process has one of, and runs its role until it is asked to stop.
///
/// It blocks, so that all of the roles' code is compiled here, once, and the binary has next to none.
///
/// # Errors
/// [`RoleError`].
pub fn run(cli: Cli) -> Result<(), RoleError> {
    let level = logs::level(cli.role.log_level()).attempting("reading the log level")?;
    logs::init(level).attempting("starting the log")?;
    tls::install_crypto_provider();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.max(LEAST_WORKERS))
        .enable_all()
        .build();
    runtime.attempting("starting the runtime")?.block_on(async {
        let stop = stop_on_signal()?;
        let clock = clock::system();
        match cli.role {
            Role::Serve(config) => serve::run(*config, clock, stop).await,
            Role::Operate(config) => operate::run(config, clock, stop).await,
            Role::Node(config) => node::run(config, clock, stop).await,
            Role::Dev(config) => dev::run(config, clock, stop).await,
        }
    })
}

/// SIGTERM (Kubernetes) and SIGINT (a person) ask to stop; a second one ends the process at once.
fn stop_on_signal() -> Result<CancellationToken, RoleError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).attempting("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).attempting("listening for SIGINT")?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.is_cancelled() {
                std::process::exit(1);
            }
            tracing::info!("stopping");
            stopping.cancel();
        }
    });
    Ok(stop)
}

/// Says what was attempted when something fails.
trait Attempt<T> {
    fn attempting(self, what: &'static str) -> Result<T, RoleError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Attempt<T> for Result<T, E> {
    fn attempting(self, what: &'static str) -> Result<T, RoleError> {
        self.map_err(|error| RoleError {
            attempted: what,
            source: error.into(),
        })
    }
}

/// /metrics, /livez and /readyz.
async fn serve_health(
    common: &Common,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
) -> Result<(), RoleError> {
    let listener = TcpListener::bind(common.health_listen)
        .await
        .attempting("listening for /metrics and probes")?;
    tokio::spawn(health::serve(listener, Arc::clone(metrics), readiness.clone()));
    Ok(())
}

/// Runs until asked to stop.
fn spawn_until(stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Removes from the store what has done its time, for as long as it is polled. Every replica may do so.
async fn stay_tidy(engine: Arc<Engine>, clock: Clock) {
    loop {
        tokio::time::sleep(engine.tidy_every()).await;
        match engine.tidy(clock.now()).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "records that had done their time were removed"),
            Err(error) => tracing::warn!(%error, "the store could not be tidied; trying again later"),
        }
    }
}

/// How often it is shown how full the store is.
const BETWEEN_SHOWINGS: Duration = Duration::from_secs(10);

/// Shows how full the store is, for as long as it is polled.
async fn show_fill(engine: Arc<Engine>, metrics: Arc<Metrics>) {
    loop {
        let fill = engine.fill();
        metrics.stored(fill.installation.bytes, fill.installation.records);
        for (scope, part) in [
            (QuotaScope::Vault, fill.fullest_vault),
            (QuotaScope::Namespace, fill.fullest_namespace),
            (QuotaScope::Installation, fill.installation_part),
        ] {
            metrics.quota_used(scope, part);
        }
        tokio::time::sleep(BETWEEN_SHOWINGS).await;
    }
}

/// Tries until it succeeds or fails by something that waiting does not heal. What it waits for is logged.
async fn patiently<T, E, F>(
    stop: &CancellationToken,
    what: &'static str,
    mut attempt: impl FnMut() -> F,
    kind: impl Fn(&E) -> Kind,
) -> Result<T, RoleError>
where
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = Duration::from_millis(100);
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if kind(&error) == Kind::Unavailable => {
                tracing::warn!(%error, what, "not yet; trying again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return Err("this process was asked to stop meanwhile").attempting(what),
                }
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            Err(error) => return Err(error).attempting(what),
        }
    }
}
