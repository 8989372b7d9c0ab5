//! What has done its time is removed: receipts of old purges, and parts that nobody names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::decide::{self, Context, SealBody};
use super::heads::{Body, FORMAT, Head, PartKind, Purges};
use super::index::{Snapshot, Vault, VaultAddress};
use super::objects::Value;
use super::seals::Seals;
use super::{Asked, Engine, Error};
use crate::crypto::{Header, RecordType};
use crate::model::{Moment, ObjectName, UnixSeconds, VaultEntry, VaultSettings, VaultUuid};
use crate::store::{RecordName, Stamp, StoreError};

/// How long a receipt is kept at least, whatever the wall clock says: as long as the memory of any replica may lag.
const LEAST_KEPT: Duration = Duration::from_hours(1);
/// How long a part may be named by nobody: far longer than any change takes that is about to name it. A change that takes longer
/// all the same fails.
pub(super) const UNNAMED_FOR: Duration = Duration::from_mins(10);

/// When what may have to be removed was first seen so.
#[derive(Default)]
pub(super) struct Seen {
    receipts: Old,
    pub(super) vaults: Old,
    parts: HashMap<RecordName, Instant>,
}

/// Receipts that may go, and since when.
#[derive(Default)]
pub(super) struct Old(HashMap<RecordName, Instant>);

impl Old {
    /// Those of the receipts that may go by the wall clock which may go by the monotonic clock too.
    pub(super) fn old(
        &mut self,
        receipts: impl Iterator<Item = (RecordName, Stamp)>,
        now: Moment,
    ) -> Vec<(RecordName, Stamp)> {
        let before = std::mem::take(&mut self.0);
        let mut old = Vec::new();
        for (record, stamp) in receipts {
            let since = before.get(&record).copied().unwrap_or(now.monotonic);
            if now.monotonic.saturating_duration_since(since) >= LEAST_KEPT {
                old.push((record.clone(), stamp));
            }
            self.0.insert(record, since);
        }
        old
    }
}

impl Engine {
    /// How often [`Engine::tidy`] is to be called: every ten minutes.
    pub const fn tidy_every(&self) -> Duration {
        self.unnamed_for
    }

    /// Another time than ten minutes for parts that nobody names. A change that takes longer fails.
    #[cfg(any(test, feature = "failpoints"))]
    #[must_use]
    pub fn collecting_after(self, unnamed_for: Duration) -> Self {
        Self { unnamed_for, ..self }
    }

    /// Removes the receipts of purges that are older than a day, and parts that no head has named for ten minutes, and says
    /// how many. To be called every [`Engine::tidy_every`]; any replica may, and several at once.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::StoreRolledBack`]; what was removed until then stays removed.
    pub async fn tidy(&self, now: Moment) -> Result<usize, Error> {
        if self.index.load().rolled_back() {
            return Err(Error::StoreRolledBack);
        }
        let mut removed = self.remove_leftovers().await?;
        let mut receipts = self.old_receipts(now)?;
        receipts.extend(self.old_vault_receipts(now));
        for (record, stamp) in receipts {
            match self.store.delete(&record, &stamp).await {
                Ok(()) => {
                    self.index.forget(&record, &stamp);
                    removed += 1;
                }
                // The name began anew, another replica was first, or the feed will tell.
                Err(StoreError::Conflict | StoreError::NotFound | StoreError::Unknown) => {}
                Err(error) => return Err(Error::Store(error)),
            }
        }
        for ((vault, name), parts) in self.old_parts(now).await? {
            removed += self.collect(vault, &name, &parts, now.wall).await?;
        }
        Ok(removed)
    }

    fn old_receipts(&self, now: Moment) -> Result<Vec<(RecordName, Stamp)>, Error> {
        let snapshot = self.index.load_full();
        let mut receipts = Vec::new();
        for vault in snapshot.vaults().filter(|vault| vault.damage.is_none()) {
            let old = vault.objects.iter().filter(|(_, object)| {
                object.damage.is_none() && object.head.is_free() && is_told(&object.head.purged, now)
            });
            for (name, object) in old {
                let record = self.seals.object_record(vault.head.uuid, name)?;
                receipts.push((record, object.stamp.clone()));
            }
        }
        let mut seen = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(seen.receipts.old(receipts.into_iter(), now))
    }

