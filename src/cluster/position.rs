//! What a feed does next, and how fresh it is: pure decisions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The pace of a feed's watch and probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// `timeoutSeconds` of each watch: the API server sends a bookmark about two seconds before.
    pub watch: Duration,
    /// How often the revision to reach is asked for.
    pub probe: Duration,
    /// A feed that is older than this although its watch runs reads all anew: the bookmarks of an API server whose etcd
    /// reports no progress lag by minutes.
    pub overdue: Duration,
}

impl Pace {
    /// The pace for a staleness bound. Between bookmarks the age grows to `watch + probe` at most, so both stay well below
    /// the bound; slower is cheaper for the API server.
    pub(crate) fn within(bound: Duration) -> Self {
        let (watch, probe) = if bound < Duration::from_secs(30) {
            (4, 2)
        } else {
            (8, 5)
        };
        Self {
            watch: Duration::from_secs(watch),
            probe: Duration::from_secs(probe),
            overdue: bound / 2,
        }
    }
}

/// What a feed has just seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// All objects, as of this revision.
    Listed(u64),
    /// A change or a bookmark of this revision.
    Told(u64),
    /// The end of a watch.
    Ended {
        /// How long it ran.
        lasted: Duration,
        /// Whether it told too little, so that the feed is older than [`Pace::overdue`] although its watch ran.
        overdue: bool,
    },
    /// The revision to go on from is no longer there.
    Expired,
    /// Something that cannot be read, so that a change may have been missed.
    Garbled,
    /// A failure of the transport or the API server, with the pause that it asked for.
    Failed(Option<Duration>),
    /// By quorum, the store is at `revision`; before that was asked the feed had seen `seen`.
    Probed { seen: u64, revision: u64 },
}

/// What a feed does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read all objects anew, after up to this long (so that many feeds do not do it at once).
    List(Duration),
    /// Watch from this revision, after this long.
    Watch(u64, Duration),
    /// Nothing changes: go on reading the watch.
    Stay,
    /// The store went back in time. Never go on.
    RolledBack,
}

/// Relists of several feeds and replicas are spread over this long.
const RELIST_SPREAD: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Short, since it is how late a feed notices that the API server is back; two or three replicas ask.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause that the API server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(10);
/// A watch that ends sooner counts as failed, so that a broken proxy is not asked in a tight loop.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);

/// Where a feed is. Revisions are compared as numbers, as etcd makes them.
#[derive(Debug, Default)]
pub(crate) struct Position {
    /// The revision up to which the feed has everything; none before the first list and once a relist is due.
    at: Option<u64>,
    /// The highest revision ever seen of this kind.
    highest: u64,
    failures: u32,
}

impl Position {
    /// The highest revision seen, to be handed back with [`Seen::Probed`].
    pub(crate) const fn highest(&self) -> u64 {
        self.highest
    }

    /// The next step after `seen`.
    pub(crate) fn after(&mut self, seen: Seen) -> Next {
        match seen {
            Seen::Listed(revision) if revision < self.highest => Next::RolledBack,
            Seen::Probed { seen, revision } if revision < seen => Next::RolledBack,
            Seen::Probed { .. } => Next::Stay,
            Seen::Listed(revision) => {
                self.at = Some(revision);
                self.highest = revision;
                self.failures = 0;
                Next::Watch(revision, Duration::ZERO)
            }
            Seen::Told(revision) => match self.at {
                Some(at) if revision >= at => {
                    self.at = Some(revision);
                    self.highest = self.highest.max(revision);
                    self.failures = 0;
                    Next::Stay
                }
                // Out of order: what else is wrong is not known.
                _ => self.relist(RELIST_SPREAD),
            },
            Seen::Ended { overdue: true, .. } => self.relist(RELIST_SPREAD),
            Seen::Ended { lasted, .. } if lasted >= SHORTEST_WATCH => self.resume(Duration::ZERO),
            Seen::Ended { .. } => {
                let pause = self.pause();
                self.resume(pause)
            }
            Seen::Expired => self.relist(RELIST_SPREAD),
            Seen::Garbled => {
                let pause = self.pause();
                self.relist(pause.max(RELIST_SPREAD))
            }
            Seen::Failed(asked) => {
                let pause = self.pause().max(asked.unwrap_or_default().min(LONGEST_ASKED));
                self.resume(pause)
            }
        }
    }

