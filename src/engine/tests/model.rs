//! The model test: writers on two replicas whose memory lags, over a store that loses answers, against what a user may rely on.
//! Each schedule follows from its seed: who runs next, what the store does, who is cut off, when a replica hears of a change,
//! lists anew or is killed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use super::shaky::{Dice, Mood, Shaky};
use super::support::*;
use crate::engine::Engine;
use crate::engine::Error;
use crate::model::{Operation, Reply, VaultEntry, Version};
use crate::store::{Record, SealedStore as _, StoreError, StoreEvent};

const SCHEDULES: u64 = 3_000;
const STEPS: usize = 130;
const WRITERS: usize = 4;
const NAMES: [&str; 2] = ["alpha", "beta"];

#[test]
fn no_acknowledged_version_is_lost_doubled_or_out_of_order_whatever_the_store_does() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let told: Vec<Told> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || run_every(first, threads)))
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // A test in which nothing happens proves nothing.
    let enough = |count: fn(&Told) -> usize| told.iter().map(count).sum::<usize>() > SCHEDULES as usize / 10;
    assert!(
        enough(|told| told.sets) && enough(|told| told.updates) && enough(|told| told.deletes),
        "{told:?}"
    );
    assert!(
        enough(|told| told.reads) && enough(|told| told.refusals) && enough(|told| told.unclear),
        "{told:?}"
    );
    assert!(enough(|told| told.tried_again), "{told:?}");
}

fn run_every(first: usize, nth: usize) -> Told {
    let mut told = Told::default();
    for seed in (0..SCHEDULES).skip(first).step_by(nth) {
        let history = Schedule::new(seed).run();
        if let Err(broken) = history.check() {
            panic!("seed {seed}: {broken}\n{history:#?}");
        }
        told.add(&history);
    }
    told
}

/// What happened in all schedules.
#[derive(Debug, Default)]
struct Told {
    sets: usize,
    updates: usize,
    deletes: usize,
    reads: usize,
    refusals: usize,
    unclear: usize,
    tried_again: usize,
}

impl Told {
    fn add(&mut self, history: &History) {
        for call in &history.calls {
            match (&call.what, &call.outcome) {
                (What::Set { .. }, Outcome::Done(_)) => self.sets += 1,
                (What::Update { .. }, Outcome::Done(_)) => self.updates += 1,
                (What::Delete, Outcome::Done(_)) => self.deletes += 1,
                (What::Get, Outcome::Done(_)) => self.reads += 1,
                (_, Outcome::Refused(_)) => self.refusals += 1,
                (_, Outcome::Unclear) => self.unclear += 1,
                (_, Outcome::NotDone) => {}
            }
        }
        self.tried_again += history.writes.saturating_sub(history.changes());
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Set {
        value: String,
    },
    /// Of a certain version, to this content type.
    Update {
        version: Version,
        content_type: String,
    },
    Delete,
    Get,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// With the version that was made, changed or read.
    Done(Version),
    Refused(Error),
    /// Told that nothing was done.
    NotDone,
    /// Cut off, or told that nobody knows.
    Unclear,
}

#[derive(Debug, Clone)]
struct Call {
    replica: usize,
    name: &'static str,
    what: What,
    begun: usize,
    ended: usize,
    outcome: Outcome,
}

#[derive(Debug, Default)]
struct History {
    calls: Vec<Call>,
    stored: BTreeMap<&'static str, Stored>,
    writes: usize,
}

type Running = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

struct Replica {
    engine: Arc<Engine>,
    feed: BoxStream<'static, Result<StoreEvent, StoreError>>,
    /// A list that was made and not taken in yet.
    list: Option<(Vec<Record>, u64)>,
}

impl Replica {
    fn start(store: &Shaky) -> Self {
        let engine = Arc::new(engine(store));
        let revision = engine.relist().now_or_never().unwrap().unwrap();
        Self {
            engine,
            feed: store.watch(revision),
            list: None,
        }
    }
}

struct Schedule {
    dice: Dice,
    store: Shaky,
    vault: Arc<VaultEntry>,
    replicas: Vec<Replica>,
    running: Vec<Option<(Call, Running)>>,
    history: History,
    step: usize,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let store = Shaky::new(seed, Mood::Calm);
        let vault = vault("demo");
        let first = engine(&store);
        drive(ensure(&first, &vault));
        store.set_mood(Mood::Rough(4 + (seed % 12) as usize));
        let replicas = (0..2).map(|_| Replica::start(&store)).collect();
        Self {
            dice: Dice::new(seed ^ 0x5eed),
            store,
            vault,
            replicas,
            running: (0..WRITERS).map(|_| None).collect(),
            history: History::default(),
            step: 0,
        }
    }