    /// Parts that were not named when this was called ten minutes ago, nor since, by the object that they belong to.
    async fn old_parts(&self, now: Moment) -> Result<HashMap<Whose, Vec<RecordName>>, Error> {
        let unnamed = self.unnamed_parts().await?;
        let mut old = Vec::new();
        {
            let mut seen = self.old.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::take(&mut seen.parts);
            for record in unnamed {
                let since = before.get(&record).copied().unwrap_or(now.monotonic);
                if now.monotonic.saturating_duration_since(since) >= self.unnamed_for {
                    old.push(record.clone());
                }
                seen.parts.insert(record, since);
            }
        }
        let snapshot = self.index.load_full();
        let mut by_owner: HashMap<Whose, Vec<RecordName>> = HashMap::new();
        for record in old {
            if let Some(whose) = self.whose(&snapshot, &record) {
                by_owner.entry(whose).or_default().push(record);
            }
        }
        Ok(by_owner)
    }

    /// The object that a part belongs to.
    fn whose(&self, snapshot: &Snapshot, record: &RecordName) -> Option<Whose> {
        let (envelope, vault) = (snapshot.part(record)?, snapshot.vault_of_part(record)?);
        let page = Header::peek(envelope).is_ok_and(|header| header.record_type == RecordType::Page);
        let kind = if page { PartKind::Page } else { PartKind::Body };
        let uuid = vault.head.uuid;
        let part = self
            .seals
            .open_part(uuid, vault.key().ok()?, record, kind, envelope);
        part.ok().map(|part| (uuid, part.name))
    }

    /// Parts that no head in memory names.
    pub(super) async fn unnamed_parts(&self) -> Result<BTreeSet<RecordName>, Error> {
        let (snapshot, seals) = (self.index.load_full(), Arc::clone(&self.seals));
        let look = move || at_first_sight(&snapshot, &seals);
        let (mut unnamed, with_pages) = self.aside.run(look).await??;
        for (address, name) in with_pages {
            // What cannot be read now is looked at again; what it names is not removed without the store's own word.
            let _ = self.load(&address, name.folded(), None).await;
            let snapshot = self.index.load_full();
            let Some(vault) = snapshot.vault(&address) else {
                continue;
            };
            if let Some(object) = vault.objects.get(name.folded()) {
                for record in named_by(&self.seals, vault, &object.head)? {
                    unnamed.remove(&record);
                }
            }
        }
        Ok(unnamed)
    }

    /// All parts that the head of an object names. None if that can't be said for certain: the head or one of its pages can't
    /// be read or is not in memory, or the head is of a newer version, which may name parts in places that this one does not
    /// know.
    pub(super) fn all_named(
        &self,
        snapshot: &Snapshot,
        address: &VaultAddress,
        folded: &str,
    ) -> Result<Option<HashSet<RecordName>>, Error> {
        let Some(vault) = snapshot.vault(address).filter(|vault| vault.damage.is_none()) else {
            return Ok(None);
        };
        match vault.objects.get(folded) {
            None => {
                let record = self.seals.object_record(vault.head.uuid, folded)?;
                Ok(snapshot.check_readable(&record).is_ok().then(HashSet::new))
            }
            Some(object) => {
                let head = &object.head;
                if object.damage.is_some() || head.format > FORMAT || !knows_all(head) {
                    return Ok(None);
                }
                named_by(&self.seals, vault, head).map(Some)
            }
        }
    }

    /// Removes those of an object's parts of which the store itself says that nobody names them, and says how many.
    async fn collect(
        &self,
        vault: VaultUuid,
        name: &str,
        parts: &[RecordName],
        now: UnixSeconds,
    ) -> Result<usize, Error> {
        let Some(entry) = self.index.load().by_uuid(vault).map(|vault| entry(vault)) else {
            return Ok(0);
        };
        let Ok(name) = ObjectName::parse(name) else {
            return Ok(0);
        };
        self.refresh(&self.seals.object_record(vault, name.folded())?)
            .await?;
        if self.orphans(&entry, &name, parts).await?.is_empty() {
            return Ok(0);
        }
        // A writer may have stood still between the part and the head for longer than anybody waits: from here on its head
        // does not come through any more.
        let asked = Asked {
            entry: &entry,
            request: None,
            now,
        };
        let fence =
            |head: Option<&Head>, context: &Context, _: &SealBody<'_>| decide::fence(head, &name, context);
        match self.change(asked, &name, Value::None, fence).await {
            Ok(_) => {}
            Err(error @ Error::Store(_)) => return Err(error),
            // It is tried again.
            Err(_) => return Ok(0),
        }
        let mut removed = 0;
        for (record, stamp) in self.orphans(&entry, &name, parts).await? {
            match self.store.delete(&record, &stamp).await {
                Ok(()) => {
                    self.index.forget_part(&record);
                    removed += 1;
                }
                Err(StoreError::NotFound) => self.index.forget_part(&record),
                // It is looked at again.
                Err(StoreError::Conflict | StoreError::Unknown) => {}
                Err(error) => return Err(Error::Store(error)),
            }
        }
        Ok(removed)
    }

