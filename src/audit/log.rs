//! The record as the gate uses it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::crypto::random;
use crate::model::{Caller, Class, Moment, OperationName, UnixSeconds, VaultId};
use crate::policy::Permit;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::AuditIncident;
use crate::telemetry::sampler::Sampler;

use super::file::LogFile;
use super::line::{Allowed, End, Record, RecordId, Stage};
use super::sink::Sink;
use super::writer::{self, Message, Purpose, Writer};
use super::{About, Asked, AuditError, FileConfig, Outcome, StartError};

/// Lines that may be queued, those included whose operation has begun and whose outcome is to come.
const PLACES: usize = 8192;
/// How long anybody waits for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// The one line of an operation that is done and not told yet.
#[must_use]
pub struct Line(Vec<u8>);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

/// The audit log. A clone is the same log.
#[derive(Clone)]
pub struct AuditLog(Arc<Shared>);

struct Shared {
    writer: Writer,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    patience: Duration,
    process: u64,
    numbers: AtomicU64,
    unauthenticated: Sampler,
    unauthenticated_not_shown: AtomicU64,
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditLog")
    }
}

impl AuditLog {
    /// A log in files. It starts also where the disk is full or away, refuses everything, and heals.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open_file(config: FileConfig, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let file = LogFile::new(config, Arc::clone(&metrics));
        Self::over(Box::new(file), metrics, PATIENCE)
    }

    fn over(sink: Box<dyn Sink>, metrics: Arc<Metrics>, patience: Duration) -> Result<Self, StartError> {
        let process = u64::from_be_bytes(random::bytes().map_err(StartError::Ids)?);
        let writer = writer::start(sink, Arc::clone(&metrics)).map_err(StartError::Thread)?;
        Ok(Self(Arc::new(Shared {
            writer,
            places: Arc::new(Semaphore::new(PLACES)),
            metrics,
            patience,
            process,
            numbers: AtomicU64::new(0),
            unauthenticated: Sampler::default(),
            unauthenticated_not_shown: AtomicU64::new(0),
        })))
    }

    /// Opens the record of an operation that is about to be done. For a change its intent is on disk when this returns; for
    /// a read nothing is written yet.
    ///
    /// May be dropped at any await: what was recorded then says that nothing was done.
    ///
    /// # Errors
    /// [`AuditError`]: nothing may be done.
    pub async fn open(
        &self,
        about: About<'static>,
        permit: &Permit,
        now: Moment,
    ) -> Result<Entry, AuditError> {
        let class = permit.operation().class();
        let places = match class {
            Class::Read => self.0.places(1).await?,
            Class::Change => self.0.places(2).await?,
        };
        let mut entry = Entry {
            log: Arc::clone(&self.0),
            id: self.0.next_id(),
            class,
            opened: now,
            about,
            asked: Asked::of(permit.operation()),
            allowed: Allowed {
                vault: Arc::clone(permit.vault()),
                caller: Arc::clone(permit.caller()),
                rule: permit.rule().clone(),
                generation: permit.generation(),
            },
            place: Some(places),
            begun: false,
        };
        if class == Class::Change {
            let place = entry.place.as_mut().and_then(|places| places.split(1));
            let line = entry.record(Stage::Intent, now, End::NotYet).to_line();
            let written = self.0.write(line, Purpose::Intent(entry.id.number), place);
            let result = self.0.wait(written).await;
            if result.is_err() {
                // Its intent may still come to be on disk: the entry's end then says that nothing was done.
                return Err(AuditError::Unavailable);
            }
        }
        entry.begun = true;
        Ok(entry)
    }

    /// Says that a read was done between `opened` and `now`.
    pub fn read(
        &self,
        about: &About<'_>,
        permit: &Permit,
        asked: &Asked,
        outcome: &Outcome,
        opened: Moment,
        now: Moment,
    ) -> Line {
        let record = Record {
            id: self.0.next_id(),
            stage: Stage::Complete,
            at: now,
            took: Some(now.monotonic.saturating_duration_since(opened.monotonic)),
            about,
            caller: Some(permit.caller()),
            vault: Some(&permit.vault().id),
            asked,
            rule: Some(permit.rule()),
            generation: Some(permit.generation()),
            end: End::Known(outcome),
            not_shown: None,
        };
        Line(record.to_line())
    }

    /// Says that a caller who proved who they are was refused.
    pub fn refused(
        &self,
        about: &About<'_>,
        caller: &Caller,
        vault: &VaultId,
        asked: &Asked,
        outcome: &Outcome,
        now: Moment,
    ) -> Line {
        let record = Record {
            id: self.0.next_id(),
            stage: Stage::Complete,
            at: now,
            took: None,
            about,
            caller: Some(caller),
            vault: Some(vault),
            asked,
            rule: None,
            generation: None,
            end: End::Known(outcome),
            not_shown: None,
        };
        Line(record.to_line())
    }

    /// Records the one line of an operation.
    ///
    /// # Errors
    /// [`AuditError`]: nothing may be told.
    pub async fn complete(&self, line: Line) -> Result<(), AuditError> {
        self.0.complete(line.0).await
    }

    /// Counts a request that proved no identity; at most one a second leaves a line, and none waits for it.
    pub fn unauthenticated(&self, peer: IpAddr, outcome: &Outcome, now: Moment) {
        let log = &*self.0;
        log.metrics.unauthenticated();
        let place = Arc::clone(&log.places).try_acquire_owned();
        // Strangers leave half of the queue to those who proved who they are.
        let (Ok(place), true, true) = (
            place,
            log.places.available_permits() > PLACES / 2,
            log.unauthenticated.takes(now),
        ) else {
            log.unauthenticated_not_shown.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let about = About {
            peer: Some(peer),
            ..About::default()
        };
        let not_shown = log.unauthenticated_not_shown.swap(0, Ordering::Relaxed);
        let line = log.line_of_nobody(
            OperationName::Authentication,
            &about,
            outcome,
            Some(not_shown),
            now,
        );
        drop(log.write(line, Purpose::Sample, Some(place)));
        log.writer.hand_over();
    }

    /// Records that a person said that a store which went back to an earlier state has to do. On disk when this returns. Who it
    /// was is on record with the API server.
    ///
    /// # Errors
    /// [`AuditError`]: it may not be acted on.
    pub async fn store_accepted(&self, now: Moment) -> Result<(), AuditError> {
        let (about, done) = (About::default(), Outcome::success(None));
        let line = self
            .0
            .line_of_nobody(OperationName::StoreAccept, &about, &done, None, now);
        self.0.complete(line).await?;
        self.flush().await
    }

    /// Whether the log can be written, as of the last attempt, which is at most a second ago.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.0.writer.state().is_writable()
    }

    /// Returns when all that was handed over before is on disk.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn flush(&self) -> Result<(), AuditError> {
        let written = self.0.write(Vec::new(), Purpose::Flush, None);
        self.0.wait(written).await
    }
}

