//! Every schedule there is of a small world, one after the other: two replicas whose memory lags, a client on each, one
//! change each. Either both go on at once, in every order of their steps in which one gives way to the other once before it has
//! ended; or one comes after the other, and a fault strikes the first at any moment. A replica hears of what the other did at
//! any moment, once. The engine is the real one; only what can happen when is enumerated.
//!
//! A schedule is the list of choices that were made in it. The next one is the same list with its last choice raised, so
//! that none is left out and none comes twice.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use super::*;
use crate::engine::heads::FORMAT;
use crate::engine::tests::shaky::Fate;

/// What the name is when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Absent,
    Live,
    Deleted,
    Purged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Set,
    Update,
    Delete,
    Recover,
    Purge,
}

const STARTS: [Start; 4] = [Start::Absent, Start::Live, Start::Deleted, Start::Purged];
const OPS: [Op; 5] = [Op::Set, Op::Update, Op::Delete, Op::Recover, Op::Purge];
/// What may happen to a write, beside that it goes well.
const FATES: [Fate; 3] = [Fate::LostOnTheWay, Fate::LostOnTheWayBack, Fate::Late];
const NAME: &str = "alpha";
/// How often one of the two gives way to the other before it has ended.
const SWITCHES: usize = 1;

/// The choices of one schedule, and how many there were at each.
#[derive(Debug, Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, options: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, options));
        }
        let (choice, as_before) = self.taken[self.at];
        assert_eq!(as_before, options, "the same choices lead to the same world");
        self.at += 1;
        choice
    }

    /// Goes on to the next schedule; false after the last.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, options)) = self.taken.pop() {
            if choice + 1 < options {
                self.taken.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

/// What happens next. Whatever a replica hears, and whatever comes through late, matters to what is done after it alone, so
/// both are parts of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    client: usize,
    /// First the client's replica hears of everything until now.
    tell: bool,
    /// First a late write comes through.
    land: bool,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The client goes on to its next wait for the store.
    Advance,
    /// The same, and this becomes of its write, if it makes one there.
    Fated(Fate),
    /// Its replica is killed and starts anew; so is its call cut off.
    Kill,
}

/// How the two changes meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meeting {
    AtOnce,
    /// The second begins when the first has ended, or was cut off, by a fault or without.
    AfterAFault,
}

struct Small {
    world: Schedule,
    meeting: Meeting,
    started: [bool; 2],
    faults: usize,
    /// How far each replica has been told.
    told: [usize; 2],
    /// How often a replica may still be told.
    tells: usize,
    /// Who went on last, and how often another may still go on before that one has ended.
    last: Option<usize>,
    switches: usize,
}

impl Small {
    fn new(start: Start, meeting: Meeting) -> Self {
        let mut world = Schedule::new(0, engine);
        world.store.set_mood(Mood::Calm);
        let ops: &[Op] = match start {
            Start::Absent => &[],
            Start::Live => &[Op::Set],
            Start::Deleted => &[Op::Set, Op::Delete],
            Start::Purged => &[Op::Set, Op::Delete, Op::Purge],
        };
        for op in ops {
            world.step += 1;
            let (call, future) = ask_for(&mut world, 0, *op);
            let told = outcome(drive(future));
            world.step += 1;
            end(&mut world, call, told);
        }
        world.replicas = (0..2).map(|_| Replica::start(&world.store, world.make)).collect();
        Self {
            world,
            meeting,
            started: [false; 2],
            faults: usize::from(meeting == Meeting::AfterAFault),
            told: [0; 2],
            tells: 1,
            last: None,
            switches: SWITCHES,
        }
    }

    fn is_under_way(&self, client: usize) -> bool {
        !self.started[client] || self.world.running[client].is_some()
    }

    fn writes(&self) -> usize {
        self.world.store.writes.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let waits =
            |client: usize| client == 1 && self.meeting == Meeting::AfterAFault && self.is_under_way(0);
        // Nearly every fault of this kind shows with few switches (bounded search, as in CHESS).
        let goes_on = |client: &usize| match self.last {
            Some(last) if last != *client => self.switches > 0 || !self.is_under_way(last),
            _ => true,
        };
        let may = |client: &usize| self.is_under_way(*client) && !waits(*client) && goes_on(client);
        for client in (0..2).filter(may) {
            let step = Step {
                client,
                tell: false,
                land: false,
                then: Then::Advance,
            };
            steps.push(step);
            if self.tells > 0 && self.told[client] < self.writes() {
                steps.push(Step { tell: true, ..step });
            }
            if self.world.store.has_late() {
                steps.push(Step { land: true, ..step });
            }
            if client == 0 && self.faults > 0 && self.world.running[client].is_some() {
                steps.extend(FATES.map(Then::Fated).map(|then| Step { then, ..step }));
                steps.push(Step {
                    then: Then::Kill,
                    ..step
                });
            }
        }
        steps
    }

