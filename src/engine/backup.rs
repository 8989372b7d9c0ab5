//! Backup and restore.
//!
//! # Why
//! - A backup is sealed under a key of its namespace, so that whoever may restore into some other namespace's vault gains
//!   nothing by somebody's backup; it needs no vault to open, so it survives the vault that it was made in.
//! - Values are sealed one by one inside, so that no more than one of them is in clear while a backup is made.

use std::collections::HashMap;
use std::sync::Arc;

use super::decide::{self, Context, SealBody};
use super::heads::{BackedUp, Body, Head, VersionEntry, Versions};
use super::limits::MAX_BACKUP;
use super::objects::{Value, body_place, ready_vault};
use super::seals::{BodyPlace, random_id};
use super::{Asked, Engine, Error};
use crate::model::{Backup, ObjectName, Reply, SecretBytes, VaultEntry, Version};

/// Versions that are sealed before others have their turn.
const BETWEEN_PAUSES: usize = 16;

impl Engine {
    /// A secret with all its versions, sealed.
    pub(super) async fn backup(&self, entry: &VaultEntry, name: &ObjectName) -> Result<Reply, Error> {
        let (vault, head) = self
            .read(entry, Some(name), |snapshot, address, _| {
                let vault = ready_vault(snapshot, address, entry)?;
                let object = vault.object(name.folded())?;
                let head = decide::backup(object.map(|object| &object.head), name)?;
                // All of it, now.
                head.live_secret()
                    .map(|state| state.versions.all().map(drop))
                    .transpose()?;
                Ok((vault.clone(), head.clone()))
            })
            .await?;
        let state = head.live_secret().ok_or(Error::Encode)?;
        let (key, id) = (self.seals.backup_key(&entry.namespace_uid)?, random_id()?);
        let mut entries = Vec::with_capacity(state.versions.count());
        let mut size = 0;
        for (number, version) in state.versions.all()?.into_iter().enumerate() {
            if number % BETWEEN_PAUSES == BETWEEN_PAUSES - 1 {
                tokio::task::yield_now().await;
            }
            let value = self
                .read(entry, Some(name), |snapshot, _, _| {
                    self.value(snapshot, &vault, &head, version)
                })
                .await?;
            let place = BodyPlace {
                incarnation: id,
                ..body_place(&head, version.id, version.order)
            };
            let body = self.seals.seal_backup_body(&key, &place, value.expose())?;
            size += body.len();
            if size > MAX_BACKUP {
                return Err(too_large(size));
            }
            entries.push(Arc::new(VersionEntry {
                body: Body::Inline(body),
                ..VersionEntry::clone(version)
            }));
        }
        let content = BackedUp {
            name: head.name.clone(),
            versions: Versions::from_entries(entries).ok_or(Error::Encode)?,
        }
        .encode()?;
        let blob = self.seals.seal_backup(&key, id, &content)?;
        if blob.len() > MAX_BACKUP {
            return Err(too_large(blob.len()));
        }
        Ok(Reply::Backup(Backup(blob.to_vec())))
    }

    /// What a backup holds is there again, under its own name and with its own versions.
    pub(super) async fn restore(&self, asked: Asked<'_>, backup: &Backup) -> Result<Reply, Error> {
        let (backup, values) = self.open_backup(asked.entry, backup).await?;
        let decide = |head: Option<&Head>, context: &Context, seal: &SealBody<'_>| {
            decide::restore(head, &backup, context, seal)
        };
        self.change(asked, &backup.name, Value::Restored(&values), decide)
            .await
    }

    async fn open_backup(
        &self,
        entry: &VaultEntry,
        backup: &Backup,
    ) -> Result<(BackedUp, HashMap<Version, SecretBytes>), Error> {
        if backup.0.len() > MAX_BACKUP {
            return Err(Error::BackupMalformed);
        }
        let key = self.seals.backup_key(&entry.namespace_uid)?;
        let (id, content) = self.seals.open_backup(&key, &backup.0)?;
        let backup = BackedUp::decode(content.expose()).map_err(|_| Error::BackupMalformed)?;
        let mut values = HashMap::with_capacity(backup.versions.count());
        for (number, version) in backup.versions.inline().iter().enumerate() {
            if number % BETWEEN_PAUSES == BETWEEN_PAUSES - 1 {
                tokio::task::yield_now().await;
            }
            let place = BodyPlace {
                name: backup.name.folded(),
                incarnation: id,
                version: version.id,
                order: version.order,
            };
            let Body::Inline(body) = &version.body else {
                return Err(Error::BackupMalformed);
            };
            let value = self.seals.open_backup_body(&key, &place, body)?;
            values.insert(version.id, value);
        }
        Ok((backup, values))
    }
}

const fn too_large(size: usize) -> Error {
    Error::BackupTooLarge {
        size,
        limit: MAX_BACKUP,
    }
}
