//! The one door to every value: identity, standing, network, policy, audit, engine, audit, in this order and no other.
//!
//! # Why
//! A request comes in through [`Gate::admit`] (who asks; a 401 is told before anything else is looked at) and
//! [`Gate::perform`] (may they; do it; it is on record). There is no other call that reaches the engine with a request,
//! and a projection to a node goes the same way, as the workload pod.

mod changes;
mod refusal;
mod request;
mod whence;

use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;

use crate::audit::{About, Asked, AuditLog, Line, Outcome};
use crate::engine::Engine;
use crate::identity::{ConnectionMemory, Identity, Proof, Rejection};
use crate::model::{
    Caller, Class, Clock, Moment, NodeCaller, Operation, OperationName, OwnedSecret, Reply, UnixSeconds,
    VaultId, VaultSummary,
};
use crate::policy::{self, Permit};
use crate::telemetry::Metrics;
use crate::world::{Shared, World};

pub use changes::{Change, Changes};
pub use refusal::{Reason, Refusal};
pub use request::Request;

/// What a gate is made of.
pub struct GateParts {
    /// The world that requests are judged by.
    pub world: Arc<Shared>,
    /// Who asks.
    pub identity: Identity,
    /// What is on record.
    pub audit: AuditLog,
    /// What is done.
    pub engine: Arc<Engine>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
}

/// The door.
pub struct Gate {
    parts: GateParts,
    changes: TaskTracker,
}

/// What is remembered for the life of a connection: where it comes from, and the last token that was good.
#[derive(Debug)]
pub struct Connection {
    peer: IpAddr,
    memory: Arc<ConnectionMemory>,
}

impl Connection {
    fn proof<'a>(&'a self, token: &'a str) -> Proof<'a> {
        Proof::Bearer {
            token,
            peer: self.peer,
            memory: &self.memory,
        }
    }
}

/// What became of a request at once.
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and does not live long"
)]
pub enum Begun {
    /// Memory told it all: it is to be recorded, by [`Gate::record`].
    Told(Told),
    /// It takes its time.
    Working(BoxFuture<'static, Result<Reply, Refusal>>),
}

/// An answer that nobody may hear before it is on record.
#[must_use]
pub struct Told<T = Reply> {
    name: OperationName,
    started: Moment,
    /// None where who asks could not be judged: that is no operation of a vault.
    line: Option<Line>,
    result: Result<T, Refusal>,
}

impl<T> Told<T> {
    /// The answer in another form, which nobody may hear either.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Told<U> {
        Told {
            name: self.name,
            started: self.started,
            line: self.line,
            result: self.result.map(form),
        }
    }
}

/// A caller who proved who they are. May they do anything? That is not decided yet.
#[derive(Debug, Clone)]
pub struct Admitted {
    caller: Arc<Caller>,
    peer: Option<IpAddr>,
    generation: u64,
}

impl Admitted {
    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// When the proof ends; none for callers whose proof is shown anew each time.
    #[must_use]
    pub fn expires(&self) -> Option<UnixSeconds> {
        match &*self.caller {
            Caller::ServiceAccount(account) => Some(account.expires),
            Caller::Operator => None,
        }
    }
}

/// A `node` process that proved which node it runs on.
#[derive(Debug, Clone)]
pub struct Node {
    caller: NodeCaller,
}

impl Node {
    /// Name of its node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.caller.node
    }

    /// When its own proof ends.
    #[must_use]
    pub const fn expires(&self) -> UnixSeconds {
        self.caller.expires
    }
}

impl Gate {
    /// A gate of these parts.
    #[must_use]
    pub fn new(parts: GateParts) -> Self {
        Self {
            parts,
            changes: TaskTracker::new(),
        }
    }

    /// What time it is for whoever stands before the gate.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// What is remembered of a new connection.
    #[must_use]
    pub fn connection(&self, peer: IpAddr) -> Connection {
        Connection {
            peer,
            memory: Arc::default(),
        }
    }

