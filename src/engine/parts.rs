//! Records that belong to a head: written before it names them, read when somebody wants them, removed when it does not
//! name them any more.
//!
//! # Why
//! A part never changes and is worth nothing by itself: until the head's own compare-and-swap names it, it is not there for
//! anybody, so a crash between the two leaves no half of a change. What nobody names is collected later.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;

use super::heads::{Body, Head, Incarnation, PartKind, PartRef, VersionEntry};
use super::index::{ReadPages, Snapshot, Vault, VaultAddress};
use super::objects::{Life, body_place, ready_vault};
use super::{Asked, Damage, Engine, Error};
use crate::failpoints::{Point, here};
use crate::model::{ObjectName, SecretBytes, VaultUuid};
use crate::store::{Record, RecordName, Stamp, StoreError};

/// Records that are written or removed at once.
const AT_ONCE: usize = 8;
/// How often a write without an answer is looked for.
const LOOKS: usize = 3;

/// A part that is to be written.
#[derive(Debug, Clone)]
pub(super) struct NewPart {
    pub(super) record: RecordName,
    pub(super) vault: VaultUuid,
    pub(super) incarnation: Incarnation,
    pub(super) envelope: Bytes,
}

/// Calls of the store, some of them at once, and how many there were. If one fails the others are made all the same, and the
/// last failure is told.
pub(super) async fn some_at_once(
    calls: Vec<impl Future<Output = Result<(), StoreError>>>,
) -> Result<usize, StoreError> {
    let count = calls.len();
    let mut made = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
    let mut failed = None;
    while let Some(result) = made.next().await {
        failed = result.err().or(failed);
    }
    failed.map_or(Ok(count), Err)
}

impl Engine {
    /// The value of a version: opened from the head or from its part.
    pub(super) fn value(
        &self,
        snapshot: &Snapshot,
        vault: &Vault,
        head: &Head,
        entry: &VersionEntry,
    ) -> Result<SecretBytes, Error> {
        let place = body_place(head, entry.id, entry.order);
        let open = |body: &[u8]| self.seals.open_body(vault.head.uuid, vault.key()?, &place, body);
        match &entry.body {
            Body::Inline(body) => open(body),
            Body::Part(part) => {
                let content = self.part(snapshot, vault, &Life::of(head), PartKind::Body, part)?;
                open(content.expose())
            }
        }
    }

    /// The content of a part that the head of this life names.
    pub(super) fn part(
        &self,
        snapshot: &Snapshot,
        vault: &Vault,
        life: &Life,
        kind: PartKind,
        part: &PartRef,
    ) -> Result<SecretBytes, Error> {
        let record = self.seals.part_record(vault.head.uuid, part)?;
        let Some(envelope) = snapshot.part(&record) else {
            snapshot.check_readable(&record)?;
            return Err(Error::NotInMemory { part: Some(record) });
        };
        self.seals.open_named_part(
            vault.key()?,
            &record,
            kind,
            part,
            envelope,
            (vault.head.uuid, life),
        )
    }

    /// Brings into memory what was found not to be there: one part, or all pages of an object. What cannot be had fails only
    /// if the store itself says that the head is still the one that named it.
    pub(super) async fn load(
        &self,
        address: &VaultAddress,
        folded: &str,
        part: Option<RecordName>,
    ) -> Result<(), Error> {
        let Some(record) = self.head_record(address, folded)? else {
            return Ok(());
        };
        let seen = self.index.load().stamp(&record).cloned();
        match self.bring(address, folded, part).await {
            Err(error) if error.rests_on_state() => {
                self.refresh(&record).await?;
                if self.index.load().stamp(&record) == seen.as_ref() {
                    Err(error)
                } else {
                    Ok(())
                }
            }
            brought => brought,
        }
    }

    fn head_record(&self, address: &VaultAddress, folded: &str) -> Result<Option<RecordName>, Error> {
        let vault = self.index.load().vault(address).map(|vault| vault.head.uuid);
        vault
            .map(|vault| self.seals.object_record(vault, folded))
            .transpose()
    }

    async fn bring(
        &self,
        address: &VaultAddress,
        folded: &str,
        part: Option<RecordName>,
    ) -> Result<(), Error> {
        if let Some(record) = part {
            return self.fetch(&record).await;
        }
        let missing = {
            let snapshot = self.index.load_full();
            let Some(vault) = snapshot.vault(address) else {
                return Ok(());
            };
            let Some(object) = vault.object(folded)? else {
                return Ok(());
            };
            let unknown = object.head.secret.iter();
            let unknown = unknown.flat_map(|secret| secret.versions.unknown_pages().1);
            let mut missing = Vec::new();
            for page in unknown {
                let record = self.seals.part_record(vault.head.uuid, &page.part)?;
                if snapshot.part(&record).is_none() {
                    missing.push(record);
                }
            }
            missing
        };
        for record in missing {
            self.fetch(&record).await?;
        }
        let (index, seals) = (Arc::clone(&self.index), Arc::clone(&self.seals));
        let (address, folded) = (address.clone(), folded.to_owned());
        let read = move || {
            // As of now: another may have done it while this one waited for its turn.
            let read = ReadPages::of(&index.load_full(), &seals, &address, &folded)?;
            if let Some(read) = read {
                index.know_pages(&read);
            }
            Ok(())
        };
        self.aside.run(read).await?
    }

