//! The one door to every value: rates, identity, standing, network, policy, audit, engine, audit, in this order and no
//! other.
//!
//! # Why
//! A request comes in through [`Gate::admit`] (who asks; a 401 is told before anything but the address is looked at) and
//! [`Gate::perform`] (may they; do it; it is on record). There is no other call that reaches the engine with a request,
//! and a projection to a node goes the same way, as the workload pod.

mod changes;
mod lifecycle;
mod rates;
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
use crate::failpoints::{Point, here};
use crate::identity::{ConnectionMemory, Identity, Proof, Rejection};
use crate::model::{
    Caller, Class, Clock, Moment, NodeCaller, Operation, OperationName, OwnedSecret, Reply, UnixSeconds,
    VaultId, VaultSummary,
};
use crate::policy::{self, Permit};
use crate::telemetry::Metrics;
use crate::telemetry::sampler::Sampler;
use crate::world::{Shared, World};

use rates::{Door, Drawn, Held, Limits, TooMuch};

pub use changes::{Change, Changes};
pub use lifecycle::{Declared, Kept};
pub use rates::Rates;
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
    /// How much may be asked for.
    pub rates: Rates,
    /// How many vaults may be deleted within an hour, whatever part of all they are.
    pub deletions_per_hour: usize,
}

/// The door.
pub struct Gate {
    parts: GateParts,
    limits: Limits,
    throttled: Sampler,
    changes: TaskTracker,
}

/// What is remembered for the life of a connection: where it comes from, and the last token that was good.
#[derive(Debug)]
pub struct Connection {
    peer: IpAddr,
    /// Where its address is counted.
    share: Drawn,
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
    /// It is under way until it is on record.
    held: Option<Held>,
}

impl<T> Told<T> {
    /// The answer in another form, which nobody may hear either.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Told<U> {
        Told {
            name: self.name,
            started: self.started,
            line: self.line,
            result: self.result.map(form),
            held: self.held,
        }
    }
}

