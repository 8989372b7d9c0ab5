//! What a vault answers.

use std::sync::Arc;

use super::{
    Attributes, Backup, Nearest, ObjectName, Owner, RootKeyCare, SecretBytes, Tags, UnixSeconds, VaultId,
    VaultRules, Version,
};

/// The answer to an [`super::Operation`].
#[derive(Debug)]
pub enum Reply {
    /// Set, get, update, recover, restore. The value is there after set and get.
    Secret(Secret),
    /// Delete, get of a deleted secret.
    Deleted(DeletedSecret),
    /// Lists of secrets or of versions.
    Page(Page<SecretItem>),
    /// The list of deleted secrets.
    DeletedPage(Page<DeletedItem>),
    /// The secret is gone for good.
    Purged,
    /// Backup.
    Backup(Backup),
    /// The vault's head is there.
    VaultReady,
    /// The vault is deleted, and can be recovered.
    VaultDeleted,
    /// What was to be done is not due, or not any more: nothing was.
    NotDue,
    /// What became of a `Secret` resource's object.
    Owned(OwnedSecret),
}

/// One version of a secret.
#[derive(Debug)]
pub struct Secret {
    /// Its name, as first written.
    pub name: ObjectName,
    /// Which version.
    pub version: Version,
    /// Its value, where the operation discloses it.
    pub value: Option<SecretBytes>,
    /// Free text of its user.
    pub content_type: Option<Arc<str>>,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its tags.
    pub tags: Arc<Tags>,
}

/// A secret in the deleted state.
#[derive(Debug)]
pub struct DeletedSecret {
    /// Its newest version, without the value.
    pub secret: Secret,
    /// When it was deleted.
    pub deleted: UnixSeconds,
    /// When it is due to be purged.
    pub scheduled_purge: UnixSeconds,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The items, at most as many as asked for.
    pub items: Vec<T>,
    /// Token of the next page; none on the last.
    pub next: Option<String>,
}

/// A line of a list.
#[derive(Debug)]
pub struct SecretItem {
    /// Its name, as first written.
    pub name: ObjectName,
    /// The version, in lists of versions.
    pub version: Option<Version>,
    /// Attributes of that or of the newest version.
    pub attributes: Attributes,
    /// Its content type.
    pub content_type: Option<Arc<str>>,
    /// Its tags.
    pub tags: Arc<Tags>,
}

/// A line of the list of deleted secrets.
#[derive(Debug)]
pub struct DeletedItem {
    /// Its name and its newest version's attributes.
    pub item: SecretItem,
    /// When it was deleted.
    pub deleted: UnixSeconds,
    /// When it is due to be purged.
    pub scheduled_purge: UnixSeconds,
}

/// The object of a `Secret` resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedSecret {
    /// It is live under this version, and this resource made it.
    Live {
        /// The newest version.
        version: Version,
    },
    /// Its name was deleted through the API; it is not made again.
    Deleted,
    /// Somebody else made it; it stays untouched.
    Foreign,
    /// It is not there, and nothing was to be done.
    Absent,
}

/// Counts of one vault, from which `operate` writes status. No names but those of resources that made objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSummary {
    /// Which vault.
    pub vault: VaultId,
    /// Live secrets.
    pub secrets: u64,
    /// Deleted, recoverable secrets.
    pub deleted_secrets: u64,
    /// The earliest `exp` of a newest version that is still to come.
    pub next_expiry: Option<UnixSeconds>,
    /// The quota that it is nearest to, from four fifths of it on.
    pub nearest_quota: Option<Nearest>,
    /// Objects that `Secret` resources made.
    pub owned: Vec<(Owner, OwnedSecret)>,
    /// Its stored records that are refused: they do not open, went back, were replaced or are gone.
    pub damaged: u64,
    /// The vault's own record is one of them: nothing that is in it is served.
    pub refused: bool,
    /// How the key that opens it is cared for; none before that was looked at.
    pub root_key: Option<RootKeyCare>,
    /// What holds in it, where that is told.
    pub rules: Option<VaultRules>,
}
