//! A world small enough for tests of the engine: one namespace, its vaults, and leave to do everything.

use std::num::NonZeroU8;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use futures::{FutureExt as _, StreamExt as _};

use crate::crypto::{InstallationId, RootKey};
use crate::engine::aside::Aside;
use crate::engine::heads::{Body, VersionEntry};
use crate::engine::index::VaultAddress;
use crate::engine::{Damage, Engine, EngineParts, Error, Quotas};
use crate::model::{
    AttributesChange, Backup, Caller, DeletedSecret, EnsureVault, Moment, Namespace, ObjectName, Operation,
    Page, PageRequest, PodRef, Reply, Secret, SecretBytes, SecretItem, ServiceAccountCaller, SetSecret, Tags,
    Uid, UnixSeconds, UpdateSecret, VaultEntry, VaultId, VaultName, VaultSettings, Version,
};
use crate::policy::{Entry, Index, Permissions, Subject, VaultPolicy};
use crate::store::SealedStore;

pub(in crate::engine) const INSTALLATION: InstallationId = InstallationId([9; 16]);

pub(in crate::engine) fn root() -> Arc<RootKey> {
    static ROOT: LazyLock<Arc<RootKey>> =
        LazyLock::new(|| Arc::new(RootKey::from_bytes(&SecretBytes::new(vec![7; 32])).unwrap()));
    Arc::clone(&ROOT)
}

