//! The binary `strongroom`: parse flags, install the cryptographic provider, run one role until it is asked to stop.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use strongroom::config::{Cli, Role};
use strongroom::telemetry::{clock, logs};
use strongroom::{roles, tls};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Both for a person at a terminal and for whoever reads the log.
            tracing::error!("{error:#}");
            eprintln!("strongroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    let level = match &cli.role {
        Role::Serve(serve) => &serve.common.log_level,
        Role::Operate(operate) => &operate.common.log_level,
        Role::Node(node) => &node.common.log_level,
        Role::Dev(dev) => &dev.log_level,
    };
    logs::init(logs::level(level)?)?;
    tls::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let stop = stop_on_signal()?;
        let clock = clock::system();
        match cli.role {
            Role::Serve(config) => roles::serve::run(config, clock, stop).await?,
            Role::Operate(config) => roles::operate::run(config, clock, stop).await?,
            Role::Node(config) => roles::node::run(config, clock, stop).await?,
            Role::Dev(config) => roles::dev::run(config, clock, stop).await?,
        }
        Ok(())
    })
}

/// SIGTERM (Kubernetes) and SIGINT (a person) ask to stop; a second one ends the process at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
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
