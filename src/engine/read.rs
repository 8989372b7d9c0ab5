//! Reads: what one state of memory answers.

use super::decide;
use super::index::{Snapshot, VaultAddress};
use super::objects::ready_vault;
use super::{Engine, Error, paging};
use crate::model::{
    ObjectName, Operation, Page, PageRequest, Reply, Secret, UnixSeconds, VaultEntry, Version,
};

/// An operation that changes nothing, and is answered at once.
pub(super) enum Read<'a> {
    Get {
        name: &'a ObjectName,
        version: Option<Version>,
        now: UnixSeconds,
    },
    List(&'a PageRequest),
    ListVersions {
        name: &'a ObjectName,
        page: &'a PageRequest,
    },
    ListDeleted(&'a PageRequest),
    GetDeleted(&'a ObjectName),
}

impl<'a> Read<'a> {
    /// None for a change, and for a backup, which takes its time.
    pub(super) const fn of(operation: &'a Operation, now: UnixSeconds) -> Option<Self> {
        Some(match operation {
            Operation::GetSecret { name, version } => Self::Get {
                name,
                version: *version,
                now,
            },
            Operation::ListSecrets(page) => Self::List(page),
            Operation::ListSecretVersions { name, page } => Self::ListVersions { name, page },
            Operation::ListDeletedSecrets(page) => Self::ListDeleted(page),
            Operation::GetDeletedSecret { name } => Self::GetDeleted(name),
            Operation::BackupSecret { .. }
            | Operation::SetSecret(_)
            | Operation::UpdateSecret(_)
            | Operation::DeleteSecret { .. }
            | Operation::RecoverSecret { .. }
            | Operation::PurgeSecret { .. }
            | Operation::RestoreSecret { .. }
            | Operation::EnsureVault(_)
            | Operation::EnsureGeneratedSecret(_)
            | Operation::DeleteOwned(_)
            | Operation::DeleteVault(_)
            | Operation::PurgeVault(_)
            | Operation::PurgeDueSecret { .. } => return None,
        })
    }

    /// The one object that is asked for.
    pub(super) const fn name(&self) -> Option<&'a ObjectName> {
        match self {
            Self::Get { name, .. } | Self::ListVersions { name, .. } | Self::GetDeleted(name) => Some(*name),
            Self::List(_) | Self::ListDeleted(_) => None,
        }
    }

    /// The answer of this state. `confirmed` says that a quorum read has just brought it up to date.
    pub(super) fn answer(
        &self,
        engine: &Engine,
        entry: &VaultEntry,
        snapshot: &Snapshot,
        address: &VaultAddress,
        confirmed: bool,
    ) -> Result<Reply, Error> {
        let (vault, seals) = (ready_vault(snapshot, address, entry)?, &*engine.seals);
        match *self {
            Self::Get { name, version, now } => {
                let object = vault.object(name.folded())?;
                let outside = vault.head.rules.outside_validity;
                let (head, found) =
                    decide::get(object.map(|object| &object.head), name, version, now, outside)?;
                let value = engine.value(snapshot, vault, head, found)?;
                let secret = decide::secret(&head.name, found, vault.head.rules);
                Ok(Reply::Secret(Secret {
                    value: Some(value),
                    ..secret
                }))
            }
            Self::List(page) => paging::secrets(seals, vault, page).map(Reply::Page),
            Self::ListVersions { name, page } => match paging::versions(seals, vault, name, page) {
                // As in Azure: a name that is not there has no versions.
                Err(Error::SecretNotFound { .. }) if confirmed => Ok(Reply::Page(Page {
                    items: Vec::new(),
                    next: None,
                })),
                listed => listed.map(Reply::Page),
            },
            Self::ListDeleted(page) => paging::deleted(seals, vault, page).map(Reply::DeletedPage),
            Self::GetDeleted(name) => {
                let object = vault.object(name.folded())?;
                let head = object.map(|object| &object.head);
                decide::get_deleted(head, name, vault.head.rules).map(Reply::Deleted)
            }
        }
    }
}
