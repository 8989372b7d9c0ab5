//! A cable between a client and the API server that can be cut in the ways that cables are cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// How the cable is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cable {
    /// Whole.
    Whole,
    /// Nothing passes; connections stay open.
    Hole,
    /// Connections are closed as soon as they are made or used.
    Unplugged,
    /// Requests pass; at the first byte of an answer the connection is closed.
    AnswersLost,
    /// Requests pass, answers come 1.5 s late.
    Slow,
    /// Requests pass, answers come 7 s late: later than anybody waits.
    TooSlow,
}

impl Cable {
    /// How late an answer comes.
    const fn lag(self) -> Duration {
        match self {
            Self::Whole | Self::Hole | Self::Unplugged | Self::AnswersLost => Duration::ZERO,
            Self::Slow => Duration::from_millis(1_500),
            Self::TooSlow => Duration::from_secs(7),
        }
    }
}

#[derive(Clone)]
pub(super) struct Proxy {
    state: Arc<AtomicU8>,
    address: SocketAddr,
    name: String,
}

impl Proxy {
    /// A proxy in front of the cluster's API server.
    pub(super) async fn before(config: &kube::Config) -> Self {
        let (host, port) = (
            config.cluster_url.host().unwrap().to_owned(),
            config.cluster_url.port_u16().unwrap_or(443),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(AtomicU8::new(0));
        let (shared, upstream) = (Arc::clone(&state), format!("{host}:{port}"));
        tokio::spawn(async move {
            while let Ok((down, _)) = listener.accept().await {
                let (state, upstream) = (Arc::clone(&shared), upstream.clone());
                tokio::spawn(async move { carry(down, &upstream, state).await });
            }
        });
        let name = host.trim_matches(['[', ']']).to_owned();
        Self { state, address, name }
    }

    /// The same cluster through this cable.
    pub(super) fn through(&self, mut config: kube::Config) -> kube::Config {
        config.cluster_url = format!("https://{}", self.address).parse().unwrap();
        config.tls_server_name.get_or_insert_with(|| self.name.clone());
        config
    }

    pub(super) fn is(&self, cable: Cable) {
        self.state.store(cable as u8, Ordering::SeqCst);
    }
}

fn is(state: &AtomicU8, cable: Cable) -> bool {
    state.load(Ordering::SeqCst) == cable as u8
}

async fn carry(down: TcpStream, upstream: &str, state: Arc<AtomicU8>) {
    if is(&state, Cable::Unplugged) {
        return;
    }
    let Ok(up) = TcpStream::connect(upstream).await else {
        return;
    };
    let ((from_client, to_client), (from_server, to_server)) = (down.into_split(), up.into_split());
    tokio::select! {
        () = pass(from_client, to_server, &state, false) => {}
        () = pass(from_server, to_client, &state, true) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &AtomicU8, answers: bool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = None;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // The parts of one answer come late together.
        let goes_on = passed.is_some_and(|at: Instant| at.elapsed() < Duration::from_millis(200));
        if answers && !goes_on {
            for cable in [Cable::Slow, Cable::TooSlow] {
                if is(state, cable) {
                    tokio::time::sleep(cable.lag()).await;
                }
            }
        }
        while is(state, Cable::Hole) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lost = answers && is(state, Cable::AnswersLost) || is(state, Cable::Unplugged);
        if lost || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        passed = Some(Instant::now());
    }
}
