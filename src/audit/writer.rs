//! Who writes: whoever comes first appends for all that wait, and a thread syncs.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::AuditIncident;

use super::AuditError;
use super::line::LONGEST;
use super::sink::{Durable, Sink};

/// Lines of one write.
const BATCH: usize = 1024;
/// How often in a row one caller appends what others have queued meanwhile.
const ROUNDS: usize = 4;
/// Without anything to write, the log is looked after this often.
const PAUSE: Duration = Duration::from_secs(1);
/// Outcomes that are kept for when the log heals.
const KEPT: usize = 8192;

/// A line on its way.
pub(super) struct Message {
    pub(super) line: Vec<u8>,
    pub(super) purpose: Purpose,
    pub(super) done: oneshot::Sender<Result<(), AuditError>>,
    /// Its place in the queue, given back when the line is written or given up.
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

/// What is to be done for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Written before it is released.
    Line,
    /// Written if that is possible.
    Sample,
    /// Synced before it is released; its outcome finds room.
    Intent(u64),
    /// Synced before it is released; kept until it is written.
    Outcome(u64),
    /// No line: released when all before it is synced.
    Flush,
}

/// What others may know of the writer.
#[derive(Debug, Default)]
pub(super) struct State {
    appends: AtomicBool,
    /// The last sync failed: what was written may be lost.
    sync_failed: AtomicBool,
    /// The same, until the appender has begun anew.
    suspect: AtomicBool,
}

impl State {
    pub(super) fn is_writable(&self) -> bool {
        self.appends.load(Ordering::Acquire) && !self.sync_failed.load(Ordering::Acquire)
    }
}

/// The queue of the log, and who empties it.
///
/// Appending is short, and a thread that waits for lines would have to be woken for each read, and wake it again. So none
/// does: whoever waits for a line appends all that are queued ([`Writer::append`]), unless somebody does so
/// just now. A thread, the keeper, appends what nobody waits for and looks after the log.
pub(super) struct Writer {
    shared: Arc<Shared>,
    keeper: Thread,
}

struct Shared {
    /// Locked for a moment, never across a write.
    queue: Mutex<VecDeque<Message>>,
    /// Locked during a write; never waited for but by the keeper.
    appender: Mutex<Appender>,
    state: Arc<State>,
    /// The task that came last to wait for a line.
    last: Mutex<Option<task::Id>>,
    /// No more lines come.
    closed: AtomicBool,
}

/// Starts both threads; they end when the writer is dropped and all is written.
pub(super) fn start(sink: Box<dyn Sink>, metrics: Arc<Metrics>) -> io::Result<Writer> {
    let state = Arc::new(State::default());
    let (written, to_sync) = mpsc::channel();
    let syncer = Arc::clone(&state);
    thread::Builder::new()
        .name("audit-sync".to_owned())
        .spawn(move || sync_all(&to_sync, &syncer))?;
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        appender: Mutex::new(Appender {
            sink,
            state: Arc::clone(&state),
            metrics,
            syncer: written,
            begun: HashSet::new(),
            kept: VecDeque::new(),
            buffer: Vec::new(),
            known: None,
        }),
        state,
        last: Mutex::default(),
        closed: AtomicBool::new(false),
    });
    let kept = Arc::clone(&shared);
    let keeper = thread::Builder::new()
        .name("audit-keep".to_owned())
        .spawn(move || kept.keep())?;
    Ok(Writer {
        shared,
        keeper: keeper.thread().clone(),
    })
}

impl Writer {
    /// Queues a line. It is appended by the next [`Writer::append`], by anybody, or by the keeper within [`PAUSE`].
    pub(super) fn queue(&self, message: Message) {
        lock(&self.shared.queue).push_back(message);
    }

    /// Appends all that is queued, or leaves it to whoever appends just now. Blocks for one write at a time, never for
    /// another's.
    pub(super) fn append(&self) {
        for _ in 0..ROUNDS {
            if !self.shared.append() {
                return;
            }
        }
        // More and more came meanwhile: they wait for the keeper, not for us.
        self.keeper.unpark();
    }

    /// Appends one line for somebody who would wait for it, if nobody else's are queued or being appended; without the queue
    /// then, and without a wait.
    pub(super) fn append_alone(&self, line: &[u8]) -> Option<Result<(), AuditError>> {
        let mut appender = self.shared.appender()?;
        if !lock(&self.shared.queue).is_empty() {
            return None;
        }
        let result = appender.write_alone(line)?;
        drop(appender);
        if !lock(&self.shared.queue).is_empty() {
            self.append();
        }
        Some(result)
    }

