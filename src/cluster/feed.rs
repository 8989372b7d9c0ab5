//! One kind of object, followed: list, watch, and the proof of how fresh that is.
//!
//! # Why not kube's watcher
//! It swallows bookmarks and waits minutes, so nobody could tell an idle feed from a dead one. Here each watch ends after
//! some seconds and starts anew where it was; the bookmark just before its end says up to which revision everything was
//! told, and a consistent list of one object says every few seconds which revision there is to reach. A feed is fresh as
//! of the start of the newest such probe that it has reached, on the monotonic clock.
//!
//! # What it promises
//! - A list is read in pages into a shadow and swapped in whole: readers never see half of one.
//! - Each event after the list's revision is handed on once, in order; where that cannot be known, all is read anew.
//! - A store whose revision went back stops the feed for good (`Standing::store_rolled_back`): answers from a restored
//!   etcd are not to be mixed with what was known before. A restart of the process is the acknowledgement: it knows only
//!   what it reads then.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::world::{Feed as Kind, Shared};

use super::api::{Api, ApiError, Ask, Reason};
use super::jitter;
use super::position::{Next, Pace, Position, Progress, Seen};
use super::wire::{Object, Told, WatchBody, current_revision, list_pages, told};

/// How much longer than asked a watch may run before it counts as dead.
const GRACE: Duration = Duration::from_secs(5);
/// How long one page of a list may take.
const LIST_DEADLINE: Duration = Duration::from_secs(30);

/// Where a feed's objects go.
pub(crate) trait Sink: Send {
    /// What is decoded of an object.
    type Object: Object;

    /// A list begins: what an unfinished one brought is void.
    fn begin(&mut self);

    /// A page of the list that began.
    fn page(&mut self, objects: Vec<Self::Object>);

    /// The list is complete, as of `revision`: it takes the place of all that was known.
    fn swap(&mut self, revision: u64) -> impl Future<Output = ()> + Send;

    /// Something happened after the list.
    fn told(&mut self, event: Told<Self::Object>);
}

/// Which objects to follow.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Whose freshness it is.
    pub kind: Kind,
    /// The path of the collection.
    pub path: String,
    /// Whether metadata is enough.
    pub metadata_only: bool,
    /// Objects a page of a list.
    pub page: u32,
}

impl Source {
    fn list_accept(&self) -> &'static str {
        if self.metadata_only {
            super::api::LIST_METADATA
        } else {
            super::api::JSON
        }
    }

    fn watch_accept(&self) -> &'static str {
        if self.metadata_only {
            super::api::METADATA
        } else {
            super::api::JSON
        }
    }
}

/// A feed at work.
pub(crate) struct Feed {
    api: Api,
    /// The same connection, patient enough for a page of a list.
    lists: Api,
    source: Source,
    pace: Pace,
    world: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    position: Position,
    progress: Progress,
}

/// The feed ended: the store went back in time.
#[derive(Debug)]
struct RolledBack;

impl Feed {
    /// A feed that has not begun.
    pub(crate) fn new(api: Api, source: Source, pace: Pace, world: Arc<Shared>) -> Self {
        Self {
            lists: api.clone().with_deadline(LIST_DEADLINE),
            api,
            source,
            pace,
            world,
            state: Mutex::default(),
        }
    }

    /// Follows the objects into `sink` until dropped, or until the store goes back in time.
    pub(crate) async fn run<S: Sink>(self, mut sink: S) {
        let ended = tokio::select! {
            ended = self.follow(&mut sink) => ended,
            ended = self.probe() => ended,
        };
        let RolledBack = ended;
        tracing::error!(
            feed = self.source.kind.as_str(),
            "StoreRolledBack: the API server shows an earlier state than was seen before, as after a restore of etcd; \
             nothing is served"
        );
        self.world.standing.store_rolled_back();
    }

    async fn follow<S: Sink>(&self, sink: &mut S) -> RolledBack {
        let mut next = Next::List(Duration::ZERO);
        loop {
            next = match next {
                Next::RolledBack => return RolledBack,
                // Between watches every step says what to do; this is only for completeness.
                Next::Stay => Next::List(Duration::ZERO),
                Next::List(within) => {
                    self.state(|s| s.progress.lost());
                    sleep(jitter(within)).await;
                    let began = Instant::now();
                    match self.list(sink).await {
                        Ok(revision) => self.listed(sink, began, revision).await,
                        Err(error) => self.failed("list", &error),
                    }
                }
                Next::Watch(from, pause) => {
                    sleep(pause).await;
                    self.watch(from, sink).await
                }
            };
        }
    }

