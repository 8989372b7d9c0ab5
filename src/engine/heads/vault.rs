//! The head of a vault: it is authoritative, not the resource.

use super::wire::{self, DecodeError};
use super::{Incarnation, Purges, WriteId, WriteIds};
use crate::engine::Error;
use crate::model::{
    Deletion, NetworkAcls, OutsideValidity, Uid, UnixSeconds, VaultId, VaultRules, VaultUuid,
};

/// The most that this version may change of a vault's head.
pub(in crate::engine) const VAULT_FORMAT: u32 = FORMAT_OF_DELETION;
/// What the head of a vault needs that is purge-protected or read outside dates: an older writer would forget it.
const FORMAT_OF_RULES: u32 = 2;
/// What it needs where it says from where the vault may be called.
const FORMAT_OF_NETWORK: u32 = 3;
/// What it needs that is or was deleted: an older writer would bring it back.
const FORMAT_OF_DELETION: u32 = 4;

/// What a vault is, apart from its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct VaultHead {
    /// The lowest format number that a writer must know to change it.
    pub(in crate::engine) format: u32,
    /// Its own identity, which every record of the vault names.
    pub(in crate::engine) uuid: VaultUuid,
    pub(in crate::engine) incarnation: Incarnation,
    pub(in crate::engine) rev: u64,
    pub(in crate::engine) writes: WriteIds,
    pub(in crate::engine) id: VaultId,
    /// A recycled namespace of the same name is another tenant.
    pub(in crate::engine) namespace_uid: Uid,
    /// The `Vault` resource that it was last made ready for.
    pub(in crate::engine) resource_uid: Uid,
    pub(in crate::engine) rules: VaultRules,
    /// The vault's key, wrapped under the root. None once it was purged: the record is a receipt then, for a day.
    pub(in crate::engine) wrapped_key: Option<Vec<u8>>,
    pub(in crate::engine) made: UnixSeconds,
    /// Set once its resource is gone.
    pub(in crate::engine) deleted: Option<Deletion>,
    /// Vaults under this name that were purged.
    pub(in crate::engine) purged: Purges,
}

impl VaultHead {
    /// The same under these rules.
    pub(in crate::engine) fn under(mut self, rules: VaultRules) -> Self {
        self.rules = rules;
        if rules.purge_protection || rules.outside_validity != OutsideValidity::Deny {
            self.format = self.format.max(FORMAT_OF_RULES);
        }
        if rules.network != NetworkAcls::default() {
            self.format = self.format.max(FORMAT_OF_NETWORK);
        }
        self
    }

    /// The one that follows, by this write.
    pub(in crate::engine) fn following(&self, write: WriteId, now: UnixSeconds) -> Result<Self, Error> {
        if self.format > VAULT_FORMAT {
            return Err(Error::NewerFormat);
        }
        let mut next = self.clone();
        next.rev = self.rev.saturating_add(1);
        next.writes.push(write);
        next.purged.forget(now);
        Ok(next)
    }

    /// The same in this state of deletion.
    pub(in crate::engine) fn with_deletion(mut self, deleted: Option<Deletion>) -> Self {
        self.deleted = deleted;
        self.format = self.format.max(FORMAT_OF_DELETION);
        self
    }

    /// The same as the beginning of a new life of a name that was purged, in the place of its receipt, or of what follows that.
    pub(in crate::engine) fn beginning_after(mut self, receipt: Self) -> Self {
        self.rev = receipt.rev;
        self.purged = receipt.purged;
        self.with_deletion(None)
    }

    /// What stays of it: that it was purged, and when.
    pub(in crate::engine) fn into_receipt(mut self, at: UnixSeconds) -> Self {
        self.purged.note(self.incarnation, at);
        self.wrapped_key = None;
        self.with_deletion(None)
    }

    /// Whether nothing is under the name: the record is a receipt alone.
    pub(in crate::engine) const fn is_free(&self) -> bool {
        self.wrapped_key.is_none()
    }

    /// Whether it is there and not deleted.
    pub(in crate::engine) const fn is_live(&self) -> bool {
        !self.is_free() && self.deleted.is_none()
    }

    /// Whether its end has begun and not ended.
    pub(in crate::engine) fn is_purging(&self) -> bool {
        self.deleted.is_some_and(|deleted| deleted.purging)
    }

    pub(in crate::engine) fn encode(&self) -> Result<Vec<u8>, Error> {
        wire::encode_vault(self)
    }

    /// Reads the content of a vault's record; what a newer version added is passed over.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode_vault(bytes)
    }
}
