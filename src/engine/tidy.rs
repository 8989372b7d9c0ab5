//! What has done its time is removed.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::heads::RECEIPT_SECONDS;
use super::{Engine, Error};
use crate::model::{Moment, UnixSeconds};
use crate::store::{RecordName, Stamp, StoreError};

/// How long a receipt is kept at least, whatever the wall clock says: as long as the memory of any replica may lag.
const LEAST_KEPT: Duration = Duration::from_hours(1);

/// When what is old was first seen to be old.
pub(super) type Seen = HashMap<RecordName, Instant>;

impl Engine {
    /// Removes the receipts of purges that are older than a day, and says how many. To be called every few minutes; any
    /// replica may, and several at once.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::StoreRolledBack`]; what was removed until then stays removed.
    pub async fn tidy(&self, now: Moment) -> Result<usize, Error> {
        if self.index.load().rolled_back() {
            return Err(Error::StoreRolledBack);
        }
        let mut removed = 0;
        for (record, stamp) in self.old_receipts(now)? {
            match self.store.delete(&record, &stamp).await {
                Ok(()) => {
                    self.index.forget_receipt(&record, &stamp);
                    removed += 1;
                }
                // The name began anew, another replica was first, or the feed will tell.
                Err(StoreError::Conflict | StoreError::NotFound | StoreError::Unknown) => {}
                Err(error) => return Err(Error::Store(error)),
            }
        }
        Ok(removed)
    }

    fn old_receipts(&self, now: Moment) -> Result<Vec<(RecordName, Stamp)>, Error> {
        let snapshot = self.index.load_full();
        let mut seen = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *seen);
        let mut old = Vec::new();
        for vault in snapshot.vaults().filter(|vault| vault.damage.is_none()) {
            let receipts = vault.objects.iter().filter(|(_, object)| {
                let until = object
                    .head
                    .purged
                    .last()
                    .map(|life| life.at.plus(RECEIPT_SECONDS));
                object.head.is_free()
                    && object.damage.is_none()
                    && until.is_some_and(|until| past(until, now))
            });
            for (name, object) in receipts {
                let record = self.seals.object_record(vault.head.uuid, name)?;
                let since = before.get(&record).copied().unwrap_or(now.monotonic);
                if now.monotonic.saturating_duration_since(since) >= LEAST_KEPT {
                    old.push((record.clone(), object.stamp.clone()));
                }
                seen.insert(record, since);
            }
        }
        Ok(old)
    }
}

const fn past(until: UnixSeconds, now: Moment) -> bool {
    now.wall.0 >= until.0
}