/// A caller who proved who they are. May they do anything? That is not decided yet.
#[derive(Debug, Clone)]
pub struct Admitted {
    caller: Arc<Caller>,
    peer: Option<IpAddr>,
    /// Where the caller is counted. Our own processes are not, nor is what a node asks for its pods' volumes: how much of that
    /// there is at once the node's connection bounds.
    share: Option<Drawn>,
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
            Caller::Operator | Caller::Clock => None,
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
            limits: Limits::new(parts.rates, parts.clock.now().monotonic),
            throttled: Sampler::default(),
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
            share: self.limits.draw_address(peer),
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
        let may_ask = self.may_ask(Door::Vaults, connection, now);
        Some(may_ask.and_then(|()| self.admitted(connection, &world, now, result)))
    }

    /// Who asks, on the vaults' listener. `token` is what follows `Bearer `.
    ///
    /// # Errors
    /// [`Reason::Throttled`] where an address or a caller asks for too much; 401 reasons; [`Reason::OutOfStanding`] where a
    /// token cannot be judged now. Without a token the answer is [`Reason::MissingToken`] whatever else is wrong: it starts
    /// the challenge of every Azure SDK.
    pub async fn admit(&self, connection: &Connection, token: Option<&str>) -> Result<Admitted, Refusal> {
        let now = self.parts.clock.now();
        self.may_ask(Door::Vaults, connection, now)?;
        let Some(token) = token else {
            return Err(self.unauthenticated(connection, Refusal::missing_token()));
        };
        let world = self.look_at(now)?;
        let proof = connection.proof(token);
        let result = self.parts.identity.caller(&proof, &world.liveness, now).await;
        self.admitted(connection, &world, now, result)
    }

    /// Who proved who they are, counted before anything that they send is read.
    fn admitted(
        &self,
        connection: &Connection,
        world: &World,
        now: Moment,
        result: Result<Arc<Caller>, Rejection>,
    ) -> Result<Admitted, Refusal> {
        let caller =
            result.map_err(|rejection| self.unauthenticated(connection, Refusal::from(rejection)))?;
        let share = match &*caller {
            Caller::ServiceAccount(account) => Some(self.limits.draw_caller(account)),
            Caller::Operator | Caller::Clock => None,
        };
        let counted = share.map(|share| self.limits.caller(share, now.monotonic));
        counted.transpose().map_err(|too_much| {
            let refusal = self.too_much(&caller, too_much, now);
            self.unidentified(&refusal);
            refusal
        })?;
        Ok(Admitted {
            caller,
            peer: Some(connection.peer),
            share,
            generation: world.generation,
        })
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
        let now = self.parts.clock.now();
        self.may_ask(Door::Internal, connection, now)?;
        let Some(token) = token else {
            return Err(self.unauthenticated(connection, Refusal::missing_token()));
        };
        let world = self.look_at(now)?;
        let identity = &self.parts.identity;
        let result = identity
            .operator(token, connection.peer, &world.liveness, now)
            .await;
        self.admitted(connection, &world, now, result)
    }

    /// A node's process, on the internal listener.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub async fn admit_node(&self, connection: &Connection, token: Option<&str>) -> Result<Node, Refusal> {
        let now = self.parts.clock.now();
        self.may_ask(Door::Internal, connection, now)?;
        let Some(token) = token else {
            return Err(self.unauthenticated(connection, Refusal::missing_token()));
        };
        let world = self.look_at(now)?;
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
                share: None,
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
        let told = |held, line, result| {
            Begun::Told(Told {
                name,
                started,
                line,
                result,
                held,
            })
        };
        let world = match self.look_at(started) {
            Ok(world) => world,
            Err(refusal) => return told(None, None, Err(refusal)),
        };
        let begun = admitted.share.map(|share| self.limits.begin_request(share));
        let held = match begun.transpose() {
            Ok(held) => held,
            Err(too_much) => {
                let refusal = self.too_much(&admitted.caller, too_much, started);
                return told(None, None, Err(refusal));
            }
        };
        if world.generation != admitted.generation
            && let Err(rejection) =
                self.parts
                    .identity
                    .still_lives(&admitted.caller, &world.liveness, started)
        {
            return told(held, None, Err(Refusal::from(rejection)));
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
                return told(held, Some(line), Err(refusal));
            }
        };
        if admitted.share.is_some()
            && let Err(too_much) = self
                .limits
                .vault(&vault, permit.operation().name(), started.monotonic)
        {
            let refusal = self.too_much(&admitted.caller, too_much, started);
            return told(held, None, Err(refusal));
        }
        if let Some(result) = self.parts.engine.recall(&permit, started) {
            let result = result.map_err(Refusal::from);
            let (outcome, ended) = (outcome(&result), self.parts.clock.now());
            let line = audit.read(&about, &permit, &asked, &outcome, started, ended);
            return told(held, Some(line), result);
        }
        let (gate, about, share) = (Arc::clone(self), about.into_owned(), admitted.share);
        Begun::Working(
            async move {
                let _held = held;
                let result = gate.work(share, about, permit, started).await;
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
            held: _held,
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
        share: Option<Drawn>,
        about: About<'static>,
        permit: Permit,
        now: Moment,
    ) -> Result<Reply, Refusal> {
        match permit.operation().class() {
            Class::Read => self.do_on_record(about, permit, now).await,
            // On a task of its own from before its intent is on record: nobody who leaves can stop it half-way.
            Class::Change => {
                // Held to the end: what waits for its turn at an object holds a place in the audit log, and those are
                // everybody's.
                let begun = share.map(|share| self.limits.begin_change(share));
                let held = begun
                    .transpose()
                    .map_err(|too_much| self.too_much(permit.caller(), too_much, now))?;
                let gate = Arc::clone(self);
                let done = self.changes.spawn(async move {
                    let _held = held;
                    gate.do_on_record(about, permit, now).await
                });
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
        let class = permit.operation().class();
        // Reads need none: to do them again is what is asked.
        let request_id = match class {
            Class::Read => None,
            Class::Change => about.client_request_id.clone(),
        };
        let entry = self.parts.audit.open(about, &permit, now).await?;
        if class == Class::Change {
            here(Point::IntentRecorded);
        }
        let named = permit.operation().object().is_some();
        let result = self
            .parts
            .engine
            .perform(permit, request_id.as_deref(), now)
            .await
            .map_err(Refusal::from);
        if class == Class::Change && result.is_ok() {
            here(Point::EffectMade);
        }
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
            Caller::ServiceAccount(_) | Caller::Clock => Err(Refusal::not_on_list()),
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

    /// Whether one more request may come from there. Whatever it shows has not been looked at.
    fn may_ask(&self, door: Door, connection: &Connection, now: Moment) -> Result<(), Refusal> {
        self.limits
            .address(door, connection.share, now.monotonic)
            .map_err(|too_much| {
                self.parts.metrics.throttled(too_much.of);
                self.unauthenticated(connection, Refusal::from(too_much))
            })
    }

    /// What a caller asks too much of is counted and sampled, so that no flood of it fills the audit log.
    fn too_much(&self, caller: &Caller, too_much: TooMuch, now: Moment) -> Refusal {
        self.parts.metrics.throttled(too_much.of);
        if self.throttled.takes(now) {
            let caller = policy::caller_name(caller);
            tracing::warn!(caller, limit = ?too_much.of, "a caller asks for too much and is told to wait");
        }
        Refusal::from(too_much)
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
            Caller::Operator | Caller::Clock => true,
        };
        // What the clock ends is declared by nobody any more.
        let stored = operation.stored_vault().map(|stored| Arc::new(stored.entry()));
        let Some(entry) = stored.as_ref().or_else(|| world.vaults.get(vault)) else {
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

    /// Counts what was refused before it was known what is asked.
    fn unidentified(&self, refusal: &Refusal) {
        let (name, kind) = (OperationName::Authentication, Some(refusal.kind()));
        self.parts.metrics.request(name, kind, std::time::Duration::ZERO);
    }

    fn unauthenticated(&self, connection: &Connection, refusal: Refusal) -> Refusal {
        let now = self.parts.clock.now();
        self.unidentified(&refusal);
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
            | Reply::VaultReady
            | Reply::VaultDeleted
            | Reply::NotDue => None,
        }),
        Err(refusal) => failure(refusal),
    }
}

const fn failure(refusal: &Refusal) -> Outcome {
    Outcome::failure(refusal.kind(), refusal.reason.as_str())
}
