//! The model test: writers on two replicas whose memory lags, over a store that loses answers, against what a user may rely on.
//! Each schedule follows from its seed: who runs next, what the store does, who is cut off, when a replica hears of a change,
//! lists anew or is killed, and when one looks for what nobody names: a step is five minutes to it, so that writers stand still
//! for longer than anybody waits.

mod exhaustive;
mod history;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use crate::engine::tests::parts::SMALL;
use crate::engine::tests::shaky::{Dice, Mood, Shaky};
use crate::engine::tests::support::*;
use crate::engine::{Engine, Error, Quotas, Sizes};
use crate::model::{Moment, Operation, Reply, VaultEntry, Version};
use crate::store::{Record, SealedStore as _, StoreError, StoreEvent};

use history::{Call, History, Outcome, What};

const SCHEDULES: u64 = 2_000;
const STEPS: usize = 200;
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
    assert!(
        enough(|told| told.tried_again) && enough(|told| told.repeated),
        "{told:?}"
    );
    assert!(enough(|told| told.collected), "{told:?}");
    assert!(
        enough(|told| told.recoveries) && enough(|told| told.purges) && enough(|told| told.new_lives),
        "{told:?}"
    );
}

fn run_every(first: usize, nth: usize) -> Told {
    let mut told = Told::default();
    for seed in (0..SCHEDULES).skip(first).step_by(nth) {
        let history = Schedule::new(seed, small_engine).run();
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
    recoveries: usize,
    purges: usize,
    /// Names that were set again after a purge.
    new_lives: usize,
    reads: usize,
    refusals: usize,
    unclear: usize,
    tried_again: usize,
    /// Changes that were asked for more than once, and done in the end.
    repeated: usize,
    /// Parts that a replica removed because nobody named them.
    collected: usize,
}

impl Told {
    fn add(&mut self, history: &History) {
        for call in &history.calls {
            match (&call.what, &call.outcome) {
                (What::Set { .. }, Outcome::Done(_)) => self.sets += 1,
                (What::Update { .. }, Outcome::Done(_)) => self.updates += 1,
                (What::Delete, Outcome::Done(_)) => self.deletes += 1,
                (What::Recover, Outcome::Done(_)) => self.recoveries += 1,
                (What::Purge, Outcome::Done(_)) => self.purges += 1,
                (What::Get, Outcome::Done(_)) => self.reads += 1,
                (_, Outcome::Refused(_)) => self.refusals += 1,
                (_, Outcome::Unclear) => self.unclear += 1,
                (_, Outcome::NotDone) => {}
            }
        }
        self.repeated += history
            .calls
            .iter()
            .filter(|call| call.repeated > 0 && matches!(call.outcome, Outcome::Done(_)))
            .count();
        self.new_lives += history.new_lives();
        self.collected += history.collected;
        self.tried_again += history.writes.saturating_sub(history.changes());
    }
}

type Running = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;
type Tidying = Pin<Box<dyn Future<Output = Result<usize, Error>> + Send>>;

struct Replica {
    engine: Arc<Engine>,
    feed: BoxStream<'static, Result<StoreEvent, StoreError>>,
    /// A list that was made and not taken in yet.
    list: Option<(Vec<Record>, u64)>,
}

impl Replica {
    fn start(store: &Shaky, make: Make) -> Self {
        let engine = Arc::new(make(store));
        let revision = engine.relist().now_or_never().unwrap().unwrap();
        Self {
            engine,
            feed: store.watch(revision),
            list: None,
        }
    }
}

/// Makes a replica's engine.
type Make = fn(&Shaky) -> Engine;

/// Values and heads are so small here that nearly every value lies in a part, and a few versions make a page.
fn small_engine(store: &Shaky) -> Engine {
    let quotas = Quotas {
        sizes: Sizes {
            head: 2_300,
            body: 104,
            ..SMALL
        },
        ..Quotas::default()
    };
    engine_with(store, quotas)
}

struct Schedule {
    dice: Dice,
    make: Make,
    store: Shaky,
    vault: Arc<VaultEntry>,
    replicas: Vec<Replica>,
    running: Vec<Option<(Call, Running)>>,
    /// Which replica looks for what nobody names.
    tidying: Option<(usize, Tidying)>,
    start: Instant,
    /// What is to be asked again, by clients that heard nothing.
    repeats: Vec<Call>,
    history: History,
    step: usize,
}

impl Schedule {
    fn new(seed: u64, make: Make) -> Self {
        let store = Shaky::new(seed, Mood::Calm);
        let vault = vault("demo");
        let first = make(&store);
        drive(ensure(&first, &vault));
        // A change is two or three writes here.
        store.set_mood(Mood::Rough(8 + (seed % 24) as usize));
        let replicas = (0..2).map(|_| Replica::start(&store, make)).collect();
        Self {
            dice: Dice::new(seed ^ 0x5eed),
            make,
            store,
            vault,
            replicas,
            running: (0..WRITERS).map(|_| None).collect(),
            tidying: None,
            start: Instant::now(),
            repeats: Vec::new(),
            history: History::default(),
            step: 0,
        }
    }

    fn run(mut self) -> History {
        while self.step < STEPS {
            self.step += 1;
            match self.dice.below(100) {
                0..62 => self.advance_a_writer(),
                62..70 => self.advance_tidying(),
                70..85 => self.tell_a_replica(),
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
            None if !self.repeats.is_empty() && self.dice.one_in(2) => {
                let call = self.repeats.swap_remove(0);
                self.ask(call)
            }
            None => self.begin(),
        };
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => self.running[writer] = Some((call, future)),
            Poll::Ready(result) => self.end(call, outcome(result)),
        }
    }

    fn advance_tidying(&mut self) {
        let (at, mut future) = match self.tidying.take() {
            Some(tidying) => tidying,
            None => {
                let at = self.dice.below(self.replicas.len());
                let now = self.minutes(5 * self.step as u64);
                (at, tidy(&self.replicas[at].engine, now))
            }
        };
        for _ in 0..=self.dice.below(5) {
            if let Poll::Ready(removed) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                self.history.collected += removed.unwrap_or_default();
                return;
            }
        }
        self.tidying = Some((at, future));
    }

    fn minutes(&self, minutes: u64) -> Moment {
        Moment {
            monotonic: self.start + Duration::from_mins(minutes),
            ..at(1000)
        }
    }

    fn begin(&mut self) -> (Call, Running) {
        let replica = self.dice.below(self.replicas.len());
        let secret = NAMES[self.dice.below(NAMES.len())];
        let id = self.history.calls.len() * 1000 + self.step;
        let what = match self.dice.below(100) {
            0..38 => What::Set {
                value: format!("value-{id}"),
            },
            38..47 => match self.any_version(secret) {
                Some(version) => What::Update {
                    version,
                    content_type: format!("type-{id}"),
                },
                None => What::Get,
            },
            47..61 => What::Delete,
            61..68 => What::Recover,
            68..83 => What::Purge,
            _ => What::Get,
        };
        self.ask(Call {
            replica,
            name: secret,
            what,
            request: format!("request-{id}"),
            repeated: 0,
            begun: self.step,
            ended: usize::MAX,
            outcome: Outcome::Unclear,
        })
    }

    /// Asks for it on its replica.
    fn ask(&mut self, call: Call) -> (Call, Running) {
        let secret = call.name;
        let operation = match &call.what {
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
            What::Recover => Operation::RecoverSecret { name: name(secret) },
            What::Purge => Operation::PurgeSecret { name: name(secret) },
            What::Get => Operation::GetSecret {
                name: name(secret),
                version: None,
            },
        };
        let (engine, vault) = (
            Arc::clone(&self.replicas[call.replica].engine),
            Arc::clone(&self.vault),
        );
        let request = call.request.clone();
        let future = async move {
            let asker = (workload(), Some(request.as_str()));
            ask_as(&engine, &vault, operation, asker, 1000).await
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
                (What::Set { .. }, Outcome::Done(version)) if call.name == secret => *version,
                _ => None,
            });
        made.take(2).nth(choice)
    }

    fn end(&mut self, call: Call, outcome: Outcome) {
        // What was asked before without an answer may have been done, or may be yet.
        let outcome = match outcome {
            Outcome::Refused(_) | Outcome::NotDone if call.repeated > 0 => Outcome::Unclear,
            outcome => outcome,
        };
        if call.is_change() && outcome == Outcome::Unclear && call.repeated < 3 && self.dice.one_in(2) {
            self.repeats.push(Call {
                replica: self.dice.below(self.replicas.len()),
                repeated: call.repeated + 1,
                ..call
            });
            return;
        }
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
        self.tidying.take_if(|(tidying, _)| *tidying == at);
        self.replicas[at] = Replica::start(&self.store, self.make);
    }

    fn finish(mut self) -> History {
        for writer in 0..WRITERS {
            if let Some((call, _)) = self.running[writer].take() {
                self.end(call, Outcome::Unclear);
            }
        }
        self.tidying = None;
        self.history.calls.append(&mut self.repeats);
        while self.store.land(0) {}
        self.store.set_mood(Mood::Calm);
        self.history.writes = self.store.writes.load(std::sync::atomic::Ordering::Relaxed);
        let replica = Replica::start(&self.store, self.make);
        assert_eq!(replica.engine.damaged_records(), 0);
        for secret in NAMES {
            self.history
                .stored
                .insert(secret, stored(&replica.engine, &self.vault, secret));
        }
        self.check_that_nothing_is_left(&replica.engine);
        self.history
    }

    /// With every purge ended and nobody at work, ten minutes later there is no part that nobody names, and all else is there.
    fn check_that_nothing_is_left(&self, engine: &Arc<Engine>) {
        for (secret, _) in self.purging() {
            drive(purge(engine, &self.vault, secret)).unwrap();
        }
        for minutes in [0, 10] {
            drive(tidy(engine, self.minutes(minutes))).unwrap();
        }
        let restarted = Replica::start(&self.store, self.make);
        assert_eq!(drive(restarted.engine.unnamed_parts()), Ok(BTreeSet::new()));
        for (secret, before) in &self.history.stored {
            let after = stored(&restarted.engine, &self.vault, secret);
            if before.life == Life::Purging {
                assert_eq!(after, Stored::default(), "{secret}");
            } else {
                assert_eq!(after, *before, "{secret}");
            }
        }
    }

    fn purging(&self) -> impl Iterator<Item = (&'static str, &Stored)> {
        let stored = self
            .history
            .stored
            .iter()
            .map(|(secret, stored)| (*secret, stored));
        stored.filter(|(_, stored)| stored.life == Life::Purging)
    }
}

fn tidy(engine: &Arc<Engine>, now: Moment) -> Tidying {
    let engine = Arc::clone(engine);
    Box::pin(async move { engine.tidy(now).await })
}

fn outcome(result: Result<Reply, Error>) -> Outcome {
    match result {
        Ok(Reply::Secret(secret)) => Outcome::Done(Some(secret.version)),
        Ok(Reply::Deleted(deleted)) => Outcome::Done(Some(deleted.secret.version)),
        Ok(Reply::Purged) => Outcome::Done(None),
        Ok(reply) => panic!("{reply:?}"),
        Err(Error::Contention | Error::NotInMemory { .. } | Error::Store(StoreError::Unavailable)) => {
            Outcome::NotDone
        }
        Err(Error::OutcomeUnknown | Error::PurgeUnfinished) => Outcome::Unclear,
        Err(refusal) => Outcome::Refused(refusal),
    }
}
