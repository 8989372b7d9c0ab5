//! The vaults' listener: Azure Key Vault's REST API.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::time::timeout;
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
use crate::gate::{self, Admitted, Gate};
use crate::model::{Backup, ObjectName, Operation, SetSecret, UpdateSecret, VaultId};
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

    async fn answer(
        self: &Arc<Self>,
        visitor: Arc<Visitor<Memory>>,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        let under_way = visitor.pulse.begin();
        let (parts, mut body) = request.into_parts();
        let id = self.ids.next();
        let (status, data, hint, address) = match self.respond(&visitor, &parts, &mut body, &id).await {
            Ok(data) if data.is_empty() => (StatusCode::NO_CONTENT, data, Hint::None, None),
            Ok(data) => (StatusCode::OK, data, Hint::None, None),
            Err((fault, address)) => (fault.status, fault.body(), fault.hint, address),
        };
        discard(parts.version, body);
        let mut response = Response::new(Answer {
            data: Some(data),
            _under_way: under_way,
        });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        *headers = head::of_answer(id, head::client_request_id(&parts.headers).cloned());
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
                visitor.dismiss(parts.version, headers);
            }
            Hint::Close => {
                if parts.version < Version::HTTP_2 {
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
            }
        }
        response
    }
}

impl VaultFace {
    /// The answer's body. A failure comes with the address that it concerns, once that is known.
    async fn respond(
        &self,
        visitor: &Visitor<Memory>,
        parts: &Parts,
        body: &mut Incoming,
        id: &str,
    ) -> Result<Bytes, (Fault, Option<Address>)> {
        let address = Address::of_request(&parts.uri, &parts.headers, visitor.server_name.as_deref())
            .map_err(|host| (Fault::from(host), None))?;
        match self.respond_at(visitor, parts, body, &address, id).await {
            Ok(data) => Ok(data),
            Err(fault) => Err((fault, Some(address))),
        }
    }

    async fn respond_at(
        &self,
        visitor: &Visitor<Memory>,
        parts: &Parts,
        body: &mut Incoming,
        address: &Address,
        id: &str,
    ) -> Result<Bytes, Fault> {
        let vault = visitor.memory.vault.clone().ok_or(BadHost::Misdirected)?;
        // Who asks comes before everything else that may be wrong: an SDK's first request has no token, no body and
        // sometimes no more than a path, and must be challenged.
        let token = head::bearer(&parts.headers);
        let admitted = timeout(self.patience, self.gate.admit(&visitor.memory.gate, token)).await;
        let admitted = admitted.map_err(|_| Fault::NO_ANSWER)??;
        visitor.pulse.know();

        let target = route::find(&parts.method, parts.uri.path())?;
        let query = route::query(parts.uri.query().unwrap_or_default())?;
        let (api_version, max_results) = (query.api_version.clone(), query.max_results());
        let versions_of = match target.action {
            Action::ListSecretVersions => target.name.clone(),
            _ => None,
        };
        let operation = match target.action {
            Action::RestoreSecret => self.restore(&admitted, &vault, parts, body).await?,
            _ => self.operation(target, query, parts, body).await?,
        };
        let client_request_id = head::client_request_id(&parts.headers).and_then(|id| id.to_str().ok());
        let agent = parts.headers.get(header::USER_AGENT);
        let mut request = gate::Request::new(vault, operation)
            .host(address.as_str().to_owned())
            .api_version(&api_version)
            .client_request_id(client_request_id)
            .user_agent(agent.and_then(|agent| agent.to_str().ok()));
        if client_request_id.is_none() {
            request = request.request_id(id);
        }
        // A change goes on at the gate all the same.
        let performed = timeout(self.patience, self.gate.perform(admitted, request)).await;
        let reply = performed.map_err(|_| Fault::NO_ANSWER)??;
        let link = PageLink {
            api_version: &api_version,
            versions_of: versions_of.as_ref(),
            max_results,
        };
        let data = reply::write(&reply, address, &link).ok_or(Fault::INTERNAL)?;
        self.outlet.count(parts.version, data)
    }

    async fn operation(
        &self,
        target: Target,
        query: Query,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<Operation, Fault> {
        let Target {
            action,
            name,
            version,
        } = target;
        // Every route that comes here but the lists of secrets has a name in its path.
        let named = |name: Option<ObjectName>| name.ok_or(Fault::INTERNAL);
        Ok(match action {
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
            Action::RestoreSecret => return Err(Fault::INTERNAL),
            Action::SetSecret => {
                let set = body::set(self.intake.read(&parts.headers, body).await?)?;
                Operation::SetSecret(SetSecret {
                    name: named(name)?,
                    value: set.value,
                    content_type: set.content_type,
                    tags: set.tags,
                    attributes: set.attributes,
                })
            }
            Action::UpdateSecret => {
                let update = body::update(self.intake.read(&parts.headers, body).await?)?;
                Operation::UpdateSecret(UpdateSecret {
                    name: named(name)?,
                    version,
                    content_type: update.content_type,
                    tags: update.tags,
                    attributes: update.attributes,
                })
            }
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
