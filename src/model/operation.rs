//! What can be asked of a vault. A permit owns one of these.

use std::fmt;
use std::num::NonZeroU8;

use super::{AttributesChange, Namespace, ObjectName, SecretBytes, StoredVault, Tags, Uid, Version};

/// One thing to do in one vault.
#[derive(Debug)]
pub enum Operation {
    /// `PUT /secrets/{name}`: a new version.
    SetSecret(SetSecret),
    /// `GET /secrets/{name}/{version}`: the value. No version means the newest.
    GetSecret {
        /// Which secret.
        name: ObjectName,
        /// Which version.
        version: Option<Version>,
    },
    /// `PATCH /secrets/{name}/{version}`: attributes, tags, content type.
    UpdateSecret(UpdateSecret),
    /// `DELETE /secrets/{name}`: soft delete of all versions.
    DeleteSecret {
        /// Which secret.
        name: ObjectName,
    },
    /// `GET /secrets`.
    ListSecrets(PageRequest),
    /// `GET /secrets/{name}/versions`.
    ListSecretVersions {
        /// Which secret.
        name: ObjectName,
        /// Which page.
        page: PageRequest,
    },
    /// `GET /deletedsecrets`.
    ListDeletedSecrets(PageRequest),
    /// `GET /deletedsecrets/{name}`.
    GetDeletedSecret {
        /// Which secret.
        name: ObjectName,
    },
    /// `POST /deletedsecrets/{name}/recover`: it is live again, with all versions.
    RecoverSecret {
        /// Which secret.
        name: ObjectName,
    },
    /// `DELETE /deletedsecrets/{name}`: it is gone for good, and its name is free.
    PurgeSecret {
        /// Which secret.
        name: ObjectName,
    },
    /// `POST /secrets/{name}/backup`: all versions, sealed.
    BackupSecret {
        /// Which secret.
        name: ObjectName,
    },
    /// `POST /secrets/restore`: what a backup holds is there again, under its own name.
    RestoreSecret {
        /// The backup.
        backup: Backup,
    },
    /// From `operate` alone: the vault's head exists.
    EnsureVault(EnsureVault),
    /// From `operate` alone: a `Secret` resource's generated value exists.
    EnsureGeneratedSecret(EnsureGeneratedSecret),
    /// From `operate` alone: what a `Secret` resource made is soft-deleted.
    DeleteOwned(DeleteOwned),
    /// From the clock alone: the vault's resource is gone, so the vault is deleted, and kept for its retention.
    DeleteVault(StoredVault),
    /// From the clock alone: a deleted vault, and all that is in it, is gone for good.
    PurgeVault(PurgeVault),
    /// From the clock alone: a deleted secret is gone for good at its date.
    PurgeDueSecret {
        /// Which secret.
        name: ObjectName,
    },
}

/// Body of a set.
#[derive(Debug)]
pub struct SetSecret {
    /// Which secret.
    pub name: ObjectName,
    /// Its value, UTF-8, at most 25 KiB.
    pub value: SecretBytes,
    /// At most 255 characters.
    pub content_type: Option<String>,
    /// At most 15.
    pub tags: Tags,
    /// `enabled`, `nbf`, `exp`.
    pub attributes: AttributesChange,
}

/// A secret with all its versions, sealed for the namespace that it was in.
#[derive(Clone, PartialEq, Eq)]
pub struct Backup(pub Vec<u8>);

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backup({} bytes)", self.0.len())
    }
}

/// Body of an update. What is `None` stays as it is.
#[derive(Debug)]
pub struct UpdateSecret {
    /// Which secret.
    pub name: ObjectName,
    /// Which version; none means the newest.
    pub version: Option<Version>,
    /// New content type.
    pub content_type: Option<String>,
    /// New tags, all of them.
    pub tags: Option<Tags>,
    /// New attributes.
    pub attributes: AttributesChange,
}

/// Which page of a list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// At most this many items, 1 to 25.
    pub limit: NonZeroU8,
    /// The sealed token of the page before, as the engine made it.
    pub skip_token: Option<String>,
}

