//! The one connection: opened when it is needed, by one attempt that all who need it wait for, with a growing pause
//! between attempts that failed.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::streams::RequestBody;
use super::{ClientError, Trust};

/// Longest wait for TCP, TLS and HTTP/2 together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection is asked whether it lives, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

type Sender = SendRequest<RequestBody>;
type Attempt = watch::Receiver<Option<Result<Sender, Arc<ClientError>>>>;

/// Opens connections to one listener.
#[derive(Debug)]
pub(super) struct Connections {
    target: Arc<Target>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct Target {
    host: String,
    port: u16,
    server_name: ServerName<'static>,
    trust: Trust,
    connect_to: Option<SocketAddr>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Attempt>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Connections {
    pub(super) fn new(url: &str, trust: Trust, connect_to: Option<SocketAddr>) -> Result<Self, ClientError> {
        let authority = url.strip_prefix("https://").ok_or(ClientError::Address)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| ClientError::Address)?),
            None => (authority, 443),
        };
        let server_name = ServerName::try_from(host.to_owned()).map_err(|_| ClientError::Address)?;
        let target = Target {
            host: host.to_owned(),
            port,
            server_name,
            trust,
            connect_to,
        };
        Ok(Self {
            target: Arc::new(target),
            state: Arc::default(),
        })
    }

    /// The whole URI of a path.
    pub(super) fn uri(&self, path: &str) -> String {
        match self.target.port {
            443 => format!("https://{}{path}", self.target.host),
            port => format!("https://{}:{port}{path}", self.target.host),
        }
    }

    /// The connection, opened where there is none.
    pub(super) async fn get(&self) -> Result<Sender, ClientError> {
        let mut attempt = self.attempt();
        let outcome = attempt
            .wait_for(Option::is_some)
            .await
            .map(|outcome| outcome.clone());
        match outcome {
            Ok(Some(Ok(sender))) => Ok(sender),
            Ok(Some(Err(error))) => Err(ClientError::Shared(error)),
            Ok(None) | Err(_) => Err(ClientError::Ended),
        }
    }

    /// The attempt that is under way or has led to a connection that still takes requests; else a new one.
    fn attempt(&self) -> Attempt {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = state.current.as_ref().filter(|attempt| is_good(attempt)) {
            return attempt.clone();
        }
        let (told, attempt) = watch::channel(None);
        state.current = Some(attempt.clone());
        let (target, shared, not_before) = (
            Arc::clone(&self.target),
            Arc::clone(&self.state),
            state.not_before,
        );
        tokio::spawn(async move {
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
            let outcome = timeout(CONNECT_TIMEOUT, target.connect())
                .await
                .unwrap_or(Err(ClientError::TimedOut));
            shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remember(outcome.is_ok());
            told.send_replace(Some(outcome.map_err(Arc::new)));
        });
        attempt
    }
}

/// Under way, or open. A connection that was told to go away is closed to new requests while its streams go on.
fn is_good(attempt: &Attempt) -> bool {
    match &*attempt.borrow() {
        None => attempt.has_changed().is_ok(),
        Some(Ok(sender)) => !sender.is_closed(),
        Some(Err(_)) => false,
    }
}

impl State {
    fn remember(&mut self, good: bool) {
        self.failures = if good { 0 } else { self.failures.saturating_add(1) };
        self.not_before = (!good).then(|| Instant::now() + pause(self.failures));
    }
}

/// Doubles from 0.2 s to 5 s; half of it is random, so that a fleet does not come back all at once.
fn pause(failures: u32) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(1 << failures.saturating_sub(1).min(8))
        .min(LONGEST_PAUSE);
    let random = RandomState::new().hash_one(failures) % 1_000;
    whole / 2 + (whole / 2).mul_f64(f64::from(u32::try_from(random).unwrap_or_default()) / 1_000.0)
}

impl Target {
    async fn connect(&self) -> Result<Sender, ClientError> {
        let config = self.trust.config().await?;
        let tcp = match self.connect_to {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((self.host.as_str(), self.port)).await,
        };
        let tcp = tcp.map_err(ClientError::Connect)?;
        // Small frames must not wait for each other; failing to say so is no reason to fail.
        let _ = tcp.set_nodelay(true);
        let tls = TlsConnector::from(Arc::new(config))
            .connect(self.server_name.clone(), tcp)
            .await;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .handshake(TokioIo::new(tls.map_err(ClientError::Tls)?))
            .await
            .map_err(ClientError::Broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::info!(%error, "the connection to the internal listener ended");
            }
        });
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_addresses_are_taken() {
        for (url, uri) in [
            (
                "https://strongroom-internal.strongroom-system.svc",
                "https://strongroom-internal.strongroom-system.svc/x",
            ),
            ("https://localhost:8444", "https://localhost:8444/x"),
            ("https://localhost:443/", "https://localhost/x"),
        ] {
            assert_eq!(
                Connections::new(url, Trust::handed(), None).unwrap().uri("/x"),
                uri
            );
        }
        for url in [
            "http://localhost",
            "localhost",
            "https://",
            "https://a b",
            "https://a:b",
            "https://a/b",
        ] {
            assert!(
                matches!(
                    Connections::new(url, Trust::handed(), None),
                    Err(ClientError::Address)
                ),
                "{url}"
            );
        }
    }

    #[test]
    fn pauses_grow_and_end_at_five_seconds() {
        for (failures, least, most) in [
            (1, 100, 200),
            (2, 200, 400),
            (4, 800, 1_600),
            (30, 2_500, 5_000),
            (u32::MAX, 2_500, 5_000),
        ] {
            let pause = pause(failures).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
    }
}
