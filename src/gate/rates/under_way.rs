//! How much each has under way, in a fixed number of places.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Drawn;

/// Counts what is under way, by caller. As with the buckets, each has two places and it is enough that one has room.
#[derive(Debug)]
pub(super) struct UnderWay {
    most: u32,
    counts: Arc<[AtomicU32]>,
}

/// Something that is under way, until this is dropped.
#[derive(Debug)]
pub(in crate::gate) struct Held {
    counts: Arc<[AtomicU32]>,
    places: [usize; 2],
}

impl UnderWay {
    /// At most so many each.
    pub(super) fn new(most: u32, places: usize) -> Self {
        Self {
            most,
            counts: (0..places).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// One more of theirs, if there is room.
    pub(super) fn begin(&self, who: Drawn) -> Option<Held> {
        let held = Held {
            counts: Arc::clone(&self.counts),
            places: who.places(self.counts.len()),
        };
        let before = held.places.map(|place| {
            let count = self.counts.get(place);
            count.map_or(0, |count| count.fetch_add(1, Ordering::Relaxed))
        });
        let room = before.into_iter().any(|before| before < self.most);
        // What has no room gives both places back by being dropped.
        room.then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for place in self.places {
            if let Some(count) = self.counts.get(place) {
                count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who has these two of eight places.
    fn at(one: u64, other: u64) -> Drawn {
        Drawn(one << 29 | other << 61)
    }

    fn sum(table: &UnderWay) -> u32 {
        table
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    #[test]
    fn there_is_room_again_once_something_ends() {
        let table = UnderWay::new(3, 8);
        let mut held: Vec<_> = (0..3).map(|_| table.begin(at(5, 7)).unwrap()).collect();
        assert!(table.begin(at(5, 7)).is_none());
        assert!(table.begin(at(1, 2)).is_some(), "another has his own room");
        held.pop();
        assert!(table.begin(at(5, 7)).is_some());
        drop(held);
        assert_eq!(sum(&table), 0, "nothing stays behind");
    }

    #[test]
    fn whoever_shares_one_place_with_a_crowd_has_the_other() {
        let table = UnderWay::new(2, 8);
        let _crowd: Vec<_> = (0..2).map(|_| table.begin(at(1, 5)).unwrap()).collect();
        assert!(table.begin(at(2, 5)).is_some());
        assert!(table.begin(at(1, 6)).is_some());
        assert!(table.begin(at(5, 1)).is_none());
    }

    #[test]
    fn whoever_draws_one_place_twice_has_half_the_room_and_leaves_nothing_behind() {
        let table = UnderWay::new(4, 8);
        let held: Vec<_> = std::iter::from_fn(|| table.begin(at(5, 5))).take(10).collect();
        assert_eq!(held.len(), 2);
        drop(held);
        assert_eq!(sum(&table), 0);
    }
}
