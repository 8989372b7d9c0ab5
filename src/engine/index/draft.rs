//! How a record comes into memory: the next snapshot while it is made.

use std::sync::Arc;

use bytes::Bytes;

use super::life::{Life, Verdict, judge};
use super::snapshot::{Object, Place, Snapshot, Vault, VaultAddress};
use crate::crypto::{Header, RecordType, SealingKey};
use crate::engine::Damage;
use crate::engine::HeadChanged;
use crate::engine::heads::{Head, Incarnation, PageRef, Paged, PartKind, VaultHead};
use crate::engine::quota::Usage;
use crate::engine::seals::Seals;
use crate::model::{Uid, VaultUuid};
use crate::store::{Record, RecordName, Stamp};

/// What a record turned out to be.
pub(super) enum Opened {
    Vault(Box<VaultHead>, Option<SealingKey>),
    Object(VaultUuid, Box<Head>),
    /// A part, as far as it can be told without its head.
    Part(VaultUuid, Incarnation),
    /// An object or a part of a vault that is not known.
    NoVault(VaultUuid),
    /// The installation's own: nothing for the index.
    Other,
    Unreadable(Damage),
}

impl Opened {
    pub(super) fn open(
        seals: &Seals,
        record: &Record,
        key: impl Fn(VaultUuid) -> Option<SealingKey>,
    ) -> Self {
        let Ok(header) = Header::peek(&record.envelope) else {
            return Self::Unreadable(Damage::DoesNotOpen);
        };
        match header.record_type {
            RecordType::Vault => {
                let opened = seals
                    .open_vault(&record.name, &record.envelope)
                    .and_then(|head| seals.vault_key(&head).map(|key| (head, key)));
                opened.map_or_else(Self::Unreadable, |(head, key)| Self::Vault(Box::new(head), key))
            }
            RecordType::Object => {
                let vault = header.vault;
                let Some(key) = key(vault) else {
                    return Self::NoVault(vault);
                };
                seals
                    .open_object(vault, &key, &record.name, &record.envelope)
                    .map_or_else(Self::Unreadable, |head| Self::Object(vault, Box::new(head)))
            }
            RecordType::Value | RecordType::Page => {
                let vault = header.vault;
                let kind = if header.record_type == RecordType::Page {
                    PartKind::Page
                } else {
                    PartKind::Body
                };
                let Some(key) = key(vault) else {
                    return Self::NoVault(vault);
                };
                seals
                    .open_part(vault, &key, &record.name, kind, &record.envelope)
                    .map_or_else(Self::Unreadable, |part| Self::Part(vault, part.incarnation))
            }
            RecordType::Sentinel
            | RecordType::Installation
            | RecordType::CertificateAuthority
            | RecordType::Heritage => Self::Other,
            RecordType::Body | RecordType::SkipToken | RecordType::VaultKey | RecordType::Backup => {
                Self::Unreadable(Damage::DoesNotOpen)
            }
        }
    }
}

