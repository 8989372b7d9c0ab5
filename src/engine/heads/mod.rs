//! Heads: one per object and one per vault, each the whole truth about its subject.

mod object;
mod vault;
mod versions;
mod wire;
mod writes;

pub(super) use object::{Deleted, Head, SecretState};
pub(super) use vault::VaultHead;
pub(super) use versions::{VersionEntry, Versions};
pub(super) use writes::{WriteId, WriteIds};

/// Which life of a name a head belongs to: random, made with the head.
pub(super) type Incarnation = [u8; 16];

/// What this version of Strongroom writes, and the most that it may change. Raised when an older version that changed a head
/// would lose something; fields that may be lost need no new number.
pub(super) const FORMAT: u32 = 1;

#[cfg(test)]
mod tests;
