//! A store that behaves as badly as a real one may: slow, silent, away, and with writes that come through after everybody
//! stopped waiting. Everything follows from a seed.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::store::memory::MemoryStore;
use crate::store::{Record, RecordName, SealedStore, Stamp, StoreError, StoreEvent};

/// A generator of numbers that follow from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(in crate::engine) struct Dice(u64);

impl Dice {
    pub(in crate::engine) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::engine) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(in crate::engine) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Fate {
    Well,
    /// Answers that the record has changed, although it has not.
    Refused,
    /// Done, and answers that the record has changed: by a request that was sent twice on the way.
    DoneAndRefused,
    /// Not done, and says so.
    Away,
    /// Not done, and says nothing.
    LostOnTheWay,
    /// Done, and says nothing.
    LostOnTheWayBack,
    /// Says nothing, and is done later if it still can be.
    Late,
}

/// How often each fate but the good one strikes: once in so many calls.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) enum Mood {
    Calm,
    Rough(usize),
    /// Every write meets this fate.
    Always(Fate),
    /// Every write after so many.
    After(usize, Fate),
    /// The next write alone.
    Once(Fate),
}

type Write = Box<dyn FnOnce(MemoryStore) -> BoxFuture<'static, ()> + Send>;

/// Clones share everything.
#[derive(Clone)]
pub(in crate::engine) struct Shaky {
    pub(in crate::engine) inner: MemoryStore,
    shared: Arc<Mutex<Shared>>,
    pub(in crate::engine) gets: Arc<AtomicUsize>,
    pub(in crate::engine) writes: Arc<AtomicUsize>,
    /// Of all envelopes that were to be written.
    pub(in crate::engine) bytes: Arc<AtomicUsize>,
}

struct Shared {
    dice: Dice,
    mood: Mood,
    late: Vec<Write>,
}

impl Shaky {
    pub(in crate::engine) fn new(seed: u64, mood: Mood) -> Self {
        let shared = Shared {
            dice: Dice::new(seed),
            mood,
            late: Vec::new(),
        };
        Self {
            inner: MemoryStore::new(),
            shared: Arc::new(Mutex::new(shared)),
            gets: Arc::default(),
            writes: Arc::default(),
            bytes: Arc::default(),
        }
    }

    pub(in crate::engine) fn set_mood(&self, mood: Mood) {
        self.shared.lock().unwrap().mood = mood;
    }

    /// Whether a fate that was to strike once is still to strike. It is taken away.
    pub(in crate::engine) fn mood_is_left(&self) -> bool {
        let mut shared = self.shared.lock().unwrap();
        let left = matches!(shared.mood, Mood::Once(_));
        shared.mood = Mood::Calm;
        left
    }

    /// Whether a late write may still come through.
    pub(in crate::engine) fn has_late(&self) -> bool {
        !self.shared.lock().unwrap().late.is_empty()
    }

    /// Lets one late write come through, if it can.
    pub(in crate::engine) fn land(&self, choice: usize) -> bool {
        let write = {
            let mut shared = self.shared.lock().unwrap();
            if shared.late.is_empty() {
                return false;
            }
            let at = choice % shared.late.len();
            shared.late.swap_remove(at)
        };
        write(self.inner.clone()).now_or_never().unwrap();
        true
    }

    /// A few polls that find nothing.
    async fn dawdle(&self) {
        let times = {
            let mut shared = self.shared.lock().unwrap();
            match shared.mood {
                Mood::Rough(_) => shared.dice.below(3),
                Mood::Calm | Mood::Always(_) | Mood::After(..) | Mood::Once(_) => 1,
            }
        };
        for _ in 0..times {
            Yield(false).await;
        }
    }

    fn fate(&self, of_write: bool) -> Fate {
        let mut shared = self.shared.lock().unwrap();
        let mood = shared.mood;
        match mood {
            Mood::Always(fate) | Mood::After(0, fate) if of_write => fate,
            Mood::After(left, fate) if of_write => {
                shared.mood = Mood::After(left - 1, fate);
                Fate::Well
            }
            Mood::Once(fate) if of_write => {
                shared.mood = Mood::Calm;
                fate
            }
            Mood::Calm | Mood::Always(_) | Mood::After(..) | Mood::Once(_) => Fate::Well,
            Mood::Rough(often) if shared.dice.one_in(often) => match shared.dice.below(5) {
                _ if !of_write => Fate::Away,
                0 => Fate::Refused,
                1 => Fate::Away,
                2 => Fate::LostOnTheWay,
                3 => Fate::LostOnTheWayBack,
                _ => Fate::Late,
            },
            Mood::Rough(_) => Fate::Well,
        }
    }

    async fn write<T>(
        &self,
        refusal: StoreError,
        now: impl Future<Output = Result<T, StoreError>> + Send,
        later: Write,
    ) -> Result<T, StoreError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.dawdle().await;
        let answer = match self.fate(true) {
            Fate::Well => now.await,
            Fate::Refused => Err(refusal),
            Fate::DoneAndRefused => now.await.and(Err(refusal)),
            Fate::Away => Err(StoreError::Unavailable),
            Fate::LostOnTheWay => Err(StoreError::Unknown),
            Fate::LostOnTheWayBack => now.await.and(Err(StoreError::Unknown)),
            Fate::Late => {
                self.shared.lock().unwrap().late.push(later);
                Err(StoreError::Unknown)
            }
        };
        self.dawdle().await;
        answer
    }
}

impl SealedStore for Shaky {
    fn create<'a>(
        &'a self,
        name: &'a RecordName,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
        self.bytes.fetch_add(envelope.len(), Ordering::Relaxed);
        let (late_name, late) = (name.clone(), envelope.clone());
        let later: Write = Box::new(move |store| {
            async move {
                let _ = store.create(&late_name, late).await;
            }
            .boxed()
        });
        self.write(
            StoreError::AlreadyExists,
            self.inner.create(name, envelope),
            later,
        )
        .boxed()
    }

    fn update<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>> {
        self.bytes.fetch_add(envelope.len(), Ordering::Relaxed);
        let (late_name, late_stamp, late) = (name.clone(), expected.clone(), envelope.clone());
        let later: Write = Box::new(move |store| {
            async move {
                let _ = store.update(&late_name, &late_stamp, late).await;
            }
            .boxed()
        });
        self.write(
            StoreError::Conflict,
            self.inner.update(name, expected, envelope),
            later,
        )
        .boxed()
    }

    fn delete<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (late_name, late_stamp) = (name.clone(), expected.clone());
        let later: Write = Box::new(move |store| {
            async move {
                let _ = store.delete(&late_name, &late_stamp).await;
            }
            .boxed()
        });
        self.write(StoreError::Conflict, self.inner.delete(name, expected), later)
            .boxed()
    }

    fn get<'a>(&'a self, name: &'a RecordName) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        async move {
            self.gets.fetch_add(1, Ordering::Relaxed);
            self.dawdle().await;
            let answer = match self.fate(false) {
                Fate::Well => self.inner.get(name).await,
                _ => Err(StoreError::Unavailable),
            };
            self.dawdle().await;
            answer
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<(Vec<Record>, u64), StoreError>> {
        self.inner.list()
    }

    fn watch(&self, from: u64) -> BoxStream<'static, Result<StoreEvent, StoreError>> {
        self.inner.watch(from)
    }
}

/// Not ready once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
