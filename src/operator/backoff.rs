//! How long to wait before an object is tried again: longer with each failure of that object, and by its kind.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::Kind;

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: Mutex<HashMap<Object, u32>>,
}

/// Kind, namespace and name.
pub(super) type Object = (&'static str, String, String);

impl Backoff {
    /// The object is as it should be.
    pub(super) fn forget(&self, object: &Object) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(object);
    }

    /// The object failed once more: when to try it again.
    pub(super) fn after(&self, object: &Object, kind: Kind) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.clone()).or_default();
        *count = count.saturating_add(1);
        let random = RandomState::new().hash_one(object) % 1_000;
        wait(*count, kind, u32::try_from(random).unwrap_or_default())
    }
}

/// Doubles from one second to the kind's longest wait; a quarter of it is random (`permille`), so that what failed
/// together does not come back together.
fn wait(failures: u32, kind: Kind, permille: u32) -> Duration {
    let longest = match kind {
        // Somebody else has to recover; when `serve` does, its stream of summaries tells us at once.
        Kind::Unavailable | Kind::Throttled | Kind::Conflict | Kind::NotFound => Duration::from_secs(30),
        // Somebody has to change something, which we mostly see.
        Kind::Unauthenticated | Kind::Denied | Kind::Invalid | Kind::Internal => Duration::from_secs(300),
    };
    let whole = Duration::from_secs(1)
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest);
    whole.mul_f64(f64::from(permille.min(1_000)).mul_add(0.000_25, 0.75))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end_at_what_the_kind_of_failure_makes_sensible() {
        for (failures, kind, permille, milliseconds) in [
            (1, Kind::Unavailable, 1_000, 1_000),
            (1, Kind::Unavailable, 0, 750),
            (3, Kind::Unavailable, 1_000, 4_000),
            (9, Kind::Unavailable, 1_000, 30_000),
            (9, Kind::Denied, 1_000, 256_000),
            (u32::MAX, Kind::Denied, 1_000, 300_000),
        ] {
            assert_eq!(
                wait(failures, kind, permille).as_millis(),
                milliseconds,
                "{failures} {kind:?}"
            );
        }
    }

    #[test]
    fn one_objects_failures_do_not_slow_another_and_success_forgets_them() {
        let backoff = Backoff::default();
        let [a, b] = ["a", "b"].map(|name| ("Vault", "shop".to_owned(), name.to_owned()));
        let waits: Vec<_> = (0..6).map(|_| backoff.after(&a, Kind::Unavailable)).collect();
        assert!(
            waits.windows(2).filter(|pair| pair[0] < pair[1]).count() >= 4,
            "{waits:?}"
        );
        assert!(backoff.after(&b, Kind::Unavailable) <= Duration::from_secs(1));
        backoff.forget(&a);
        assert!(backoff.after(&a, Kind::Unavailable) <= Duration::from_secs(1));
    }
}