pub(in crate::engine) fn engine(store: &(impl SealedStore + Clone + 'static)) -> Engine {
    engine_with(store, Quotas::default())
}

pub(in crate::engine) fn engine_with(store: &(impl SealedStore + Clone + 'static), quotas: Quotas) -> Engine {
    engine_under(store, root(), quotas)
}

/// The same under a root key of the caller's.
pub(in crate::engine) fn engine_under(
    store: &(impl SealedStore + Clone + 'static),
    root: Arc<RootKey>,
    quotas: Quotas,
) -> Engine {
    let store: Arc<dyn SealedStore> = Arc::new(store.clone());
    let parts = EngineParts {
        store,
        root,
        installation: INSTALLATION,
        quotas,
    };
    let mut engine = Engine::new(parts);
    engine.pause = |_| std::future::ready(()).boxed();
    engine.aside = Aside::here();
    engine
}

pub(in crate::engine) fn at(seconds: i64) -> Moment {
    Moment {
        wall: UnixSeconds(seconds),
        nanos: 0,
        monotonic: Instant::now(),
    }
}

pub(in crate::engine) fn vault(name: &str) -> Arc<VaultEntry> {
    Arc::new(VaultEntry {
        id: VaultId {
            namespace: Namespace::parse("shop").unwrap(),
            name: VaultName::parse(name).unwrap(),
        },
        uid: Uid::new("vault-resource"),
        namespace_uid: Uid::new("shop-uid"),
        settings: VaultSettings {
            retention_days: Some(30),
            ..VaultSettings::default()
        },
    })
}

pub(in crate::engine) fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

/// Does an operation as who may do it, at second 1000.
pub(in crate::engine) async fn ask(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    operation: Operation,
) -> Result<Reply, Error> {
    ask_at(engine, vault, operation, 1000).await
}

pub(in crate::engine) async fn ask_at(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    operation: Operation,
    seconds: i64,
) -> Result<Reply, Error> {
    ask_as(engine, vault, operation, (workload(), None), seconds).await
}

/// Does an operation as a workload, under its own id of the request; what is `operate`'s as `operate`.
pub(in crate::engine) async fn ask_as(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    operation: Operation,
    (workload, request_id): (Caller, Option<&str>),
    seconds: i64,
) -> Result<Reply, Error> {
    let caller = match operation {
        Operation::EnsureVault(_) | Operation::EnsureGeneratedSecret(_) | Operation::DeleteOwned(_) => {
            Caller::Operator
        }
        _ => workload,
    };
    let mut policy = Index::default();
    policy.set(vault.id.clone(), Arc::new(VaultPolicy::new([everything()])));
    let permit = policy.decide(&Arc::new(caller), vault, operation, 1).unwrap();
    engine.perform(permit, request_id, at(seconds)).await
}

pub(in crate::engine) fn workload() -> Caller {
    Caller::ServiceAccount(ServiceAccountCaller {
        namespace: Namespace::parse("shop").unwrap(),
        name: "app".into(),
        uid: Uid::new("app-uid"),
        pod: Some(PodRef {
            name: "app-0".into(),
            uid: Uid::new("pod-uid"),
            node: None,
        }),
        expires: UnixSeconds(i64::MAX),
        address: None,
    })
}

fn everything() -> Entry {
    Entry {
        policy: "everything".to_owned(),
        subject: Subject {
            namespace: Namespace::parse("shop").unwrap(),
            name: "app".into(),
        },
        secrets: Permissions::parse("all").unwrap(),
        allow_unbound: false,
    }
}

pub(in crate::engine) async fn ensure(engine: &Engine, vault: &Arc<VaultEntry>) {
    let resource_uid = vault.uid.clone();
    let reply = ask(
        engine,
        vault,
        Operation::EnsureVault(EnsureVault { resource_uid }),
    )
    .await;
    assert!(matches!(reply, Ok(Reply::VaultReady)), "{reply:?}");
}

pub(in crate::engine) fn set_of(secret: &str, value: &str) -> SetSecret {
    SetSecret {
        name: name(secret),
        value: SecretBytes::new(value.as_bytes().to_vec()),
        content_type: None,
        tags: Tags::new(),
        attributes: AttributesChange::default(),
    }
}

pub(in crate::engine) fn update_of(secret: &str) -> UpdateSecret {
    UpdateSecret {
        name: name(secret),
        version: None,
        content_type: None,
        tags: None,
        attributes: AttributesChange::default(),
    }
}

pub(in crate::engine) async fn set(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
    value: &str,
) -> Result<Version, Error> {
    match ask(engine, vault, Operation::SetSecret(set_of(secret, value))).await? {
        Reply::Secret(secret) => Ok(secret.version),
        reply => panic!("{reply:?}"),
    }
}

pub(in crate::engine) async fn get(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
    version: Option<Version>,
) -> Result<Secret, Error> {
    match ask(
        engine,
        vault,
        Operation::GetSecret {
            name: name(secret),
            version,
        },
    )
    .await?
    {
        Reply::Secret(secret) => Ok(secret),
        reply => panic!("{reply:?}"),
    }
}

pub(in crate::engine) fn text(secret: &Secret) -> String {
    String::from_utf8(secret.value.as_ref().unwrap().expose().to_vec()).unwrap()
}

pub(in crate::engine) async fn delete(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
) -> Result<Reply, Error> {
    ask(engine, vault, Operation::DeleteSecret { name: name(secret) }).await
}

pub(in crate::engine) async fn recover(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
) -> Result<Reply, Error> {
    ask(engine, vault, Operation::RecoverSecret { name: name(secret) }).await
}

pub(in crate::engine) async fn purge(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
) -> Result<Reply, Error> {
    ask(engine, vault, Operation::PurgeSecret { name: name(secret) }).await
}

pub(in crate::engine) async fn backup(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
) -> Result<Backup, Error> {
    match ask(engine, vault, Operation::BackupSecret { name: name(secret) }).await? {
        Reply::Backup(backup) => Ok(backup),
        reply => panic!("{reply:?}"),
    }
}

pub(in crate::engine) async fn restore(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    backup: &Backup,
) -> Result<Secret, Error> {
    let backup = backup.clone();
    match ask(engine, vault, Operation::RestoreSecret { backup }).await? {
        Reply::Secret(secret) => Ok(secret),
        reply => panic!("{reply:?}"),
    }
}

pub(in crate::engine) async fn get_deleted(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
) -> Result<DeletedSecret, Error> {
    match ask(engine, vault, Operation::GetDeletedSecret { name: name(secret) }).await? {
        Reply::Deleted(deleted) => Ok(deleted),
        reply => panic!("{reply:?}"),
    }
}

/// All pages of the list of deleted secrets.
pub(in crate::engine) async fn deleted_names(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    limit: u8,
) -> Vec<String> {
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let operation = Operation::ListDeletedSecrets(page(limit, token));
        let Reply::DeletedPage(page) = ask(engine, vault, operation).await.unwrap() else {
            panic!()
        };
        assert!(page.items.len() <= usize::from(limit));
        names.extend(page.items.iter().map(|line| line.item.name.to_string()));
        token = page.next;
        if token.is_none() {
            return names;
        }
    }
}

pub(in crate::engine) fn page(limit: u8, skip_token: Option<String>) -> PageRequest {
    PageRequest {
        limit: NonZeroU8::new(limit).unwrap(),
        skip_token,
    }
}

/// All pages of a list of names.
pub(in crate::engine) async fn names(engine: &Engine, vault: &Arc<VaultEntry>, limit: u8) -> Vec<String> {
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let page = list(engine, vault, page(limit, token)).await.unwrap();
        assert!(page.items.len() <= usize::from(limit));
        names.extend(page.items.iter().map(|item| item.name.to_string()));
        token = page.next;
        if token.is_none() {
            return names;
        }
    }
}

pub(in crate::engine) async fn list(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    page: PageRequest,
) -> Result<Page<SecretItem>, Error> {
    match ask(engine, vault, Operation::ListSecrets(page)).await? {
        Reply::Page(page) => Ok(page),
        reply => panic!("{reply:?}"),
    }
}

pub(in crate::engine) async fn list_versions(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
    page: PageRequest,
) -> Result<Page<SecretItem>, Error> {
    match ask(
        engine,
        vault,
        Operation::ListSecretVersions {
            name: name(secret),
            page,
        },
    )
    .await?
    {
        Reply::Page(page) => Ok(page),
        reply => panic!("{reply:?}"),
    }
}

/// All versions, from the newest to the oldest.
pub(in crate::engine) async fn versions(
    engine: &Engine,
    vault: &Arc<VaultEntry>,
    secret: &str,
) -> Vec<Version> {
    let mut versions = Vec::new();
    let mut token = None;
    loop {
        let page = list_versions(engine, vault, secret, page(25, token))
            .await
            .unwrap();
        versions.extend(page.items.iter().filter_map(|item| item.version));
        token = page.next;
        if token.is_none() {
            return versions;
        }
    }
}

/// What became of a name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Life {
    #[default]
    Absent,
    Live,
    Deleted,
    Purging,
}