    fn relist(&mut self, within: Duration) -> Next {
        self.at = None;
        Next::List(within)
    }

    fn resume(&self, pause: Duration) -> Next {
        self.at.map_or(Next::List(pause), |at| Next::Watch(at, pause))
    }

    fn pause(&mut self) -> Duration {
        let doublings = self.failures.min(10);
        self.failures = self.failures.saturating_add(1);
        FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
    }
}

/// How fresh a feed is: it knows everything that was true when its last fulfilled probe began.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    reached: Option<u64>,
    /// Probes whose revision is not reached yet, oldest first: when each began, and the revision to reach.
    pending: VecDeque<(Instant, u64)>,
}

/// Probes remembered while a watch lags.
const MAX_PENDING: usize = 64;

impl Progress {
    /// All objects were read as of `revision`, by a list that began at `began`: fresh as of then.
    pub(crate) fn listed(&mut self, began: Instant, revision: u64) -> Instant {
        self.reached(revision).map_or(began, |fresh| fresh.max(began))
    }

    /// The feed has everything up to `revision`. Hands back as of when it is fresh, if that moved.
    pub(crate) fn reached(&mut self, revision: u64) -> Option<Instant> {
        self.reached = Some(self.reached.map_or(revision, |r| r.max(revision)));
        let mut fresh = None;
        while let Some((began, _)) = self.pending.pop_front_if(|(_, target)| *target <= revision) {
            fresh = Some(began);
        }
        fresh
    }

    /// A probe that began at `began` found the store at `revision`. Hands back as of when the feed is fresh, if that moved.
    pub(crate) fn probed(&mut self, began: Instant, revision: u64) -> Option<Instant> {
        if self.reached.is_some_and(|reached| reached >= revision) {
            self.pending.clear();
            return Some(began);
        }
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((began, revision));
        None
    }

    /// Whether a probe that began before `watch` did is not reached yet. The bookmark at the end of a watch covers all that
    /// was true when the watch began, unless the API server's bookmarks lag.
    pub(crate) fn lags_behind(&self, watch: Instant) -> bool {
        self.pending.front().is_some_and(|(began, _)| *began < watch)
    }