pub(super) struct Draft<'a> {
    seals: &'a Seals,
    pub(super) snapshot: Snapshot,
    pub(super) changed: Vec<HeadChanged>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(seals: &'a Seals, snapshot: Snapshot) -> Self {
        Self {
            seals,
            snapshot,
            changed: Vec::new(),
        }
    }

    pub(super) fn see(&mut self, revision: u64) {
        self.snapshot.revision = self.snapshot.revision.max(revision);
    }

    /// Takes in a record that was opened with what was known then.
    pub(super) fn put(&mut self, record: &Record, opened: Opened) {
        self.see(record.stamp.revision);
        let size = record.envelope.len() as u64;
        match opened {
            Opened::Other => {}
            // Of a vault that was purged while the record was being opened: worth nothing, and to be removed.
            Opened::Object(vault, _) | Opened::Part(vault, _) if self.is_purged(vault) => {
                self.put_stray(record)
            }
            Opened::Vault(head, key) => self.put_vault(&record.name, &record.stamp, size, *head, key),
            Opened::Object(vault, head) => self.put_object(&record.name, &record.stamp, size, vault, *head),
            Opened::Part(vault, incarnation) => {
                self.put_part(&record.name, &record.stamp, vault, incarnation, &record.envelope);
            }
            Opened::Unreadable(damage) => {
                self.damage(&record.name, &record.stamp, size, damage);
                if let Some(Place::Unreadable { vault, .. }) = self.snapshot.places.get_mut(&record.name) {
                    *vault = Header::peek(&record.envelope).ok().map(|header| header.vault);
                }
            }
            Opened::NoVault(uuid) => match self.snapshot.by_uuid(uuid).and_then(|vault| vault.key.clone()) {
                // The vault came while the record was being opened.
                Some(key) => {
                    let opened = Opened::open(self.seals, record, |_| Some(key.clone()));
                    self.put(record, opened);
                }
                None => self.put_stray(record),
            },
        }
    }

    pub(super) fn put_vault(
        &mut self,
        record: &RecordName,
        stamp: &Stamp,
        size: u64,
        head: VaultHead,
        key: Option<SealingKey>,
    ) {
        if self.passed(record, stamp) {
            return;
        }
        let address = VaultAddress {
            namespace_uid: head.namespace_uid.clone(),
            name: head.id.name.clone(),
        };
        let next = match self.snapshot.vaults.get(&address) {
            None => {
                let objects = imbl::OrdMap::new();
                let stamp = stamp.clone();
                Vault {
                    stamp,
                    size,
                    head: Arc::new(head),
                    key,
                    damage: None,
                    objects,
                }
            }
            Some(vault) => match judge(
                (&vault.stamp, Life::of_vault(&vault.head)),
                stamp,
                Life::of_vault(&head),
            ) {
                Verdict::Old => return,
                Verdict::Follows => {
                    let (before, objects) = (vault.head.uuid, vault.objects.clone());
                    let lives_on = before == head.uuid && !head.is_free();
                    if !lives_on {
                        self.drop_records(before);
                    }
                    if before != head.uuid {
                        self.snapshot.addresses.remove(&before);
                    }
                    Vault {
                        stamp: stamp.clone(),
                        size,
                        head: Arc::new(head),
                        key,
                        damage: None,
                        objects: if lives_on { objects } else { imbl::OrdMap::new() },
                    }
                }
                Verdict::Refused(damage) => return self.damage(record, stamp, size, damage),
            },
        };
        let uuid = next.head.uuid;
        self.settle(record, size, Place::Vault(address.clone()));
        self.snapshot.addresses.insert(uuid, address.clone());
        self.snapshot.vaults.insert(address, Arc::new(next));
        self.take_in_strays(uuid);
    }

    fn is_purged(&self, vault: VaultUuid) -> bool {
        let vault = self.snapshot.by_uuid(vault);
        vault.is_some_and(|vault| vault.head.is_free())
    }

    /// A vault was purged: its records are gone, or are worth nothing.
    fn drop_records(&mut self, vault: VaultUuid) {
        let of_vault = |place: &Place| match place {
            Place::Object { vault: of, .. } | Place::Part { vault: of, .. } => *of == vault,
            Place::Vault(_) | Place::Stray(_) | Place::Unreadable { .. } => false,
        };
        let records: Vec<_> = self
            .snapshot
            .places
            .iter()
            .filter(|(_, place)| of_vault(place))
            .map(|(record, _)| record.clone())
            .collect();
        for record in records {
            self.clear(&record);
        }
    }

    fn take_in_strays(&mut self, uuid: VaultUuid) {
        let waiting = |place: &Place| match place {
            Place::Stray(record)
                if Header::peek(&record.envelope).is_ok_and(|header| header.vault == uuid) =>
            {
                Some(Arc::clone(record))
            }
            Place::Stray(_)
            | Place::Vault(_)
            | Place::Object { .. }
            | Place::Part { .. }
            | Place::Unreadable { .. } => None,
        };
        let records: Vec<_> = self.snapshot.places.values().filter_map(waiting).collect();
        for record in records {
            self.put(&record, Opened::NoVault(uuid));
        }
    }

    pub(super) fn put_object(
        &mut self,
        record: &RecordName,
        stamp: &Stamp,
        size: u64,
        vault: VaultUuid,
        mut head: Head,
    ) {
        if self.passed(record, stamp) {
            return;
        }
        let Some(found) = self.snapshot.by_uuid(vault).filter(|vault| !vault.head.is_free()) else {
            return;
        };
        let name: Arc<str> = match found.objects.get_key_value(head.name.folded()) {
            None => head.name.folded().into(),
            Some((name, object)) => {
                match judge(
                    (&object.stamp, Life::of_object(&object.head)),
                    stamp,
                    Life::of_object(&head),
                ) {
                    Verdict::Old => return,
                    Verdict::Follows => {
                        head.learn_from(&object.head);
                        Arc::clone(name)
                    }
                    Verdict::Refused(damage) => return self.damage(record, stamp, size, damage),
                }
            }
        };
        self.settle(
            record,
            size,
            Place::Object {
                vault,
                name: Arc::clone(&name),
            },
        );
        let object = Object {
            stamp: stamp.clone(),
            size,
            head,
            damage: None,
        };
        self.set_object(vault, &name, object);
    }

    /// Parts never change: what stands under the name of one in other bytes is not ours.
    pub(super) fn put_part(
        &mut self,
        record: &RecordName,
        stamp: &Stamp,
        vault: VaultUuid,
        incarnation: Incarnation,
        envelope: &Bytes,
    ) {
        if self.passed(record, stamp) {
            return;
        }
        let size = envelope.len() as u64;
        match self.snapshot.places.get(record) {
            Some(Place::Part { envelope: known, .. }) if known != envelope => {
                return self.damage(record, stamp, size, Damage::DoesNotOpen);
            }
            Some(Place::Vault(_) | Place::Object { .. }) => {
                return self.damage(record, stamp, size, Damage::DoesNotOpen);
            }
            Some(Place::Part { .. } | Place::Stray(_) | Place::Unreadable { .. }) | None => {}
        }
        let place = Place::Part {
            stamp: stamp.clone(),
            vault,
            incarnation,
            envelope: envelope.clone(),
        };
        self.settle(record, size, place);
        let parts = self.snapshot.parts.entry(incarnation).or_default();
        parts.insert(record.clone());
    }

    fn put_stray(&mut self, record: &Record) {
        let known = self.snapshot.stamp(&record.name);
        if known.is_some_and(|stamp| stamp.revision >= record.stamp.revision) {
            return;
        }
        match self.snapshot.places.get(&record.name) {
            // A vault that is known does not become unknown: this is another vault's record under our name.
            Some(Place::Object { .. } | Place::Vault(_) | Place::Part { .. }) => {
                let size = record.envelope.len() as u64;
                self.damage(&record.name, &record.stamp, size, Damage::DoesNotOpen);
            }
            Some(Place::Stray(_) | Place::Unreadable { .. }) | None => {
                let size = record.envelope.len() as u64;
                self.settle(&record.name, size, Place::Stray(Arc::new(record.clone())));
            }
        }
    }

    /// A newer state of the record cannot be used.
    fn damage(&mut self, record: &RecordName, stamp: &Stamp, size: u64, damage: Damage) {
        if self.passed(record, stamp) {
            return;
        }
        self.mark(record, stamp, size, damage);
    }

    /// Marks a record as damaged, whatever was seen before.
    fn mark(&mut self, record: &RecordName, stamp: &Stamp, size: u64, damage: Damage) {
        if damage.is_harm() {
            tracing::error!(record = record.as_str(), %damage, "a stored record is refused");
        } else {
            tracing::warn!(record = record.as_str(), %damage, "a stored record cannot be read yet");
        }
        match self.snapshot.places.get(record).cloned() {
            Some(Place::Vault(address)) => {
                let Some(vault) = self.snapshot.vaults.get(&address) else {
                    return;
                };
                let (stamp, damage) = (stamp.clone(), Some(damage));
                let vault = Vault {
                    stamp,
                    size,
                    damage,
                    ..Vault::clone(vault)
                };
                self.settle(record, size, Place::Vault(address.clone()));
                self.snapshot.vaults.insert(address, Arc::new(vault));
            }
            Some(Place::Object { vault, name }) => {
                let Some(object) = self.snapshot.by_uuid(vault).and_then(|v| v.objects.get(&name)) else {
                    return;
                };
                let head = object.head.clone();
                let (stamp, damage) = (stamp.clone(), Some(damage));
                let object = Object {
                    stamp,
                    size,
                    head,
                    damage,
                };
                self.settle(
                    record,
                    size,
                    Place::Object {
                        vault,
                        name: Arc::clone(&name),
                    },
                );
                self.set_object(vault, &name, object);
            }
            known @ (Some(Place::Part { .. } | Place::Stray(_) | Place::Unreadable { .. }) | None) => {
                let vault = match known {
                    Some(Place::Part { vault, .. }) => Some(vault),
                    _ => None,
                };
                self.settle(
                    record,
                    size,
                    Place::Unreadable {
                        stamp: stamp.clone(),
                        size,
                        vault,
                        damage,
                    },
                );
            }
        }
    }

    /// A quorum read found an older state than one that was seen before the read began: it cannot be trusted.
    pub(super) fn went_back(&mut self, record: &Record) {
        self.mark(
            &record.name,
            &record.stamp,
            record.envelope.len() as u64,
            Damage::RolledBack,
        );
    }

    /// The record is gone as of this stamp.
    pub(super) fn remove(&mut self, record: &RecordName, stamp: &Stamp) {
        self.see(stamp.revision);
        if self.passed(record, stamp) {
            return;
        }
        match self.snapshot.places.get(record) {
            None => {}
            Some(Place::Object { vault, name }) if self.may_go(*vault, name) => {
                let (vault, name) = (*vault, Arc::clone(name));
                self.forget(record, vault, &name);
            }
            Some(Place::Vault(address)) if self.is_receipt(address) => {
                let address = address.clone();
                self.forget_vault(record, &address);
            }
            Some(Place::Vault(_) | Place::Object { .. }) => self.mark(record, stamp, 0, Damage::Vanished),
            // Whether a part is missed is seen by who wants it.
            Some(Place::Part { .. } | Place::Stray(_) | Place::Unreadable { .. }) => self.clear(record),
        }
    }

    /// Whether an object may go: nothing is known of it but that it was purged, or its whole vault is being purged.
    fn may_go(&self, vault: VaultUuid, name: &str) -> bool {
        let Some(vault) = self.snapshot.by_uuid(vault) else {
            return false;
        };
        let is_receipt = |object: &Arc<Object>| object.head.is_free() && object.damage.is_none();
        vault.head.is_purging() && vault.damage.is_none() || vault.objects.get(name).is_some_and(is_receipt)
    }

    /// Whether nothing is known of a vault but that it was purged.
    fn is_receipt(&self, address: &VaultAddress) -> bool {
        let vault = self.snapshot.vaults.get(address);
        vault.is_some_and(|vault| vault.head.is_free() && vault.damage.is_none())
    }

    /// The receipt of a vault's purge has done its time.
    fn forget_vault(&mut self, record: &RecordName, address: &VaultAddress) {
        self.clear(record);
        if let Some(vault) = self.snapshot.vaults.remove(address) {
            self.snapshot.addresses.remove(&vault.head.uuid);
        }
    }

    /// An object that may go is gone.
    fn forget(&mut self, record: &RecordName, vault: VaultUuid, name: &str) {
        self.clear(record);
        self.change_vault(vault, |vault| {
            vault.objects.remove(name);
        });
    }

    /// What a list as of `revision` does not have is gone.
    pub(super) fn remove_unlisted(&mut self, listed: impl Fn(&RecordName) -> bool, revision: u64) {
        let gone: Vec<_> = self
            .snapshot
            .places
            .keys()
            .filter(|record| !listed(record))
            .filter_map(|record| {
                self.snapshot
                    .stamp(record)
                    .map(|stamp| (record.clone(), stamp.clone()))
            })
            .filter(|(_, stamp)| stamp.revision <= revision)
            .collect();
        for (record, stamp) in gone {
            self.remove(&record, &stamp);
        }
    }

    /// Whether a later state of the record was seen already.
    fn passed(&self, record: &RecordName, stamp: &Stamp) -> bool {
        self.snapshot
            .stamp(record)
            .is_some_and(|seen| seen.revision > stamp.revision)
    }

    fn set_object(&mut self, vault: VaultUuid, name: &Arc<str>, object: Object) {
        let mut changed = None;
        self.change_vault(vault, |vault| {
            changed = Some(HeadChanged {
                vault: vault.head.id.clone(),
                name: Arc::clone(name),
            });
            vault.objects.insert(Arc::clone(name), Arc::new(object));
        });
        self.changed.extend(changed);
    }

    /// What the pages of an object say is known now, if they are still its pages.
    pub(super) fn know_pages(&mut self, vault: VaultUuid, name: &str, pages: &[PageRef], older: &Arc<Paged>) {
        self.change_vault(vault, |vault| {
            let Some((name, object)) = vault.objects.get_key_value(name) else {
                return;
            };
            let name = Arc::clone(name);
            let Some(head) = object.head.knowing(pages, older) else {
                return;
            };
            let object = Object {
                stamp: object.stamp.clone(),
                size: object.size,
                head,
                damage: object.damage,
            };
            vault.objects.insert(name, Arc::new(object));
        });
    }

    fn change_vault(&mut self, uuid: VaultUuid, change: impl FnOnce(&mut Vault)) {
        let Some(address) = self.snapshot.addresses.get(&uuid).cloned() else {
            return;
        };
        let Some(found) = self.snapshot.vaults.get(&address) else {
            return;
        };
        let mut next = Vault::clone(found);
        change(&mut next);
        self.snapshot.vaults.insert(address, Arc::new(next));
    }

    /// Puts a place under a record's name, and counts its bytes instead of those of what stood there.
    fn settle(&mut self, record: &RecordName, size: u64, place: Place) {
        self.clear(record);
        let payer = payer(&place);
        self.snapshot.places.insert(record.clone(), place);
        self.pay(payer.as_ref(), Usage::default(), Usage::one(size));
    }

    /// Nothing stands there any more.
    pub(super) fn clear(&mut self, record: &RecordName) {
        if let Some(place) = self.snapshot.places.get(record) {
            let (payer, before) = (payer(place), self.size(place));
            if let Place::Part { incarnation, .. } = place {
                let life = *incarnation;
                if let Some(parts) = self.snapshot.parts.get_mut(&life) {
                    parts.remove(record);
                    if parts.is_empty() {
                        self.snapshot.parts.remove(&life);
                    }
                }
            }
            self.pay(payer.as_ref(), Usage::one(before), Usage::default());
        }
        self.snapshot.places.remove(record);
    }

    fn pay(&mut self, payer: Option<&Payer>, before: Usage, after: Usage) {
        self.snapshot.usage = self.snapshot.usage.less(before).and(after);
        let namespace = match payer {
            None => None,
            Some(Payer::Namespace(uid)) => Some(uid.clone()),
            Some(Payer::Vault(vault)) => {
                let usage = self.snapshot.usage_of_vault(*vault).less(before).and(after);
                if usage.is_nothing() {
                    self.snapshot.of_vaults.remove(vault);
                } else {
                    self.snapshot.of_vaults.insert(*vault, usage);
                }
                self.snapshot
                    .addresses
                    .get(vault)
                    .map(|address| address.namespace_uid.clone())
            }
        };
        if let Some(uid) = namespace {
            let usage = self.snapshot.usage_of_namespace(&uid).less(before).and(after);
            if usage.is_nothing() {
                self.snapshot.of_namespaces.remove(&uid);
            } else {
                self.snapshot.of_namespaces.insert(uid, usage);
            }
        }
    }

    fn size(&self, place: &Place) -> u64 {
        match place {
            Place::Vault(address) => self.snapshot.vaults.get(address).map_or(0, |vault| vault.size),
            Place::Object { vault, name } => {
                let object = self
                    .snapshot
                    .by_uuid(*vault)
                    .and_then(|vault| vault.objects.get(name));
                object.map_or(0, |object| object.size)
            }
            Place::Part { envelope, .. } => envelope.len() as u64,
            Place::Stray(record) => record.envelope.len() as u64,
            Place::Unreadable { size, .. } => *size,
        }
    }
}

/// Whose quotas a record counts against.
enum Payer {
    /// Of an object.
    Vault(VaultUuid),
    /// Of a vault's own head.
    Namespace(Uid),
}

/// What cannot be read counts against the installation alone.
fn payer(place: &Place) -> Option<Payer> {
    match place {
        Place::Vault(address) => Some(Payer::Namespace(address.namespace_uid.clone())),
        Place::Object { vault, .. } | Place::Part { vault, .. } => Some(Payer::Vault(*vault)),
        Place::Stray(_) | Place::Unreadable { .. } => None,
    }
}
