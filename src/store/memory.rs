//! The store of `dev` and of tests: everything is lost with the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;

use super::{MAX_ENVELOPE, Record, RecordName, SealedStore, Stamp, StoreError, StoreEvent};
use crate::model::Uid;

/// How many changes a watch may lag behind before it must list again.
const LOG_LENGTH: usize = 4096;

/// Records in memory. Clones share them.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Tells watchers of the newest revision.
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<RecordName, Record>,
    revision: u64,
    made: u64,
    log: VecDeque<StoreEvent>,
    /// The newest revision whose event is no longer in the log.
    forgotten: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                revision: watch::Sender::new(0),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change, and wakes the watchers if it was made.
    fn change<T>(&self, make: impl FnOnce(&mut State) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let (result, revision) = {
            let mut state = self.state();
            (make(&mut state), state.revision)
        };
        self.shared.revision.send_if_modified(|known| {
            let newer = revision > *known;
            *known = revision.max(*known);
            newer
        });
        result
    }
}

impl State {
    fn next_revision(&mut self) -> u64 {
        self.revision = self.revision.saturating_add(1);
        self.revision
    }

    fn tell(&mut self, event: StoreEvent) {
        self.log.push_back(event);
        if self.log.len() > LOG_LENGTH
            && let Some(oldest) = self.log.pop_front()
        {
            self.forgotten = oldest.revision();
        }
    }

    fn put(&mut self, name: &RecordName, uid: Uid, envelope: Bytes) -> Stamp {
        let stamp = Stamp {
            uid,
            revision: self.next_revision(),
        };
        let record = Record {
            name: name.clone(),
            stamp: stamp.clone(),
            envelope,
        };
        self.records.insert(name.clone(), record.clone());
        self.tell(StoreEvent::Put(record));
        stamp
    }

    fn create(&mut self, name: &RecordName, envelope: Bytes) -> Result<Stamp, StoreError> {
        check_size(&envelope)?;
        if self.records.contains_key(name) {
            return Err(StoreError::AlreadyExists);
        }
        self.made = self.made.saturating_add(1);
        let uid = Uid::new(&format!("memory-{}", self.made));
        Ok(self.put(name, uid, envelope))
    }

    fn update(&mut self, name: &RecordName, expected: &Stamp, envelope: Bytes) -> Result<Stamp, StoreError> {
        check_size(&envelope)?;
        self.expect(name, expected)?;
        Ok(self.put(name, expected.uid.clone(), envelope))
    }

    fn delete(&mut self, name: &RecordName, expected: &Stamp) -> Result<(), StoreError> {
        self.expect(name, expected)?;
        self.records.remove(name);
        let stamp = Stamp {
            uid: expected.uid.clone(),
            revision: self.next_revision(),
        };
        self.tell(StoreEvent::Deleted {
            name: name.clone(),
            stamp,
        });
        Ok(())
    }

    fn expect(&self, name: &RecordName, expected: &Stamp) -> Result<(), StoreError> {
        let found = self.records.get(name).ok_or(StoreError::NotFound)?;
        if found.stamp == *expected {
            Ok(())
        } else {
            Err(StoreError::Conflict)
        }
    }

    /// What happened after `seen`; an error if that is no longer known.
    fn since(&self, seen: u64) -> Result<VecDeque<StoreEvent>, StoreError> {
        if seen < self.forgotten || seen > self.revision {
            return Err(StoreError::Expired);
        }
        let first = self.log.partition_point(|event| event.revision() <= seen);
        Ok(self.log.iter().skip(first).cloned().collect())
    }
}

fn check_size(envelope: &Bytes) -> Result<(), StoreError> {
    if envelope.len() > MAX_ENVELOPE {
        Err(StoreError::TooLarge)
    } else {
        Ok(())
    }
}

impl SealedStore for MemoryStore {
    fn create<'a>(
        &'a self,
        name: &'a RecordName,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
        Box::pin(async move { self.change(|state| state.create(name, envelope)) })
    }

    fn update<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
        Box::pin(async move { self.change(|state| state.update(name, expected, envelope)) })
    }

    fn delete<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.change(|state| state.delete(name, expected)) })
    }

    fn get<'a>(&'a self, name: &'a RecordName) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move { Ok(self.state().records.get(name).cloned()) })
    }

    fn list(&self) -> BoxFuture<'_, Result<(Vec<Record>, u64), StoreError>> {
        Box::pin(async move {
            let state = self.state();
            Ok((state.records.values().cloned().collect(), state.revision))
        })
    }

    fn watch(&self, from: u64) -> BoxStream<'static, Result<StoreEvent, StoreError>> {
        let watcher = Watcher {
            store: self.clone(),
            revision: self.shared.revision.subscribe(),
            seen: from,
            ready: VecDeque::new(),
            ended: false,
        };
        Box::pin(stream::unfold(watcher, |mut watcher| async move {
            let item = watcher.next().await?;
            Some((item, watcher))
        }))
    }
}

struct Watcher {
    store: MemoryStore,
    revision: watch::Receiver<u64>,
    seen: u64,
    ready: VecDeque<StoreEvent>,
    ended: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<StoreEvent, StoreError>> {
        while !self.ended {
            if let Some(event) = self.ready.pop_front() {
                self.seen = event.revision();
                return Some(Ok(event));
            }
            self.revision.mark_unchanged();
            match self.store.state().since(self.seen) {
                Ok(events) => self.ready = events,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            if self.ready.is_empty() && self.revision.changed().await.is_err() {
                self.ended = true;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn name(text: &str) -> RecordName {
        RecordName::parse(text).unwrap()
    }

    #[tokio::test]
    async fn the_memory_store_keeps_every_rule_of_the_suite() {
        let store = MemoryStore::new();
        let rules = crate::store::conformance::check(&store, "memory").await.unwrap();
        assert!(rules.len() >= 15, "{rules:?}");
    }

    #[tokio::test]
    async fn a_watch_that_lags_too_far_must_list_again() {
        let store = MemoryStore::new();
        let mut stamp = store.create(&name("a"), Bytes::from_static(b"0")).await.unwrap();
        for _ in 0..=LOG_LENGTH {
            stamp = store
                .update(&name("a"), &stamp, Bytes::from_static(b"1"))
                .await
                .unwrap();
        }
        let mut watch = store.watch(0);
        assert_eq!(watch.next().await, Some(Err(StoreError::Expired)));
        assert_eq!(watch.next().await, None);
        let mut watch = store.watch(stamp.revision - 1);
        assert_eq!(watch.next().await.unwrap().unwrap().revision(), stamp.revision);
    }
}
