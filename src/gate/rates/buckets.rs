//! Token buckets for whoever comes, in a fixed number of places.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Drawn;

/// Over how long a limit is counted.
const PERIOD: Duration = Duration::from_secs(10);

/// Token buckets of one size. A full one holds as many tokens as are filled in during [`PERIOD`].
///
/// Whoever asks has two places. A token is taken from both, and it is enough that one of them had one: so whoever shares a
/// place with a flood still has the other, and to be held up takes floods at both.
#[derive(Debug)]
pub(super) struct Buckets {
    base: Instant,
    /// Nanoseconds in which a token is filled in; none where there is no limit.
    token: Option<u64>,
    /// When each bucket would be full, in nanoseconds since `base`.
    full_at: Box<[AtomicU64]>,
}

impl Buckets {
    /// So many tokens a [`PERIOD`] for each who asks; zero means no limit. `base` is any instant before the first question.
    pub(super) fn new(limit: u32, places: usize, base: Instant) -> Self {
        let token = nanos(PERIOD).checked_div(limit.into()).map(|token| token.max(1));
        let places = if token.is_some() { places } else { 0 };
        Self {
            base,
            token,
            full_at: (0..places).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Takes a token. Whoever gets none has used up none.
    ///
    /// # Errors
    /// After how long there will be one.
    pub(super) fn take(&self, who: Drawn, now: Instant) -> Result<(), Duration> {
        let Some(token) = self.token else { return Ok(()) };
        let now = nanos(now.saturating_duration_since(self.base));
        let take = |place: usize| {
            self.full_at
                .get(place)
                .map_or(Ok(()), |full_at| take(full_at, token, now))
        };
        let [one, other] = who.places(self.full_at.len());
        if one == other {
            return take(one);
        }
        match (take(one), take(other)) {
            (Ok(()), _) | (_, Ok(())) => Ok(()),
            (Err(one), Err(other)) => Err(one.min(other)),
        }
    }
}

/// Each token taken moves the instant at which the bucket would be full on by one token's time; more than a whole period
/// away, the bucket is empty.
fn take(full_at: &AtomicU64, token: u64, now: u64) -> Result<(), Duration> {
    let mut known = full_at.load(Ordering::Relaxed);
    loop {
        let next = known.max(now).saturating_add(token);
        let over = next.saturating_sub(now).saturating_sub(nanos(PERIOD));
        if over > 0 {
            return Err(Duration::from_nanos(over));
        }
        match full_at.compare_exchange_weak(known, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(other) => known = other,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::rates::Seed;
    use proptest::prelude::*;

    const PLACES: usize = 16_384;

    /// How many of so many attempts at once come through.
    fn through(buckets: &Buckets, who: Drawn, attempts: usize, now: Instant) -> usize {
        (0..attempts).filter(|_| buckets.take(who, now).is_ok()).count()
    }

    fn somebody() -> Drawn {
        Seed::default().draw(&"somebody")
    }

    #[test]
    fn a_burst_of_the_whole_limit_comes_through_and_then_what_is_filled_in() {
        let (start, who) = (Instant::now(), somebody());
        let buckets = Buckets::new(300, PLACES, start);
        assert_eq!(through(&buckets, who, 1_000, start), 300);
        for (after, expected) in [(100, 3), (1_000, 27), (11_000, 300), (3_600_000, 300)] {
            let now = start + Duration::from_millis(after);
            assert_eq!(through(&buckets, who, 1_000, now), expected, "{after} ms");
        }
    }

    #[test]
    fn whoever_is_refused_is_told_when_and_then_comes_through() {
        let (start, who) = (Instant::now(), somebody());
        for limit in [1_u32, 7, 300, 4_000] {
            let buckets = Buckets::new(limit, PLACES, start);
            assert_eq!(through(&buckets, who, limit as usize, start), limit as usize);
            let wait = buckets.take(who, start).unwrap_err();
            assert!(
                wait <= PERIOD / limit + Duration::from_nanos(1),
                "{limit}: {wait:?}"
            );
            assert_eq!(buckets.take(who, start + wait), Ok(()), "{limit}");
        }
    }

    #[test]
    fn a_refused_attempt_uses_nothing_up() {
        let (start, who) = (Instant::now(), somebody());
        let buckets = Buckets::new(10, PLACES, start);
        assert_eq!(through(&buckets, who, 100_000, start), 10);
        assert_eq!(through(&buckets, who, 100_000, start + Duration::from_secs(1)), 1);
    }

    #[test]
    fn zero_is_no_limit_and_no_memory_and_the_largest_is_as_good_as_none() {
        let (start, who) = (Instant::now(), somebody());
        for limit in [0, u32::MAX] {
            let buckets = Buckets::new(limit, PLACES, start);
            assert_eq!(through(&buckets, who, 100_000, start), 100_000);
            assert_eq!(buckets.full_at.is_empty(), limit == 0);
        }
    }

    #[test]
    fn those_who_flood_hold_up_next_to_nobody_else() {
        let (start, seed) = (Instant::now(), Seed::default());
        let buckets = Buckets::new(10, PLACES, start);
        for flooder in 0..100 {
            through(&buckets, seed.draw(&("flood", flooder)), 1_000, start);
        }
        let whole = (0..1_000)
            .filter(|who| through(&buckets, seed.draw(&("quiet", who)), 5, start) == 5)
            .count();
        // Both of one's places of 16,384 are taken by 100 in about one of 7,000 cases.
        assert!(whole >= 997, "{whole} of 1000");
    }

    #[test]
    fn many_threads_take_no_token_twice() {
        let (start, who) = (Instant::now(), somebody());
        let buckets = Buckets::new(1_000, PLACES, start);
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| through(&buckets, who, 1_000, start)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Where one thread takes the last token of the one place and a second thread that of the other, both come through.
        assert!((1_000..=1_000 + 8).contains(&taken), "{taken}");
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_come_through_than_a_burst_and_what_is_filled_in(
            limit in 1_u32..500,
            steps in prop::collection::vec((0_u64..3_000, 0_usize..200), 1..40),
        ) {
            let (start, who) = (Instant::now(), somebody());
            let buckets = Buckets::new(limit, PLACES, start);
            let (mut now, mut through_in_all) = (start, 0_usize);
            for (millis, attempts) in steps {
                now += Duration::from_millis(millis);
                through_in_all += through(&buckets, who, attempts, now);
                let filled = u128::from(limit) * (now - start).as_millis() / 10_000;
                prop_assert!(through_in_all as u128 <= u128::from(limit) + filled + 1);
            }
        }
    }
}
