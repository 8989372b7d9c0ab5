//! Points at which a test has this process die. Only a build with the feature `failpoints` has them; in every other one
//! [`here`] does nothing and no name of a point is in the binary.
//!
//! # Why
//! What a `kill -9` leaves behind depends on where it hits, and no test hits a gap of a few microseconds by chance. A point is
//! armed by a file of its name in a folder of this process. Whoever removes the file dies: so it is one death, though the
//! process is started again at once, and a file that is gone says that it was there.

#[cfg(any(test, feature = "failpoints"))]
use std::path::{Path, PathBuf};
#[cfg(any(test, feature = "failpoints"))]
use std::sync::OnceLock;

#[cfg(any(test, feature = "failpoints"))]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// What has just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The intent of a change is on disk, and nothing else was done.
    IntentRecorded,
    /// One record that a head is to name is written, and not all of them need be.
    PartWritten,
    /// All records that a head is to name are written, and the head is not.
    PartsWritten,
    /// A head is written, and this replica has not taken it in.
    HeadWritten,
    /// A secret is marked as being purged, and nothing of it is removed.
    PurgeMarked,
    /// One record of a secret is removed, and not all of them need be.
    PartRemoved,
    /// All records of a purged secret but its head are removed, and the receipt is not written.
    PartsRemoved,
    /// A change is made, and its outcome is not on record.
    EffectMade,
}

/// Nothing: what is shipped has no such point.
#[cfg(not(any(test, feature = "failpoints")))]
#[inline]
pub const fn here(_: Point) {}

/// Dies here, where this point is armed.
#[cfg(any(test, feature = "failpoints"))]
pub fn here(point: Point) {
    if FOLDER.get().is_some_and(|folder| point.is_due(folder)) {
        die();
    }
}

#[cfg(any(test, feature = "failpoints"))]
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// From now on points are armed by files in this folder. The first call counts.
#[cfg(any(test, feature = "failpoints"))]
pub fn look_in(folder: PathBuf) {
    // One that is told a second time keeps the first, as said.
    let _ = FOLDER.set(folder);
}

#[cfg(any(test, feature = "failpoints"))]
impl Point {
    /// The file that arms it.
    const fn file(self) -> &'static str {
        match self {
            Self::IntentRecorded => "failpoint-intent-recorded",
            Self::PartWritten => "failpoint-part-written",
            Self::PartsWritten => "failpoint-parts-written",
            Self::HeadWritten => "failpoint-head-written",
            Self::PurgeMarked => "failpoint-purge-marked",
            Self::PartRemoved => "failpoint-part-removed",
            Self::PartsRemoved => "failpoint-parts-removed",
            Self::EffectMade => "failpoint-effect-made",
        }
    }

    /// Whether it is armed. It is not any more after that: of all that ask one alone is told so.
    fn is_due(self, folder: &Path) -> bool {
        std::fs::remove_file(folder.join(self.file())).is_ok()
    }
}

/// As `kill -9` does it: no destructor runs, nothing that is queued is written, no task goes on. The signal itself is of no use
/// here, since the kernel keeps it from a container's first process when that sends it.
#[cfg(any(test, feature = "failpoints"))]
fn die() -> ! {
    // A core file of it would hold keys, and take its time; without it the death is the same.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_point_is_due_once_and_no_other_one_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Point::HeadWritten.is_due(folder.path()), "it is not armed");
        std::fs::write(folder.path().join("failpoint-head-written"), "").unwrap();
        assert!(!Point::EffectMade.is_due(folder.path()));
        assert!(Point::HeadWritten.is_due(folder.path()));
        assert!(!Point::HeadWritten.is_due(folder.path()), "one death is enough");
    }
}