    /// What the feed holds is to be read anew, so nothing counts as reached until then.
    pub(crate) fn lost(&mut self) {
        self.reached = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::ZERO;

    fn at(revision: u64) -> Position {
        let mut position = Position::default();
        position.after(Seen::Listed(revision));
        position
    }

    fn ended(millis: u64, overdue: bool) -> Seen {
        Seen::Ended {
            lasted: Duration::from_millis(millis),
            overdue,
        }
    }

    #[test]
    fn a_feed_lists_first_then_watches_from_the_lists_revision() {
        let mut position = Position::default();
        assert_eq!(position.after(Seen::Failed(None)), Next::List(FIRST_PAUSE));
        assert_eq!(position.after(Seen::Listed(7)), Next::Watch(7, NOW));
    }

    #[test]
    fn each_thing_seen_has_its_next_step() {
        let second = Duration::from_secs(1);
        let table = [
            (Seen::Told(11), Next::Stay),
            (Seen::Told(10), Next::Stay),
            (Seen::Told(9), Next::List(RELIST_SPREAD)),
            (ended(8000, false), Next::Watch(10, NOW)),
            (ended(3, false), Next::Watch(10, FIRST_PAUSE)),
            (ended(8000, true), Next::List(RELIST_SPREAD)),
            (Seen::Expired, Next::List(RELIST_SPREAD)),
            (Seen::Garbled, Next::List(RELIST_SPREAD)),
            (Seen::Failed(None), Next::Watch(10, FIRST_PAUSE)),
            (Seen::Failed(Some(second)), Next::Watch(10, second)),
            (Seen::Failed(Some(second * 3600)), Next::Watch(10, LONGEST_ASKED)),
            (Seen::Listed(9), Next::RolledBack),
            (Seen::Listed(10), Next::Watch(10, NOW)),
            (
                Seen::Probed {
                    seen: 10,
                    revision: 9,
                },
                Next::RolledBack,
            ),
            (
                Seen::Probed {
                    seen: 10,
                    revision: 10,
                },
                Next::Stay,
            ),
            // Events may overtake a probe that was asked earlier.
            (Seen::Probed { seen: 5, revision: 6 }, Next::Stay),
        ];
        for (seen, next) in table {
            assert_eq!(at(10).after(seen), next, "{seen:?}");
        }
    }

    #[test]
    fn a_watch_goes_on_from_the_last_event_or_bookmark() {
        let mut position = at(10);
        position.after(Seen::Told(25));
        assert_eq!(position.after(ended(8000, false)), Next::Watch(25, NOW));
    }

    #[test]
    fn a_relist_that_shows_less_than_was_seen_is_a_rollback_and_numbers_compare_as_numbers() {
        let mut position = at(9);
        position.after(Seen::Told(1000));
        position.after(Seen::Expired);
        assert_eq!(position.after(Seen::Listed(999)), Next::RolledBack);
        let mut position = at(999);
        position.after(Seen::Expired);
        assert_eq!(position.after(Seen::Listed(1000)), Next::Watch(1000, NOW));
    }

    #[test]
    fn pauses_grow_to_two_seconds_and_start_anew_after_progress() {
        let mut position = at(1);
        let pauses: Vec<u128> = (0..8)
            .map(|_| match position.after(Seen::Failed(None)) {
                Next::Watch(_, pause) => pause.as_millis(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        position.after(Seen::Told(2));
        assert_eq!(position.after(Seen::Failed(None)), Next::Watch(2, FIRST_PAUSE));
    }

    #[test]
    fn a_feed_is_fresh_as_of_the_newest_probe_whose_revision_it_has_reached() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut progress = Progress::default();
        assert_eq!(progress.listed(second(0), 100), second(0));
        // Nothing happened since: fresh at once.
        assert_eq!(progress.probed(second(5), 100), Some(second(5)));
        // Other kinds changed: wait for the bookmark.
        assert_eq!(progress.probed(second(10), 120), None);
        assert_eq!(progress.probed(second(15), 140), None);
        assert_eq!(progress.reached(119), None);
        assert_eq!(progress.reached(130), Some(second(10)));
        assert_eq!(progress.reached(500), Some(second(15)));
        assert_eq!(progress.reached(600), None);
    }

    #[test]
    fn only_a_watch_that_missed_what_was_known_before_it_began_lags() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let mut progress = Progress::default();
        progress.listed(second(0), 100);
        assert!(!progress.lags_behind(second(1)));
        progress.probed(second(5), 120);
        assert!(
            !progress.lags_behind(second(4)),
            "it was asked while the watch ran"
        );
        assert!(progress.lags_behind(second(6)));
        progress.reached(120);
        assert!(!progress.lags_behind(second(6)));
    }

    #[test]
    fn a_feed_that_must_relist_is_not_fresh_by_probes_until_it_has() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.listed(start, 100);
        progress.lost();
        let later = start + Duration::from_secs(5);
        assert_eq!(progress.probed(later, 100), None);
        let listed = start + Duration::from_secs(6);
        assert_eq!(progress.listed(listed, 101), listed);
    }

    #[test]
    fn the_pace_leaves_room_below_the_staleness_bound() {
        for seconds in [10, 29, 30, 300, 3600] {
            let pace = Pace::within(Duration::from_secs(seconds));
            let bound = Duration::from_secs(seconds);
            assert!(
                pace.watch + pace.probe < bound && pace.overdue < bound,
                "{seconds}"
            );
        }
    }

    proptest! {
        /// Whatever the order of probes and progress, a feed never claims a freshness that it has no right to.
        #[test]
        fn freshness_never_runs_ahead(steps in prop::collection::vec((any::<bool>(), 0_u64..50), 1..60)) {
            let start = Instant::now();
            let mut progress = Progress::default();
            let (mut reached, mut probes) = (0, Vec::new());
            for (n, (probe, revision)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(n as u64);
                let fresh = if probe {
                    probes.push((now, revision));
                    progress.probed(now, revision)
                } else {
                    reached = reached.max(revision);
                    progress.reached(revision)
                };
                if let Some(fresh) = fresh {
                    let (_, target) = probes.iter().find(|(began, _)| *began == fresh).unwrap();
                    prop_assert!(*target <= reached);
                }
            }
        }
    }
}