impl Shared {
    fn next_id(&self) -> RecordId {
        RecordId {
            process: self.process,
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The one line of what no caller did, in no vault.
    fn line_of_nobody(
        &self,
        operation: OperationName,
        about: &About<'_>,
        outcome: &Outcome,
        not_shown: Option<u64>,
        now: Moment,
    ) -> Vec<u8> {
        let record = Record {
            id: self.next_id(),
            stage: Stage::Complete,
            at: now,
            took: None,
            about,
            caller: None,
            vault: None,
            asked: &Asked {
                operation,
                object: None,
                version: None,
            },
            rule: None,
            generation: None,
            end: End::Known(outcome),
            not_shown,
        };
        record.to_line()
    }

    /// Places in the queue; whoever finds it full waits: the disk sets the pace.
    async fn places(&self, count: u32) -> Result<OwnedSemaphorePermit, AuditError> {
        let places = match Arc::clone(&self.places).try_acquire_many_owned(count) {
            Ok(places) => Ok(places),
            Err(TryAcquireError::Closed) => Err(AuditError::Unavailable),
            Err(TryAcquireError::NoPermits) => {
                let wait = Arc::clone(&self.places).acquire_many_owned(count);
                match tokio::time::timeout(self.patience, wait).boxed().await {
                    Ok(Ok(places)) => Ok(places),
                    Ok(Err(_)) | Err(_) => Err(AuditError::Unavailable),
                }
            }
        };
        places.inspect_err(|_| self.metrics.audit_failed())
    }

    fn write(
        &self,
        line: Vec<u8>,
        purpose: Purpose,
        place: Option<OwnedSemaphorePermit>,
    ) -> oneshot::Receiver<Result<(), AuditError>> {
        let (done, written) = oneshot::channel();
        self.writer.queue(Message {
            line,
            purpose,
            done,
            _place: place,
        });
        written
    }

    /// Writes the only line of an operation, and waits for it.
    async fn complete(&self, line: Vec<u8>) -> Result<(), AuditError> {
        // Who asks one thing after the other and has the log for itself needs no queue. (All others do: a write for each of
        // a crowd costs more than waiting for one that serves them all.)
        if self.writer.has_come_last()
            && let Some(result) = self.writer.append_alone(&line)
        {
            return result.inspect_err(|_| self.metrics.audit_failed());
        }
        let place = self.places(1).await?;
        let written = self.write(line, Purpose::Line, Some(place));
        self.wait(written).await
    }

    /// Waits for a line that was queued. Who leaves meanwhile leaves the line to others.
    async fn wait(&self, mut written: oneshot::Receiver<Result<(), AuditError>>) -> Result<(), AuditError> {
        if self.writer.note_arrival() {
            // All who are ready to run queue theirs first, and one write serves them all.
            tokio::task::yield_now().await;
        }
        self.writer.append();
        let result = match written.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Closed) => Err(AuditError::Unavailable),
            Err(TryRecvError::Empty) => match tokio::time::timeout(self.patience, written).boxed().await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(AuditError::Unavailable),
            },
        };
        result.inspect_err(|_| self.metrics.audit_failed())
    }
}