    /// Those of these parts that the object's head in memory does not name; none if that cannot be said.
    async fn orphans(
        &self,
        entry: &VaultEntry,
        name: &ObjectName,
        parts: &[RecordName],
    ) -> Result<Vec<(RecordName, Stamp)>, Error> {
        let address = VaultAddress::of(entry);
        match self.load(&address, name.folded(), None).await {
            Ok(()) => {}
            // A head or a page that cannot be read may name them.
            Err(Error::RecordDamaged(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let snapshot = self.index.load_full();
        let Some(named) = self.all_named(&snapshot, &address, name.folded())? else {
            return Ok(Vec::new());
        };
        let unnamed = parts.iter().filter(|record| !named.contains(*record));
        Ok(unnamed
            .filter_map(|record| Some((record.clone(), snapshot.stamp(record)?.clone())))
            .collect())
    }
}

/// The vault and the name in lower case of an object.
type Whose = (VaultUuid, Arc<str>);
/// An object, by where its vault is found.
type Named = (VaultAddress, ObjectName);

/// Parts that no head names, as far as heads and what is known of their pages tell; and objects with pages that are not known
/// and may name some of them. It looks at everything.
fn at_first_sight(snapshot: &Snapshot, seals: &Seals) -> Result<(BTreeSet<RecordName>, Vec<Named>), Error> {
    let mut unnamed: BTreeSet<_> = snapshot.parts().cloned().collect();
    let mut with_pages = Vec::new();
    for (vault, head) in objects(snapshot) {
        for record in named_by(seals, vault, head)? {
            unnamed.remove(&record);
        }
        // What its pages name is looked up only where something is left that they may name.
        let mut of_life = snapshot.parts_of(head.incarnation);
        if !knows_all(head) && of_life.any(|record| unnamed.contains(record)) {
            with_pages.push((address(vault), head.name.clone()));
        }
    }
    Ok((unnamed, with_pages))
}

/// The parts that a head names, itself or on pages that are in memory.
fn named_by(seals: &Seals, vault: &Vault, head: &Head) -> Result<HashSet<RecordName>, Error> {
    let Some(secret) = &head.secret else {
        return Ok(HashSet::new());
    };
    let entries = match secret.versions.all() {
        Ok(all) => all,
        Err(_) => secret.versions.inline().iter().collect(),
    };
    let values = entries.into_iter().filter_map(|entry| match &entry.body {
        Body::Part(part) => Some(part),
        Body::Inline(_) => None,
    });
    let pages = secret.versions.pages().iter().map(|page| &page.part);
    values
        .chain(pages)
        .map(|part| seals.part_record(vault.head.uuid, part))
        .collect()
}

/// Whether everything that a head names is known, also on its pages.
fn knows_all(head: &Head) -> bool {
    head.secret
        .as_ref()
        .is_none_or(|secret| secret.versions.all().is_ok())
}

/// A vault as a request names it.
fn entry(vault: &Vault) -> VaultEntry {
    VaultEntry {
        id: vault.head.id.clone(),
        uid: vault.head.resource_uid.clone(),
        namespace_uid: vault.head.namespace_uid.clone(),
        settings: VaultSettings::default(),
    }
}

fn objects(snapshot: &Snapshot) -> impl Iterator<Item = (&Arc<Vault>, &Head)> {
    snapshot
        .vaults()
        .flat_map(|vault| vault.objects.values().map(move |object| (vault, &object.head)))
}

fn address(vault: &Vault) -> VaultAddress {
    VaultAddress {
        namespace_uid: vault.head.namespace_uid.clone(),
        name: vault.head.id.name.clone(),
    }
}

/// Whether purges were told of for as long as they must be.
pub(super) fn is_told(purges: &Purges, now: Moment) -> bool {
    purges.told_until().is_some_and(|until| now.wall >= until)
}