    /// False where the schedule is the same as another one.
    fn take(&mut self, step: Step, ops: [Op; 2]) -> bool {
        self.world.step += 1;
        let client = step.client;
        if let Some(last) = self.last
            && last != client
            && self.is_under_way(last)
        {
            self.switches -= 1;
        }
        self.last = Some(client);
        if step.tell {
            self.tells -= 1;
            self.told[client] = self.writes();
            let replica = &mut self.world.replicas[client];
            while let Some(Some(Ok(event))) = replica.feed.next().now_or_never() {
                replica.engine.apply(&event);
            }
        }
        if step.land {
            self.world.store.land(0);
        }
        match step.then {
            Then::Advance => self.advance(client, ops[client]),
            Then::Fated(fate) => {
                self.faults -= 1;
                self.world.store.set_mood(Mood::Once(fate));
                self.advance(client, ops[client]);
                // It made no write there: this is the schedule without a fault.
                return !self.world.store.mood_is_left();
            }
            Then::Kill => {
                self.faults -= 1;
                if let Some((call, future)) = self.world.running[client].take() {
                    drop(future);
                    end(&mut self.world, call, Outcome::Unclear);
                }
                self.world.replicas[client] = Replica::start(&self.world.store, self.world.make);
                self.told[client] = self.writes();
            }
        }
        true
    }

    fn advance(&mut self, client: usize, op: Op) {
        let (call, mut future) = match self.world.running[client].take() {
            Some(running) => running,
            None => {
                self.started[client] = true;
                ask_for(&mut self.world, client, op)
            }
        };
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => self.world.running[client] = Some((call, future)),
            Poll::Ready(result) => end(&mut self.world, call, outcome(result)),
        }
    }

    /// What the world looks like, whatever way led there: the name in the store, and what each replica and client knows.
    fn state(&self) -> String {
        let look = |engine: &Engine| {
            let snapshot = engine.index.load_full();
            let address = crate::engine::index::VaultAddress::of(&self.world.vault);
            let head = snapshot
                .vault(&address)
                .and_then(|vault| vault.objects.get(NAME).cloned());
            head.map(|object| {
                let head = &object.head;
                assert!(head.format <= FORMAT);
                let deleted = head.secret.as_ref().map(|secret| {
                    let purging = secret.deleted.map(|deleted| deleted.purging);
                    (secret.versions.count(), purging)
                });
                (head.rev, deleted, head.purged.lately.len(), object.damage)
            })
        };
        let fresh = Replica::start(&self.world.store, self.world.make);
        let clients: Vec<_> = (0..2)
            .map(|client| (self.started[client], self.world.running[client].is_some()))
            .collect();
        let outcomes: BTreeMap<_, _> = self
            .world
            .history
            .calls
            .iter()
            .map(|call| (call.request.clone(), word(&call.outcome)))
            .collect();
        format!(
            "{:?} {:?} {:?} {clients:?} {outcomes:?} {} {}",
            look(&fresh.engine),
            look(&self.world.replicas[0].engine),
            look(&self.world.replicas[1].engine),
            self.faults,
            self.world.store.has_late()
        )
    }
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(_) => "done".to_owned(),
        Outcome::Refused(error) => format!("{error:?}").chars().take(24).collect(),
        Outcome::NotDone => "not done".to_owned(),
        Outcome::Unclear => "unclear".to_owned(),
    }
}

fn ask_for(world: &mut Schedule, client: usize, op: Op) -> (Call, Running) {
    let id = world.history.calls.len() * 10 + client;
    let made = world.history.calls.iter().find_map(|call| match call.what {
        What::Set { .. } => call.acknowledged(),
        _ => None,
    });
    let what = match op {
        Op::Set => What::Set {
            value: format!("value-{id}-{}", world.step),
        },
        Op::Update => What::Update {
            version: made.unwrap_or(Version([9; 16])),
            content_type: format!("type-{id}"),
        },
        Op::Delete => What::Delete,
        Op::Recover => What::Recover,
        Op::Purge => What::Purge,
    };
    let call = Call {
        replica: client,
        name: NAME,
        what,
        request: format!("request-{id}-{}", world.step),
        repeated: 0,
        begun: world.step,
        ended: usize::MAX,
        outcome: Outcome::Unclear,
    };
    world.ask(call)
}