/// Make the vault's head unless it is there.
#[derive(Debug, Clone)]
pub struct EnsureVault {
    /// The resource for which `operate` asks; obeyed only if `serve` sees the same one.
    pub resource_uid: Uid,
}

/// Remove a deleted vault for good.
#[derive(Debug, Clone)]
pub struct PurgeVault {
    /// Which one.
    pub vault: StoredVault,
    /// Somebody who may has ordered it; else it is done at the vault's date and not before.
    pub ordered: bool,
}

/// The `Secret` resource that made an object of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Namespace of the resource.
    pub namespace: Namespace,
    /// UID of that namespace.
    pub namespace_uid: Uid,
    /// Name of the resource.
    pub resource: String,
}

/// Characters of which a value is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// `A-Z a-z 0-9`.
    Alphanumeric,
    /// `0-9 a-f`.
    Hex,
    /// Printable ASCII without space, quotes, backslash and backtick.
    Ascii,
}

/// Make a secret with a generated value unless its name was ever made.
#[derive(Debug, Clone)]
pub struct EnsureGeneratedSecret {
    /// Which secret.
    pub name: ObjectName,
    /// Characters of the value, 16 to 1024.
    pub length: u16,
    /// Its alphabet.
    pub alphabet: Alphabet,
    /// At most 255 characters.
    pub content_type: Option<String>,
    /// Who makes it.
    pub owner: Owner,
}

/// Soft-delete a secret if this owner made it.
#[derive(Debug, Clone)]
pub struct DeleteOwned {
    /// Which secret.
    pub name: ObjectName,
    /// Who made it.
    pub owner: Owner,
}

/// Whether an operation changes anything: a change has its intent on disk before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Leaves everything as it was.
    Read,
    /// May change something.
    Change,
}

/// Azure's `operationName` of audit records; in lower case, Azure's `ActivityName` of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are Azure's and say all there is")]
pub enum OperationName {
    Authentication,
    SecretSet,
    SecretGet,
    SecretUpdate,
    SecretDelete,
    SecretList,
    SecretListVersions,
    SecretListDeleted,
    SecretGetDeleted,
    SecretRecover,
    SecretPurge,
    SecretBackup,
    SecretRestore,
    VaultPut,
    VaultDelete,
    VaultPurge,
    StoreAccept,
}

impl OperationName {
    /// Every name, for metrics that start at zero.
    pub const ALL: [Self; 17] = [
        Self::Authentication,
        Self::SecretSet,
        Self::SecretGet,
        Self::SecretUpdate,
        Self::SecretDelete,
        Self::SecretList,
        Self::SecretListVersions,
        Self::SecretListDeleted,
        Self::SecretGetDeleted,
        Self::SecretRecover,
        Self::SecretPurge,
        Self::SecretBackup,
        Self::SecretRestore,
        Self::VaultPut,
        Self::VaultDelete,
        Self::VaultPurge,
        Self::StoreAccept,
    ];

    /// Azure's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "Authentication",
            Self::SecretSet => "SecretSet",
            Self::SecretGet => "SecretGet",
            Self::SecretUpdate => "SecretUpdate",
            Self::SecretDelete => "SecretDelete",
            Self::SecretList => "SecretList",
            Self::SecretListVersions => "SecretListVersions",
            Self::SecretListDeleted => "SecretListDeleted",
            Self::SecretGetDeleted => "SecretGetDeleted",
            Self::SecretRecover => "SecretRecover",
            Self::SecretPurge => "SecretPurge",
            Self::SecretBackup => "SecretBackup",
            Self::SecretRestore => "SecretRestore",
            Self::VaultPut => "VaultPut",
            Self::VaultDelete => "VaultDelete",
            Self::VaultPurge => "VaultPurge",
            Self::StoreAccept => "StoreAccept",
        }
    }
}

