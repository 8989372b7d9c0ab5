//! The way to the API server: one client, one deadline, and errors that say what may have happened.
//!
//! # Why not kube's own calls
//!
//! A write that timed out may have been done, one that was never sent was not, and the engine needs to know which. kube's
//! `Api` folds both into one error, retries 503 and 504 by itself (so that a creation that succeeded may answer "already
//! exists"), and logs bodies that it cannot parse. So requests go through kube's `Client` for addresses, certificates and
//! tokens, and nothing more.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::core::Status;
use serde::de::DeserializeOwned;
use tower::BoxError;
use tower::util::MapErrLayer;

use crate::model::Kind;

/// How long one request may take, from the first byte out to the last byte in. Below the 10 s after which SDKs give up.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may take to be made: less than [`DEADLINE`], so that "could not connect" is told apart from "no
/// answer".
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After this long without an acknowledgement the kernel gives a connection up.
const TCP_TIMEOUT: Duration = Duration::from_secs(15);
/// Idle connections kept: as many as bursts of writes use at once, so that a burst opens no new ones.
const IDLE_CONNECTIONS: usize = 128;
/// The largest answer taken, in bytes.
pub(crate) const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A request to the API server that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Surely not sent: no connection, or no credential.
    #[error("no connection to the API server")]
    NotSent,
    /// Perhaps sent, perhaps done: no answer within the deadline, or the connection broke.
    #[error("no answer from the API server")]
    NoAnswer,
    /// Answered, with an error.
    #[error("the API server refuses: {0}")]
    Refused(Refusal),
    /// Answered with something that is no answer. A write may have been done.
    #[error("the API server's answer cannot be read")]
    Malformed,
    /// The configuration of the client is wrong or missing.
    #[error("no usable configuration for the API server")]
    Configuration,
}

impl ApiError {
    /// The kind of failure.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NotSent | Self::NoAnswer => Kind::Unavailable,
            Self::Refused(refusal) => match refusal.reason {
                Reason::NotFound => Kind::NotFound,
                Reason::AlreadyExists | Reason::Conflict => Kind::Conflict,
                Reason::Forbidden => Kind::Denied,
                Reason::Invalid => Kind::Invalid,
                Reason::TooLarge | Reason::Full | Reason::TooMany => Kind::Throttled,
                Reason::Expired | Reason::NotNow | Reason::Unclear => Kind::Unavailable,
            },
            Self::Malformed | Self::Configuration => Kind::Internal,
        }
    }

    /// Whether the API server refused for this reason.
    #[must_use]
    pub fn is(&self, reason: Reason) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason == reason)
    }
}

/// What the API server said instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Why.
    pub reason: Reason,
    /// After how long it asks to be tried again.
    pub retry_after: Option<Duration>,
    /// The API server's text where it is about our permissions; other texts can quote what was sent.
    pub permission: Option<Box<str>>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.status, self.reason)?;
        match &self.permission {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

/// Why the API server refused, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The named object does not exist. A missing kind or namespace is [`Reason::NotNow`].
    NotFound,
    /// An object of this name exists.
    AlreadyExists,
    /// The object is no longer the expected one.
    Conflict,
    /// We may not do this.
    Forbidden,
    /// The object breaks a rule of its schema.
    Invalid,
    /// The object is larger than the API server or etcd takes. Nothing was done.
    TooLarge,
    /// etcd's or the namespace's quota is used up. Nothing was done.
    Full,
    /// The revision asked for is no longer there.
    Expired,
    /// Too many requests. Nothing was done.
    TooMany,
    /// Nothing was done, and trying again later may help.
    NotNow,
    /// It may have been done.
    Unclear,
}

