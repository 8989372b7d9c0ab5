//! What a vault does: secrets, their versions, soft delete.
//!
//! # Why
//! - **One head is the whole truth of one name**, and each change is exactly one compare-and-swap of that head: nothing can
//!   be half done, and of two who race one decides again on what the other made.
//! - **Reads are answered from memory**, from one snapshot without a lock; the value alone is opened then, from the one sealed
//!   body that holds it. A positive read may be as old as the watch lags.
//! - **A refusal is never stale**: what depends on stored state (not found, deleted, disabled, expired) is told only after
//!   one quorum read that began after the request came.
//! - **Each change carries a random id that its head keeps**, so that a write without an answer can be looked for instead of
//!   being made twice.
//! - **The store is not trusted**: a record that does not open, went back, was replaced or is gone damages its own object
//!   and no other.

mod aside;
mod backup;
mod commit;
mod decide;
mod error;
mod heads;
mod index;
mod lanes;
mod limits;
mod objects;
mod paging;
mod parts;
mod purge;
mod quota;
mod read;
mod retries;
mod seals;
mod summary;
mod tidy;
mod vaults;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::broadcast;

use crate::crypto::{InstallationId, RootKey};
use crate::model::{
    DeleteOwned, EnsureGeneratedSecret, Moment, NetworkAcls, ObjectName, Operation, Reply, Secret, SetSecret,
    Uid, UnixSeconds, UpdateSecret, VaultEntry, VaultId, VaultName, VaultSummary, Version,
};
use crate::policy::Permit;
use crate::store::{Record, SealedStore, StoreEvent};
use aside::Aside;
use decide::{Context, SealBody, Step};
use heads::{Head, RequestMark, WriteId};
use index::{Index, Snapshot, VaultAddress};
use lanes::Lanes;
use objects::{ObjectChange, Value, ready_vault};
use read::Read;
use seals::{Seals, random_id};

pub use error::{Damage, Error};
pub use heads::Sizes;
pub use limits::{MAX_BACKUP, MAX_BACKUP_VERSIONS, MAX_CONTENT_TYPE, MAX_PAGE, MAX_TAG, MAX_TAGS, MAX_VALUE};
pub use quota::{Fill, Quotas, Usage};

/// What an engine is made of.
pub struct EngineParts {
    /// Where sealed records lie.
    pub store: Arc<dyn SealedStore>,
    /// The installation's root key.
    pub root: Arc<RootKey>,
    /// The installation's id, as `store::installation` found or made it.
    pub installation: InstallationId,
    /// How much there may be.
    pub quotas: Quotas,
}

/// All vaults of the installation, in memory, over one store.
///
/// It starts empty: whoever runs it lists the store into it ([`Engine::relist`] or [`Engine::replace_all`]) and then keeps it
/// current ([`Engine::apply`]).
pub struct Engine {
    store: Arc<dyn SealedStore>,
    seals: Arc<Seals>,
    quotas: Quotas,
    index: Arc<Index>,
    lanes: Lanes,
    aside: Aside,
    /// What is to be removed, and since when that is known.
    old: Mutex<tidy::Seen>,
    /// How long a part may be named by nobody.
    unnamed_for: Duration,
    /// How to wait; tests do not wait.
    pause: fn(Duration) -> BoxFuture<'static, ()>,
}

/// How often a read brings what it lacks into memory before it gives up.
const MOST_ROUNDS: usize = 6;

/// A change that is asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    entry: &'a VaultEntry,
    /// What the client's request is known by, if it may be repeated.
    request: Option<RequestMark>,
    now: UnixSeconds,
}

/// An object has changed: a new version, attributes, deletion, or damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadChanged {
    /// In which vault.
    pub vault: VaultId,
    /// Its name in lower case.
    pub name: Arc<str>,
}

impl Engine {
    /// An engine with nothing in memory.
    #[must_use]
    pub fn new(parts: EngineParts) -> Self {
        let seals = Arc::new(Seals::new(&parts.root, parts.installation));
        Self {
            store: parts.store,
            index: Arc::new(Index::new(Arc::clone(&seals))),
            seals,
            quotas: parts.quotas,
            lanes: Lanes::default(),
            aside: Aside::new(),
            old: Mutex::default(),
            unnamed_for: tidy::UNNAMED_FOR,
            pause: |wait| tokio::time::sleep(wait).boxed(),
        }
    }

