//! Changes of objects and of vaults, as [`Change`] sees them.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;

use super::commit::{Change, Made, Sealed, State};
use super::decide::{Context, SealBody, Step, VaultContext};
use super::heads::{Fitted, Head, Incarnation, PageRef, PartKind, Sizes, VaultHead, decode_page, fit};
use super::index::{Snapshot, Vault, VaultAddress};
use super::parts::NewPart;
use super::seals::{BodyPlace, Seals};
use super::{Damage, Engine, Error};
use crate::crypto::random;
use crate::model::{Alphabet, ObjectName, SecretBytes, Uid, VaultEntry, VaultUuid, Version};
use crate::store::{RecordName, Stamp};

/// The value that a change seals.
pub(super) enum Value<'a> {
    /// It makes no version.
    None,
    Given(&'a SecretBytes),
    /// Of many versions at once, made before.
    Restored(&'a HashMap<Version, SecretBytes>),
    /// Made anew for each attempt; only the one that comes through is ever seen.
    Generated {
        alphabet: Alphabet,
        length: u16,
    },
}

/// A change of one object's head.
pub(super) struct ObjectChange<'a, D> {
    pub(super) entry: &'a VaultEntry,
    pub(super) address: VaultAddress,
    pub(super) record: RecordName,
    pub(super) name: &'a ObjectName,
    pub(super) context: Context,
    pub(super) value: Value<'a>,
    pub(super) seals: &'a Seals,
    pub(super) sizes: &'a Sizes,
    pub(super) decide: D,
}

impl<D> ObjectChange<'_, D> {
    fn vault<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s Vault, Error> {
        ready_vault(snapshot, &self.address, self.entry)
    }

    fn seal_body(&self, vault: &Vault, place: &BodyPlace<'_>) -> Result<Bytes, Error> {
        let seal = |value: &[u8]| self.seals.seal_body(vault.head.uuid, vault.key()?, place, value);
        match &self.value {
            Value::None => Err(Error::Encode),
            Value::Given(value) => seal(value.expose()),
            Value::Restored(values) => {
                let value = values.get(&place.version).ok_or(Error::Encode)?;
                seal(value.expose())
            }
            Value::Generated { alphabet, length } => {
                let value = random::generate_text(*alphabet, *length).map_err(Error::Crypto)?;
                seal(value.expose())
            }
        }
    }
}

impl<D> Change for ObjectChange<'_, D>
where
    D: Fn(Option<&Head>, &Context, &SealBody<'_>) -> Result<Step<Head>, Error> + Sync,
{
    type Head = Head;

    fn record(&self) -> &RecordName {
        &self.record
    }

    fn current<'s>(&self, snapshot: &'s Snapshot) -> Result<Option<State<'s, Head>>, Error> {
        let object = self.vault(snapshot)?.object(self.name.folded())?;
        if object.is_none() {
            snapshot.check_readable(&self.record)?;
        }
        Ok(object.map(|object| State {
            stamp: &object.stamp,
            size: object.size(),
            rev: object.head.rev,
            head: &object.head,
        }))
    }

    fn decide(&self, snapshot: &Snapshot, head: Option<&Head>) -> Result<Step<Head>, Error> {
        let vault = self.vault(snapshot)?;
        let context = Context {
            rules: vault.head.rules,
            ..self.context
        };
        (self.decide)(head, &context, &|place| self.seal_body(vault, place))
    }

    fn payer<'a>(&'a self, snapshot: &Snapshot) -> (&'a Uid, Option<VaultUuid>) {
        payer(&self.address, snapshot)
    }

    fn object(&self) -> Option<(&VaultAddress, &str)> {
        Some((&self.address, self.name.folded()))
    }

    fn is_in(&self, head: &Head) -> Made {
        if head.writes.contains(&self.context.write) {
            return Made::Yes;
        }
        let version = match self.value {
            Value::None | Value::Restored(_) => return Made::NotLately,
            Value::Given(_) | Value::Generated { .. } => &self.context.version,
        };
        let secret = head.secret.as_ref();
        // A version stays for as long as its name is not purged.
        match secret.map_or(Ok(None), |secret| secret.versions.get(version)) {
            Ok(Some(_)) => Made::Yes,
            Ok(None) if head.purged.lately.is_empty() => Made::No,
            // Purged, or on a page that is not in memory.
            Ok(None) | Err(_) => Made::NotLately,
        }
    }

    fn seal(
        &self,
        engine: &Engine,
        snapshot: &Snapshot,
        head: Head,
        exempt: bool,
    ) -> Result<Sealed<Head>, Error> {
        let vault = self.vault(snapshot)?;
        let (uuid, key) = (vault.head.uuid, vault.key()?);
        let (life, parts) = (Life::of(&head), RefCell::new(Vec::new()));
        let open = |page: &PageRef| {
            let record = self.seals.part_record(uuid, &page.part)?;
            let made = parts
                .borrow()
                .iter()
                .find_map(|part: &NewPart| (part.record == record).then(|| part.envelope.clone()));
            let content = match made {
                Some(envelope) => {
                    let named = (uuid, &life);
                    self.seals
                        .open_named_part(key, &record, PartKind::Page, &page.part, &envelope, named)?
                }
                None => engine.part(snapshot, vault, &life, PartKind::Page, &page.part)?,
            };
            decode_page(content.expose()).map_err(|_| Error::RecordDamaged(Damage::DoesNotOpen))
        };
        let mut make = |kind, content: &[u8]| {
            let (new, part) = self.seals.make_part(uuid, key, &life, kind, content)?;
            parts.borrow_mut().push(new);
            Ok(part)
        };
        let Fitted {
            head,
            content,
            obsolete,
        } = fit(head, exempt, self.sizes, &open, &mut make)?;
        let envelope = self.seals.seal_object(uuid, key, &self.record, &head, &content)?;
        let mut parts = parts.into_inner();
        let mut replaced = Vec::with_capacity(obsolete.len());
        for page in obsolete {
            let record = self.seals.part_record(uuid, &page.part)?;
            let before = parts.len();
            // A page that was merged as soon as it was made need not be written.
            parts.retain(|part| part.record != record);
            if parts.len() == before {
                replaced.push(record);
            }
        }
        Ok(Sealed {
            head,
            envelope,
            parts,
            replaced,
        })
    }

    fn keep(&self, engine: &Engine, stamp: &Stamp, size: u64, head: Head) {
        let vault = engine
            .index
            .load()
            .vault(&self.address)
            .map(|vault| vault.head.uuid);
        if let Some(vault) = vault {
            engine.index.keep_object(&self.record, stamp, size, vault, head);
        }
    }
}