/// A connection to the API server. Cheap to clone: clones share one pool.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    /// A client of its own pool whose reads end, for a library that sets no deadline.
    impatient: kube::Client,
    deadline: Duration,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    /// The API server that the process's kubeconfig names or, in a pod, the cluster's own.
    ///
    /// # Errors
    /// [`ApiError::Configuration`].
    pub async fn infer() -> Result<Self, ApiError> {
        let config = kube::Config::infer().await.map_err(|_| ApiError::Configuration)?;
        Self::connect(&config)
    }

    /// The API server that `config` names. Must be called within a tokio runtime; nothing is sent yet.
    ///
    /// Requests share one pool of HTTP/1.1 connections, as many as are in flight: no request waits behind another, and a
    /// connection that a load balancer dropped costs one request, not all. Nothing is retried and nothing limits the rate:
    /// the API server's own fairness does.
    ///
    /// # Errors
    /// [`ApiError::Configuration`].
    pub fn connect(config: &kube::Config) -> Result<Self, ApiError> {
        let mut impatient = config.clone();
        impatient.connect_timeout = Some(CONNECT_TIMEOUT);
        impatient.read_timeout = Some(DEADLINE);
        impatient.write_timeout = Some(DEADLINE);
        impatient.reset_reader_on_write = true;
        impatient.default_retry = false;
        let impatient = kube::Client::try_from(impatient).map_err(|_| ApiError::Configuration)?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(TCP_TIMEOUT));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(TCP_TIMEOUT));
        let connector = config
            .rustls_https_connector_with_connector(connector)
            .map_err(|_| ApiError::Configuration)?;
        let transport = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build::<_, Body>(connector);
        let headers = config
            .extra_headers_layer()
            .map_err(|_| ApiError::Configuration)?;
        let stack = ClientBuilder::new(transport, &config.default_namespace)
            .with_layer(&headers)
            .with_layer(&MapErrLayer::new(BoxError::from));
        let client = match config.auth_layer().map_err(|_| ApiError::Configuration)? {
            Some(auth) => stack
                .with_layer(&auth)
                .with_layer(&config.base_uri_layer())
                .build(),
            None => stack.with_layer(&config.base_uri_layer()).build(),
        };
        Ok(Self {
            client,
            impatient,
            deadline: DEADLINE,
        })
    }

    /// The same connection with another deadline for a request.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// kube's client over the same pool, for its typed calls and controllers.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// A client of its own whose reads end after the deadline: not for watches.
    pub(crate) fn impatient_client(&self) -> kube::Client {
        self.impatient.clone()
    }

    /// Sends a request and hands back the whole body of its success.
    pub(crate) async fn call(&self, request: Ask<'_>) -> Result<Bytes, ApiError> {
        let request = request.build()?;
        let answer = async { collect(self.open(request).await?.into_body()).await };
        tokio::time::timeout(self.deadline, answer)
            .await
            .unwrap_or(Err(ApiError::NoAnswer))
    }

    /// [`Api::call`], parsed.
    pub(crate) async fn read<T: DeserializeOwned>(&self, request: Ask<'_>) -> Result<T, ApiError> {
        let body = self.call(request).await?;
        serde_json::from_slice(&body).map_err(|_| ApiError::Malformed)
    }

    /// Sends a request whose answer is a stream, and hands it back once its head says success.
    pub(crate) async fn stream(&self, request: Ask<'_>) -> Result<Body, ApiError> {
        let request = request.build()?;
        tokio::time::timeout(self.deadline, self.open(request))
            .await
            .unwrap_or(Err(ApiError::NoAnswer))
            .map(Response::into_body)
    }

    /// Sends a request and hands back the headers of its answer, whatever that says.
    pub(crate) async fn headers(&self, request: Ask<'_>) -> Result<http::HeaderMap, ApiError> {
        let request = request.build()?;
        let answer = async {
            let (head, body) = self
                .client
                .send(request)
                .await
                .map_err(|e| lost(&e))?
                .into_parts();
            // Read to the end, so that the connection can be used again.
            collect(body).await?;
            Ok(head.headers)
        };
        tokio::time::timeout(self.deadline, answer)
            .await
            .unwrap_or(Err(ApiError::NoAnswer))
    }

    async fn open(&self, request: Request<Body>) -> Result<Response<Body>, ApiError> {
        let answer = self.client.send(request).await.map_err(|e| lost(&e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let retry_after = retry_after(answer.headers());
        // An error body that cannot be read leaves the status line, which says less.
        let body = collect(answer.into_body()).await.unwrap_or_default();
        let said: Option<Status> = serde_json::from_slice(&body).ok();
        Err(ApiError::Refused(judge(status, said.as_ref(), retry_after)))
    }
}

/// A request to be built: what differs between calls.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// `Accept`.
    pub accept: &'static str,
    /// `Content-Type`, for requests with a body.
    pub content_type: &'static str,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// Plain JSON, both ways.
pub(crate) const JSON: &str = "application/json";
/// Of one object, its metadata alone.
pub(crate) const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// Of a list, its objects' metadata alone.
pub(crate) const LIST_METADATA: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// Server-side apply. JSON is YAML.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

impl<'a> Ask<'a> {
    /// A read.
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            accept: JSON,
            content_type: JSON,
            body: Vec::new(),
        }
    }

    /// A write.
    pub(crate) fn write(method: Method, path: &'a str, body: Vec<u8>) -> Self {
        Self {
            method,
            body,
            ..Self::get(path)
        }
    }

    fn build(self) -> Result<Request<Body>, ApiError> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::ACCEPT, self.accept);
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, self.content_type);
        }
        // Only a path that is none fails here.
        request.body(Body::from(self.body)).map_err(|_| ApiError::NotSent)
    }
}