/// The open record of one operation. Dropped without [`Entry::close`], it says that nobody told how the operation ended.
pub struct Entry {
    log: Arc<Shared>,
    id: RecordId,
    class: Class,
    opened: Moment,
    about: About<'static>,
    asked: Asked,
    allowed: Allowed,
    /// The place of its last line; none once that is written.
    place: Option<OwnedSemaphorePermit>,
    begun: bool,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

impl Entry {
    /// Records how it ended. For a change the outcome is on disk when this returns, for a read its line is written.
    ///
    /// # Errors
    /// [`AuditError`]: a read's result may not be told; a change stands, and its outcome is recorded when the log heals,
    /// as far as this process lives to see it.
    pub async fn close(mut self, outcome: &Outcome, now: Moment) -> Result<(), AuditError> {
        let Some(written) = self.finish(End::Known(outcome), now) else {
            return Ok(());
        };
        let log = Arc::clone(&self.log);
        drop(self);
        log.wait(written).await
    }

    fn finish(&mut self, end: End<'_>, now: Moment) -> Option<oneshot::Receiver<Result<(), AuditError>>> {
        let place = self.place.take()?;
        let (stage, purpose) = match self.class {
            Class::Read => (Stage::Complete, Purpose::Line),
            Class::Change => (Stage::Outcome, Purpose::Outcome(self.id.number)),
        };
        let line = self.record(stage, now, end).to_line();
        Some(self.log.write(line, purpose, Some(place)))
    }

    fn record<'a>(&'a self, stage: Stage, at: Moment, end: End<'a>) -> Record<'a> {
        let took = at.monotonic.saturating_duration_since(self.opened.monotonic);
        Record {
            id: self.id,
            stage,
            at,
            took: (stage != Stage::Intent).then_some(took),
            about: &self.about,
            caller: Some(&self.allowed.caller),
            vault: Some(&self.allowed.vault.id),
            asked: &self.asked,
            rule: Some(&self.allowed.rule),
            generation: Some(self.allowed.generation),
            end,
            not_shown: None,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.place.is_none() {
            return;
        }
        // Nobody hands a clock to whoever is dropped: the opening's wall clock, and the time since.
        let since = self.opened.monotonic.elapsed();
        let nanos = u64::from(self.opened.nanos) + u64::from(since.subsec_nanos());
        let seconds = since.as_secs() + nanos / 1_000_000_000;
        let now = Moment {
            wall: UnixSeconds(self.opened.wall.0.saturating_add_unsigned(seconds)),
            nanos: u32::try_from(nanos % 1_000_000_000).unwrap_or(0),
            monotonic: self.opened.monotonic + since,
        };
        let end = match (self.begun, self.class) {
            // A read that was never begun has disclosed nothing and written nothing.
            (false, Class::Read) => return,
            (false, Class::Change) => End::NotBegun,
            (true, _) => End::Unknown,
        };
        self.log.metrics.audit_incident(AuditIncident::Abandoned);
        drop(self.finish(end, now));
        self.log.writer.hand_over();
    }
}

#[cfg(test)]
mod tests;
