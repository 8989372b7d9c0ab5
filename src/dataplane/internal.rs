//! The internal listener: what `node` and `operate` ask of `serve`. HTTP/2 alone, in the words of `wire`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, Hint};
use super::head::{JSON, bearer};
use super::host::Address;
use super::hub::Hub;
use super::intake::Intake;
use super::limits::Limits;
use super::listener::{self, Counts, Face, Visitor};
use super::projection;
use super::pulse::UnderWay;
use super::summaries;
use crate::gate::{self, Gate};
use crate::model::{Kind, RefusedVolume, Reply, RootKeyCare};
use crate::telemetry::Metrics;
use crate::telemetry::metrics as labels;
use crate::wire::{
    Action, ActionRefusal, ActionReply, DELETE_OWNED_PATH, ENSURE_GENERATED_SECRET_PATH, ENSURE_VAULT_PATH,
    LIFECYCLE_PATH, MAX_ACTION_BYTES, PROJECTION_PATH, SUMMARIES_PATH, write_lifecycle,
};

/// What the internal listener is made of.
pub struct Internal {
    /// The one door.
    pub gate: Arc<Gate>,
    /// The trust bundle (PEM) that goes into each volume.
    pub trust_bundle: String,
    /// Takes the volumes whose files stay at their last value because their pods may no longer have them. What does not
    /// find room is not told.
    pub refused: mpsc::Sender<RefusedVolume>,
    /// How the root key is cared for, once that was looked at.
    pub root_key: watch::Receiver<Option<RootKeyCare>>,
    /// What clients are allowed.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Volumes of one connection whose files are being gathered or have not been sent yet. Each may be 1 MiB.
const DELIVERIES_AT_ONCE: usize = 16;

/// Serves `node` and `operate` until `stop`, then ends their streams.
pub async fn serve_internal(
    tcp: TcpListener,
    tls: Arc<ServerConfig>,
    internal: Internal,
    stop: CancellationToken,
) {
    let Internal {
        gate,
        trust_bundle,
        refused,
        root_key,
        limits,
        metrics,
    } = internal;
    let hub = Hub::default();
    let counts = Counts {
        metrics: Arc::clone(&metrics),
        listener: labels::Listener::Internal,
    };
    let face = InternalFace {
        gate: Arc::clone(&gate),
        trust_bundle: trust_bundle.into(),
        refused,
        root_key,
        hub: hub.clone(),
        intake: Intake::new(MAX_ACTION_BYTES, limits.body),
        patience: limits.answer,
        metrics,
    };
    let listening = listener::run(tcp, tls, limits, counts, Arc::new(face), stop.clone());
    tokio::join!(listening, hub.run(&gate, &stop));
}

/// What is kept of a connection.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) gate: gate::Connection,
    pub(super) deliveries: Arc<Semaphore>,
}

struct InternalFace {
    gate: Arc<Gate>,
    trust_bundle: Arc<str>,
    refused: mpsc::Sender<RefusedVolume>,
    root_key: watch::Receiver<Option<RootKeyCare>>,
    hub: Hub,
    intake: Intake,
    patience: Duration,
    metrics: Arc<Metrics>,
}

/// A refusal in the words of `wire`.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    kind: Kind,
    message: String,
    /// This replica cannot, another one may: the connection ends with the answer.
    elsewhere: bool,
}

impl Refused {
    const fn new(status: StatusCode, kind: Kind, message: String) -> Self {
        Self {
            status,
            kind,
            message,
            elsewhere: false,
        }
    }
}

impl From<gate::Refusal> for Refused {
    fn from(refusal: gate::Refusal) -> Self {
        let kind = refusal.kind();
        let fault = Fault::from(refusal);
        Self {
            elsewhere: matches!(fault.hint, Hint::Elsewhere(_)),
            ..Self::new(fault.status, kind, fault.message.into_owned())
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let kind = match fault.status {
            StatusCode::INTERNAL_SERVER_ERROR => Kind::Internal,
            StatusCode::SERVICE_UNAVAILABLE => Kind::Unavailable,
            _ => Kind::Invalid,
        };
        Self::new(fault.status, kind, fault.message.into_owned())
    }
}

impl Face for InternalFace {
    type Memory = Memory;
    type Answer = Answer;

    fn meet(&self, peer: SocketAddr, _: Option<&str>) -> Memory {
        Memory {
            gate: self.gate.connection(peer.ip()),
            deliveries: Arc::new(Semaphore::new(DELIVERIES_AT_ONCE)),
        }
    }

