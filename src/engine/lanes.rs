//! One lane per record that is being changed or confirmed: writers of one replica take turns instead of failing each other's
//! compare-and-swap, and quorum reads that mean the same are made once.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::{RecordName, StoreError};

/// Lanes that somebody is in.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: Mutex<HashMap<RecordName, Arc<Lane>>>,
    ticks: AtomicU64,
}

/// The lane of one record.
#[derive(Default)]
pub(super) struct Lane {
    /// Held by the writer whose turn it is.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Held by who reads; the newest read that was finished.
    pub(super) read: tokio::sync::Mutex<Option<Read>>,
}

/// A quorum read that was made in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) began: Tick,
    pub(super) result: Result<(), StoreError>,
}

/// An order of events within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

impl Lanes {
    pub(super) fn tick(&self) -> Tick {
        Tick(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn enter(&self, record: &RecordName) -> InLane<'_> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = Arc::clone(lanes.entry(record.clone()).or_default());
        InLane {
            lanes: self,
            record: record.clone(),
            lane,
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Being in a lane; the last one out takes it away.
pub(super) struct InLane<'a> {
    lanes: &'a Lanes,
    record: RecordName,
    lane: Arc<Lane>,
}

impl Deref for InLane<'_> {
    type Target = Lane;

    fn deref(&self) -> &Lane {
        &self.lane
    }
}

impl Drop for InLane<'_> {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the map's: nobody else is in, and nobody can come in while the map is locked.
        if Arc::strong_count(&self.lane) == 2 {
            lanes.remove(&self.record);
        }
    }
}
