//! A vault as the management plane declares it.

use super::{Uid, VaultId};

/// What the `Vault` resource says, as far as requests depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// Soft delete retention, 7 to 90 days; counts when the vault's head is made, afterwards the head's value holds.
    pub retention_days: u16,
}

/// A `Vault` resource that `serve` itself has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultEntry {
    /// Its address.
    pub id: VaultId,
    /// UID of the resource.
    pub uid: Uid,
    /// UID of its namespace: a recycled namespace is another tenant.
    pub namespace_uid: Uid,
    /// Its settings.
    pub settings: VaultSettings,
}
