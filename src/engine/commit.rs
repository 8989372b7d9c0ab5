//! How a change is made: decide, then one compare-and-swap, until it is clear what became of it.

use std::time::Duration;

use bytes::Bytes;

use super::decide::Step;
use super::heads::WriteIds;
use super::index::{Snapshot, VaultAddress};
use super::parts::NewPart;
use super::{Engine, Error, Usage};
use crate::failpoints::{Point, here};
use crate::model::{Reply, Uid, VaultUuid};
use crate::store::{RecordName, Stamp, StoreError};

/// Writes that one change may try before it gives way to the others.
const MAX_WRITES: usize = 16;
/// How often one change may bring something into memory.
const MAX_LOADS: usize = 4 * MAX_WRITES;
/// How long to wait before each read that looks for a write without an answer.
const PATIENCE: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
];

/// A head and one change of it.
pub(super) trait Change: Sync {
    /// The head.
    type Head: Send + Sync;

    /// The record of the head.
    fn record(&self) -> &RecordName;

    /// The newest state in memory; none if there is no such record.
    fn current<'a>(&self, snapshot: &'a Snapshot) -> Result<Option<State<'a, Self::Head>>, Error>;

    /// What this change makes of it.
    fn decide(&self, snapshot: &Snapshot, head: Option<&Self::Head>) -> Result<Step<Self::Head>, Error>;

    /// Whose quotas count: the namespace's, and the vault's once there is one.
    fn payer<'a>(&'a self, snapshot: &Snapshot) -> (&'a Uid, Option<VaultUuid>);

    /// Whether this change was made to the head.
    fn is_in(&self, head: &Self::Head) -> Made;

    /// The head as its record, and what is to be written before it. One that is `exempt` is not held up by limits.
    fn seal(
        &self,
        engine: &Engine,
        snapshot: &Snapshot,
        head: Self::Head,
        exempt: bool,
    ) -> Result<Sealed<Self::Head>, Error>;

    /// What to bring into memory where something is wanted that is not: the object, by its vault and its name in lower case.
    fn object(&self) -> Option<(&VaultAddress, &str)>;

    /// Takes the written head into memory.
    fn keep(&self, engine: &Engine, stamp: &Stamp, size: u64, head: Self::Head);
}

/// A head in memory.
pub(super) struct State<'a, H> {
    pub(super) stamp: &'a Stamp,
    /// Bytes of its record.
    pub(super) size: u64,
    pub(super) rev: u64,
    pub(super) head: &'a H,
}

/// A head that is ready to be written.
pub(super) struct Sealed<H> {
    pub(super) head: H,
    pub(super) envelope: Bytes,
    /// To be written before it.
    pub(super) parts: Vec<NewPart>,
    /// Not named by it any more: to be removed after it.
    pub(super) replaced: Vec<RecordName>,
}

/// Whether a head holds a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Yes,
    No,
    /// Not among the newest [`WriteIds::KEPT`] changes.
    NotLately,
}

enum Next<H> {
    Answer(Result<Reply, Error>),
    /// The same, told once it is confirmed.
    Confirm(Result<Reply, Error>),
    Write(Write<H>),
    /// First something is to be brought into memory.
    Load(Option<RecordName>),
}

struct Write<H> {
    expected: Expected,
    sealed: Sealed<H>,
    reply: Reply,
}

/// The state that a write is to follow.
#[derive(Clone, PartialEq, Eq)]
struct Expected {
    /// None: there is no record.
    stamp: Option<Stamp>,
    rev: u64,
}

/// A write without an answer. It may still come through for as long as the state stands that it expects; any later write
/// of the same change expects the same state then, so that one of them at most comes through.
struct Unanswered {
    expected: Expected,
    reply: Reply,
}

impl Engine {
    /// Makes a change. Dropping the future leaves it made or not made, never half.
    pub(super) async fn commit<C: Change>(&self, change: &C) -> Result<Reply, Error> {
        let lane = self.lanes.enter(change.record());
        let _turn = lane.turn.lock().await;
        let mut unanswered = None;
        let result = self.attempts(change, &mut unanswered).await;
        // With a write still under way nobody can say that nothing was done.
        result.map_err(|error| {
            if unanswered.is_some() {
                Error::OutcomeUnknown
            } else {
                error
            }
        })
    }