/// What is stored in the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Stored {
    pub(in crate::engine) life: Life,
    /// In their order.
    pub(in crate::engine) versions: Vec<(Version, String, Option<String>)>,
}

impl Stored {
    pub(in crate::engine) fn position(&self, version: Version) -> Option<usize> {
        self.versions.iter().position(|(stored, ..)| *stored == version)
    }
}

/// What a replica that starts now finds. Of what a purge has begun with, that which it has not removed yet.
pub(in crate::engine) fn stored(engine: &Engine, vault: &VaultEntry, secret: &str) -> Stored {
    let address = VaultAddress::of(vault);
    let loaded = drive(engine.load(&address, secret, None));
    let snapshot = engine.index.load_full();
    let vault = snapshot.vault(&address).unwrap();
    let Some(object) = vault.object(secret).unwrap() else {
        return Stored::default();
    };
    let Some(state) = object.head.secret.as_ref() else {
        return Stored::default();
    };
    let life = match state.deleted {
        None => Life::Live,
        Some(deleted) if deleted.purging => Life::Purging,
        Some(_) => Life::Deleted,
    };
    let is_there = |result: Result<(), Error>| match result {
        Err(Error::RecordDamaged(Damage::Vanished)) if life == Life::Purging => false,
        result => result.is_ok() || panic!("{secret}, {life:?}: {result:?}"),
    };
    let entries = if is_there(loaded) {
        state.versions.all().unwrap()
    } else {
        state.versions.inline().iter().collect()
    };
    let open = |entry: &Arc<VersionEntry>| {
        if let Body::Part(part) = &entry.body {
            let record = engine.seals.part_record(vault.head.uuid, part).unwrap();
            if !is_there(drive(engine.load(&address, secret, Some(record)))) {
                return None;
            }
        }
        let snapshot = engine.index.load_full();
        let value = engine.value(&snapshot, vault, &object.head, entry).unwrap();
        let value = String::from_utf8(value.expose().to_vec()).unwrap();
        Some((entry.id, value, entry.content_type.as_deref().map(str::to_owned)))
    };
    Stored {
        life,
        versions: entries.into_iter().filter_map(open).collect(),
    }
}

/// Tells an engine all that ever happened in the store.
pub(in crate::engine) fn tell(store: &impl SealedStore, engine: &Engine) {
    let mut events = store.watch(0);
    while let Some(Some(event)) = events.next().now_or_never() {
        engine.apply(&event.unwrap());
    }
}

pub(in crate::engine) fn drive<T>(future: impl Future<Output = T>) -> T {
    // Inside a test of tokio's its budget would never be filled again.
    futures::executor::block_on(tokio::task::unconstrained(future))
}