    /// Notes that this task has come to wait for its line, and says whether another came since it did last: then one write
    /// would serve more of them if it waited for a moment.
    pub(super) fn note_arrival(&self) -> bool {
        let task = task::try_id();
        let before = std::mem::replace(&mut *lock(&self.shared.last), task);
        before != task
    }

    /// Whether no other task has come to wait for a line since this one did last.
    pub(super) fn has_come_last(&self) -> bool {
        let task = task::try_id();
        task.is_some() && *lock(&self.shared.last) == task
    }

    /// Has the keeper append what is queued, for those who do not wait.
    pub(super) fn hand_over(&self) {
        self.keeper.unpark();
    }

    pub(super) fn state(&self) -> &State {
        &self.shared.state
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.keeper.unpark();
    }
}

impl Shared {
    /// None where somebody appends just now.
    fn appender(&self) -> Option<MutexGuard<'_, Appender>> {
        match self.appender.try_lock() {
            Ok(appender) => Some(appender),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether more came to be queued meanwhile, by callers who left it to us.
    fn append(&self) -> bool {
        let Some(mut appender) = self.appender() else {
            return false;
        };
        let batch = self.take();
        if !batch.is_empty() {
            appender.write(batch);
        }
        drop(appender);
        // To be asked after the lock is free: who came before saw it taken, who comes later finds it free.
        !lock(&self.queue).is_empty()
    }

    /// At first, and whenever nobody comes, it is found out whether the log can be written at all.
    fn keep(&self) {
        loop {
            let closed = self.closed.load(Ordering::Acquire);
            let mut appender = lock(&self.appender);
            appender.write(self.take());
            drop(appender);
            if !lock(&self.queue).is_empty() {
                continue;
            }
            if closed {
                return;
            }
            thread::park_timeout(PAUSE);
        }
    }

    fn take(&self) -> Vec<Message> {
        let mut queue = lock(&self.queue);
        let end = queue.len().min(BATCH);
        queue.drain(..end).collect()
    }
}

/// What a panic left behind is whole: every step of the appender leaves it able to go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Done = oneshot::Sender<Result<(), AuditError>>;

/// Those who wait for a sync of what their lines were written to.
struct Written {
    to: Arc<dyn Durable>,
    waiting: Vec<Done>,
}

struct Appender {
    sink: Box<dyn Sink>,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    syncer: Sender<Written>,
    /// Changes whose intent is written and whose outcome is not.
    begun: HashSet<u64>,
    /// Outcomes that could not be written.
    kept: VecDeque<(u64, Vec<u8>)>,
    buffer: Vec<u8>,
    /// Whether the last attempt succeeded.
    known: Option<bool>,
}

impl Appender {
    /// Writes one line. None where there is more to be done than that.
    fn write_alone(&mut self, line: &[u8]) -> Option<Result<(), AuditError>> {
        let healthy = self.known == Some(true)
            && self.kept.is_empty()
            && !self.state.suspect.load(Ordering::Acquire)
            && !self.state.sync_failed.load(Ordering::Acquire);
        if !healthy {
            return None;
        }
        Some(match self.sink.append(line, reserve(self.begun.len()), false) {
            Ok(_) => {
                self.metrics.audit_lines(1);
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(AuditError::Unavailable)
            }
        })
    }

