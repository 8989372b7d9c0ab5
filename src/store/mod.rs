//! Sealed records and where they lie.
//!
//! # Why so small
//!
//! A store keeps opaque envelopes under opaque names. It is not trusted: whatever it hands back is opened with its place
//! bound into the seal (see `crypto`), and each change is one compare-and-swap, so a backend needs nothing but what
//! [`SealedStore`] lists. The cluster's own etcd is the distributed one (in `cluster`), [`memory`] serves `dev` and tests;
//! [`conformance`] admits a backend.

pub mod conformance;
pub mod installation;
pub mod memory;

mod error;
mod record;

pub use error::StoreError;
pub use record::{InvalidRecordName, MAX_ENVELOPE, Record, RecordName, Stamp, StoreEvent};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// A place for sealed records, with compare-and-swap.
///
/// What each backend promises (and [`conformance`] checks):
/// - a write that was answered with a [`Stamp`] is durable, and every later [`get`](Self::get) and
///   [`list`](Self::list) of any replica shows it;
/// - of two writes that expect the same stamp at most one succeeds;
/// - a name that was deleted and made again has another UID, so an old stamp never fits it;
/// - revisions grow with every change of the whole store, and a [`watch`](Self::watch) tells of all changes after its
///   start, each once, in their order.
///
/// A future that is dropped may or may not have written: as after [`StoreError::Unknown`]. A backend bounds the time that each
/// call takes; its callers wait as long as it does.
pub trait SealedStore: Send + Sync {
    /// Makes a record that must not exist.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::TooLarge`], [`StoreError::Full`], [`StoreError::Unavailable`],
    /// [`StoreError::Unknown`].
    fn create<'a>(
        &'a self,
        name: &'a RecordName,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>>;

    /// Replaces a record that must still be the `expected` one, by UID and revision.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::NotFound`], [`StoreError::TooLarge`], [`StoreError::Full`],
    /// [`StoreError::Unavailable`], [`StoreError::Unknown`].
    fn update<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
        envelope: Bytes,
    ) -> BoxFuture<'a, Result<Stamp, StoreError>>;

    /// Removes a record that must still be the `expected` one, by UID and revision.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::NotFound`], [`StoreError::Unavailable`], [`StoreError::Unknown`].
    fn delete<'a>(
        &'a self,
        name: &'a RecordName,
        expected: &'a Stamp,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Reads one record by quorum: every change answered before the call is seen.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn get<'a>(&'a self, name: &'a RecordName) -> BoxFuture<'a, Result<Option<Record>, StoreError>>;

    /// Reads all records as of one revision, which is handed back for [`watch`](Self::watch). Pages are fetched inside.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn list(&self) -> BoxFuture<'_, Result<(Vec<Record>, u64), StoreError>>;

    /// Tells of every change after revision `from`. The stream ends after its first error; after
    /// [`StoreError::Expired`] only a new [`list`](Self::list) helps, after others or a plain end the caller may go on from
    /// the last revision that it saw.
    fn watch(&self, from: u64) -> BoxStream<'static, Result<StoreEvent, StoreError>>;
}