    async fn listed<S: Sink>(&self, sink: &mut S, began: Instant, revision: u64) -> Next {
        let next = self.state(|s| s.position.after(Seen::Listed(revision)));
        if matches!(next, Next::Watch(..)) {
            sink.swap(revision).await;
            let fresh = self.state(|s| s.progress.listed(began, revision));
            self.world.standing.mark(self.source.kind, fresh);
        }
        next
    }

    async fn list<S: Sink>(&self, sink: &mut S) -> Result<u64, ApiError> {
        sink.begin();
        let source = &self.source;
        let take = |objects| {
            sink.page(objects);
            Ok(())
        };
        list_pages(&self.lists, &source.path, source.page, source.list_accept(), take).await
    }

    async fn watch<S: Sink>(&self, from: u64, sink: &mut S) -> Next {
        let began = Instant::now();
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={}",
            self.source.path,
            self.pace.watch.as_secs()
        );
        let ask = Ask {
            accept: self.source.watch_accept(),
            ..Ask::get(&path)
        };
        let run = async {
            let mut body = WatchBody::new(self.api.stream(ask).await?);
            while let Some(line) = body.next().await? {
                let event = told::<S::Object>(&line)?;
                let revision = event.revision()?;
                let next = self.state(|s| s.position.after(Seen::Told(revision)));
                if next != Next::Stay {
                    return Ok(Some(next));
                }
                sink.told(event);
                if let Some(fresh) = self.state(|s| s.progress.reached(revision)) {
                    self.world.standing.mark(self.source.kind, fresh);
                }
            }
            Ok(None)
        };
        match timeout(self.pace.watch + GRACE, run).await {
            Ok(Ok(Some(next))) => next,
            Ok(Ok(None)) => {
                let age = self.world.standing.age(self.source.kind, Instant::now());
                let old = age.is_some_and(|age| age > self.pace.overdue);
                self.state(|s| {
                    s.position.after(Seen::Ended {
                        lasted: began.elapsed(),
                        overdue: old && s.progress.lags_behind(began),
                    })
                })
            }
            Ok(Err(error)) => self.failed("watch", &error),
            Err(_) => self.failed("watch", &ApiError::NoAnswer),
        }
    }

    async fn probe(&self) -> RolledBack {
        let (path, accept) = (&self.source.path, self.source.list_accept());
        loop {
            sleep(self.pace.probe).await;
            let seen = self.state(|s| s.position.highest());
            let began = Instant::now();
            match current_revision(&self.api, path, accept).await {
                Ok(revision) => {
                    let probed = Seen::Probed { seen, revision };
                    if self.state(|s| s.position.after(probed)) == Next::RolledBack {
                        return RolledBack;
                    }
                    if let Some(fresh) = self.state(|s| s.progress.probed(began, revision)) {
                        self.world.standing.mark(self.source.kind, fresh);
                    }
                }
                Err(error) => {
                    tracing::debug!(feed = self.source.kind.as_str(), %error, "probe failed");
                }
            }
        }
    }

    fn failed(&self, attempt: &'static str, error: &ApiError) -> Next {
        let seen = match error {
            ApiError::Malformed => Seen::Garbled,
            ApiError::Refused(refusal) if refusal.reason == Reason::Expired => Seen::Expired,
            ApiError::Refused(refusal) => Seen::Failed(refusal.retry_after),
            ApiError::NotSent | ApiError::NoAnswer | ApiError::Configuration => Seen::Failed(None),
        };
        if seen == Seen::Expired {
            tracing::info!(
                feed = self.source.kind.as_str(),
                attempt,
                "the revision is gone, reading all anew"
            );
        } else {
            tracing::warn!(feed = self.source.kind.as_str(), attempt, %error, "feed interrupted");
        }
        self.state(|s| s.position.after(seen))
    }

    /// Never held over an await, and never by a request.
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