    fn run(mut self) -> History {
        while self.step < STEPS {
            self.step += 1;
            match self.dice.below(100) {
                0..65 => self.advance_a_writer(),
                65..85 => self.tell_a_replica(),
                85..91 => {
                    let choice = self.dice.below(100);
                    self.store.land(choice);
                }
                91..93 => self.cut_off_a_writer(),
                93..96 => self.list_for_a_replica(),
                96..99 => self.take_in_a_list(),
                _ => self.kill_a_replica(),
            }
        }
        self.finish()
    }

    fn advance_a_writer(&mut self) {
        let writer = self.dice.below(WRITERS);
        let (call, mut future) = match self.running[writer].take() {
            Some(running) => running,
            None => self.begin(),
        };
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => self.running[writer] = Some((call, future)),
            Poll::Ready(result) => self.end(call, outcome(result)),
        }
    }

    fn begin(&mut self) -> (Call, Running) {
        let replica = self.dice.below(self.replicas.len());
        let secret = NAMES[self.dice.below(NAMES.len())];
        let id = self.history.calls.len() * 1000 + self.step;
        let what = match self.dice.below(100) {
            0..60 => What::Set {
                value: format!("value-{id}"),
            },
            60..75 => match self.any_version(secret) {
                Some(version) => What::Update {
                    version,
                    content_type: format!("type-{id}"),
                },
                None => What::Get,
            },
            75..78 => What::Delete,
            _ => What::Get,
        };
        let operation = match &what {
            What::Set { value } => Operation::SetSecret(set_of(secret, value)),
            What::Update {
                version,
                content_type,
            } => {
                let mut update = update_of(secret);
                update.version = Some(*version);
                update.content_type = Some(content_type.clone());
                Operation::UpdateSecret(update)
            }
            What::Delete => Operation::DeleteSecret { name: name(secret) },
            What::Get => Operation::GetSecret {
                name: name(secret),
                version: None,
            },
        };
        let (engine, vault) = (
            Arc::clone(&self.replicas[replica].engine),
            Arc::clone(&self.vault),
        );
        let future = async move { ask(&engine, &vault, operation).await };
        let call = Call {
            replica,
            name: secret,
            what,
            begun: self.step,
            ended: usize::MAX,
            outcome: Outcome::Unclear,
        };
        (call, Box::pin(future))
    }

    /// One of the first two acknowledged versions, so that updates meet.
    fn any_version(&mut self, secret: &str) -> Option<Version> {
        let choice = self.dice.below(2);
        let made = self
            .history
            .calls
            .iter()
            .filter_map(|call| match (&call.what, &call.outcome) {
                (What::Set { .. }, Outcome::Done(version)) if call.name == secret => Some(*version),
                _ => None,
            });
        made.take(2).nth(choice)
    }

    fn end(&mut self, call: Call, outcome: Outcome) {
        self.history.calls.push(Call {
            ended: self.step,
            outcome,
            ..call
        });
    }

    fn cut_off_a_writer(&mut self) {
        let writer = self.dice.below(WRITERS);
        if let Some((call, future)) = self.running[writer].take() {
            drop(future);
            self.end(call, Outcome::Unclear);
        }
    }

    fn tell_a_replica(&mut self) {
        let at = self.dice.below(self.replicas.len());
        let events = self.dice.below(4);
        let replica = &mut self.replicas[at];
        for _ in 0..events {
            match replica.feed.next().now_or_never() {
                Some(Some(Ok(event))) => replica.engine.apply(&event),
                Some(other) => panic!("{other:?}"),
                None => return,
            }
        }
    }

    fn list_for_a_replica(&mut self) {
        let at = self.dice.below(self.replicas.len());
        self.replicas[at].list = Some(self.store.list().now_or_never().unwrap().unwrap());
    }

    fn take_in_a_list(&mut self) {
        let at = self.dice.below(self.replicas.len());
        let replica = &mut self.replicas[at];
        if let Some((records, revision)) = replica.list.take() {
            replica.engine.replace_all(&records, revision);
        }
    }

    fn kill_a_replica(&mut self) {
        let at = self.dice.below(self.replicas.len());
        for writer in 0..WRITERS {
            if self.running[writer]
                .as_ref()
                .is_some_and(|(call, _)| call.replica == at)
                && let Some((call, future)) = self.running[writer].take()
            {
                drop(future);
                self.end(call, Outcome::Unclear);
            }
        }
        self.replicas[at] = Replica::start(&self.store);
    }

    fn finish(mut self) -> History {
        for writer in 0..WRITERS {
            if let Some((call, _)) = self.running[writer].take() {
                self.end(call, Outcome::Unclear);
            }
        }
        while self.store.land(0) {}
        self.history.writes = self.store.writes.load(std::sync::atomic::Ordering::Relaxed);
        let replica = Replica::start(&self.store);
        assert_eq!(replica.engine.damaged_records(), 0);
        for secret in NAMES {
            self.history
                .stored
                .insert(secret, stored(&replica.engine, &self.vault, secret));
        }
        self.history
    }
}

