//! One state of everything in memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::{Header, SealingKey};
use crate::engine::Damage;
use crate::engine::Error;
use crate::engine::heads::{Head, Incarnation, VaultHead};
use crate::engine::quota::Usage;
use crate::model::{Uid, VaultEntry, VaultName, VaultUuid};
use crate::store::{Record, RecordName, Stamp};

/// By what a vault is found: a recycled namespace of the same name has another UID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::engine) struct VaultAddress {
    pub(in crate::engine) namespace_uid: Uid,
    pub(in crate::engine) name: VaultName,
}

impl VaultAddress {
    pub(in crate::engine) fn of(entry: &VaultEntry) -> Self {
        Self {
            namespace_uid: entry.namespace_uid.clone(),
            name: entry.id.name.clone(),
        }
    }
}

/// A vault and all its objects.
#[derive(Clone)]
pub(in crate::engine) struct Vault {
    pub(in crate::engine) stamp: Stamp,
    pub(super) size: u64,
    /// The newest good state; refused while there is `damage`.
    pub(in crate::engine) head: Arc<VaultHead>,
    /// None once it was purged.
    pub(super) key: Option<SealingKey>,
    pub(in crate::engine) damage: Option<Damage>,
    /// By name in lower case.
    pub(in crate::engine) objects: imbl::OrdMap<Arc<str>, Arc<Object>>,
}

/// An object: attributes in clear, values sealed.
pub(in crate::engine) struct Object {
    pub(in crate::engine) stamp: Stamp,
    pub(super) size: u64,
    /// The newest good state; refused while there is `damage`.
    pub(in crate::engine) head: Head,
    pub(in crate::engine) damage: Option<Damage>,
}

/// What stands under the name of a record.
#[derive(Clone)]
pub(super) enum Place {
    Vault(VaultAddress),
    Object {
        vault: VaultUuid,
        name: Arc<str>,
    },
    /// A record that belongs to an object's head.
    Part {
        stamp: Stamp,
        vault: VaultUuid,
        incarnation: Incarnation,
        envelope: Bytes,
    },
    /// An object whose vault is not known yet.
    Stray(Arc<Record>),
    /// It does not open, and what it was is not known.
    Unreadable {
        stamp: Stamp,
        size: u64,
        /// What it says that it belongs to: good enough for people, and for nothing else.
        vault: Option<VaultUuid>,
        damage: Damage,
    },
}

/// All vaults as of one moment. Clones share nearly everything.
#[derive(Clone, Default)]
pub(in crate::engine) struct Snapshot {
    pub(super) vaults: imbl::HashMap<VaultAddress, Arc<Vault>>,
    pub(super) addresses: imbl::HashMap<VaultUuid, VaultAddress>,
    pub(super) places: imbl::HashMap<RecordName, Place>,
    pub(super) revision: u64,
    /// All parts, by the life of the name that they belong to.
    pub(super) parts: imbl::HashMap<Incarnation, imbl::OrdSet<RecordName>>,
    pub(super) usage: Usage,
    pub(super) of_vaults: imbl::HashMap<VaultUuid, Usage>,
    pub(super) of_namespaces: imbl::HashMap<Uid, Usage>,
    pub(super) rolled_back: bool,
}

impl Snapshot {
    /// The vault, damaged or not.
    pub(in crate::engine) fn vault(&self, address: &VaultAddress) -> Option<&Arc<Vault>> {
        self.vaults.get(address)
    }

    pub(in crate::engine) fn vaults(&self) -> impl Iterator<Item = &Arc<Vault>> {
        self.vaults.values()
    }

    /// The newest revision that was seen.
    pub(in crate::engine) const fn revision(&self) -> u64 {
        self.revision
    }

    /// What all records take.
    pub(in crate::engine) const fn usage(&self) -> Usage {
        self.usage
    }

    pub(in crate::engine) fn usage_of_vault(&self, vault: VaultUuid) -> Usage {
        self.of_vaults.get(&vault).copied().unwrap_or_default()
    }

    pub(in crate::engine) fn usage_of_namespace(&self, uid: &Uid) -> Usage {
        self.of_namespaces.get(uid).copied().unwrap_or_default()
    }

    pub(in crate::engine) fn usages_of_vaults(&self) -> impl Iterator<Item = Usage> {
        self.of_vaults.values().copied()
    }

    pub(in crate::engine) fn usages_of_namespaces(&self) -> impl Iterator<Item = Usage> {
        self.of_namespaces.values().copied()
    }

    /// Whether the store was seen to hold an older state than before.
    pub(in crate::engine) const fn rolled_back(&self) -> bool {
        self.rolled_back
    }

    /// How many records do not open, went back or are gone.
    pub(in crate::engine) fn damaged(&self) -> usize {
        let known = self.vaults.values().map(|vault| vault.damaged());
        known.fold(self.unreadable().count(), usize::saturating_add)
    }

