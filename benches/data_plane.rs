//! GetSecret through the whole gate against a bare handler that answers the same bytes: `make bench`.
//!
//! Each server is a process of its own with two threads: a development vault (TLS, token, policy, sealed record, audit
//! file), and hyper over rustls that answers every request with the bytes that the vault answered once. The load comes
//! from this process over kept-alive HTTP/1.1 connections. Rounds alternate between the servers, so that whatever else the
//! machine does hits them alike. Beside the rate stands the server's own processor time for each request.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program to be run by hand"
)]

mod bare;
#[path = "../tests/http/client.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod client;
mod load;
mod vault;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use load::{Load, Measured};

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: u32 = 6;
const ROUND: Duration = Duration::from_millis(1_500);
const GOAL: f64 = 0.6;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |at: usize| arguments.get(at).map(String::as_str).unwrap_or_default();
    match argument(1) {
        "vault" => runtime().block_on(vault::serve(Path::new(argument(2)), argument(3).parse().unwrap())),
        "bare" => runtime().block_on(bare::serve(Path::new(argument(2)))),
        _ => runtime().block_on(compare()),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    strongroom::tls::install_crypto_provider();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A server in a process of its own; it ends when this is dropped.
struct Server {
    child: Child,
    /// What it wrote when it was ready.
    ready: Value,
}

impl Server {
    async fn start(arguments: &[&str], folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.args(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let file = folder.join("ready.json");
        let started = Instant::now();
        let ready = loop {
            if let Ok(text) = std::fs::read(&file) {
                break serde_json::from_slice(&text).unwrap();
            }
            assert!(child.try_wait().unwrap().is_none(), "{arguments:?} ended");
            assert!(
                started.elapsed() < Duration::from_secs(300),
                "{arguments:?} does not get ready"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Self { child, ready }
    }

    /// Processor time that it has used, user and system.
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The fields after the command's name, which is in brackets; 14 and 15 of the whole are ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn compare() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (few, many, bare) = (make("few"), make("many"), make("bare"));
    let few_vault = Server::start(&["vault", few.to_str().unwrap(), "10"], &few).await;
    let many_vault = Server::start(&["vault", many.to_str().unwrap(), "10000"], &many).await;

    let answer = Load::new(&few_vault.ready, 1).once().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    std::fs::write(bare.join("answer.json"), bare::recorded(&answer)).unwrap();
    let bare_server = Server::start(&["bare", bare.to_str().unwrap()], &bare).await;
    // The same request, byte for byte but for the port.
    let mut bare_ready = few_vault.ready.clone();
    for key in ["address", "trustBundle"] {
        bare_ready[key] = bare_server.ready[key].clone();
    }
    let same = Load::new(&bare_ready, 1).once().await;
    assert_eq!(
        (same.status, same.body, same.head.len()),
        (200, answer.body.clone(), answer.head.len())
    );

    println!(
        "GetSecret, the whole gate against a bare handler: answers of {} + {} bytes",
        answer.head.len(),
        answer.body.len()
    );
    println!(
        "{:>11} {:>12} {:>12} {:>7} {:>12} {:>12} {:>7}",
        "connections", "bare /s", "vault /s", "ratio", "bare µs CPU", "vault µs CPU", "ratio"
    );
    let mut reached = true;
    for connections in [1, 32, 256] {
        let (bare, vault) = alternate(
            (&bare_server, &Load::new(&bare_ready, 1)),
            (&few_vault, &Load::new(&few_vault.ready, 1)),
            connections,
        )
        .await;
        let ratio = vault.rate() / bare.rate();
        reached &= ratio >= GOAL;
        println!(
            "{connections:>11} {:>12.0} {:>12.0} {ratio:>7.2} {:>12.1} {:>12.1} {:>7.2}",
            bare.rate(),
            vault.rate(),
            bare.processor_micros(),
            vault.processor_micros(),
            bare.processor_micros() / vault.processor_micros(),
        );
    }
    println!();
    println!("GetSecret of every secret in turn, 32 connections");
    println!(
        "{:>11} {:>12} {:>12} {:>14}",
        "secrets", "/s", "µs CPU", "resident MiB"
    );
    let (ten, ten_thousand) = alternate(
        (&few_vault, &Load::new(&few_vault.ready, 10)),
        (&many_vault, &Load::new(&many_vault.ready, 10_000)),
        32,
    )
    .await;
    for (secrets, measured, server) in [(10, &ten, &few_vault), (10_000, &ten_thousand, &many_vault)] {
        println!(
            "{secrets:>11} {:>12.0} {:>12.1} {:>14}",
            measured.rate(),
            measured.processor_micros(),
            server.resident_mib(),
        );
    }
    println!();
    println!(
        "goal of {GOAL} of the bare handler's rate: {}",
        if reached { "reached" } else { "NOT reached" }
    );
}

/// Rounds that alternate between two servers.
async fn alternate(
    one: (&Server, &Load),
    other: (&Server, &Load),
    connections: usize,
) -> (Measured, Measured) {
    let mut sums = (Measured::default(), Measured::default());
    for _ in 0..ROUNDS {
        for (sum, (server, load)) in [(&mut sums.0, one), (&mut sums.1, other)] {
            sum.add(&load.run(connections, ROUND, || server.processor_time()).await);
        }
    }
    sums
}
