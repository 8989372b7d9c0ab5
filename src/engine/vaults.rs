//! The life of a vault: made or taken up for a resource, deleted when that is gone, purged at its date.
//!
//! # Why
//! Its head tells which of these it is in, and each step is one compare-and-swap that states what it expects: two clocks, or
//! a clock and somebody who applies the resource again, cannot undo each other. A purge is marked first, then every record of
//! the vault goes, then its head becomes a receipt without the key; whoever ends what another began does the same again.

use std::sync::PoisonError;

use super::decide::{self, NewVault, Step, VaultContext};
use super::heads::{VaultHead, WriteId};
use super::index::{Vault, VaultAddress};
use super::objects::VaultChange;
use super::parts::some_at_once;
use super::seals::random_id;
use super::tidy::is_told;
use super::{Engine, Error};
use crate::model::{
    Moment, ObjectName, PurgeVault, Reply, StoredVault, UnixSeconds, VaultEntry, VaultId, VaultUuid,
};
use crate::store::{RecordName, Stamp, StoreError};

impl Engine {
    /// Every vault that is there, deleted or not, but those that are damaged.
    pub fn stored_vaults(&self) -> Vec<StoredVault> {
        let snapshot = self.index.load_full();
        let mut vaults: Vec<_> = snapshot
            .vaults()
            .filter(|vault| vault.damage.is_none() && !vault.head.is_free())
            .map(|vault| stored(vault))
            .collect();
        vaults.sort_by_key(|vault| vault.uuid);
        vaults
    }

    /// Deleted secrets of live vaults whose date has come, and those whose purge has begun. It walks over all objects.
    pub fn due_secrets(&self, now: UnixSeconds) -> Vec<(VaultId, ObjectName)> {
        let snapshot = self.index.load_full();
        let live = snapshot
            .vaults()
            .filter(|vault| vault.damage.is_none() && vault.head.is_live());
        let objects = live.flat_map(|vault| vault.objects.values().map(move |object| (vault, object)));
        let due = objects.filter(|(_, object)| {
            let deleted = object.head.secret.as_ref().and_then(|secret| secret.deleted);
            object.damage.is_none()
                && deleted.is_some_and(|deleted| deleted.purging || deleted.purge_due <= now)
        });
        due.map(|(vault, object)| (vault.head.id.clone(), object.head.name.clone()))
            .collect()
    }

    pub(super) async fn ensure_vault(&self, entry: &VaultEntry, now: UnixSeconds) -> Result<Reply, Error> {
        let uuid = VaultUuid(random_id()?);
        let new = NewVault {
            uuid,
            incarnation: random_id()?,
            wrapped_key: self.seals.new_vault_key(uuid)?,
        };
        self.change_vault(entry, now, |head, context| {
            decide::ensure_vault(head, entry, &new, context)
        })
        .await
    }

    pub(super) async fn delete_vault(&self, vault: &StoredVault, now: UnixSeconds) -> Result<Reply, Error> {
        let entry = vault.entry();
        self.change_vault(&entry, now, |head, context| {
            decide::delete_vault(head, &entry, vault.uuid, context)
        })
        .await
    }

    pub(super) async fn purge_vault(&self, purge: &PurgeVault, now: UnixSeconds) -> Result<Reply, Error> {
        let (entry, uuid) = (purge.vault.entry(), purge.vault.uuid);
        // Whether it is protected against this is asked of the store, not of a memory that may lag.
        let record = self.seals.vault_record(&entry.namespace_uid, &entry.id.name)?;
        self.refresh(&record).await?;
        let begun = self
            .change_vault(&entry, now, |head, context| {
                decide::purge_vault(head, uuid, purge.ordered, context)
            })
            .await?;
        if !matches!(begun, Reply::Purged) {
            return Ok(begun);
        }
        self.remove_records(uuid)
            .await
            .map_err(|_| Error::PurgeUnfinished)?;
        self.change_vault(&entry, now, |head, context| {
            decide::end_purge_vault(head, uuid, context)
        })
        .await
        .map_err(|_| Error::PurgeUnfinished)
    }

    async fn change_vault<D>(&self, entry: &VaultEntry, now: UnixSeconds, decide: D) -> Result<Reply, Error>
    where
        D: Fn(Option<&VaultHead>, VaultContext) -> Result<Step<VaultHead>, Error> + Sync,
    {
        let change = VaultChange {
            address: VaultAddress::of(entry),
            record: self.seals.vault_record(&entry.namespace_uid, &entry.id.name)?,
            context: VaultContext {
                write: WriteId(random_id()?),
                now,
            },
            seals: &self.seals,
            decide,
        };
        self.commit(&change).await
    }

    /// Removes all records of a vault but its own head, as far as they are known here. A record that comes later, from a writer
    /// that had not heard, is of no use to anybody and is removed by [`Engine::tidy`].
    ///
    /// # Errors
    /// [`Error::Store`] where not all could be removed; the others are.
    pub(super) async fn remove_records(&self, vault: VaultUuid) -> Result<usize, Error> {
        let known = self.index.load_full().records_of(vault);
        let removals: Vec<_> = known
            .iter()
            .map(|(record, stamp)| self.remove_record(record, stamp))
            .collect();
        some_at_once(removals).await.map_err(Error::Store)
    }

    async fn remove_record(&self, record: &RecordName, stamp: &Stamp) -> Result<(), StoreError> {
        match self.store.delete(record, stamp).await {
            Ok(()) | Err(StoreError::NotFound) => {
                self.index.forget(record, stamp);
                Ok(())
            }
            // Somebody wrote it meanwhile: it is looked at again.
            Err(error) => {
                if let Ok(found) = self.store.get(record).await {
                    self.index.confirm(record, Some(stamp), found.as_ref());
                }
                Err(error)
            }
        }
    }

    /// Receipts of purged vaults that have done their time.
    pub(super) fn old_vault_receipts(&self, now: Moment) -> Vec<(RecordName, Stamp)> {
        let snapshot = self.index.load_full();
        let mut seen = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        let free = snapshot.vaults().filter(|vault| {
            vault.damage.is_none() && vault.head.is_free() && is_told(&vault.head.purged, now)
        });
        let records = free.filter_map(|vault| {
            let record = self
                .seals
                .vault_record(&vault.head.namespace_uid, &vault.head.id.name)
                .ok()?;
            Some((record, vault.stamp.clone()))
        });
        seen.vaults.old(records, now)
    }

    /// Removes what a writer that had not heard has left of purged vaults, and says how many records that were.
    pub(super) async fn remove_leftovers(&self) -> Result<usize, Error> {
        let purged: Vec<_> = {
            let snapshot = self.index.load();
            let free = snapshot.vaults().filter(|vault| vault.head.is_free());
            free.map(|vault| vault.head.uuid).collect()
        };
        let mut removed = 0;
        for vault in purged {
            removed += self.remove_records(vault).await?;
        }
        Ok(removed)
    }
}

fn stored(vault: &Vault) -> StoredVault {
    let head = &vault.head;
    // A walk over all of them, and nobody asks how many there are in one that lives.
    let named = vault.objects.values().filter(|object| !object.head.is_free());
    let secrets = head.deleted.map_or(0, |_| named.count() as u64);
    StoredVault {
        uuid: head.uuid,
        id: head.id.clone(),
        namespace_uid: head.namespace_uid.clone(),
        resource_uid: head.resource_uid.clone(),
        rules: head.rules,
        secrets,
        deletion: head.deleted,
    }
}
