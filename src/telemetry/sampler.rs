//! One of many.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Moment;

/// Takes at most one event a second, by the wall clock; a clock that is set back takes one at once.
#[derive(Debug, Default)]
pub struct Sampler(AtomicU64);

impl Sampler {
    /// Whether this event is taken.
    pub fn takes(&self, now: Moment) -> bool {
        let second = now.wall.0.cast_unsigned();
        self.0.load(Ordering::Relaxed) != second && self.0.swap(second, Ordering::Relaxed) != second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixSeconds;

    #[test]
    fn one_event_a_second_is_taken() {
        let at = |second| Moment {
            wall: UnixSeconds(second),
            nanos: 0,
            monotonic: std::time::Instant::now(),
        };
        let sampler = Sampler::default();
        let taken: Vec<_> = [5, 5, 6, 6, 6, 9, 3]
            .into_iter()
            .map(|second| sampler.takes(at(second)))
            .collect();
        assert_eq!(taken, [true, false, true, false, false, true, true]);
    }
}