impl Operation {
    /// Whether it may change something.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::GetSecret { .. }
            | Self::ListSecrets(_)
            | Self::ListSecretVersions { .. }
            | Self::ListDeletedSecrets(_)
            | Self::GetDeletedSecret { .. }
            | Self::BackupSecret { .. } => Class::Read,
            Self::SetSecret(_)
            | Self::UpdateSecret(_)
            | Self::DeleteSecret { .. }
            | Self::RecoverSecret { .. }
            | Self::PurgeSecret { .. }
            | Self::RestoreSecret { .. }
            | Self::EnsureVault(_)
            | Self::EnsureGeneratedSecret(_)
            | Self::DeleteOwned(_)
            | Self::DeleteVault(_)
            | Self::PurgeVault(_)
            | Self::PurgeDueSecret { .. } => Class::Change,
        }
    }

    /// Its name in audit records and metrics.
    #[must_use]
    pub const fn name(&self) -> OperationName {
        match self {
            Self::SetSecret(_) | Self::EnsureGeneratedSecret(_) => OperationName::SecretSet,
            Self::GetSecret { .. } => OperationName::SecretGet,
            Self::UpdateSecret(_) => OperationName::SecretUpdate,
            Self::DeleteSecret { .. } | Self::DeleteOwned(_) => OperationName::SecretDelete,
            Self::ListSecrets(_) => OperationName::SecretList,
            Self::ListSecretVersions { .. } => OperationName::SecretListVersions,
            Self::ListDeletedSecrets(_) => OperationName::SecretListDeleted,
            Self::GetDeletedSecret { .. } => OperationName::SecretGetDeleted,
            Self::RecoverSecret { .. } => OperationName::SecretRecover,
            Self::PurgeSecret { .. } | Self::PurgeDueSecret { .. } => OperationName::SecretPurge,
            Self::BackupSecret { .. } => OperationName::SecretBackup,
            Self::RestoreSecret { .. } => OperationName::SecretRestore,
            Self::EnsureVault(_) => OperationName::VaultPut,
            Self::DeleteVault(_) => OperationName::VaultDelete,
            Self::PurgeVault(_) => OperationName::VaultPurge,
        }
    }

    /// The vault that it is about, where that is told by the vault's own head and not by the management plane.
    #[must_use]
    pub const fn stored_vault(&self) -> Option<&StoredVault> {
        match self {
            Self::DeleteVault(vault) | Self::PurgeVault(PurgeVault { vault, .. }) => Some(vault),
            Self::SetSecret(_)
            | Self::GetSecret { .. }
            | Self::UpdateSecret(_)
            | Self::DeleteSecret { .. }
            | Self::ListSecrets(_)
            | Self::ListSecretVersions { .. }
            | Self::ListDeletedSecrets(_)
            | Self::GetDeletedSecret { .. }
            | Self::RecoverSecret { .. }
            | Self::PurgeSecret { .. }
            | Self::PurgeDueSecret { .. }
            | Self::BackupSecret { .. }
            | Self::RestoreSecret { .. }
            | Self::EnsureVault(_)
            | Self::EnsureGeneratedSecret(_)
            | Self::DeleteOwned(_) => None,
        }
    }

    /// The object that it is about, where it is about one that the request names.
    #[must_use]
    pub const fn object(&self) -> Option<&ObjectName> {
        match self {
            Self::SetSecret(SetSecret { name, .. })
            | Self::GetSecret { name, .. }
            | Self::UpdateSecret(UpdateSecret { name, .. })
            | Self::DeleteSecret { name }
            | Self::ListSecretVersions { name, .. }
            | Self::GetDeletedSecret { name }
            | Self::RecoverSecret { name }
            | Self::PurgeSecret { name }
            | Self::PurgeDueSecret { name }
            | Self::BackupSecret { name }
            | Self::EnsureGeneratedSecret(EnsureGeneratedSecret { name, .. })
            | Self::DeleteOwned(DeleteOwned { name, .. }) => Some(name),
            Self::ListSecrets(_)
            | Self::ListDeletedSecrets(_)
            | Self::RestoreSecret { .. }
            | Self::EnsureVault(_)
            | Self::DeleteVault(_)
            | Self::PurgeVault(_) => None,
        }
    }
}