async fn collect(mut body: Body) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::NoAnswer)?.into_data() else {
            continue;
        };
        if whole.len().saturating_add(data.len()) > MAX_ANSWER {
            return Err(ApiError::Malformed);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// What a failure of the transport means.
fn lost(error: &kube::Error) -> ApiError {
    let not_sent = match error {
        kube::Error::Auth(_) | kube::Error::HttpError(_) | kube::Error::BuildRequest(_) => true,
        kube::Error::Service(inner) => inner
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect),
        _ => false,
    };
    if not_sent {
        ApiError::NotSent
    } else {
        ApiError::NoAnswer
    }
}

/// `Retry-After` in seconds; the API server writes no dates.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Decides what an error answer means. `said` is the API server's own `Status`; an answer without one comes from something
/// on the way (a load balancer), which may have passed the request on.
pub(crate) fn judge(status: StatusCode, said: Option<&Status>, retry_after: Option<Duration>) -> Refusal {
    let message = said.map_or("", |s| s.message.as_str());
    let reason = match (status.as_u16(), said) {
        (404, Some(s)) if names_an_object(s) => Reason::NotFound,
        (401 | 404, _) => Reason::NotNow,
        (409, Some(s)) if s.reason == "AlreadyExists" => Reason::AlreadyExists,
        (409, Some(_)) => Reason::Conflict,
        (403, Some(_)) if message.contains("exceeded quota") => Reason::Full,
        (403, _) => Reason::Forbidden,
        (400 | 422, Some(_)) => Reason::Invalid,
        (413, _) => Reason::TooLarge,
        (410, _) => Reason::Expired,
        (429, _) => Reason::TooMany,
        (507, Some(_)) => Reason::Full,
        (503, Some(_)) => Reason::NotNow,
        // etcd's own refusals come as 500 with its text; both are decided before anything is written.
        (500, Some(_)) if message.contains("database space exceeded") => Reason::Full,
        (500, Some(_)) if message.contains("request is too large") => Reason::TooLarge,
        _ => Reason::Unclear,
    };
    Refusal {
        status: status.as_u16(),
        reason,
        retry_after,
        permission: (reason == Reason::Forbidden && !message.is_empty())
            .then(|| message.chars().take(300).collect()),
    }
}

