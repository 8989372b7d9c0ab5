//! The head of a vault: it is authoritative, not the resource.

use super::wire::{self, DecodeError};
use super::{Incarnation, WriteIds};
use crate::engine::Error;
use crate::model::{NetworkAcls, OutsideValidity, Uid, UnixSeconds, VaultId, VaultRules, VaultUuid};

/// The most that this version may change of a vault's head.
pub(in crate::engine) const VAULT_FORMAT: u32 = FORMAT_OF_NETWORK;
/// What the head of a vault needs that is purge-protected or read outside dates: an older writer would forget it.
const FORMAT_OF_RULES: u32 = 2;
/// What it needs where it says from where the vault may be called.
const FORMAT_OF_NETWORK: u32 = 3;

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
    /// The vault's key, wrapped under the root.
    pub(in crate::engine) wrapped_key: Vec<u8>,
    pub(in crate::engine) made: UnixSeconds,
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

    pub(in crate::engine) fn encode(&self) -> Result<Vec<u8>, Error> {
        wire::encode_vault(self)
    }

    /// Reads the content of a vault's record; what a newer version added is passed over.
    pub(in crate::engine) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode_vault(bytes)
    }
}