    /// Who asks, on the vaults' listener, where the connection remembers it; none where it has to be found out by
    /// [`Gate::admit`]. `token` is what follows `Bearer `.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub fn recall(&self, connection: &Connection, token: Option<&str>) -> Option<Result<Admitted, Refusal>> {
        let (now, world) = self.look().ok()?;
        let proof = connection.proof(token?);
        let result = self.parts.identity.recall(&proof, &world.liveness, now)?;
        Some(self.admitted(connection, &world, result))
    }

    /// Who asks, on the vaults' listener. `token` is what follows `Bearer `.
    ///
    /// # Errors
    /// 401 reasons; [`Reason::OutOfStanding`] where a token cannot be judged now. Without a token the answer is
    /// [`Reason::MissingToken`] whatever else is wrong: it starts the challenge of every Azure SDK.
    pub async fn admit(&self, connection: &Connection, token: Option<&str>) -> Result<Admitted, Refusal> {
        let Some(token) = token else {
            return Err(self.unauthenticated(connection, Refusal::missing_token()));
        };
        let (now, world) = self.look()?;
        let proof = connection.proof(token);
        let result = self.parts.identity.caller(&proof, &world.liveness, now).await;
        self.admitted(connection, &world, result)
    }

    fn admitted(
        &self,
        connection: &Connection,
        world: &World,
        result: Result<Arc<Caller>, Rejection>,
    ) -> Result<Admitted, Refusal> {
        match result {
            Ok(caller) => Ok(Admitted {
                caller,
                peer: Some(connection.peer),
                generation: world.generation,
            }),
            Err(rejection) => Err(self.unauthenticated(connection, Refusal::from(rejection))),
        }
    }

    /// `operate`, on the internal listener.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub async fn admit_operator(
        &self,
        connection: &Connection,
        token: Option<&str>,
    ) -> Result<Admitted, Refusal> {
        let Some(token) = token else {
            return Err(self.unauthenticated(connection, Refusal::missing_token()));
        };
        let (now, world) = self.look()?;
        let identity = &self.parts.identity;
        let result = identity
            .operator(token, connection.peer, &world.liveness, now)
            .await;
        self.admitted(connection, &world, result)
    }

    /// A node's process, on the internal listener.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub async fn admit_node(&self, connection: &Connection, token: Option<&str>) -> Result<Node, Refusal> {
        let Some(token) = token else {
            return Err(self.unauthenticated(connection, Refusal::missing_token()));
        };
        let (now, world) = self.look()?;
        match self
            .parts
            .identity
            .node(token, connection.peer, &world.liveness, now)
            .await
        {
            Ok(caller) => Ok(Node { caller }),
            Err(rejection) => Err(self.unauthenticated(connection, Refusal::from(rejection))),
        }
    }

    /// The workload pod in whose name a node asks. Asked for each delivery.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub async fn admit_workload(&self, node: &Node, token: &str) -> Result<Admitted, Refusal> {
        let (now, world) = self.look()?;
        let proof = Proof::Delivery {
            token,
            node: &node.caller,
        };
        match self.parts.identity.caller(&proof, &world.liveness, now).await {
            Ok(caller) => Ok(Admitted {
                caller,
                peer: None,
                generation: world.generation,
            }),
            Err(rejection) => Err(Refusal::from(rejection)),
        }
    }

    /// Decides, and does what was asked.
    ///
    /// A change goes on to its end, outcome on record included, even when the one who asked is gone.
    ///
    /// # Errors
    /// [`Refusal`], with the full reason for the log and the closed [`Reason`] for the caller.
    pub async fn perform(
        self: &Arc<Self>,
        admitted: Admitted,
        request: Request<'_>,
    ) -> Result<Reply, Refusal> {
        match self.begin(&admitted, request) {
            Begun::Told(told) => self.record(told).await,
            Begun::Working(work) => work.await,
        }
    }

    /// The first part of [`Gate::perform`]: decides, and does what memory alone can answer.
    pub fn begin(self: &Arc<Self>, admitted: &Admitted, request: Request<'_>) -> Begun {
        let (name, started) = (request.operation.name(), self.parts.clock.now());
        let told = |line, result| {
            Begun::Told(Told {
                name,
                started,
                line,
                result,
            })
        };
        let world = match self.look_at(started) {
            Ok(world) => world,
            Err(refusal) => return told(None, Err(refusal)),
        };
        if world.generation != admitted.generation
            && let Err(rejection) =
                self.parts
                    .identity
                    .still_lives(&admitted.caller, &world.liveness, started)
        {
            return told(None, Err(Refusal::from(rejection)));
        }
        let Request {
            vault,
            operation,
            about,
        } = request;
        let about = About {
            peer: admitted.peer,
            reached: Some(true),
            ..about
        };
        let asked = Asked::of(&operation);
        let audit = &self.parts.audit;
        let permit = match self.permit(&world, admitted, &vault, operation) {
            Ok(permit) => permit,
            Err(Unpermitted { refusal, reached }) => {
                let outcome = failure(&refusal);
                let about = About { reached, ..about };
                let line = audit.refused(&about, &admitted.caller, &vault, &asked, &outcome, started);
                return told(Some(line), Err(refusal));
            }
        };
        if let Some(result) = self.parts.engine.recall(&permit, started) {
            let result = result.map_err(Refusal::from);
            let (outcome, ended) = (outcome(&result), self.parts.clock.now());
            let line = audit.read(&about, &permit, &asked, &outcome, started, ended);
            return told(Some(line), result);
        }
        let (gate, about) = (Arc::clone(self), about.into_owned());
        Begun::Working(
            async move {
                let result = gate.work(about, permit, started).await;
                gate.count(name, started, &result);
                result
            }
            .boxed(),
        )
    }

    /// The second part of [`Gate::perform`]: what was told is on record before anybody hears it.
    ///
    /// # Errors
    /// As [`Gate::perform`].
    pub async fn record<T>(&self, told: Told<T>) -> Result<T, Refusal> {
        let Told {
            name,
            started,
            line,
            result,
        } = told;
        let recorded = match line {
            Some(line) => self.parts.audit.complete(line).await,
            None => Ok(()),
        };
        let result = match recorded {
            Ok(()) => result,
            Err(error) => Err(Refusal::from(error)),
        };
        self.count(name, started, &result);
        result
    }

    fn count<T>(&self, name: OperationName, started: Moment, result: &Result<T, Refusal>) {
        let now = self.parts.clock.now().monotonic;
        let took = now.saturating_duration_since(started.monotonic);
        let kind = result.as_ref().err().map(Refusal::kind);
        self.parts.metrics.request(name, kind, took);
    }

    async fn work(
        self: &Arc<Self>,
        about: About<'static>,
        permit: Permit,
        now: Moment,
    ) -> Result<Reply, Refusal> {
        match permit.operation().class() {
            Class::Read => self.do_on_record(about, permit, now).await,
            // On a task of its own from before its intent is on record: nobody who leaves can stop it half-way.
            Class::Change => {
                let gate = Arc::clone(self);
                let done = self
                    .changes
                    .spawn(async move { gate.do_on_record(about, permit, now).await });
                done.await
                    .unwrap_or_else(|_| Err(Refusal::internal("the change ended without an outcome")))
            }
        }
    }

    /// Waits for the changes that are under way, whoever asked for them is there or not, and for their outcomes to be on
    /// record. To be called once nobody asks any more.
    pub async fn settle(&self) {
        self.changes.close();
        self.changes.wait().await;
        if self.parts.audit.flush().await.is_err() {
            tracing::error!("the last lines of the audit log could not be written");
        }
    }

    async fn do_on_record(
        &self,
        about: About<'static>,
        permit: Permit,
        now: Moment,
    ) -> Result<Reply, Refusal> {
        // Reads need none: to do them again is what is asked.
        let request_id = match permit.operation().class() {
            Class::Read => None,
            Class::Change => about.client_request_id.clone(),
        };
        let entry = self.parts.audit.open(about, &permit, now).await?;
        let named = permit.operation().object().is_some();
        let result = self
            .parts
            .engine
            .perform(permit, request_id.as_deref(), now)
            .await
            .map_err(Refusal::from);
        let mut outcome = outcome(&result);
        if let (false, Ok(Reply::Secret(secret))) = (named, &result) {
            outcome.object = Some(secret.name.clone());
        }
        entry.close(&outcome, self.parts.clock.now()).await?;
        result
    }

    /// Whether that would be allowed now, for those who hold a stream open and ask whether anything changed for them. Nothing is
    /// done and nothing is on record; whatever is done later is decided then.
    ///
    /// # Errors
    /// What [`Gate::perform`] would answer before it does anything.
    pub fn foresee(&self, admitted: &Admitted, vault: &VaultId, operation: Operation) -> Result<(), Refusal> {
        let (now, world) = self.look()?;
        self.parts
            .identity
            .still_lives(&admitted.caller, &world.liveness, now)?;
        self.permit(&world, admitted, vault, operation)
            .map(drop)
            .map_err(|unpermitted| unpermitted.refusal)
    }

    /// Whether the caller's pod is being deleted. It keeps its access until it is gone.
    #[must_use]
    pub fn is_ending(&self, admitted: &Admitted) -> bool {
        let Caller::ServiceAccount(account) = &*admitted.caller else {
            return false;
        };
        let world = self.parts.world.load();
        account
            .pod
            .as_ref()
            .and_then(|pod| world.liveness.pod(&pod.uid))
            .is_some_and(|pod| pod.deleting)
    }

    /// Counts of every vault, for status: names of nothing but resources. It discloses no value and no object's name, so it
    /// is no operation of a vault and needs no permit.
    ///
    /// # Errors
    /// [`Reason::NotOnList`] for everybody but `operate`.
    pub fn summaries(&self, admitted: &Admitted) -> Result<Vec<VaultSummary>, Refusal> {
        match &*admitted.caller {
            Caller::Operator => Ok(self.parts.engine.summaries(self.parts.clock.now().wall)),
            Caller::ServiceAccount(_) => Err(Refusal::not_on_list()),
        }
    }

    /// What changes from now on, for those who hold a stream open.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::new(self.parts.world.generations(), self.parts.engine.subscribe())
    }

    /// Whether requests can be judged now.
    ///
    /// # Errors
    /// [`Reason::OutOfStanding`].
    pub fn standing(&self) -> Result<(), Refusal> {
        self.look().map(drop)
    }

    fn look(&self) -> Result<(Moment, Arc<World>), Refusal> {
        let now = self.parts.clock.now();
        Ok((now, self.look_at(now)?))
    }

    fn look_at(&self, now: Moment) -> Result<Arc<World>, Refusal> {
        self.parts.world.standing.check(now.monotonic)?;
        Ok(self.parts.world.load())
    }

    /// Vault found, then network, then policy. Whether a vault exists is told to callers of its own namespace alone: to
    /// others it looks like one that gives them nothing, wherever they call from.
    fn permit(
        &self,
        world: &World,
        admitted: &Admitted,
        vault: &VaultId,
        operation: Operation,
    ) -> Result<Permit, Unpermitted> {
        let caller = &admitted.caller;
        let own = match &**caller {
            Caller::ServiceAccount(account) => account.namespace == vault.namespace,
            Caller::Operator => true,
        };
        let Some(entry) = world.vaults.get(vault) else {
            let refusal = if own {
                Refusal::no_such_vault(vault)
            } else {
                Refusal::from(policy::Index::refuse(caller, vault, &operation))
            };
            return Err(Unpermitted {
                refusal,
                reached: None,
            });
        };
        let parts = &self.parts;
        let reaches = whence::reaches(world, &parts.identity, &parts.engine, admitted, entry);
        let reached = match &reaches {
            Ok(()) => Some(true),
            Err(refusal) => (refusal.reason == Reason::NotReachable).then_some(false),
        };
        let unpermitted = |refusal| Unpermitted { refusal, reached };
        let permit = || {
            let decided = world.policy.decide(caller, entry, operation, world.generation);
            decided.map_err(|denial| unpermitted(Refusal::from(denial)))
        };
        if own {
            reaches.map_err(unpermitted)?;
            return permit();
        }
        let permit = permit()?;
        reaches.map_err(unpermitted)?;
        Ok(permit)
    }

    fn unauthenticated(&self, connection: &Connection, refusal: Refusal) -> Refusal {
        let now = self.parts.clock.now();
        self.parts.metrics.request(
            OperationName::Authentication,
            Some(refusal.kind()),
            std::time::Duration::ZERO,
        );
        self.parts
            .audit
            .unauthenticated(connection.peer, &failure(&refusal), now);
        refusal
    }
}

/// A request that was not permitted.
struct Unpermitted {
    refusal: Refusal,
    /// Whether the vault may be called from there, where that was looked at.
    reached: Option<bool>,
}

fn outcome(result: &Result<Reply, Refusal>) -> Outcome {
    match result {
        Ok(Reply::Purged) => Outcome::gone(),
        Ok(reply) => Outcome::success(match reply {
            Reply::Secret(secret) => Some(secret.version),
            Reply::Deleted(deleted) => Some(deleted.secret.version),
            Reply::Owned(OwnedSecret::Live { version }) => Some(*version),
            Reply::Owned(OwnedSecret::Deleted | OwnedSecret::Foreign | OwnedSecret::Absent)
            | Reply::Page(_)
            | Reply::DeletedPage(_)
            | Reply::Purged
            | Reply::Backup(_)
            | Reply::VaultReady => None,
        }),
        Err(refusal) => failure(refusal),
    }
}

const fn failure(refusal: &Refusal) -> Outcome {
    Outcome::failure(refusal.kind(), refusal.reason.as_str())
}
