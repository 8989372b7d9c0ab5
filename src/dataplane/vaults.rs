//! The vaults' listener: Azure Key Vault's REST API.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::body;
use super::fault::{Fault, Hint};
use super::head::{self, RequestIds};
use super::host::{Address, BadHost};
use super::intake::{Intake, Outlet, discard};
use super::limits::{BACKUP_BODY_BYTES, BACKUP_BODY_TIME, BODY_BYTES, Limits};
use super::listener::{self, Counts, Face, Visitor};
use super::pulse::UnderWay;
use super::reply::{self, PageLink};
use super::route::{self, Action, Query, Target};
use crate::gate::{self, Admitted, Begun, Gate, Refusal, Told};
use crate::model::{Backup, ObjectName, Operation, Reply, SetSecret, UpdateSecret, VaultId};
use crate::telemetry::Metrics;
use crate::telemetry::metrics as labels;
use crate::tls::HostRule;

/// What the vaults' listener is made of.
pub struct Vaults {
    /// The one door.
    pub gate: Arc<Gate>,
    /// Which hosts are vaults.
    pub hosts: HostRule,
    /// Where tokens come from, as the challenge says it: `https://{host}/{tenant}`.
    pub authority: String,
    /// What clients are allowed.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Serves vaults until `stop`, then lets what is under way end. Cancelled requests that change something are carried to
/// their end by the gate.
pub async fn serve_vaults(tcp: TcpListener, tls: Arc<ServerConfig>, vaults: Vaults, stop: CancellationToken) {
    let Vaults {
        gate,
        hosts,
        authority,
        limits,
        metrics,
    } = vaults;
    let (intake, patience) = (Intake::new(BODY_BYTES, limits.body), limits.answer);
    let face = Arc::new(VaultFace {
        gate,
        hosts,
        authority,
        intake,
        backups: Intake::new(BACKUP_BODY_BYTES, BACKUP_BODY_TIME),
        outlet: Outlet::default(),
        patience,
        throttled: limits.throttled,
        ids: RequestIds::default(),
    });
    let counts = Counts {
        metrics,
        listener: labels::Listener::Vaults,
    };
    listener::run(tcp, tls, limits, counts, face, stop).await;
}

/// What is kept of a connection.
#[derive(Debug)]
struct Memory {
    gate: gate::Connection,
    /// The vault of the name that the connection was opened under; every request's Host must be that name.
    vault: Option<VaultId>,
}

struct VaultFace {
    gate: Arc<Gate>,
    hosts: HostRule,
    authority: String,
    intake: Intake,
    /// Bodies that bring backups have a room of their own.
    backups: Intake,
    outlet: Outlet,
    patience: Duration,
    throttled: Duration,
    ids: RequestIds,
}

impl Face for VaultFace {
    type Memory = Memory;
    type Answer = Answer;

    fn meet(&self, peer: SocketAddr, server_name: Option<&str>) -> Memory {
        Memory {
            gate: self.gate.connection(peer.ip()),
            vault: server_name.and_then(|name| self.hosts.vault(&name.to_ascii_lowercase())),
        }
    }

