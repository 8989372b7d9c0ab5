//! The head of an object: every kind and version that its name has.

use std::sync::Arc;

use super::wire::{self, DecodeError};
use super::{
    Body, DoneRequests, FIRST_FORMAT, FORMAT_OF_PARTS, FORMAT_OF_PURGES, Incarnation, PageRef, Paged, Purges,
    VersionEntry, Versions, WriteIds,
};
use crate::engine::Error;
use crate::model::{Deletion, ObjectName, Owner, Version};

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
    pub(in crate::engine) requests: DoneRequests,
    /// None: the name is free. The record stays for a day after a purge, as its receipt.
    pub(in crate::engine) secret: Option<SecretState>,
    /// Lives of the name that were purged.
    pub(in crate::engine) purged: Purges,
}

/// The secret of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct SecretState {
    /// Set once it is deleted.
    pub(in crate::engine) deleted: Option<Deletion>,
    pub(in crate::engine) versions: Versions,
    /// The `Secret` resource that made it.
    pub(in crate::engine) maker: Option<Owner>,
}

impl Head {
    /// The secret, if it is not deleted.
    pub(in crate::engine) fn live_secret(&self) -> Option<&SecretState> {
        self.secret.as_ref().filter(|secret| secret.deleted.is_none())
    }

    /// A version of the secret, deleted or not.
    ///
    /// # Errors
    /// [`Error::NotInMemory`].
    pub(in crate::engine) fn version(
        &self,
        version: Option<Version>,
    ) -> Result<Option<&Arc<VersionEntry>>, Error> {
        match (&self.secret, version) {
            (Some(secret), Some(version)) => secret.versions.get(&version),
            _ => Ok(None),
        }
    }

    /// The secret in the deleted state, if it can still be recovered.
    pub(in crate::engine) fn deleted_secret(&self) -> Option<(&SecretState, &Deletion)> {
        let secret = self.secret.as_ref()?;
        let deleted = secret.deleted.as_ref().filter(|deleted| !deleted.purging)?;
        Some((secret, deleted))
    }

    /// Knows of its pages what was known in an earlier state of the same life.
    pub(in crate::engine) fn learn_from(&mut self, before: &Self) {
        if let (Some(secret), Some(earlier)) = (&mut self.secret, &before.secret)
            && self.incarnation == before.incarnation
        {
            secret.versions.learn_from(&earlier.versions);
        }
    }

    /// The same, knowing what these pages say; none if they are not its own.
    pub(in crate::engine) fn knowing(&self, pages: &[PageRef], older: &Arc<Paged>) -> Option<Self> {
        let secret = self
            .secret
            .as_ref()
            .filter(|secret| secret.versions.pages() == pages)?;
        Some(Self {
            secret: Some(SecretState {
                versions: secret.versions.knowing(Arc::clone(older)),
                ..secret.clone()
            }),
            ..self.clone()
        })
    }

    /// Whether a purge has begun and not ended.
    pub(in crate::engine) fn is_purging(&self) -> bool {
        let deleted = self.secret.as_ref().and_then(|secret| secret.deleted);
        deleted.is_some_and(|deleted| deleted.purging)
    }

    /// Whether nothing is under the name: the record is a receipt alone.
    pub(in crate::engine) const fn is_free(&self) -> bool {
        self.secret.is_none()
    }

    /// Whether it names records of its own.
    pub(super) fn has_parts(&self) -> bool {
        let has_parts = |secret: &SecretState| {
            let mut inline = secret.versions.inline().iter();
            !secret.versions.pages().is_empty() || inline.any(|entry| matches!(entry.body, Body::Part(_)))
        };
        self.secret.as_ref().is_some_and(has_parts)
    }

    /// The lowest format number for what is in it.
    pub(super) fn needed_format(&self) -> u32 {
        if self.has_parts() {
            FORMAT_OF_PARTS
        } else if self.purged.lately.is_empty() {
            FIRST_FORMAT
        } else {
            FORMAT_OF_PURGES
        }
    }

    pub(in crate::engine) fn encode(&self) -> Result<Vec<u8>, Error> {
        wire::encode_head(self)
    }

    /// Reads the content of a head's record; what a newer version added is passed over.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode_head(bytes)
    }
}
