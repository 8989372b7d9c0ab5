//! The binary `strongroom`: parse flags, run one role until it is asked to stop.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use strongroom::{config, roles};

/// What one thread makes and another drops costs it less than the usual one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = config::Cli::parse();
    let what = cli.role.name();
    match roles::run(cli).context(what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For whoever reads the log. Where logging could not begin, for a person at a terminal.
            tracing::error!("{error:#}");
            if !tracing::enabled!(tracing::Level::ERROR) {
                eprintln!("strongroom: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
