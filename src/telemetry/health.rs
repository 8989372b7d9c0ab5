//! `/livez`, `/readyz` and `/metrics` over plain HTTP.
//!
//! # Why
//! `/livez` depends on nothing: a process that waits for the API server or for its disk is not healed by a restart.
//! `/readyz` is a list of named checks, each with a reason for a person; nothing that a stranger sent appears in either.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Metrics;

/// Connections at once; each answers one request.
const CONNECTIONS: usize = 64;
/// Time for one connection, from its first byte to its last.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Why a check says that this process is not ready. For a person.
pub type Reason = Cow<'static, str>;

type Check = Box<dyn Fn() -> Result<(), Reason> + Send + Sync>;

/// What must hold before this process is sent requests. A clone is the same list.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<Vec<(&'static str, Check)>>>);

impl Readiness {
    /// No check yet: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check that is asked each time.
    pub fn check(&self, name: &'static str, check: impl Fn() -> Result<(), Reason> + Send + Sync + 'static) {
        self.lock().push((name, Box::new(check)));
    }

    /// Adds a check that somebody sets; it is not ready until then, for the reason given.
    #[must_use]
    pub fn flag(&self, name: &'static str, until: &'static str) -> Flag {
        let flag = Flag(Arc::default());
        let asked = flag.clone();
        self.check(name, move || {
            if asked.0.load(Ordering::Acquire) {
                Ok(())
            } else {
                Err(until.into())
            }
        });
        flag
    }

    /// What is not ready, and why.
    #[must_use]
    pub fn missing(&self) -> Vec<(&'static str, Reason)> {
        let failed = |(name, check): &(&'static str, Check)| check().err().map(|reason| (*name, reason));
        self.lock().iter().filter_map(failed).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, Check)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> (StatusCode, String) {
        let missing = self.missing();
        if missing.is_empty() {
            return (StatusCode::OK, "ready\n".to_owned());
        }
        let lines = missing
            .iter()
            .map(|(name, reason)| format!("{name}: {reason}\n"))
            .collect();
        (StatusCode::SERVICE_UNAVAILABLE, lines)
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readiness")
    }
}

/// A check that somebody sets. A clone is the same flag.
#[derive(Debug, Clone)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// From now on it holds, or no longer.
    pub fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::Release);
    }
}

/// Answers until it is dropped. An error of one connection is that connection's alone.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, readiness: Readiness) -> Infallible {
    // When all places are taken the oldest connection loses its own: whoever holds them all keeps no probe out.
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, mostly: those that are open end within their time.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (metrics, readiness) = (Arc::clone(&metrics), readiness.clone());
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = tokio::spawn(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let response = answer(request.method(), request.uri().path(), &metrics, &readiness);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
        });
        open.push_back(connection.abort_handle());
    }
}

fn answer(method: &Method, path: &str, metrics: &Metrics, readiness: &Readiness) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/livez") => (StatusCode::OK, TEXT, Bytes::from_static(b"alive\n")),
        (&Method::GET | &Method::HEAD, "/readyz") => {
            let (status, text) = readiness.report();
            (status, TEXT, text.into())
        }
        (&Method::GET, "/metrics") => match metrics.text() {
            Ok(text) => (StatusCode::OK, prometheus::TEXT_FORMAT, text.into()),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, Bytes::new()),
        },
        _ => (StatusCode::NOT_FOUND, TEXT, Bytes::from_static(b"not found\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Shown;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn probes_and_prometheus_get_their_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::new();
        let lists = readiness.flag("feeds", "the lists have not been read yet");
        let metrics = Arc::new(Metrics::new(Shown::DataPlane).unwrap());
        let server = tokio::spawn(serve(listener, metrics, readiness.clone()));

        assert!(
            get(address, "/livez").await.starts_with("HTTP/1.1 200 "),
            "alive while nothing is ready"
        );
        let waiting = get(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503 "));
        assert!(waiting.ends_with("\r\n\r\nfeeds: the lists have not been read yet\n"));
        lists.set(true);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        readiness.check("audit", || Err("the disk is full".into()));
        assert!(
            get(address, "/readyz")
                .await
                .ends_with("audit: the disk is full\n")
        );
        let shown = get(address, "/metrics").await;
        assert!(shown.contains("strongroom_requests_total{"));
        assert!(shown.contains("content-type: text/plain; version=0.0.4"));
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404 "));
        server.abort();
    }

    #[tokio::test]
    async fn silent_connections_do_not_keep_probes_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new(Shown::Node).unwrap());
        let server = tokio::spawn(serve(listener, metrics, Readiness::new()));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        server.abort();
    }
}