fn end(world: &mut Schedule, call: Call, outcome: Outcome) {
    let ended = world.step;
    world.history.calls.push(Call {
        ended,
        outcome,
        ..call
    });
}

type World = (Start, [Op; 2], Meeting);

/// What was explored.
#[derive(Debug, Default)]
struct Explored {
    schedules: usize,
    steps: usize,
    states: HashSet<u64>,
    /// Schedules in which both changes were acknowledged, one was refused, one ended unclear.
    both: usize,
    refused: usize,
    unclear: usize,
}

fn explore((start, ops, meeting): World, hasher: &RandomState) -> Explored {
    let mut explored = Explored::default();
    let mut choices = Choices::default();
    loop {
        let mut small = Small::new(start, meeting);
        let before = small.world.history.calls.len();
        let whole = loop {
            let steps = small.steps();
            if steps.is_empty() {
                break true;
            }
            let step = steps[choices.choose(steps.len())];
            explored.steps += 1;
            if !small.take(step, ops) {
                break false;
            }
            if explored.schedules % 16 == 0 {
                explored
                    .states
                    .insert(hasher.hash_one((start as u8, ops.map(|op| op as u8), small.state())));
            }
        };
        if whole {
            explored.schedules += 1;
            let history = small.world.finish();
            if let Err(broken) = history.check() {
                panic!("{start:?} {ops:?} {meeting:?} {choices:?}: {broken}\n{history:#?}");
            }
            let calls = &history.calls[before.min(history.calls.len())..];
            let count = |is: fn(&Outcome) -> bool| calls.iter().filter(|call| is(&call.outcome)).count();
            explored.both += usize::from(count(|outcome| matches!(outcome, Outcome::Done(_))) == 2);
            explored.refused += usize::from(count(|outcome| matches!(outcome, Outcome::Refused(_))) > 0);
            explored.unclear += usize::from(count(|outcome| *outcome == Outcome::Unclear) > 0);
        }
        if !choices.next() {
            return explored;
        }
    }
}

#[test]
fn in_every_schedule_of_two_changes_and_of_a_fault_between_them_each_is_made_once_or_not_at_all() {
    let hasher = RandomState::new();
    let mut worlds: Vec<World> = Vec::new();
    for start in STARTS {
        // What is to be updated has a version.
        let with_versions = matches!(start, Start::Live | Start::Deleted);
        let ops: Vec<_> = OPS
            .into_iter()
            .filter(|op| *op != Op::Update || with_versions)
            .collect();
        for (number, one) in ops.iter().enumerate() {
            let at_once = ops[number..].iter();
            worlds.extend(at_once.map(|other| (start, [*one, *other], Meeting::AtOnce)));
            let after = ops.iter();
            worlds.extend(after.map(|other| (start, [*one, *other], Meeting::AfterAFault)));
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let explored: Vec<Explored> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|first| {
                let (worlds, hasher) = (&worlds, &hasher);
                scope.spawn(move || {
                    let mine = worlds.iter().skip(first).step_by(threads);
                    mine.map(|world| explore(*world, hasher)).collect::<Vec<_>>()
                })
            })
            .collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let sum = |count: fn(&Explored) -> usize| explored.iter().map(count).sum::<usize>();
    let states: HashSet<_> = explored.iter().flat_map(|explored| &explored.states).collect();
    let told = format!(
        "{} worlds, {} schedules, {} steps, {} states or more; both done in {}, a refusal in {}, unclear in {}",
        worlds.len(),
        sum(|e| e.schedules),
        sum(|e| e.steps),
        states.len(),
        sum(|e| e.both),
        sum(|e| e.refused),
        sum(|e| e.unclear)
    );
    assert!(sum(|e| e.schedules) > 4_000, "{told}");
    assert!(
        sum(|e| e.both) > 300 && sum(|e| e.refused) > 300 && sum(|e| e.unclear) > 300,
        "{told}"
    );
    eprintln!("{told}");
}
