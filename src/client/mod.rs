//! The client of the internal listener, for `operate` and `node`: one HTTP/2 connection, verified always, opened again
//! when it ends.
//!
//! What changes while a process runs is read when it is needed, so nothing has to be watched: the trust bundle at each
//! connection, this process's own token at each request. Either may appear after the process starts.

mod connection;
mod streams;
mod trust;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use zeroize::Zeroizing;

use crate::model::{Kind, Lifecycle};
use crate::wire::{
    Action, ActionRefusal, ActionReply, InvalidAction, InvalidFrame, LIFECYCLE_PATH, MAX_ACTION_BYTES,
    MAX_LIFECYCLE_BYTES, NodeFrame, Open, PROJECTION_PATH, SUMMARIES_PATH, encode, read_lifecycle,
};

use connection::Connections;
use streams::RequestBody;

pub use streams::{Projection, Summaries, TokenSender};
pub use trust::Trust;

/// How a request to the internal listener failed. It holds no token and nothing of a vault.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The listener's address is not `https://host[:port]`.
    #[error("the address of the internal listener is not https://host or https://host:port")]
    Address,
    /// There is no trust bundle yet, or it cannot be read.
    #[error("the trust bundle (ca.crt) is not there yet: {0}")]
    NoTrust(std::io::Error),
    /// The trust bundle holds no certificate.
    #[error("the trust bundle (ca.crt) holds no usable certificate")]
    BadTrust,
    /// This process's own token cannot be read.
    #[error("this process's own service-account token cannot be read: {0}")]
    Token(std::io::Error),
    /// No TCP connection.
    #[error("the internal listener cannot be reached: {0}")]
    Connect(std::io::Error),
    /// No TLS connection: most often, the listener's certificate is not signed by the trust bundle.
    #[error("no trusted connection to the internal listener: {0}")]
    Tls(std::io::Error),
    /// It took too long.
    #[error("the internal listener does not answer")]
    TimedOut,
    /// The connection broke.
    #[error("the connection to the internal listener broke: {0}")]
    Broken(hyper::Error),
    /// An attempt that others waited for too failed.
    #[error("{0}")]
    Shared(Arc<Self>),
    /// The listener refused.
    #[error("{message}")]
    Refused {
        /// What kind of refusal.
        kind: Kind,
        /// For a person.
        message: String,
    },
    /// The listener answered something that is no answer.
    #[error("the internal listener's answer is not understood (another release?)")]
    Answer,
    /// A frame was not understood.
    #[error("a frame of the internal listener is not understood: {0}")]
    Frame(InvalidFrame),
    /// What was to be asked cannot be asked.
    #[error("{0}")]
    Action(InvalidAction),
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

impl ClientError {
    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Address | Self::Action(_) => Kind::Invalid,
            Self::Answer | Self::Frame(_) => Kind::Internal,
            Self::Shared(error) => error.kind(),
            Self::NoTrust(_)
            | Self::BadTrust
            | Self::Token(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::TimedOut
            | Self::Broken(_)
            | Self::Ended => Kind::Unavailable,
        }
    }
}

/// Where the listener is, whom to trust, who we are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://host` or `https://host:port`; the host is what the listener's certificate must name.
    pub url: String,
    /// The trust bundle.
    pub trust: Trust,
    /// File of this process's own token, read anew for each request.
    pub token_file: PathBuf,
    /// Connect there instead of to what DNS says of the host (the certificate must still name the host).
    pub connect_to: Option<SocketAddr>,
}

/// A client; clones share its connection.
#[derive(Debug, Clone)]
pub struct Client {
    connections: Arc<Connections>,
    token_file: Arc<PathBuf>,
}