    fn answer(
        self: Arc<Self>,
        visitor: Arc<Visitor<Memory>>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Answer>> + Send {
        let under_way = visitor.pulse.begin();
        let id = self.ids.next();
        let (version, client_request_id) = (
            request.version(),
            head::client_request_id(request.headers()).and_then(unshared),
        );
        // What memory answers is answered here and now: before the protocol looks for the next request, whose bytes could not
        // take the place of this one's otherwise, and with a small future.
        let first = self.first(&visitor, request, &id);
        async move {
            let responded = match first {
                First::Told(told, address) => match self.gate.record(told).await {
                    Ok(Ok(data)) => Ok(data),
                    Ok(Err(fault)) => Err((fault, Some(address))),
                    Err(refusal) => Err((Fault::from(refusal), Some(address))),
                },
                First::Failed(failed) => Err(*failed),
                First::Working(work) => work.await,
            };
            if let Err((fault, _)) = &responded
                && fault.status == StatusCode::TOO_MANY_REQUESTS
            {
                Box::pin(sleep(self.throttled)).await;
            }
            self.finish(&visitor, version, id, client_request_id, responded, under_way)
        }
    }
}

/// What became of a request at once.
enum First {
    /// It is answered, once that is on record. The address is what a failure concerns.
    Told(Told<Result<Bytes, Fault>>, Address),
    /// It is refused before the gate.
    Failed(Box<Failed>),
    /// It takes its time.
    Working(BoxFuture<'static, Result<Bytes, Failed>>),
}

/// How far a request is at once.
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and does not live long"
)]
enum Start {
    /// Begun.
    Begun(Begun, Asked),
    /// It waits for its body, or for who asks: none where the connection does not remember them.
    Waits(Option<Admitted>),
}

/// A fault, and the address that it concerns, once that is known.
type Failed = (Fault, Option<Address>);

/// The same value in bytes of its own.
fn unshared(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

impl VaultFace {
    fn first(
        self: &Arc<Self>,
        visitor: &Arc<Visitor<Memory>>,
        request: Request<Incoming>,
        id: &str,
    ) -> First {
        let (parts, body) = request.into_parts();
        let server_name = visitor.server_name.as_deref();
        let address = match Address::of_request(&parts.uri, &parts.headers, server_name) {
            Ok(address) => address,
            Err(host) => {
                discard(parts.version, body);
                return First::Failed(Box::new((Fault::from(host), None)));
            }
        };
        let begun = match self.begin(visitor, &parts, &address, id) {
            Ok(Start::Begun(begun, asked)) => (begun, asked),
            Ok(Start::Waits(admitted)) => {
                let (face, visitor, id) = (Arc::clone(self), Arc::clone(visitor), id.to_owned());
                return First::Working(
                    async move {
                        let responded = face.respond(&visitor, admitted, parts, body, &address, &id).await;
                        responded.map_err(|fault| (fault, Some(address)))
                    }
                    .boxed(),
                );
            }
            Err(fault) => {
                discard(parts.version, body);
                return First::Failed(Box::new((fault, Some(address))));
            }
        };
        discard(parts.version, body);
        match begun {
            (Begun::Told(told), asked) => First::Told(
                told.map(|reply| self.write(parts.version, &reply, &address, &asked)),
                address,
            ),
            (Begun::Working(work), asked) => {
                let face = Arc::clone(self);
                First::Working(
                    async move {
                        let data = face.wait(work).await;
                        data.and_then(|reply| face.write(parts.version, &reply, &address, &asked))
                            .map_err(|fault| (fault, Some(address)))
                    }
                    .boxed(),
                )
            }
        }
    }

    /// Begins what needs neither a body nor anything of a caller whom the connection does not remember.
    fn begin(
        &self,
        visitor: &Visitor<Memory>,
        parts: &Parts,
        address: &Address,
        id: &str,
    ) -> Result<Start, Fault> {
        let vault = visitor.memory.vault.as_ref().ok_or(BadHost::Misdirected)?;
        let Some(admitted) = self
            .gate
            .recall(&visitor.memory.gate, head::bearer(&parts.headers))
        else {
            return Ok(Start::Waits(None));
        };
        let admitted = admitted?;
        visitor.pulse.know();
        let (target, asked) = Asked::read(parts)?;
        let Some(operation) = without_body(target, &asked.query)? else {
            return Ok(Start::Waits(Some(admitted)));
        };
        let request = request(vault, operation, parts, address, id, &asked);
        Ok(Start::Begun(self.gate.begin(&admitted, request), asked))
    }

    async fn respond(
        &self,
        visitor: &Visitor<Memory>,
        admitted: Option<Admitted>,
        parts: Parts,
        mut body: Incoming,
        address: &Address,
        id: &str,
    ) -> Result<Bytes, Fault> {
        let responded = self
            .respond_to(visitor, admitted, &parts, &mut body, address, id)
            .await;
        discard(parts.version, body);
        responded
    }

    async fn respond_to(
        &self,
        visitor: &Visitor<Memory>,
        admitted: Option<Admitted>,
        parts: &Parts,
        body: &mut Incoming,
        address: &Address,
        id: &str,
    ) -> Result<Bytes, Fault> {
        let vault = visitor.memory.vault.as_ref().ok_or(BadHost::Misdirected)?;
        // Who asks comes before everything else that may be wrong: an SDK's first request has no token, no body and
        // sometimes no more than a path, and must be challenged.
        let admitted = match admitted {
            Some(admitted) => admitted,
            None => {
                let token = head::bearer(&parts.headers);
                let admitted = timeout(self.patience, self.gate.admit(&visitor.memory.gate, token)).await;
                admitted.map_err(|_| Fault::NO_ANSWER)??
            }
        };
        visitor.pulse.know();

        let (target, asked) = Asked::read(parts)?;
        let operation = match target.action {
            Action::SetSecret | Action::UpdateSecret => self.with_body(target, parts, body).await?,
            Action::RestoreSecret => self.restore(&admitted, vault, parts, body).await?,
            _ => without_body(target, &asked.query)?.ok_or(Fault::INTERNAL)?,
        };
        let request = request(vault, operation, parts, address, id, &asked);
        let reply = match self.gate.begin(&admitted, request) {
            Begun::Told(told) => self.gate.record(told).await?,
            Begun::Working(work) => self.wait(work).await?,
        };
        self.write(parts.version, &reply, address, &asked)
    }

    /// Waits as long as clients do. A change goes on at the gate all the same.
    async fn wait(&self, work: BoxFuture<'static, Result<Reply, Refusal>>) -> Result<Reply, Fault> {
        let performed = timeout(self.patience, work).await;
        Ok(performed.map_err(|_| Fault::NO_ANSWER)??)
    }

    fn write(
        &self,
        version: Version,
        reply: &Reply,
        address: &Address,
        asked: &Asked,
    ) -> Result<Bytes, Fault> {
        let link = PageLink {
            api_version: &asked.query.api_version,
            versions_of: asked.versions_of.as_ref(),
            max_results: asked.query.max_results(),
        };
        let data = reply::write(reply, address, &link).ok_or(Fault::INTERNAL)?;
        self.outlet.count(version, data)
    }

    fn finish(
        &self,
        visitor: &Visitor<Memory>,
        version: Version,
        id: String,
        client_request_id: Option<HeaderValue>,
        responded: Result<Bytes, Failed>,
        under_way: UnderWay,
    ) -> Response<Answer> {
        let (status, data, hint, address) = match responded {
            Ok(data) if data.is_empty() => (StatusCode::NO_CONTENT, data, Hint::None, None),
            Ok(data) => (StatusCode::OK, data, Hint::None, None),
            Err((fault, address)) => (fault.status, fault.body(), fault.hint, address),
        };
        let mut response = Response::new(Answer {
            data: Some(data),
            _under_way: under_way,
        });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        *headers = head::of_answer(id, client_request_id);
        if status == StatusCode::NO_CONTENT {
            headers.remove(header::CONTENT_TYPE);
        }
        match hint {
            Hint::None => {}
            Hint::Challenge => {
                if let Some(challenge) = address.and_then(|address| self.challenge(&address)) {
                    headers.insert(header::WWW_AUTHENTICATE, challenge);
                }
            }
            Hint::Allow(methods) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(methods));
            }
            Hint::RetryAfter(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
            }
            Hint::Elsewhere(seconds) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(u16::from(seconds)));
                visitor.dismiss(version, headers);
            }
            Hint::Close => {
                if version < Version::HTTP_2 {
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
            }
        }
        response
    }

    async fn with_body(
        &self,
        target: Target,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<Operation, Fault> {
        let name = target.name.ok_or(Fault::INTERNAL)?;
        let body = self.intake.read(&parts.headers, body).await?;
        Ok(match target.action {
            Action::SetSecret => {
                let set = body::set(body)?;
                Operation::SetSecret(SetSecret {
                    name,
                    value: set.value,
                    content_type: set.content_type,
                    tags: set.tags,
                    attributes: set.attributes,
                })
            }
            Action::UpdateSecret => {
                let update = body::update(body)?;
                Operation::UpdateSecret(UpdateSecret {
                    name,
                    version: target.version,
                    content_type: update.content_type,
                    tags: update.tags,
                    attributes: update.attributes,
                })
            }
            _ => return Err(Fault::INTERNAL),
        })
    }

    /// A restore. Its body may be large, so that of a caller who may not restore is not read: the gate refuses them for
    /// an empty one, on record as any other.
    async fn restore(
        &self,
        admitted: &Admitted,
        vault: &VaultId,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<Operation, Fault> {
        let nothing = || Operation::RestoreSecret {
            backup: Backup(Vec::new()),
        };
        if self.gate.foresee(admitted, vault, nothing()).is_err() {
            return Ok(nothing());
        }
        let body = self.backups.read(&parts.headers, body).await?;
        Ok(Operation::RestoreSecret {
            backup: body::restore(&body)?,
        })
    }

    /// In the one shape that the challenge parsers of all six Azure SDKs read.
    fn challenge(&self, address: &Address) -> Option<HeaderValue> {
        let text = format!(
            r#"Bearer authorization="{}", resource="https://{}""#,
            self.authority,
            address.parent()
        );
        HeaderValue::try_from(text).ok()
    }
}

/// What is asked beside the operation itself: the shape of its answer.
struct Asked {
    query: Query,
    /// The versions of this secret; none for all else.
    versions_of: Option<ObjectName>,
}

impl Asked {
    fn read(parts: &Parts) -> Result<(Target, Self), Fault> {
        let target = route::find(&parts.method, parts.uri.path())?;
        let query = route::query(parts.uri.query().unwrap_or_default())?;
        let versions_of = match target.action {
            Action::ListSecretVersions => target.name.clone(),
            _ => None,
        };
        Ok((target, Self { query, versions_of }))
    }
}

/// An operation that needs no body; none where one is needed.
fn without_body(target: Target, query: &Query) -> Result<Option<Operation>, Fault> {
    let Target {
        action,
        name,
        version,
    } = target;
    // Every route that comes here but the lists of secrets has a name in its path.
    let named = |name: Option<ObjectName>| name.ok_or(Fault::INTERNAL);
    Ok(Some(match action {
        Action::ListSecrets => Operation::ListSecrets(query.page()),
        Action::ListSecretVersions => Operation::ListSecretVersions {
            name: named(name)?,
            page: query.page(),
        },
        Action::GetSecret => Operation::GetSecret {
            name: named(name)?,
            version,
        },
        Action::DeleteSecret => Operation::DeleteSecret { name: named(name)? },
        Action::ListDeletedSecrets => Operation::ListDeletedSecrets(query.page()),
        Action::GetDeletedSecret => Operation::GetDeletedSecret { name: named(name)? },
        Action::RecoverSecret => Operation::RecoverSecret { name: named(name)? },
        Action::PurgeSecret => Operation::PurgeSecret { name: named(name)? },
        Action::BackupSecret => Operation::BackupSecret { name: named(name)? },
        Action::SetSecret | Action::UpdateSecret | Action::RestoreSecret => return Ok(None),
    }))
}

/// The request as the gate takes it.
fn request<'a>(
    vault: &VaultId,
    operation: Operation,
    parts: &'a Parts,
    address: &'a Address,
    id: &'a str,
    asked: &'a Asked,
) -> gate::Request<'a> {
    let client_request_id = head::client_request_id(&parts.headers).and_then(|id| id.to_str().ok());
    let agent = parts.headers.get(header::USER_AGENT);
    let request = gate::Request::new(vault.clone(), operation)
        .host(address.as_str())
        .api_version(&asked.query.api_version)
        .client_request_id(client_request_id)
        .user_agent(agent.and_then(|agent| agent.to_str().ok()));
    match client_request_id {
        Some(_) => request,
        None => request.request_id(id),
    }
}

/// The whole answer, in one piece.
pub(super) struct Answer {
    data: Option<Bytes>,
    _under_way: UnderWay,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(
            self.data
                .as_ref()
                .map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX)),
        )
    }
}