    /// Writes what was kept and what came, in this order; where that fails, the ends of what has begun alone.
    fn write(&mut self, mut batch: Vec<Message>) {
        if self.state.suspect.swap(false, Ordering::AcqRel) {
            self.sink.distrust();
        }
        let coming: Vec<u64> = batch.iter().filter_map(Message::intent).collect();
        // The end of a change whose intent never came to be written is no news.
        batch.retain(|message| {
            let number = message.outcome();
            number.is_none_or(|number| self.begun.contains(&number) || coming.contains(&number))
        });
        let ending = self.kept.len() + batch.iter().filter_map(Message::outcome).count();
        let open = (self.begun.len() + coming.len()).saturating_sub(ending);
        // A log that could not be written heals once it has room for a line, and not by having nothing to write.
        let next = usize::from(self.known == Some(false));

        let lines = self.fill(&batch);
        match self.sink.append(&self.buffer, reserve(open + next), false) {
            Ok(to) => {
                self.metrics.audit_lines(lines);
                self.begun.extend(coming);
                self.has_ended(&batch);
                self.succeeded();
                self.release(batch, to);
            }
            Err(error) => {
                self.failed(&error);
                let (ends, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(|message| {
                    message
                        .outcome()
                        .is_some_and(|number| self.begun.contains(&number))
                });
                rest.into_iter().for_each(Message::give_up);
                self.write_ends(ends);
            }
        }
    }

    /// Room for these was reserved with their intents.
    fn write_ends(&mut self, ends: Vec<Message>) {
        if ends.is_empty() && self.kept.is_empty() {
            return;
        }
        let lines = self.fill(&ends);
        match self.sink.append(&self.buffer, 0, true) {
            Ok(to) => {
                self.metrics.audit_lines(lines);
                self.has_ended(&ends);
                self.release(ends, to);
            }
            Err(_) => {
                for message in ends {
                    if let Some(number) = message.outcome() {
                        self.kept.push_back((number, message.line.clone()));
                    }
                    message.give_up();
                }
                while self.kept.len() > KEPT
                    && let Some((number, _)) = self.kept.pop_front()
                {
                    self.begun.remove(&number);
                }
            }
        }
    }

    /// Puts all lines into the buffer, and says how many they are.
    fn fill(&mut self, batch: &[Message]) -> u64 {
        self.buffer.clear();
        let mut lines = 0;
        let kept = self.kept.iter().map(|(_, line)| line);
        for line in kept.chain(batch.iter().map(|message| &message.line)) {
            self.buffer.extend_from_slice(line);
            lines += u64::from(!line.is_empty());
        }
        lines
    }

    fn has_ended(&mut self, batch: &[Message]) {
        let kept = self.kept.drain(..).map(|(number, _)| number);
        for number in kept.chain(batch.iter().filter_map(Message::outcome)) {
            self.begun.remove(&number);
        }
    }

    /// Releases who waited for the line alone, and hands the others to the syncer.
    fn release(&self, batch: Vec<Message>, to: Arc<dyn Durable>) {
        let mut waiting = Vec::new();
        for message in batch {
            match message.purpose {
                Purpose::Line | Purpose::Sample => message.succeed(),
                Purpose::Intent(_) | Purpose::Outcome(_) | Purpose::Flush => waiting.push(message.done),
            }
        }
        // After a failed sync one without anybody who waits finds out whether it heals.
        if !waiting.is_empty() || self.state.sync_failed.load(Ordering::Acquire) {
            let _ = self.syncer.send(Written { to, waiting });
        }
    }

    fn succeeded(&mut self) {
        self.state.appends.store(true, Ordering::Release);
        self.metrics.audit_writable(true);
        if self.known.replace(true) == Some(false) {
            self.metrics.audit_incident(AuditIncident::Healed);
            tracing::info!("the audit log can be written again");
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.state.appends.store(false, Ordering::Release);
        self.metrics.audit_writable(false);
        self.metrics.audit_incident(AuditIncident::Failed);
        if self.known.replace(false) != Some(false) {
            tracing::error!(
                %error,
                "the audit log cannot be written: reads and changes are refused until it can"
            );
        }
    }
}

impl Message {
    const fn intent(&self) -> Option<u64> {
        match self.purpose {
            Purpose::Intent(number) => Some(number),
            Purpose::Line | Purpose::Sample | Purpose::Outcome(_) | Purpose::Flush => None,
        }
    }

    const fn outcome(&self) -> Option<u64> {
        match self.purpose {
            Purpose::Outcome(number) => Some(number),
            Purpose::Line | Purpose::Sample | Purpose::Intent(_) | Purpose::Flush => None,
        }
    }

    // Whoever no longer waits needs no answer.
    fn succeed(self) {
        let _ = self.done.send(Ok(()));
    }

    fn give_up(self) {
        let _ = self.done.send(Err(AuditError::Unavailable));
    }
}

/// Bytes that so many lines may need.
fn reserve(lines: usize) -> u64 {
    u64::try_from(lines.saturating_mul(LONGEST)).unwrap_or(u64::MAX)
}

/// Syncs for all who have come to wait meanwhile.
fn sync_all(written: &Receiver<Written>, state: &State) {
    while let Ok(first) = written.recv() {
        let mut groups: Vec<Written> = vec![first];
        for next in written.try_iter() {
            match groups.last_mut() {
                Some(last) if Arc::ptr_eq(&last.to, &next.to) => last.waiting.extend(next.waiting),
                _ => groups.push(next),
            }
        }
        for group in groups {
            let synced = group.to.sync();
            state.sync_failed.store(synced.is_err(), Ordering::Release);
            if let Err(error) = &synced {
                state.suspect.store(true, Ordering::Release);
                tracing::error!(%error, "the audit log could not be synced to its disk");
            }
            let answer = synced.map_err(|_| AuditError::Unavailable);
            for done in group.waiting {
                let _ = done.send(answer);
            }
        }
    }
}
