//! The accept loop: TCP, TLS, then HTTP/1.1 or HTTP/2 as the handshake settled it. Each connection is a task of its own
//! from its first byte, so one that is slow or bad costs the others nothing.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::events::{Event, Events};
use super::jitter;
use super::limits::{BUFFER_BYTES, Census, HEAD_BYTES, HEAD_BYTES_HTTP2, Limits};
use super::pulse::{Counted, Pulse, Verdict, Watch};
use crate::telemetry::Metrics;
use crate::telemetry::metrics as labels;

/// A connection as requests on it see it.
#[derive(Debug)]
pub(super) struct Visitor<M> {
    /// What the face keeps of it.
    pub(super) memory: M,
    /// The name that the TLS handshake asked for.
    pub(super) server_name: Option<Box<str>>,
    /// Its counts.
    pub(super) pulse: Arc<Pulse>,
    /// Cancelled when the connection is to end: streams that never end by themselves do so now.
    pub(super) leaving: CancellationToken,
}

impl<M> Visitor<M> {
    /// Ends the connection with this answer. With HTTP/1 the answer has to say so, or the client sends its next request into
    /// a connection that closes.
    pub(super) fn dismiss(&self, version: Version, headers: &mut HeaderMap) {
        if version < Version::HTTP_2 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else {
            self.leaving.cancel();
        }
    }
}

/// What answers requests.
pub(super) trait Face: Send + Sync + 'static {
    /// What it keeps for the life of a connection.
    type Memory: Send + Sync + 'static;
    /// The body of its answers.
    type Answer: Body<Data = Bytes, Error = Infallible> + Send + 'static;

    /// A connection begins, opened under that name.
    fn meet(&self, peer: SocketAddr, server_name: Option<&str>) -> Self::Memory;

    /// Answers one request; whatever is wrong with it has an answer too.
    fn answer(
        self: Arc<Self>,
        visitor: Arc<Visitor<Self::Memory>>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Answer>> + Send + 'static;
}

/// Where connections are counted.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) listener: labels::Listener,
}

/// Accepts until `stop`, then lets what is under way end.
pub(super) async fn run<F: Face>(
    tcp: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
    counts: Counts,
    face: Arc<F>,
    stop: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let (open, shaking) = (Census::default(), Census::default());
    let acceptor = TlsAcceptor::from(tls);
    let mut full = Full::default();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = tcp.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Of one connection that is gone already, or of this process's files being used up: the next try may
                    // do better, a tight loop does not.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let address = peer.ip().to_canonical();
        let place = Arc::clone(&places).try_acquire_owned();
        let (Ok(place), Some(of_address), Some(handshake)) = (
            place,
            open.enter(address, limits.connections_per_address),
            shaking.enter(address, limits.handshakes_per_address),
        ) else {
            full.say(counts.listener);
            continue;
        };
        let (acceptor, face, limits, stop) = (
            acceptor.clone(),
            Arc::clone(&face),
            limits.clone(),
            stop.child_token(),
        );
        let counts = counts.clone();
        let connection = async move {
            let stream = timeout(limits.handshake, shake(acceptor, stream)).await;
            drop(handshake);
            if let Ok(Some(stream)) = stream {
                let _open = counts.metrics.connection(counts.listener);
                serve(stream, peer, limits, face, stop).await;
            } else {
                counts.metrics.handshake_failed();
            }
            drop((place, of_address));
        };
        tasks.spawn(connection);
    }
    drop(tcp);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(limits.drain, ended).await.is_err() {
        tracing::info!("connections that did not end in time are cut");
        tasks.shutdown().await;
    }
}

/// Says now and then that connections are turned away.
#[derive(Default)]
struct Full {
    said: Option<Instant>,
    turned_away: u64,
}

impl Full {
    fn say(&mut self, listener: labels::Listener) {
        self.turned_away += 1;
        if self
            .said
            .is_none_or(|said| said.elapsed() > Duration::from_secs(10))
        {
            tracing::warn!(
                ?listener,
                turned_away = self.turned_away,
                "connections are turned away: too many are open, in all or from one address"
            );
            self.said = Some(Instant::now());
            self.turned_away = 0;
        }
    }
}

async fn shake(acceptor: TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    // Answers are written whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    acceptor.accept(stream).await.ok()
}

async fn serve<F: Face>(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    limits: Limits,
    face: Arc<F>,
    stop: CancellationToken,
) {
    let session = stream.get_ref().1;
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let visitor = Arc::new(Visitor {
        memory: face.meet(
            SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            session.server_name(),
        ),
        server_name: session.server_name().map(Into::into),
        pulse: Arc::default(),
        leaving: stop,
    });
    let io = TokioIo::new(Counted::new(stream, Arc::clone(&visitor.pulse)));
    let watch = Watch::new(limits.clone(), !is_http2);
    let answering = Arc::clone(&visitor);
    let service = service_fn(move |request| {
        let answer = Arc::clone(&face).answer(Arc::clone(&answering), request);
        answer.map(Ok::<_, Infallible>)
    });
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(HEAD_BYTES_HTTP2)
            .max_send_buf_size(BUFFER_BYTES)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024)
            // A stream that is opened and reset costs its client as much as us only up to here (CVE-2023-44487).
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(128)
            .serve_connection(io, service);
        watched(
            pin!(connection),
            http2::Connection::graceful_shutdown,
            &visitor,
            watch,
            &limits,
        )
        .await;
    } else {
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .max_header_size(HEAD_BYTES)
            .serve_connection(io, service);
        watched(
            pin!(connection),
            http1::Connection::graceful_shutdown,
            &visitor,
            watch,
            &limits,
        )
        .await;
    }
    visitor.leaving.cancel();
}

/// Drives a connection to its end, and ends it where its pulse, its age or the process's end says so.
async fn watched<C: Future, M>(
    mut connection: Pin<&mut C>,
    retire: fn(Pin<&mut C>),
    visitor: &Visitor<M>,
    mut watch: Watch,
    limits: &Limits,
) {
    let tick = watch.tick();
    let mut events = Events::new(visitor.leaving.clone(), tick);
    let mut left = limits.age.map(|age| age + jitter(age / 2));
    let mut cut_at: Option<Instant> = None;
    loop {
        let event = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => events.poll(cx).map(Some),
        });
        match event.await {
            None => return,
            Some(Event::Leave) => {
                // What is under way may end, but a client that does not let it end does not keep its connection.
                cut_at = Some(Instant::now() + limits.body + limits.answer + limits.unread);
                retire(connection.as_mut());
            }
            Some(Event::Tick) => {
                left = left.map(|left| left.saturating_sub(tick));
                match watch.look(&visitor.pulse, tick) {
                    _ if cut_at.is_some_and(|at| at <= Instant::now()) => return,
                    Verdict::Keep => {
                        if left == Some(Duration::ZERO) {
                            visitor.leaving.cancel();
                        }
                    }
                    // Asked to go at the last tick and still here with nothing under way: it does not read our goodbye.
                    Verdict::Retire if cut_at.is_some() => return,
                    Verdict::Retire => visitor.leaving.cancel(),
                    Verdict::Cut => return,
                }
            }
        }
    }
}
