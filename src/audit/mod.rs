//! What happened, on record: one line for a read, two for a change.
//!
//! # Why
//! - A change's intent is on disk before the change begins, and its outcome before the caller hears of it. A read's line is
//!   written before the first byte of the reply. Where that can't be done the caller gets 503 and, for intents and reads,
//!   nothing happened or was disclosed.
//! - An intent without an outcome is an operation of which nobody knows whether it was done: its process died.
//! - Room for the outcome, in the queue and on the disk, is taken with the intent: a full disk refuses what is new and
//!   still records what has begun.
//! - What may stand in a line is an allow-list by type ([`line`]): there is no way for a value to get in.
//! - Whoever comes first appends all that is queued, in one write; that releases reads. A thread syncs, and that releases
//!   changes: the slowest disk costs a sync for a crowd of changes, and reads wait for none.

mod about;
mod clean;
mod error;
mod file;
#[cfg(test)]
mod fixtures;
mod line;
mod log;
mod sink;
mod writer;

pub use about::{About, Asked, Outcome};
pub use error::{AuditError, StartError};
pub use file::FileConfig;
pub use log::{AuditLog, Entry, Line};