    /// Records of which nothing is known but that they were harmed, by the vaults that they say they belong to.
    pub(in crate::engine) fn unreadable(&self) -> impl Iterator<Item = Option<VaultUuid>> {
        self.places.values().filter_map(|place| match place {
            Place::Unreadable { vault, damage, .. } => damage.is_harm().then_some(*vault),
            Place::Vault(_) | Place::Object { .. } | Place::Part { .. } | Place::Stray(_) => None,
        })
    }

    /// Fails if a record of this name is there that cannot be used.
    pub(in crate::engine) fn check_readable(&self, record: &RecordName) -> Result<(), Error> {
        match self.places.get(record) {
            Some(Place::Unreadable { damage, .. }) => Err(Error::refused(*damage)),
            Some(Place::Stray(_)) => Err(Error::refused(Damage::DoesNotOpen)),
            Some(Place::Vault(_) | Place::Object { .. } | Place::Part { .. }) | None => Ok(()),
        }
    }

    /// Which state of a record was seen last.
    pub(in crate::engine) fn stamp(&self, record: &RecordName) -> Option<&Stamp> {
        match self.places.get(record)? {
            Place::Vault(address) => self.vaults.get(address).map(|vault| &vault.stamp),
            Place::Object { vault, name } => self
                .by_uuid(*vault)?
                .objects
                .get(name)
                .map(|object| &object.stamp),
            Place::Stray(record) => Some(&record.stamp),
            Place::Part { stamp, .. } | Place::Unreadable { stamp, .. } => Some(stamp),
        }
    }

    /// The sealed bytes of a part.
    pub(in crate::engine) fn part(&self, record: &RecordName) -> Option<&Bytes> {
        match self.places.get(record) {
            Some(Place::Part { envelope, .. }) => Some(envelope),
            _ => None,
        }
    }

    /// The parts of one life of a name.
    pub(in crate::engine) fn parts_of(&self, life: Incarnation) -> impl Iterator<Item = &RecordName> {
        self.parts.get(&life).into_iter().flatten()
    }

    /// All parts.
    pub(in crate::engine) fn parts(&self) -> impl Iterator<Item = &RecordName> {
        self.parts.values().flatten()
    }

    /// All records of a vault but its own head, and those that say that they are. It looks at everything.
    pub(in crate::engine) fn records_of(&self, uuid: VaultUuid) -> Vec<(RecordName, Stamp)> {
        let records = self.places.iter().filter(|(_, place)| match place {
            Place::Vault(_) => false,
            Place::Object { vault, .. } | Place::Part { vault, .. } => *vault == uuid,
            Place::Stray(record) => Header::peek(&record.envelope).is_ok_and(|header| header.vault == uuid),
            Place::Unreadable { vault, .. } => *vault == Some(uuid),
        });
        records
            .filter_map(|(record, _)| Some((record.clone(), self.stamp(record)?.clone())))
            .collect()
    }

    /// The vault that a part belongs to.
    pub(in crate::engine) fn vault_of_part(&self, record: &RecordName) -> Option<&Arc<Vault>> {
        match self.places.get(record) {
            Some(Place::Part { vault, .. }) => self.by_uuid(*vault),
            _ => None,
        }
    }

    pub(in crate::engine) fn by_uuid(&self, uuid: VaultUuid) -> Option<&Arc<Vault>> {
        self.vaults.get(self.addresses.get(&uuid)?)
    }
}

impl Object {
    /// Bytes of its record.
    pub(in crate::engine) const fn size(&self) -> u64 {
        self.size
    }
}

impl Vault {
    /// Bytes of its own record.
    pub(in crate::engine) const fn size(&self) -> u64 {
        self.size
    }

    /// How many of its records, its own included, were harmed.
    pub(in crate::engine) fn damaged(&self) -> usize {
        let objects = self.objects.values();
        let harmed = objects.filter(|object| object.damage.is_some_and(Damage::is_harm));
        usize::from(self.damage.is_some()).saturating_add(harmed.count())
    }

    /// What its records are sealed under.
    pub(in crate::engine) fn key(&self) -> Result<&SealingKey, Error> {
        self.key.as_ref().ok_or_else(|| Error::VaultNotReady {
            vault: self.head.id.clone(),
        })
    }

    /// Fails if it is damaged.
    pub(in crate::engine) fn check(&self) -> Result<(), Error> {
        self.damage.map_or(Ok(()), |damage| Err(Error::refused(damage)))
    }

    /// The object, if there is one that is not damaged.
    pub(in crate::engine) fn object(&self, folded: &str) -> Result<Option<&Arc<Object>>, Error> {
        let found = self.objects.get(folded);
        let damage = found.and_then(|object| object.damage);
        damage.map_or(Ok(found), |damage| Err(Error::refused(damage)))
    }
}