/// Whether a 404 is about one object. Where the kind is not served, details are missing; where the namespace is missing on
/// a creation, they name the namespace, which is no object that is looked for here.
fn names_an_object(said: &Status) -> bool {
    said.reason == "NotFound"
        && said
            .details
            .as_ref()
            .is_some_and(|d| !d.name.is_empty() && d.kind != "namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::response::StatusDetails;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn said(reason: &str, message: &str) -> Status {
        Status::failure(message, reason)
    }

    fn about(status: Status, kind: &str, name: &str) -> Status {
        status.with_details(StatusDetails {
            name: name.to_owned(),
            group: String::new(),
            kind: kind.to_owned(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        })
    }

    #[test]
    fn each_answer_of_the_api_server_says_what_may_have_happened() {
        let missing = about(said("NotFound", "not found"), "sealedrecords", "x");
        let no_namespace = about(said("NotFound", "not found"), "namespaces", "x");
        let table: [(u16, Option<Status>, Reason); 22] = [
            (404, Some(missing), Reason::NotFound),
            (404, Some(no_namespace), Reason::NotNow),
            (
                404,
                Some(said(
                    "NotFound",
                    "the server could not find the requested resource",
                )),
                Reason::NotNow,
            ),
            (404, None, Reason::NotNow),
            (401, Some(said("Unauthorized", "Unauthorized")), Reason::NotNow),
            (
                409,
                Some(said("AlreadyExists", "already exists")),
                Reason::AlreadyExists,
            ),
            (
                409,
                Some(said("Conflict", "the object has been modified")),
                Reason::Conflict,
            ),
            (409, None, Reason::Unclear),
            (403, Some(said("Forbidden", "cannot list")), Reason::Forbidden),
            (
                403,
                Some(said("Forbidden", "x is forbidden: exceeded quota: q")),
                Reason::Full,
            ),
            (422, Some(said("Invalid", "too long")), Reason::Invalid),
            (413, None, Reason::TooLarge),
            (410, Some(said("Expired", "too old")), Reason::Expired),
            (429, Some(said("TooManyRequests", "")), Reason::TooMany),
            (503, Some(said("ServiceUnavailable", "")), Reason::NotNow),
            (503, None, Reason::Unclear),
            (504, Some(said("Timeout", "")), Reason::Unclear),
            (
                500,
                Some(said("", "etcdserver: mvcc: database space exceeded")),
                Reason::Full,
            ),
            (
                500,
                Some(said("", "etcdserver: request is too large")),
                Reason::TooLarge,
            ),
            (
                500,
                Some(said("InternalError", "etcdserver: leader changed")),
                Reason::Unclear,
            ),
            (500, None, Reason::Unclear),
            (507, Some(said("", "")), Reason::Full),
        ];
        for (code, status, expected) in table {
            let code = StatusCode::from_u16(code).unwrap();
            assert_eq!(
                judge(code, status.as_ref(), None).reason,
                expected,
                "{code} {status:?}"
            );
        }
    }

    #[test]
    fn only_texts_about_permissions_are_kept() {
        let denied = judge(
            StatusCode::FORBIDDEN,
            Some(&said("Forbidden", "cannot list pods")),
            None,
        );
        assert_eq!(denied.permission.as_deref(), Some("cannot list pods"));
        let invalid = judge(
            StatusCode::UNPROCESSABLE_ENTITY,
            Some(&said("Invalid", "quotes input")),
            None,
        );
        assert_eq!(invalid.permission, None);
    }

    async fn api_at(port: u16) -> Api {
        let config = kube::Config::new(format!("http://127.0.0.1:{port}").parse().unwrap());
        Api::connect(&config)
            .unwrap()
            .with_deadline(Duration::from_millis(500))
    }

    #[tokio::test]
    async fn a_refused_connection_was_surely_not_sent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = api_at(port).await.call(Ask::get("/version")).await.unwrap_err();
        assert_eq!(error, ApiError::NotSent);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_or_hangs_after_the_request_leaves_it_open_what_happened() {
        for answer in [
            None,
            Some(&b"HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{"[..]),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = [0_u8; 1024];
                let _ = stream.read(&mut seen).await;
                if let Some(bytes) = answer {
                    let _ = stream.write_all(bytes).await;
                }
            });
            let ask = Ask::write(Method::POST, "/x", b"{}".to_vec());
            assert_eq!(
                api_at(port).await.call(ask).await.unwrap_err(),
                ApiError::NoAnswer
            );
        }
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let ask = Ask::write(Method::POST, "/x", b"{}".to_vec());
        assert_eq!(
            api_at(port).await.call(ask).await.unwrap_err(),
            ApiError::NoAnswer
        );
    }
}
