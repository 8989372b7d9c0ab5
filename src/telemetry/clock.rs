//! The one place that reads the wall clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::{Clock, Moment, UnixSeconds};

/// The clocks of this machine.
#[must_use]
pub fn system() -> Clock {
    Clock::new(|| {
        let (wall, nanos) = since_epoch(wall());
        Moment {
            wall,
            nanos,
            monotonic: Instant::now(),
        }
    })
}

/// The clocks of this machine, were its wall clock set so many seconds later.
#[cfg(any(test, feature = "failpoints"))]
#[must_use]
pub fn off_by(seconds: i64) -> Clock {
    let clock = system();
    Clock::new(move || {
        let now = clock.now();
        Moment {
            wall: now.wall.plus(seconds),
            ..now
        }
    })
}

#[allow(clippy::disallowed_methods, reason = "the one source of time")]
fn wall() -> SystemTime {
    SystemTime::now()
}

/// Whole seconds, rounded down, and the nanoseconds beyond; before 1970 it is negative.
fn since_epoch(time: SystemTime) -> (UnixSeconds, u32) {
    let seconds = |duration: std::time::Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (UnixSeconds(seconds(after)), after.subsec_nanos()),
        Err(before) => match before.duration() {
            whole if whole.subsec_nanos() == 0 => (UnixSeconds(-seconds(whole)), 0),
            part => (
                UnixSeconds(-seconds(part) - 1),
                1_000_000_000 - part.subsec_nanos(),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_machine_without_a_battery_may_start_before_1970() {
        let second = Duration::from_secs(1);
        let half = Duration::from_millis(500);
        for (time, expected) in [
            (UNIX_EPOCH, (UnixSeconds(0), 0)),
            (UNIX_EPOCH + half, (UnixSeconds(0), 500_000_000)),
            (UNIX_EPOCH - half, (UnixSeconds(-1), 500_000_000)),
            (UNIX_EPOCH - second, (UnixSeconds(-1), 0)),
            (UNIX_EPOCH + second + half, (UnixSeconds(1), 500_000_000)),
        ] {
            assert_eq!(since_epoch(time), expected, "{time:?}");
        }
    }

    #[test]
    fn a_wall_clock_that_is_off_leaves_the_monotonic_one_alone() {
        let (right, wrong) = (system().now(), off_by(-600).now());
        assert!((599..=600).contains(&(right.wall.0 - wrong.wall.0)));
        assert!(wrong.monotonic.saturating_duration_since(right.monotonic) < Duration::from_secs(60));
    }

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let clock = system();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.monotonic >= first.monotonic);
    }
}