    /// What memory alone says to a read. None for a change, for a backup, which takes its time, where something is to be
    /// brought into memory, and where the answer would be a refusal that has to be confirmed first: [`Engine::perform`] then.
    ///
    /// # Errors
    /// [`Error`]s that rest on no stored state.
    pub fn recall(&self, permit: &Permit, now: Moment) -> Option<Result<Reply, Error>> {
        let read = Read::of(permit.operation(), now.wall)?;
        let snapshot = self.index.load();
        if snapshot.rolled_back() {
            return Some(Err(Error::StoreRolledBack));
        }
        let address = VaultAddress::of(permit.vault());
        match read.answer(self, permit.vault(), &snapshot, &address, false) {
            Err(Error::NotInMemory { .. }) => None,
            Err(error) if error.rests_on_state() => None,
            told => Some(told),
        }
    }

    /// Does what was permitted. `request_id` is the client's own id of the request: a change that was done lately for the same
    /// id, caller and content is not done again, and what came of it is told. A change is durable, and in this engine's
    /// memory, before it is answered; a refusal that rests on stored state is confirmed. The future may be dropped at any
    /// time: the change is then made or not made, never half.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn perform(
        &self,
        permit: Permit,
        request_id: Option<&str>,
        now: Moment,
    ) -> Result<Reply, Error> {
        let (caller, entry, operation) = permit.into_parts();
        if self.index.load().rolled_back() {
            return Err(Error::StoreRolledBack);
        }
        let asked = Asked {
            entry: &entry,
            request: request_id.and_then(|id| retries::mark(&self.seals, &caller, id, &operation)),
            now: now.wall,
        };
        match operation {
            Operation::GetSecret { name, version } => {
                let read = Read::Get {
                    name: &name,
                    version,
                    now: now.wall,
                };
                self.tell(&entry, read).await
            }
            Operation::ListSecrets(page) => self.tell(&entry, Read::List(&page)).await,
            Operation::ListSecretVersions { name, page } => {
                let (name, page) = (&name, &page);
                self.tell(&entry, Read::ListVersions { name, page }).await
            }
            Operation::ListDeletedSecrets(page) => self.tell(&entry, Read::ListDeleted(&page)).await,
            Operation::GetDeletedSecret { name } => self.tell(&entry, Read::GetDeleted(&name)).await,
            Operation::BackupSecret { name } => self.backup(&entry, &name).await,
            Operation::SetSecret(set) => self.set(asked, set).await,
            Operation::UpdateSecret(update) => self.update(asked, &update).await,
            Operation::DeleteSecret { name } => self.delete(asked, &name).await,
            Operation::RecoverSecret { name } => self.recover(asked, &name).await,
            Operation::PurgeSecret { name } => self.purge(asked, &name).await,
            Operation::RestoreSecret { backup } => self.restore(asked, &backup).await,
            Operation::EnsureVault(_) => self.ensure_vault(&entry, now.wall).await,
            Operation::EnsureGeneratedSecret(ensure) => self.ensure_generated(asked, &ensure).await,
            Operation::DeleteOwned(delete) => self.delete_owned(asked, &delete).await,
            Operation::DeleteVault(vault) => self.delete_vault(&vault, now.wall).await,
            Operation::PurgeVault(purge) => self.purge_vault(&purge, now.wall).await,
            Operation::PurgeDueSecret { name } => self.purge_due(asked, &name).await,
        }
    }

    /// Takes in what the store's watch tells. Events may be old or repeated; own writes are in memory already.
    pub fn apply(&self, event: &StoreEvent) {
        self.index.apply(event);
    }

    /// Takes in a whole list as of `revision`, in one swap: what is not in it is gone, unless it was seen later than that. What
    /// was seen before is not opened again.
    pub fn replace_all(&self, records: &[Record], revision: u64) {
        self.index.replace_all(records, revision);
    }

    /// Lists the store and takes the list in; hands back its revision, from which to watch. A store whose revision went back
    /// below what this engine has seen was restored: nothing is served from it any more.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::StoreRolledBack`].
    pub async fn relist(&self) -> Result<u64, Error> {
        let before = self.index.load().revision();
        let (records, revision) = self.store.list().await.map_err(Error::Store)?;
        if revision < before {
            tracing::error!(
                before,
                revision,
                "the store holds an older state than before: nothing is served from it"
            );
            self.index.mark_rolled_back();
            return Err(Error::StoreRolledBack);
        }
        self.replace_all(&records, revision);
        Ok(revision)
    }

    /// Tells of every object that changes from now on. Who lags behind by more than a thousand is told so, and looks at everything
    /// again.
    pub fn subscribe(&self) -> broadcast::Receiver<HeadChanged> {
        self.index.subscribe()
    }

    /// Counts of every vault.
    pub fn summaries(&self, now: UnixSeconds) -> Vec<VaultSummary> {
        summary::summaries(&self.index.load(), &self.quotas, now)
    }

    /// Whether the vault's head is in memory, good and not deleted.
    pub fn vault_ready(&self, namespace_uid: &Uid, name: &VaultName) -> bool {
        let address = VaultAddress {
            namespace_uid: namespace_uid.clone(),
            name: name.clone(),
        };
        self.index
            .load()
            .vault(&address)
            .is_some_and(|vault| vault.damage.is_none() && vault.head.is_live())
    }

    /// From where the vault may be called, as its head says. None where that is not in memory, or was made ready for another
    /// resource: what has been said of the vault until then may not be in it.
    pub fn network(&self, entry: &VaultEntry) -> Option<NetworkAcls> {
        let snapshot = self.index.load();
        let head = &snapshot.vault(&VaultAddress::of(entry))?.head;
        (head.resource_uid == entry.uid && head.is_live()).then_some(head.rules.network)
    }

    /// How many records are refused: they do not open, went back, were replaced or are gone. Walks over all of them.
    pub fn damaged_records(&self) -> usize {
        self.index.load().damaged()
    }

    /// The newest revision of the store that was seen.
    pub fn revision(&self) -> u64 {
        self.index.load().revision()
    }

    async fn set(&self, asked: Asked<'_>, set: SetSecret) -> Result<Reply, Error> {
        limits::check_set(&set)?;
        let decide = |head: Option<&Head>, context: &Context, seal: &SealBody<'_>| {
            decide::set(head, &set, context, seal)
        };
        let reply = self
            .change(asked, &set.name, Value::Given(&set.value), decide)
            .await?;
        Ok(match reply {
            Reply::Secret(secret) => Reply::Secret(Secret {
                value: Some(set.value),
                ..secret
            }),
            reply => reply,
        })
    }

    async fn update(&self, asked: Asked<'_>, update: &UpdateSecret) -> Result<Reply, Error> {
        limits::check_update(update)?;
        let decide =
            |head: Option<&Head>, context: &Context, _: &SealBody<'_>| decide::update(head, update, context);
        self.change(asked, &update.name, Value::None, decide).await
    }

    async fn delete(&self, asked: Asked<'_>, name: &ObjectName) -> Result<Reply, Error> {
        let decide =
            |head: Option<&Head>, context: &Context, _: &SealBody<'_>| decide::delete(head, name, context);
        self.change(asked, name, Value::None, decide).await
    }

    async fn recover(&self, asked: Asked<'_>, name: &ObjectName) -> Result<Reply, Error> {
        let decide =
            |head: Option<&Head>, context: &Context, _: &SealBody<'_>| decide::recover(head, name, context);
        self.change(asked, name, Value::None, decide).await
    }

    async fn ensure_generated(
        &self,
        asked: Asked<'_>,
        ensure: &EnsureGeneratedSecret,
    ) -> Result<Reply, Error> {
        limits::check_generated(ensure)?;
        let value = Value::Generated {
            alphabet: ensure.alphabet,
            length: ensure.length,
        };
        let decide = |head: Option<&Head>, context: &Context, seal: &SealBody<'_>| {
            decide::ensure_generated(head, ensure, context, seal)
        };
        self.change(asked, &ensure.name, value, decide).await
    }

    async fn delete_owned(&self, asked: Asked<'_>, delete: &DeleteOwned) -> Result<Reply, Error> {
        let decide = |head: Option<&Head>, context: &Context, _: &SealBody<'_>| {
            decide::delete_owned(head, &delete.owner, context)
        };
        self.change(asked, &delete.name, Value::None, decide).await
    }

    async fn change<D>(
        &self,
        asked: Asked<'_>,
        name: &ObjectName,
        value: Value<'_>,
        decide: D,
    ) -> Result<Reply, Error>
    where
        D: Fn(Option<&Head>, &Context, &SealBody<'_>) -> Result<Step<Head>, Error> + Sync,
    {
        let Asked { entry, request, now } = asked;
        let ready = |snapshot: &Snapshot, address: &VaultAddress, _| {
            ready_vault(snapshot, address, entry).map(|vault| (vault.head.uuid, vault.head.rules))
        };
        let (vault, rules) = self.read(entry, None, ready).await?;
        let context = Context {
            now,
            rules,
            max_versions: self.quotas.versions,
            write: WriteId(random_id()?),
            request,
            version: Version(random_id()?),
            incarnation: random_id()?,
        };
        let change = ObjectChange {
            entry,
            address: VaultAddress::of(entry),
            record: self.seals.object_record(vault, name.folded())?,
            name,
            context,
            value,
            seals: &self.seals,
            sizes: &self.quotas.sizes,
            decide,
        };
        self.commit(&change).await
    }

    async fn tell(&self, entry: &VaultEntry, read: Read<'_>) -> Result<Reply, Error> {
        let answer = |snapshot: &Snapshot, address: &VaultAddress, confirmed| {
            read.answer(self, entry, snapshot, address, confirmed)
        };
        self.read(entry, read.name(), answer).await
    }

    /// Answers from memory; a refusal that rests on stored state only once a quorum read has confirmed it. `answer` is told
    /// whether that has been done.
    async fn read<T>(
        &self,
        entry: &VaultEntry,
        name: Option<&ObjectName>,
        answer: impl Fn(&Snapshot, &VaultAddress, bool) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let address = VaultAddress::of(entry);
        let mut confirmed = false;
        // Each round brings more into memory, or the store's own word; what is never enough is not asked for ever.
        for _ in 0..MOST_ROUNDS {
            let answered = answer(&self.index.load(), &address, confirmed);
            let refusal = match (answered, name) {
                (Err(Error::NotInMemory { part }), Some(name)) => {
                    match self.load(&address, name.folded(), part).await {
                        Ok(()) => continue,
                        Err(refusal) => refusal,
                    }
                }
                (Err(refusal), _) => refusal,
                (Ok(answer), _) => return Ok(answer),
            };
            if confirmed || !refusal.rests_on_state() {
                return Err(refusal);
            }
            self.confirm(entry, &address, name).await?;
            confirmed = true;
        }
        Err(Error::NotInMemory { part: None })
    }

    /// Asks the store for the vault, if it is not known, and for the object.
    async fn confirm(
        &self,
        entry: &VaultEntry,
        address: &VaultAddress,
        name: Option<&ObjectName>,
    ) -> Result<(), Error> {
        let known = |snapshot: &Snapshot| {
            snapshot
                .vault(address)
                .filter(|vault| vault.damage.is_none() && vault.head.is_live())
                .map(|vault| vault.head.uuid)
        };
        let mut vault = known(&self.index.load());
        if vault.is_none() {
            let record = self.seals.vault_record(&entry.namespace_uid, &entry.id.name)?;
            self.refresh(&record).await?;
            self.index.load().check_readable(&record)?;
            vault = known(&self.index.load());
        }
        if let (Some(vault), Some(name)) = (vault, name) {
            let record = self.seals.object_record(vault, name.folded())?;
            self.refresh(&record).await?;
            // One that never could be read is not one that is not there.
            self.index.load().check_readable(&record)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