fn outcome(result: Result<Reply, Error>) -> Outcome {
    match result {
        Ok(Reply::Secret(secret)) => Outcome::Done(secret.version),
        Ok(Reply::Deleted(deleted)) => Outcome::Done(deleted.secret.version),
        Ok(reply) => panic!("{reply:?}"),
        Err(Error::Contention | Error::Store(StoreError::Unavailable)) => Outcome::NotDone,
        Err(Error::OutcomeUnknown) => Outcome::Unclear,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

impl Call {
    fn is_change(&self) -> bool {
        self.what != What::Get
    }

    fn may_be_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_) | Outcome::Unclear)
    }

    fn acknowledged(&self) -> Option<Version> {
        if let Outcome::Done(version) = self.outcome {
            Some(version)
        } else {
            None
        }
    }
}

impl History {
    fn changes(&self) -> usize {
        self.calls
            .iter()
            .filter(|call| call.is_change() && call.may_be_done())
            .count()
    }

    fn of<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = &'a Call> + Clone {
        self.calls.iter().filter(move |call| call.name == secret)
    }

    fn check(&self) -> Result<(), String> {
        for (secret, stored) in &self.stored {
            self.check_versions(secret, stored)?;
            self.check_updates(secret, stored)?;
            self.check_deletion(secret, stored)?;
            self.check_reads(secret, stored)?;
        }
        Ok(())
    }

    fn check_versions(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        let sets = || {
            self.of(secret).filter_map(|c| {
                if let What::Set { value } = &c.what {
                    Some((c, value))
                } else {
                    None
                }
            })
        };
        for (call, value) in sets() {
            let found: Vec<_> = stored.versions.iter().filter(|(_, v, _)| v == value).collect();
            match (&call.outcome, found.as_slice()) {
                (Outcome::Done(version), [(stored, ..)]) if version == stored => {}
                (Outcome::Unclear, [] | [_]) => {}
                (Outcome::Refused(_) | Outcome::NotDone, []) => {}
                (outcome, found) => {
                    return Err(format!("{value} of {secret} told {outcome:?}, stored {found:?}"));
                }
            }
        }
        for (version, value, _) in &stored.versions {
            if !sets().any(|(_, set)| set == value) {
                return Err(format!("{version} of {secret} was never set"));
            }
        }
        for (first, _) in sets() {
            for (second, _) in sets() {
                if let (Some(a), Some(b)) = (first.acknowledged(), second.acknowledged())
                    && first.ended < second.begun
                    && stored.position(a) > stored.position(b)
                {
                    return Err(format!(
                        "{a} of {secret} was acknowledged before {b} began, and stands after it"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_updates(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        for (version, _, content_type) in &stored.versions {
            let updates = || {
                self.of(secret).filter_map(|call| match &call.what {
                    What::Update {
                        version: of,
                        content_type,
                    } if of == version => Some((call, content_type)),
                    _ => None,
                })
            };
            let last = match content_type {
                None => None,
                Some(found) => {
                    let Some((call, _)) = updates().find(|(_, content_type)| *content_type == found) else {
                        return Err(format!("{found} of {secret} comes from nowhere"));
                    };
                    if !call.may_be_done() {
                        return Err(format!(
                            "{found} of {secret} was told {:?} and is stored",
                            call.outcome
                        ));
                    }
                    Some(call)
                }
            };
            for (call, content_type) in updates().filter(|(call, _)| call.acknowledged().is_some()) {
                if last.is_none_or(|last| last.ended < call.begun) {
                    return Err(format!("{content_type} of {secret} was acknowledged and is lost"));
                }
            }
        }
        Ok(())
    }

    fn check_deletion(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        let deletes = || self.of(secret).filter(|call| call.what == What::Delete);
        let acknowledged = deletes().filter(|call| call.acknowledged().is_some()).count();
        if acknowledged > 1 {
            return Err(format!("{secret} was deleted twice"));
        }
        if acknowledged == 1 && !stored.deleted {
            return Err(format!("{secret} was deleted and is there"));
        }
        if stored.deleted && !deletes().any(Call::may_be_done) {
            return Err(format!("{secret} is deleted, and nobody did that"));
        }
        for delete in deletes().filter(|call| call.acknowledged().is_some()) {
            let after =
                |call: &&Call| call.begun > delete.ended && call.is_change() && call.acknowledged().is_some();
            if let Some(change) = self.of(secret).find(after) {
                return Err(format!("{change:?} was acknowledged after {secret} was deleted"));
            }
        }
        Ok(())
    }

    fn check_reads(&self, secret: &str, stored: &Stored) -> Result<(), String> {
        for call in self.of(secret) {
            let set_before = self.of(secret).find(|set| {
                matches!(set.what, What::Set { .. }) && set.acknowledged().is_some() && set.ended < call.begun
            });
            let may_be_deleted = || {
                self.of(secret)
                    .any(|d| d.what == What::Delete && d.may_be_done() && d.begun < call.ended)
            };
            match &call.outcome {
                Outcome::Refused(Error::SecretNotFound { .. }) => {
                    if set_before.is_some() && !may_be_deleted() {
                        return Err(format!("{call:?} was told a stale refusal"));
                    }
                }
                Outcome::Refused(Error::ObjectIsDeletedButRecoverable { .. }) => {
                    if !may_be_deleted() {
                        return Err(format!("{call:?} was told of a deletion that nobody made"));
                    }
                }
                Outcome::Refused(error) => return Err(format!("{call:?} was refused: {error}")),
                Outcome::Done(version) if call.what == What::Get => {
                    let own = |c: &&Call| c.replica == call.replica && c.ended < call.begun;
                    let newest = self.of(secret).filter(own).filter_map(|c| match c.what {
                        What::Set { .. } | What::Get => c.acknowledged(),
                        What::Update { .. } | What::Delete => None,
                    });
                    let newest = newest.filter_map(|version| stored.position(version)).max();
                    if stored.position(*version).is_none() || stored.position(*version) < newest {
                        return Err(format!(
                            "{call:?} read an older version than this replica had shown"
                        ));
                    }
                }
                Outcome::Done(_) | Outcome::NotDone | Outcome::Unclear => {}
            }
        }
        Ok(())
    }
}