    /// Reads a part by quorum; a part that is named and not there is gone behind our back.
    async fn fetch(&self, record: &RecordName) -> Result<(), Error> {
        self.refresh(record).await?;
        let snapshot = self.index.load();
        if snapshot.part(record).is_some() {
            return Ok(());
        }
        snapshot.check_readable(record)?;
        Err(Error::RecordDamaged(Damage::Vanished))
    }

    /// Writes parts; nothing may name them before.
    pub(super) async fn write_parts(&self, parts: &[NewPart]) -> Result<(), Error> {
        let writes: Vec<_> = parts.iter().map(|part| self.write_part(part)).collect();
        some_at_once(writes).await.map_err(Error::Store)?;
        if !parts.is_empty() {
            here(Point::PartsWritten);
        }
        Ok(())
    }

    async fn write_part(&self, part: &NewPart) -> Result<(), StoreError> {
        let stamp = self.written_part(part).await?;
        here(Point::PartWritten);
        self.index.keep_part(part, &stamp);
        Ok(())
    }

    async fn written_part(&self, part: &NewPart) -> Result<Stamp, StoreError> {
        for _ in 0..LOOKS {
            match self.store.create(&part.record, part.envelope.clone()).await {
                Ok(stamp) => return Ok(stamp),
                // The name is random, so it can be nothing but this part.
                Err(StoreError::Unknown | StoreError::AlreadyExists) => {
                    if let Some(found) = self.store.get(&part.record).await?
                        && found.envelope == part.envelope
                    {
                        return Ok(found.stamp);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unavailable)
    }

    /// Removes parts that nobody names, as far as that is possible now: what stays is collected later.
    pub(super) async fn drop_parts(&self, records: impl IntoIterator<Item = RecordName>) {
        if let Err(error) = self.remove_parts(records).await {
            tracing::debug!(%error, "parts that nobody names stay for now");
        }
    }

    /// Removes parts. If not all can be removed the others are all the same.
    async fn remove_parts(&self, records: impl IntoIterator<Item = RecordName>) -> Result<(), StoreError> {
        let removals: Vec<_> = records
            .into_iter()
            .map(|record| self.remove_part(record))
            .collect();
        some_at_once(removals).await.map(drop)
    }

    /// Removes one part; that it is not there is as good.
    async fn remove_part(&self, record: RecordName) -> Result<(), StoreError> {
        let record = &record;
        let mut stamp = self.index.load().stamp(record).cloned();
        for _ in 0..LOOKS {
            let known = match stamp.take() {
                Some(known) => known,
                None => match self.store.get(record).await? {
                    Some(Record { stamp, .. }) => stamp,
                    None => {
                        self.index.forget_part(record);
                        return Ok(());
                    }
                },
            };
            match self.store.delete(record, &known).await {
                Ok(()) | Err(StoreError::NotFound) => {
                    here(Point::PartRemoved);
                    self.index.forget_part(record);
                    return Ok(());
                }
                Err(StoreError::Conflict | StoreError::Unknown) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Unavailable)
    }

    /// Removes all parts of a name that is being purged: values first, so that an interrupted purge still finds them.
    pub(super) async fn purge_parts(&self, asked: Asked<'_>, name: &ObjectName) -> Result<(), Error> {
        let address = VaultAddress::of(asked.entry);
        let gone = match self.load(&address, name.folded(), None).await {
            Ok(()) => false,
            // A page that is gone was removed by a purge that was interrupted, after all values.
            Err(Error::RecordDamaged(_)) => true,
            Err(error) => return Err(error),
        };
        let (mut values, mut pages) = (BTreeSet::new(), BTreeSet::new());
        {
            let snapshot = self.index.load();
            let vault = ready_vault(&snapshot, &address, asked.entry)?;
            let Some(object) = vault
                .object(name.folded())?
                .filter(|object| object.head.is_purging())
            else {
                return Ok(());
            };
            let Some(secret) = &object.head.secret else {
                return Ok(());
            };
            let record = |part: &PartRef| self.seals.part_record(vault.head.uuid, part);
            let entries = match secret.versions.all() {
                Ok(all) => all,
                Err(_) if gone => secret.versions.inline().iter().collect(),
                Err(error) => return Err(error),
            };
            for entry in entries {
                if let Body::Part(part) = &entry.body {
                    values.insert(record(part)?);
                }
            }
            for page in secret.versions.pages() {
                pages.insert(record(&page.part)?);
            }
            let of_life = snapshot.parts_of(object.head.incarnation);
            values.extend(of_life.filter(|record| !pages.contains(*record)).cloned());
        }
        for records in [values, pages] {
            self.remove_parts(records).await.map_err(Error::Store)?;
        }
        Ok(())
    }
}
