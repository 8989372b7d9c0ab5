//! Time as the domain uses it. Nobody here reads a clock: [`Clock`] is made by `telemetry` (real) or a test (set).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Whole seconds since 1970-01-01T00:00:00Z, as every date on Azure Key Vault's wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub i64);

impl UnixSeconds {
    /// That many seconds later (saturating).
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// That many days later (saturating).
    #[must_use]
    pub const fn plus_days(self, days: u16) -> Self {
        self.plus(days as i64 * 86_400)
    }
}

/// One instant, read from both clocks: dates are judged by the wall clock, safety intervals by the monotonic one.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Wall clock, whole seconds.
    pub wall: UnixSeconds,
    /// The wall clock's part within the second, in nanoseconds (audit lines and token leeway only).
    pub nanos: u32,
    /// Monotonic clock.
    pub monotonic: Instant,
}

/// Where moments come from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// A clock that asks `source` each time.
    #[must_use]
    pub fn new(source: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// The moment now.
    #[must_use]
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
