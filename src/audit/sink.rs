//! Where lines go. The one real sink is a file; tests put a failing one in its place.

use std::io;
use std::sync::Arc;

/// Takes lines, all or none.
pub(super) trait Sink: Send {
    /// Appends whole lines and makes sure that `reserve` more bytes will find room. Afterwards either all lines are in the
    /// log, or none and an error is returned. No lines at all: the log is looked after.
    ///
    /// `begun`: these lines end what has begun, and their room was reserved; nothing is done for them that may fail for
    /// want of more.
    fn append(&mut self, lines: &[u8], reserve: u64, begun: bool) -> io::Result<Arc<dyn Durable>>;

    /// What was written may not have reached the disk: begin anew.
    fn distrust(&mut self);
}

/// What lines were written to.
pub(super) trait Durable: Send + Sync {
    /// Returns when everything that was written is on disk.
    fn sync(&self) -> io::Result<()>;
}
