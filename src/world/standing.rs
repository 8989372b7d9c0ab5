//! Whether what this replica knows may be relied upon (design of freshness: monotonic clock only).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::Kind;

/// What the cluster feeds to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feed {
    /// `Vault` resources.
    Vaults,
    /// `AccessPolicy` resources.
    AccessPolicies,
    /// `NetworkRule` resources.
    NetworkRules,
    /// Pods.
    Pods,
    /// Service accounts.
    ServiceAccounts,
    /// Namespaces.
    Namespaces,
    /// `SealedRecord` resources.
    SealedRecords,
}

impl Feed {
    /// All feeds.
    pub const ALL: [Self; 7] = [
        Self::Vaults,
        Self::AccessPolicies,
        Self::NetworkRules,
        Self::Pods,
        Self::ServiceAccounts,
        Self::Namespaces,
        Self::SealedRecords,
    ];

    /// Its name in metrics and messages: the resource's plural.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vaults => "vaults",
            Self::AccessPolicies => "accesspolicies",
            Self::NetworkRules => "networkrules",
            Self::Pods => "pods",
            Self::ServiceAccounts => "serviceaccounts",
            Self::Namespaces => "namespaces",
            Self::SealedRecords => "sealedrecords",
        }
    }
}

/// Why reads are refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfStanding {
    /// A feed was never complete.
    #[error("the list of {} has not been read yet", .0.as_str())]
    NotSynced(Feed),
    /// A feed is older than the staleness bound.
    #[error("what is known of {} is {} s old, and the staleness bound is {} s", .feed.as_str(), .age.as_secs(), .bound.as_secs())]
    Stale {
        /// Which feed.
        feed: Feed,
        /// How old.
        age: Duration,
        /// How old it may be.
        bound: Duration,
    },
    /// The store went back in time: etcd was restored.
    #[error("the store went back to an earlier state (StoreRolledBack)")]
    StoreRolledBack,
    /// This replica's wall clock differs too much from the API server's.
    #[error("this replica's clock differs from the API server's by more than 30 s")]
    ClockOff,
}

impl OutOfStanding {
    /// Always [`Kind::Unavailable`]: it heals, and retrying helps.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Unavailable
    }
}

/// How fresh each feed is, and the two flags that stop serving at once.
#[derive(Debug)]
pub struct Standing {
    base: Instant,
    bound: Duration,
    // Nanoseconds since `base`, plus one; zero means never.
    fresh_as_of: [AtomicU64; Feed::ALL.len()],
    rolled_back: AtomicBool,
    clock_off: AtomicBool,
}

impl Standing {
    /// Nothing is known yet. `base` is any instant before the first mark.
    #[must_use]
    pub fn new(base: Instant, bound: Duration) -> Self {
        Self {
            base,
            bound,
            fresh_as_of: [const { AtomicU64::new(0) }; Feed::ALL.len()],
            rolled_back: AtomicBool::new(false),
            clock_off: AtomicBool::new(false),
        }
    }

    /// The feed shows all that was true at `as_of`. An earlier mark than one seen changes nothing.
    pub fn mark(&self, feed: Feed, as_of: Instant) {
        let nanos =
            u64::try_from(as_of.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX - 1);
        if let Some(slot) = self.fresh_as_of.get(feed as usize) {
            slot.fetch_max(nanos.saturating_add(1), Ordering::AcqRel);
        }
    }

    /// How old what a feed shows is; none when it was never complete.
    #[must_use]
    pub fn age(&self, feed: Feed, now: Instant) -> Option<Duration> {
        let nanos = self
            .fresh_as_of
            .get(feed as usize)?
            .load(Ordering::Acquire)
            .checked_sub(1)?;
        Some(
            now.saturating_duration_since(self.base)
                .saturating_sub(Duration::from_nanos(nanos)),
        )
    }

    /// Says that the store went back. It stays so until this process ends.
    pub fn store_rolled_back(&self) {
        self.rolled_back.store(true, Ordering::Release);
    }

