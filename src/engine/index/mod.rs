//! Everything in memory, as one snapshot that readers load without a lock.
//!
//! Records come in from three sides: own writes, the watch, and quorum reads. They may come in any order; the store's revision
//! decides which state is the newer, and `rev` and incarnation decide whether it may follow the one before.

mod draft;
mod life;
mod snapshot;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::broadcast;

use super::heads::{Head, PageRef, Paged, PartKind, VaultHead, decode_page};
use super::objects::Life;
use super::parts::NewPart;
use super::seals::Seals;
use super::{Damage, Error, HeadChanged};
use crate::crypto::{Header, RecordType, SealingKey};
use crate::model::VaultUuid;
use crate::store::{Record, RecordName, Stamp, StoreEvent};
use draft::{Draft, Opened};

pub(super) use snapshot::{Object, Snapshot, Vault, VaultAddress};

/// How many changes a subscriber may lag behind before it has to look at everything again. (Tests make engines by the
/// ten thousand, and what is kept takes long to lay out.)
const CHANGES_KEPT: usize = if cfg!(test) { 16 } else { 1024 };

pub(super) struct Index {
    seals: Arc<Seals>,
    current: ArcSwap<Snapshot>,
    /// Held while the next snapshot is made; never across an await, never by readers.
    writer: Mutex<()>,
    changes: broadcast::Sender<HeadChanged>,
}

/// What the pages of an object say, put together.
pub(super) struct ReadPages {
    vault: VaultUuid,
    folded: String,
    pages: Vec<PageRef>,
    older: Arc<Paged>,
}

impl ReadPages {
    /// Opens those pages of an object of which is not known yet what they say, as far as they are in memory. None if there
    /// are no such pages, or one of them is not there. It takes long.
    pub(super) fn of(
        snapshot: &Snapshot,
        seals: &Seals,
        address: &VaultAddress,
        folded: &str,
    ) -> Result<Option<Self>, Error> {
        let Some(vault) = snapshot.vault(address) else {
            return Ok(None);
        };
        let Some(object) = vault.object(folded)? else {
            return Ok(None);
        };
        let Some(secret) = &object.head.secret else {
            return Ok(None);
        };
        let (uuid, life) = (vault.head.uuid, Life::of(&object.head));
        let (mut older, unknown) = secret.versions.unknown_pages();
        if unknown.is_empty() {
            return Ok(None);
        }
        for page in unknown {
            let record = seals.part_record(uuid, &page.part)?;
            // It may have been removed just now, with the head that names it: who asks looks again.
            let Some(envelope) = snapshot.part(&record) else {
                return Ok(None);
            };
            let (kind, named) = (PartKind::Page, (uuid, &life));
            let content = seals.open_named_part(vault.key()?, &record, kind, &page.part, envelope, named)?;
            let entries =
                decode_page(content.expose()).map_err(|_| Error::RecordDamaged(Damage::DoesNotOpen))?;
            older.add(entries);
        }
        Ok(Some(Self {
            vault: uuid,
            folded: folded.to_owned(),
            pages: secret.versions.pages().to_vec(),
            older: Arc::new(older),
        }))
    }
}

impl Index {
    pub(super) fn new(seals: Arc<Seals>) -> Self {
        Self {
            seals,
            current: ArcSwap::default(),
            writer: Mutex::new(()),
            changes: broadcast::Sender::new(CHANGES_KEPT),
        }
    }

    pub(super) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    pub(super) fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<HeadChanged> {
        self.changes.subscribe()
    }

    /// Takes in what a watch tells.
    pub(super) fn apply(&self, event: &StoreEvent) {
        match event {
            StoreEvent::Put(record) => self.put(record),
            StoreEvent::Deleted { name, stamp } => self.edit(|draft| draft.remove(name, stamp)),
            StoreEvent::Bookmark(revision) => self.edit(|draft| draft.see(*revision)),
        }
    }

    /// Takes in one record.
    fn put(&self, record: &Record) {
        let known = self.load_full();
        let seen = known.stamp(&record.name);
        if seen.is_some_and(|seen| seen.revision >= record.stamp.revision) {
            return;
        }
        let opened = Opened::open(&self.seals, record, |vault| {
            known.by_uuid(vault).and_then(|v| v.key.clone())
        });
        self.edit(|draft| draft.put(record, opened));
    }

    /// Takes in an object's head that was just written here.
    pub(super) fn keep_object(
        &self,
        record: &RecordName,
        stamp: &Stamp,
        size: u64,
        vault: VaultUuid,
        head: Head,
    ) {
        self.edit(|draft| {
            draft.see(stamp.revision);
            draft.put_object(record, stamp, size, vault, head);
        });
    }