    async fn attempts<C: Change>(
        &self,
        change: &C,
        unanswered: &mut Option<Unanswered>,
    ) -> Result<Reply, Error> {
        let mut confirmed = false;
        let (mut writes, mut loads) = (0, 0);
        loop {
            let snapshot = self.index.load_full();
            if let Some(before) = unanswered.take()
                && let Some(reply) = look_for(change, &snapshot, before, unanswered)?
            {
                return Ok(reply);
            }
            let write = match self.next(change, &snapshot) {
                Next::Answer(answer) => return answer,
                Next::Confirm(answer) if confirmed => return answer,
                Next::Confirm(_) => {
                    self.refresh(change.record()).await?;
                    confirmed = true;
                    continue;
                }
                Next::Load(part) => {
                    loads += 1;
                    self.load_for(change, part, loads).await?;
                    continue;
                }
                Next::Write(_) if writes == MAX_WRITES => return Err(Error::Contention),
                Next::Write(write) => write,
            };
            writes += 1;
            let Sealed {
                head,
                envelope,
                parts,
                replaced,
            } = write.sealed;
            self.write_parts(&parts).await?;
            let size = envelope.len() as u64;
            let written = match &write.expected.stamp {
                None => self.store.create(change.record(), envelope).await,
                Some(stamp) => self.store.update(change.record(), stamp, envelope).await,
            };
            match written {
                Ok(stamp) => {
                    here(Point::HeadWritten);
                    change.keep(self, &stamp, size, head);
                    self.drop_parts(replaced).await;
                    return Ok(write.reply);
                }
                Err(StoreError::Conflict | StoreError::AlreadyExists | StoreError::NotFound) => {
                    self.refresh(change.record()).await?;
                    self.know_versions(change, &write.expected).await?;
                    if self.holds(change) {
                        *unanswered = Some(Unanswered {
                            expected: write.expected,
                            reply: write.reply,
                        });
                    } else {
                        let unnamed = self.surely_unnamed(change, parts)?;
                        self.drop_parts(unnamed).await;
                    }
                }
                Err(StoreError::Unknown | StoreError::Expired) => {
                    let expected = write.expected.clone();
                    *unanswered = Some(Unanswered {
                        expected: write.expected,
                        reply: write.reply,
                    });
                    self.refresh_patiently(change.record()).await?;
                    self.know_versions(change, &expected).await?;
                }
                Err(error @ (StoreError::TooLarge | StoreError::Full | StoreError::Unavailable)) => {
                    return Err(Error::Store(error));
                }
            }
            confirmed = true;
        }
    }

    /// Once there were more changes than a head keeps ids of, the versions alone tell whether one of them was made: all of them
    /// are to be in memory.
    async fn know_versions<C: Change>(&self, change: &C, before: &Expected) -> Result<(), Error> {
        let Some((address, folded)) = change.object() else {
            return Ok(());
        };
        let rev = {
            let snapshot = self.index.load();
            let state = change.current(&snapshot).ok().flatten();
            state.map_or(0, |state| state.rev)
        };
        if rev.saturating_sub(before.rev) <= WriteIds::KEPT as u64 {
            return Ok(());
        }
        self.load(address, folded, None)
            .await
            .map_err(|_| Error::OutcomeUnknown)
    }

    /// Whether the head in memory has this change. What a store refuses may have been done by a request that was sent twice
    /// on the way.
    fn holds<C: Change>(&self, change: &C) -> bool {
        let snapshot = self.index.load_full();
        let state = change.current(&snapshot);
        state.is_ok_and(|state| state.is_some_and(|state| change.is_in(state.head) == Made::Yes))
    }

    /// Those of the parts of a write that the store refused that nobody names nor will. A write that was done all the same may
    /// be so long ago that the head does not hold its id any more, so only what the head names says so.
    fn surely_unnamed<C: Change>(&self, change: &C, parts: Vec<NewPart>) -> Result<Vec<RecordName>, Error> {
        let Some((address, folded)) = change.object().filter(|_| !parts.is_empty()) else {
            return Ok(Vec::new());
        };
        let Some(named) = self.all_named(&self.index.load(), address, folded)? else {
            return Ok(Vec::new());
        };
        let records = parts.into_iter().map(|part| part.record);
        Ok(records.filter(|record| !named.contains(record)).collect())
    }