    async fn answer(
        self: Arc<Self>,
        visitor: Arc<Visitor<Memory>>,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        let under_way = visitor.pulse.begin();
        let (parts, body) = request.into_parts();
        let (status, content, elsewhere) = match self.respond(&visitor, &parts, body).await {
            Ok(content) => (StatusCode::OK, content, false),
            Err(Refused {
                status,
                kind,
                message,
                elsewhere,
            }) => {
                let body = serde_json::to_vec(&ActionRefusal { kind, message }).unwrap_or_default();
                (status, Content::Whole(Some(body.into())), elsewhere)
            }
        };
        let json = matches!(content, Content::Whole(_));
        let mut response = Response::new(Answer {
            content,
            _under_way: under_way,
        });
        *response.status_mut() = status;
        if elsewhere {
            visitor.dismiss(parts.version, response.headers_mut());
        }
        if json {
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        }
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl InternalFace {
    async fn respond(
        &self,
        visitor: &Arc<Visitor<Memory>>,
        parts: &Parts,
        mut body: Incoming,
    ) -> Result<Content, Refused> {
        // The connection has a certificate for its server name, so that name is this listener's; the Host must be it.
        Address::of_request(&parts.uri, &parts.headers, visitor.server_name.as_deref())
            .map_err(Fault::from)?;
        let token = bearer(&parts.headers);
        let connection = &visitor.memory.gate;
        match (&parts.method, parts.uri.path()) {
            (&Method::POST, PROJECTION_PATH) => {
                let node = self.gate.admit_node(connection, token).await?;
                visitor.pulse.know();
                if parts.version != Version::HTTP_2 {
                    let message = "A projection is a stream of HTTP/2.".to_owned();
                    return Err(Refused::new(
                        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                        Kind::Invalid,
                        message,
                    ));
                }
                let (frames, content) = mpsc::channel(1);
                let context = projection::Context {
                    gate: Arc::clone(&self.gate),
                    hub: self.hub.clone(),
                    trust_bundle: Arc::clone(&self.trust_bundle),
                    refused: self.refused.clone(),
                    visitor: Arc::clone(visitor),
                    metrics: Arc::clone(&self.metrics),
                };
                tokio::spawn(projection::run(context, node, body, frames));
                Ok(Content::Stream(content))
            }
            (&Method::GET, SUMMARIES_PATH) => {
                let operator = self.gate.admit_operator(connection, token).await?;
                visitor.pulse.know();
                // Told once here, so that whoever may not have it gets a status and no stream.
                self.gate.summaries(&operator)?;
                let (frames, content) = mpsc::channel(1);
                let token = token.unwrap_or_default().to_owned().into();
                let context = summaries::Context {
                    gate: Arc::clone(&self.gate),
                    heads: self.hub.heads(),
                    root_key: self.root_key.clone(),
                    visitor: Arc::clone(visitor),
                    token,
                };
                tokio::spawn(summaries::run(context, frames));
                Ok(Content::Stream(content))
            }
            (&Method::GET, LIFECYCLE_PATH) => {
                let operator = self.gate.admit_operator(connection, token).await?;
                visitor.pulse.know();
                let lifecycle = self.gate.lifecycle(&operator)?;
                let told = write_lifecycle(&lifecycle).map_err(|_| Fault::INTERNAL)?;
                Ok(Content::Whole(Some(told.into())))
            }
            (
                &Method::POST,
                path @ (ENSURE_VAULT_PATH | ENSURE_GENERATED_SECRET_PATH | DELETE_OWNED_PATH),
            ) => {
                let operator = self.gate.admit_operator(connection, token).await?;
                visitor.pulse.know();
                let body = self.intake.read(&parts.headers, &mut body).await?;
                let action = Action::parse(path, &body).map_err(|invalid| {
                    Refused::new(StatusCode::BAD_REQUEST, invalid.kind(), invalid.to_string())
                })?;
                let (vault, operation) = action.into_operation();
                let request = gate::Request::new(vault, operation);
                let performed = timeout(self.patience, self.gate.perform(operator, request)).await;
                let reply = match performed.map_err(|_| Fault::NO_ANSWER)?? {
                    Reply::VaultReady => ActionReply::VaultReady,
                    Reply::Owned(owned) => ActionReply::Owned(owned),
                    Reply::Secret(_)
                    | Reply::Deleted(_)
                    | Reply::Page(_)
                    | Reply::DeletedPage(_)
                    | Reply::Purged
                    | Reply::VaultDeleted
                    | Reply::NotDue
                    | Reply::Backup(_) => {
                        return Err(Fault::INTERNAL.into());
                    }
                };
                let reply = serde_json::to_vec(&reply).map_err(|_| Fault::INTERNAL)?;
                Ok(Content::Whole(Some(reply.into())))
            }
            _ => {
                let message = "There is nothing at this path for this method.".to_owned();
                Err(Refused::new(StatusCode::NOT_FOUND, Kind::NotFound, message))
            }
        }
    }
}

/// The body of an answer.
pub(super) struct Answer {
    content: Content,
    _under_way: UnderWay,
}

enum Content {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.content {
            Content::Whole(data) => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Content::Stream(frames) => frames
                .poll_recv(cx)
                .map(|frame| frame.map(|frame| Ok(Frame::data(frame)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(Some(data)) => SizeHint::with_exact(u64::try_from(data.len()).unwrap_or(u64::MAX)),
            Content::Whole(None) => SizeHint::with_exact(0),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
