//! Heads: one per object and one per vault, each the whole truth about its subject.

mod backup;
mod fit;
mod object;
mod pages;
mod purges;
mod requests;
mod vault;
mod versions;
mod wire;
mod writes;

pub(super) use backup::BackedUp;
pub use fit::Sizes;
pub(super) use fit::{Fitted, PartKind, fit};
pub(super) use object::{Head, SecretState};
pub(super) use pages::{PageRef, Paged};
pub(super) use purges::{PurgedLife, Purges};
pub(super) use requests::{DoneRequest, DoneRequests, RequestMark};
#[cfg(test)]
pub(super) use vault::VAULT_FORMAT;
pub(super) use vault::VaultHead;
pub(super) use versions::{Body, PartRef, VersionEntry, Versions};
pub(super) use wire::{can_read, decode_page};
pub(super) use writes::{WriteId, WriteIds};

/// Which life of a name a head belongs to: random, made with the head.
pub(super) type Incarnation = [u8; 16];

/// The most that this version of Strongroom may change, and read. A head names the lowest number that a writer must know: raised
/// when an older version that changed it would lose something; fields that may be lost need no new number. Beside it, the
/// lowest number that a reader must know: where an older version would answer wrongly. Both follow from what is in the head, so
/// that one which needs nothing new stays open to older versions.
pub(super) const FORMAT: u32 = FORMAT_OF_PARTS;
/// What a new head needs.
pub(super) const FIRST_FORMAT: u32 = 1;
/// What a head needs that was purged: an older writer would lose the receipt.
const FORMAT_OF_PURGES: u32 = 2;
/// What a head needs that names parts: an older writer would lose them, an older reader know nothing of them.
const FORMAT_OF_PARTS: u32 = 3;

#[cfg(test)]
mod tests;