/// Longest wait for the head of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    /// A client; it connects when it is first used.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let Settings {
            url,
            trust,
            token_file,
            connect_to,
        } = settings;
        Ok(Self {
            connections: Arc::new(Connections::new(&url, trust, connect_to)?),
            token_file: Arc::new(token_file),
        })
    }

    /// Asks `serve` for one action of the closed list.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `serve`'s own words; the rest where it could not be asked. Every action may be asked
    /// again.
    pub async fn act(&self, action: &Action) -> Result<ActionReply, ClientError> {
        let body = Bytes::from(action.to_body().map_err(ClientError::Action)?);
        let answer = self
            .send(Method::POST, action.path(), || RequestBody::whole(body.clone()))
            .await?;
        let body = collect(answer, MAX_ACTION_BYTES).await?;
        serde_json::from_slice(&body).map_err(|_| ClientError::Answer)
    }

    /// Follows the summaries of every vault.
    ///
    /// # Errors
    /// As [`Client::act`].
    pub async fn summaries(&self) -> Result<Summaries, ClientError> {
        let answer = self
            .send(Method::GET, SUMMARIES_PATH, || RequestBody::whole(Bytes::new()))
            .await?;
        Ok(Summaries::new(answer))
    }

    /// What becomes of vaults whose resources are gone.
    ///
    /// # Errors
    /// As [`Client::act`]; [`Kind::NotFound`] where `serve` is of a release that does not tell.
    pub async fn lifecycle(&self) -> Result<Lifecycle, ClientError> {
        let answer = self
            .send(Method::GET, LIFECYCLE_PATH, || RequestBody::whole(Bytes::new()))
            .await?;
        let body = collect(answer, MAX_LIFECYCLE_BYTES).await?;
        read_lifecycle(&body).map_err(|_| ClientError::Answer)
    }

    /// Opens the stream of one mounted volume. It lives until either half is dropped, the token ends or `serve` ends it.
    ///
    /// # Errors
    /// As [`Client::act`]. What `serve` says about the workload comes on the stream, not as an error here.
    pub async fn project(&self, open: Open) -> Result<(TokenSender, Projection), ClientError> {
        let first = encode(&NodeFrame::Open(open)).map_err(ClientError::Frame)?;
        let mut sender = None;
        let answer = self
            .send(Method::POST, PROJECTION_PATH, || {
                let (tokens, body) = RequestBody::open(first.clone());
                sender = Some(tokens);
                body
            })
            .await?;
        sender
            .map(|tokens| (tokens, Projection::new(answer)))
            .ok_or(ClientError::Ended)
    }

    /// Sends a request, once more on a new connection where the first was at its end before the request was on its way.
    async fn send(
        &self,
        method: Method,
        path: &str,
        mut body: impl FnMut() -> RequestBody,
    ) -> Result<Incoming, ClientError> {
        for last in [false, true] {
            let mut connection = self.connections.get().await?;
            let request = self.request(method.clone(), path, body()).await?;
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, connection.try_send_request(request)).await;
            match answer.map_err(|_| ClientError::TimedOut)? {
                Ok(response) if response.status() == StatusCode::OK => return Ok(response.into_body()),
                Ok(response) => return Err(refusal(response.into_body()).await),
                Err(unsent) if !last && unsent.message().is_some() => {}
                Err(error) => return Err(ClientError::Broken(error.into_error())),
            }
        }
        Err(ClientError::Ended)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, ClientError> {
        let token = Zeroizing::new(
            tokio::fs::read_to_string(&*self.token_file)
                .await
                .map_err(ClientError::Token)?,
        );
        let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
        let mut authorization = header::HeaderValue::from_str(&bearer)
            .map_err(|_| ClientError::Token(std::io::ErrorKind::InvalidData.into()))?;
        authorization.set_sensitive(true);
        Request::builder()
            .method(method)
            .uri(self.connections.uri(path))
            .header(header::AUTHORIZATION, authorization)
            .header(
                header::USER_AGENT,
                concat!("strongroom/", env!("CARGO_PKG_VERSION")),
            )
            .body(body)
            .map_err(|_| ClientError::Address)
    }
}

async fn collect(body: Incoming, most: usize) -> Result<Bytes, ClientError> {
    let whole = tokio::time::timeout(ANSWER_TIMEOUT, Limited::new(body, most).collect()).await;
    let whole = whole.map_err(|_| ClientError::TimedOut)?;
    whole
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(broken) => ClientError::Broken(*broken),
            Err(_) => ClientError::Answer,
        })
}

async fn refusal(body: Incoming) -> ClientError {
    match collect(body, MAX_ACTION_BYTES)
        .await
        .map(|body| serde_json::from_slice(&body))
    {
        Ok(Ok(ActionRefusal { kind, message })) => ClientError::Refused { kind, message },
        Ok(Err(_)) => ClientError::Answer,
        Err(error) => error,
    }
}
