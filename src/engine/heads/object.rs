//! The head of an object: every kind and version that its name has.

use super::wire::{self, DecodeError};
use super::{Incarnation, Versions, WriteIds};
use crate::engine::Error;
use crate::model::{ObjectName, Owner, UnixSeconds};

/// All that is known of one name in one vault. Each change makes a new one, with `rev` raised by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Head {
    /// The lowest format number that a writer must know to change it.
    pub(in crate::engine) format: u32,
    /// As it was first written.
    pub(in crate::engine) name: ObjectName,
    pub(in crate::engine) incarnation: Incarnation,
    pub(in crate::engine) rev: u64,
    pub(in crate::engine) writes: WriteIds,
    pub(in crate::engine) secret: Option<SecretState>,
}

/// The secret of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct SecretState {
    /// Set once it is deleted.
    pub(in crate::engine) deleted: Option<Deleted>,
    pub(in crate::engine) versions: Versions,
    /// The `Secret` resource that made it.
    pub(in crate::engine) maker: Option<Owner>,
}

/// The deleted state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Deleted {
    pub(in crate::engine) at: UnixSeconds,
    pub(in crate::engine) purge_due: UnixSeconds,
}

impl Head {
    /// The secret, if it is not deleted.
    pub(in crate::engine) fn live_secret(&self) -> Option<&SecretState> {
        self.secret.as_ref().filter(|secret| secret.deleted.is_none())
    }

    pub(in crate::engine) fn encode(&self) -> Result<Vec<u8>, Error> {
        wire::encode_head(self)
    }

    /// Reads the content of a head's record; what a newer version added is passed over.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode_head(bytes)
    }
}