    fn next<C: Change>(&self, change: &C, snapshot: &Snapshot) -> Next<C::Head> {
        match self.decided(change, snapshot) {
            Ok(next) => next,
            Err(Error::NotInMemory { part }) => Next::Load(part),
            Err(error) if error.rests_on_state() => Next::Confirm(Err(error)),
            Err(error) => Next::Answer(Err(error)),
        }
    }

    fn decided<C: Change>(&self, change: &C, snapshot: &Snapshot) -> Result<Next<C::Head>, Error> {
        let state = change.current(snapshot)?;
        let (head, reply, exempt) = match change.decide(snapshot, state.as_ref().map(|state| state.head))? {
            Step::Keep(reply) => return Ok(Next::Answer(Ok(reply))),
            Step::Confirm(reply) => return Ok(Next::Confirm(Ok(reply))),
            Step::Write { head, reply, exempt } => (head, reply, exempt),
        };
        let sealed = change.seal(self, snapshot, head, exempt)?;
        if !exempt {
            let before = state
                .as_ref()
                .map_or_else(Usage::default, |state| Usage::one(state.size));
            let parts = sealed.parts.iter().map(|part| part.envelope.len() as u64);
            let after = parts.fold(Usage::one(sealed.envelope.len() as u64), |all, part| {
                all.and(Usage::one(part))
            });
            self.quotas
                .check(snapshot, change.payer(snapshot), before, after)?;
        }
        let expected = Expected {
            stamp: state.as_ref().map(|state| state.stamp.clone()),
            rev: state.as_ref().map_or(0, |state| state.rev),
        };
        Ok(Next::Write(Write {
            expected,
            sealed,
            reply,
        }))
    }

    /// Brings into memory what a change wants to know.
    async fn load_for<C: Change>(
        &self,
        change: &C,
        part: Option<RecordName>,
        loads: usize,
    ) -> Result<(), Error> {
        let Some((address, folded)) = change.object().filter(|_| loads <= MAX_LOADS) else {
            return Err(Error::NotInMemory { part });
        };
        self.load(address, folded, part).await
    }

    /// Brings the record in memory up to what a quorum read finds that begins after this call.
    pub(super) async fn refresh(&self, record: &RecordName) -> Result<(), Error> {
        let lane = self.lanes.enter(record);
        let called = self.lanes.tick();
        let mut newest = lane.read.lock().await;
        // Who waited while another read began after this call needs none of its own.
        if let Some(read) = newest.as_ref()
            && read.began > called
        {
            return read.result.map_err(Error::Store);
        }
        let began = self.lanes.tick();
        let known = self.index.load().stamp(record).cloned();
        let found = self.store.get(record).await;
        if let Ok(found) = &found {
            self.index.confirm(record, known.as_ref(), found.as_ref());
        }
        let result = found.map(|_| ());
        *newest = Some(super::lanes::Read { began, result });
        result.map_err(Error::Store)
    }

    async fn refresh_patiently(&self, record: &RecordName) -> Result<(), Error> {
        for wait in PATIENCE {
            if !wait.is_zero() {
                (self.pause)(wait).await;
            }
            if self.refresh(record).await.is_ok() {
                return Ok(());
            }
        }
        Err(Error::OutcomeUnknown)
    }
}

/// Looks for a write without an answer: hands its reply back if it came through, and puts it back if it still may.
fn look_for<C: Change>(
    change: &C,
    snapshot: &Snapshot,
    before: Unanswered,
    unanswered: &mut Option<Unanswered>,
) -> Result<Option<Reply>, Error> {
    // A head that cannot be read cannot tell.
    let state = change.current(snapshot).map_err(|_| Error::OutcomeUnknown)?;
    let expected = Expected {
        stamp: state.as_ref().map(|state| state.stamp.clone()),
        rev: state.as_ref().map_or(0, |state| state.rev),
    };
    let made = state.map_or(Made::No, |state| change.is_in(state.head));
    let passed = expected.rev.saturating_sub(before.expected.rev) > WriteIds::KEPT as u64;
    match made {
        Made::Yes => Ok(Some(before.reply)),
        Made::NotLately if passed => Err(Error::OutcomeUnknown),
        Made::No | Made::NotLately => {
            if expected == before.expected {
                *unanswered = Some(before);
            }
            Ok(None)
        }
    }
}