/// A change of a vault's own head.
pub(super) struct VaultChange<'a, D> {
    pub(super) address: VaultAddress,
    pub(super) record: RecordName,
    pub(super) context: VaultContext,
    pub(super) seals: &'a Seals,
    pub(super) decide: D,
}

impl<D> Change for VaultChange<'_, D>
where
    D: Fn(Option<&VaultHead>, VaultContext) -> Result<Step<VaultHead>, Error> + Sync,
{
    type Head = VaultHead;

    fn record(&self) -> &RecordName {
        &self.record
    }

    fn current<'s>(&self, snapshot: &'s Snapshot) -> Result<Option<State<'s, VaultHead>>, Error> {
        let Some(vault) = snapshot.vault(&self.address) else {
            return snapshot.check_readable(&self.record).map(|()| None);
        };
        vault.check()?;
        Ok(Some(State {
            stamp: &vault.stamp,
            size: vault.size(),
            rev: vault.head.rev,
            head: &vault.head,
        }))
    }

    fn decide(&self, _: &Snapshot, head: Option<&VaultHead>) -> Result<Step<VaultHead>, Error> {
        (self.decide)(head, self.context)
    }

    fn payer<'a>(&'a self, snapshot: &Snapshot) -> (&'a Uid, Option<VaultUuid>) {
        payer(&self.address, snapshot)
    }

    fn object(&self) -> Option<(&VaultAddress, &str)> {
        None
    }

    fn is_in(&self, head: &VaultHead) -> Made {
        if head.writes.contains(&self.context.write) {
            Made::Yes
        } else {
            Made::NotLately
        }
    }

    fn seal(&self, _: &Engine, _: &Snapshot, head: VaultHead, _: bool) -> Result<Sealed<VaultHead>, Error> {
        Ok(Sealed {
            envelope: self.seals.seal_vault(&self.record, &head)?,
            head,
            parts: Vec::new(),
            replaced: Vec::new(),
        })
    }

    fn keep(&self, engine: &Engine, stamp: &Stamp, size: u64, head: VaultHead) {
        // A key that was just wrapped opens; should it not, the feed will show the record as damaged.
        if let Ok(key) = self.seals.vault_key(&head) {
            engine.index.keep_vault(&self.record, stamp, size, head, key);
        }
    }
}

fn payer<'a>(address: &'a VaultAddress, snapshot: &Snapshot) -> (&'a Uid, Option<VaultUuid>) {
    let vault = snapshot.vault(address).map(|vault| vault.head.uuid);
    (&address.namespace_uid, vault)
}

/// Which life of which name something belongs to.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) name: ObjectName,
    pub(super) incarnation: Incarnation,
}

impl Life {
    pub(super) fn of(head: &Head) -> Self {
        Self {
            name: head.name.clone(),
            incarnation: head.incarnation,
        }
    }
}

/// The vault, if its head is there, good and not deleted.
pub(super) fn ready_vault<'s>(
    snapshot: &'s Snapshot,
    address: &VaultAddress,
    entry: &VaultEntry,
) -> Result<&'s Vault, Error> {
    let vault = snapshot.vault(address).ok_or_else(|| Error::VaultNotReady {
        vault: entry.id.clone(),
    })?;
    vault.check()?;
    if vault.head.is_live() {
        Ok(vault)
    } else {
        Err(Error::VaultNotReady {
            vault: entry.id.clone(),
        })
    }
}

/// The place of a version's value.
pub(super) fn body_place<'a>(head: &'a Head, version: Version, order: u64) -> BodyPlace<'a> {
    BodyPlace {
        name: head.name.folded(),
        incarnation: head.incarnation,
        version,
        order,
    }
}