    /// Takes in a vault's head that was just written here.
    pub(super) fn keep_vault(
        &self,
        record: &RecordName,
        stamp: &Stamp,
        size: u64,
        head: VaultHead,
        key: Option<SealingKey>,
    ) {
        self.edit(|draft| {
            draft.see(stamp.revision);
            draft.put_vault(record, stamp, size, head, key);
        });
    }

    /// Takes in a part that was just written here.
    pub(super) fn keep_part(&self, part: &NewPart, stamp: &Stamp) {
        self.edit(|draft| {
            draft.see(stamp.revision);
            draft.put_part(&part.record, stamp, part.vault, part.incarnation, &part.envelope);
        });
    }

    /// A part was removed here.
    pub(super) fn forget_part(&self, record: &RecordName) {
        self.edit(|draft| {
            if draft.snapshot.part(record).is_some() {
                draft.clear(record);
            }
        });
    }

    /// What the pages of an object say is known now.
    pub(super) fn know_pages(&self, read: &ReadPages) {
        self.edit(|draft| draft.know_pages(read.vault, &read.folded, &read.pages, &read.older));
    }

    /// The record of something that was purged was removed here.
    pub(super) fn forget(&self, record: &RecordName, stamp: &Stamp) {
        self.edit(|draft| draft.remove(record, stamp));
    }

    /// Takes in what a quorum read found; `known` is what was known of the record before the read began.
    pub(super) fn confirm(&self, name: &RecordName, known: Option<&Stamp>, found: Option<&Record>) {
        match (found, known) {
            (Some(record), Some(known)) if record.stamp.revision < known.revision => self.edit(|draft| {
                // Unless another read has seen more meanwhile.
                if draft.snapshot.stamp(name) == Some(known) {
                    draft.went_back(record);
                }
            }),
            (Some(record), _) => self.put(record),
            (None, Some(known)) => self.edit(|draft| {
                if draft.snapshot.stamp(name) == Some(known) {
                    draft.remove(name, known);
                }
            }),
            (None, None) => {}
        }
    }

    /// Takes in a whole list as of `revision`, in one swap. What was seen after that revision stays.
    pub(super) fn replace_all(&self, records: &[Record], revision: u64) {
        let known = self.load_full();
        let is_vault = |record: &&Record| {
            Header::peek(&record.envelope).is_ok_and(|header| header.record_type == RecordType::Vault)
        };
        // What has not changed since it was last seen is not opened again.
        let is_new = |record: &&Record| known.stamp(&record.name) != Some(&record.stamp);
        let (vaults, objects): (Vec<_>, Vec<_>) = records.iter().filter(is_new).partition(is_vault);
        let mut keys: HashMap<VaultUuid, SealingKey> = HashMap::new();
        let mut opened = Vec::with_capacity(vaults.len().saturating_add(objects.len()));
        for record in vaults {
            let vault = Opened::open(&self.seals, record, |_| None);
            if let Opened::Vault(head, Some(key)) = &vault {
                keys.insert(head.uuid, key.clone());
            }
            opened.push((record, vault));
        }
        for record in objects {
            let key = |vault| {
                known
                    .by_uuid(vault)
                    .and_then(|v| v.key.as_ref())
                    .or_else(|| keys.get(&vault))
                    .cloned()
            };
            opened.push((record, Opened::open(&self.seals, record, key)));
        }
        let listed: HashSet<&RecordName> = records.iter().map(|record| &record.name).collect();
        self.edit(|draft| {
            for (record, opened) in opened {
                // A list of this revision shows every state up to it. One that shows less than was seen is of a store that
                // was restored, and whose revisions were moved on: the list as a whole looks new.
                let seen = draft.snapshot.stamp(&record.name).map(|stamp| stamp.revision);
                if seen.is_some_and(|seen| record.stamp.revision < seen && seen <= revision) {
                    draft.went_back(record);
                } else {
                    draft.put(record, opened);
                }
            }
            draft.remove_unlisted(|name| listed.contains(name), revision);
            draft.see(revision);
        });
    }

    /// Nothing is to be served any more.
    pub(super) fn mark_rolled_back(&self) {
        self.edit(|draft| draft.snapshot.rolled_back = true);
    }

    fn edit(&self, change: impl FnOnce(&mut Draft<'_>)) {
        let writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut draft = Draft::new(&self.seals, Snapshot::clone(&self.current.load()));
        change(&mut draft);
        let Draft {
            snapshot, changed, ..
        } = draft;
        self.current.store(Arc::new(snapshot));
        drop(writing);
        for change in changed {
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
    }
}