    /// Whether the store went back.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        self.rolled_back.load(Ordering::Acquire)
    }

    /// Says whether the wall clock is off.
    pub fn clock_off(&self, off: bool) {
        self.clock_off.store(off, Ordering::Release);
    }

    /// Whether requests may be answered at `now`.
    ///
    /// # Errors
    /// [`OutOfStanding`], the gravest first.
    pub fn check(&self, now: Instant) -> Result<(), OutOfStanding> {
        if self.is_rolled_back() {
            return Err(OutOfStanding::StoreRolledBack);
        }
        if self.clock_off.load(Ordering::Acquire) {
            return Err(OutOfStanding::ClockOff);
        }
        // Every request asks: whole numbers alone, and the exact finding only where there is one.
        let since = |instant: Instant| {
            let nanos = instant.saturating_duration_since(self.base).as_nanos();
            u64::try_from(nanos).unwrap_or(u64::MAX)
        };
        let bound = u64::try_from(self.bound.as_nanos()).unwrap_or(u64::MAX);
        let oldest = since(now).saturating_sub(bound);
        let good = |slot: &AtomicU64| {
            slot.load(Ordering::Acquire)
                .checked_sub(1)
                .is_some_and(|at| at >= oldest)
        };
        if self.fresh_as_of.iter().all(good) {
            return Ok(());
        }
        Feed::ALL
            .into_iter()
            .try_for_each(|feed| match self.age(feed, now) {
                None => Err(OutOfStanding::NotSynced(feed)),
                Some(age) if age > self.bound => Err(OutOfStanding::Stale {
                    feed,
                    age,
                    bound: self.bound,
                }),
                Some(_) => Ok(()),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(15);

    fn all_marked(at: Instant) -> Standing {
        let standing = Standing::new(at, BOUND);
        Feed::ALL.into_iter().for_each(|feed| standing.mark(feed, at));
        standing
    }

    #[test]
    fn nothing_is_answered_before_every_list_is_read() {
        let start = Instant::now();
        let standing = Standing::new(start, BOUND);
        for feed in Feed::ALL {
            assert_eq!(standing.check(start), Err(OutOfStanding::NotSynced(feed)));
            standing.mark(feed, start);
        }
        assert_eq!(standing.check(start), Ok(()));
    }

    #[test]
    fn reads_go_on_until_the_bound_and_not_beyond() {
        let start = Instant::now();
        let standing = all_marked(start);
        assert_eq!(standing.check(start + BOUND), Ok(()));
        let late = start + BOUND + Duration::from_nanos(1);
        assert!(matches!(
            standing.check(late),
            Err(OutOfStanding::Stale {
                feed: Feed::Vaults,
                ..
            })
        ));
        Feed::ALL.into_iter().for_each(|feed| standing.mark(feed, late));
        assert_eq!(standing.check(late), Ok(()));
    }

    #[test]
    fn an_earlier_mark_never_makes_a_feed_older() {
        let start = Instant::now();
        let standing = all_marked(start);
        standing.mark(Feed::Pods, start + BOUND);
        standing.mark(Feed::Pods, start);
        assert_eq!(standing.age(Feed::Pods, start + BOUND), Some(Duration::ZERO));
    }

    #[test]
    fn a_store_that_went_back_stops_everything_for_good() {
        let start = Instant::now();
        let standing = all_marked(start);
        standing.store_rolled_back();
        standing.clock_off(true);
        assert_eq!(standing.check(start), Err(OutOfStanding::StoreRolledBack));
    }

    #[test]
    fn a_clock_that_comes_right_again_heals() {
        let start = Instant::now();
        let standing = all_marked(start);
        standing.clock_off(true);
        assert_eq!(standing.check(start), Err(OutOfStanding::ClockOff));
        standing.clock_off(false);
        assert_eq!(standing.check(start), Ok(()));
    }
}
