//! Places in fixed tables, drawn by a hash.

use std::hash::{BuildHasher, Hash, RandomState};

/// Draws places by a hash with a seed of this process's own, so that nobody can choose to share another's.
#[derive(Debug, Default)]
pub(super) struct Seed(RandomState);

/// What was drawn for one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate) struct Drawn(pub(super) u64);

impl Seed {
    pub(super) fn draw(&self, who: &impl Hash) -> Drawn {
        Drawn(self.0.hash_one(who))
    }
}

impl Drawn {
    /// Two of so many places, one from each half of what was drawn.
    pub(super) fn places(self, of: usize) -> [usize; 2] {
        let place = |half: u64| {
            let scaled = half.wrapping_mul(of as u64) >> 32;
            usize::try_from(scaled).unwrap_or(0)
        };
        [place(self.0 & 0xffff_ffff), place(self.0 >> 32)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_places_are_drawn_apart_and_reach_everywhere() {
        let seed = Seed::default();
        let drawn: Vec<_> = (0..10_000).map(|who| seed.draw(&who).places(64)).collect();
        let same = drawn.iter().filter(|[one, other]| one == other).count();
        assert!(
            (50..400).contains(&same),
            "{same} of 10000, where 156 are expected"
        );
        for place in 0..64 {
            assert!(drawn.iter().any(|places| places[0] == place), "{place}");
            assert!(drawn.iter().any(|places| places[1] == place), "{place}");
        }
        assert!(drawn.iter().flatten().all(|place| *place < 64));
        assert_eq!(seed.draw(&1), seed.draw(&1));
        assert_ne!(Seed::default().draw(&1), Seed::default().draw(&1));
    }
}
