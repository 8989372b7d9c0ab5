//! What a record tells of the lives of its name that were ended by a purge.

use super::Incarnation;
use crate::model::UnixSeconds;

/// For how long a purge can be told from a loss, in seconds.
const RECEIPT_SECONDS: i64 = 86_400;
/// How many purges of one name are kept in mind within that time.
const RECEIPTS: usize = 16;

/// A life of a name that was ended by a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct PurgedLife {
    pub(in crate::engine) incarnation: Incarnation,
    pub(in crate::engine) at: UnixSeconds,
}

/// Lives that were purged: who saw one of them may take what followed it for good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::engine) struct Purges {
    /// Those of late, oldest first.
    pub(in crate::engine) lately: Vec<PurgedLife>,
    /// How many there were before those.
    pub(in crate::engine) before: u64,
}

impl Purges {
    /// Notes that this life was purged.
    pub(in crate::engine) fn note(&mut self, incarnation: Incarnation, at: UnixSeconds) {
        self.lately.push(PurgedLife { incarnation, at });
        let first = self.lately.len().saturating_sub(RECEIPTS);
        self.lately.drain(..first);
        self.before += first as u64;
    }

    /// Forgets purges of which nobody needs to be told any more.
    pub(in crate::engine) fn forget(&mut self, now: UnixSeconds) {
        let before = self.lately.len();
        self.lately.retain(|life| now < life.at.plus(RECEIPT_SECONDS));
        self.before += (before - self.lately.len()) as u64;
    }

    /// Until when the last of them must be told of; none if there was none of late.
    pub(in crate::engine) fn told_until(&self) -> Option<UnixSeconds> {
        self.lately.last().map(|life| life.at.plus(RECEIPT_SECONDS))
    }
}
