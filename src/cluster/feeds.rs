//! The feeds of `serve`: which kinds are followed, and where each change goes.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::api::core;
use kube::core::{DeserializeGuard, PartialObjectMeta, Resource};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::crd;
use crate::identity::{AccountRef, PodFacts};
use crate::model::{Namespace, Uid};
use crate::store::{Record, StoreEvent};
use crate::telemetry::Metrics;
use crate::world::{Feed as Kind, Shared};

use super::api::Api;
use super::declared::{Declared, Home, Key};
use super::feed::{Feed, Sink, Source};
use super::pods::PodObject;
use super::position::Pace;
use super::sealed_records::{self, RecordObject};
use super::wire::{Object, Told};

/// Objects a page of a list: of pods that is some MiB.
const PAGE: u32 = 250;
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Where sealed records go: the engine, wired by `roles`.
pub trait RecordSink: Send + Sync + 'static {
    /// These are all records, as of `revision`. Called anew after each list; to be swapped in as one. May take long: it is
    /// called where blocking is allowed.
    fn replace_all(&self, records: Vec<Record>, revision: u64);

    /// Something happened after the last list. Own writes are told too.
    fn apply(&self, event: &StoreEvent);
}

/// What the feeds need.
pub struct FeedsConfig {
    /// The connection.
    pub api: Api,
    /// Where sealed records lie.
    pub release_namespace: Namespace,
    /// The staleness bound, from which the pace follows.
    pub staleness_bound: Duration,
    /// Where the age of each feed is shown.
    pub metrics: Arc<Metrics>,
}

/// Follows Vaults, AccessPolicies, NetworkRules, Pods, ServiceAccounts, Namespaces and SealedRecords until dropped, each in
/// a task of its own: `world` and `records` are kept current, and `world.standing` says how fresh they are.
///
/// Reading may begin once `world.standing.check` succeeds: then each list was read once. If the store goes back in time,
/// the feed that saw it ends and `world.standing` says so for good.
pub async fn run_feeds(config: FeedsConfig, world: Arc<Shared>, records: Arc<dyn RecordSink>) {
    let pace = Pace::within(config.staleness_bound);
    let declared = Arc::new(Declared::new(Arc::clone(&world)));
    let plan = Plan {
        api: config.api,
        pace,
        world: Arc::clone(&world),
        metrics: Arc::clone(&config.metrics),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(show_ages(world, config.metrics));
    tasks.spawn(Arc::clone(&declared).compile_changes());
    for feed in plan.feeds(&config.release_namespace, &declared, records) {
        tasks.spawn(feed);
    }
    while tasks.join_next().await.is_some() {}
}

async fn show_ages(world: Arc<Shared>, metrics: Arc<Metrics>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = Instant::now();
        for kind in Kind::ALL {
            if let Some(age) = world.standing.age(kind, now) {
                metrics.feed_age(kind.as_str(), age);
            }
        }
    }
}

struct Plan {
    api: Api,
    pace: Pace,
    world: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Plan {
    fn feeds(
        &self,
        release_namespace: &Namespace,
        declared: &Arc<Declared>,
        records: Arc<dyn RecordSink>,
    ) -> [BoxFuture<'static, ()>; 7] {
        let whole = |kind, path| Source {
            kind,
            path,
            metadata_only: false,
            page: PAGE,
        };
        let metadata = |kind, path| Source {
            metadata_only: true,
            ..whole(kind, path)
        };
        let world = || Arc::clone(&self.world);
        [
            self.feed(
                metadata(Kind::Namespaces, core::v1::Namespace::url_path(&(), None)),
                Namespaces(Arc::clone(declared)),
            ),
            self.feed(
                whole(Kind::Vaults, crd::Vault::url_path(&(), None)),
                Vaults(Arc::clone(declared)),
            ),
            self.feed(
                whole(Kind::AccessPolicies, crd::AccessPolicy::url_path(&(), None)),
                AccessPolicies(Arc::clone(declared)),
            ),
            self.feed(
                whole(Kind::NetworkRules, crd::NetworkRule::url_path(&(), None)),
                NetworkRules(Arc::clone(declared)),
            ),
            self.feed(
                whole(Kind::Pods, core::v1::Pod::url_path(&(), None)),
                Pods(world()),
            ),
            self.feed(
                metadata(
                    Kind::ServiceAccounts,
                    core::v1::ServiceAccount::url_path(&(), None),
                ),
                ServiceAccounts(world()),
            ),
            self.feed(
                whole(Kind::SealedRecords, sealed_records::collection(release_namespace)),
                SealedRecords(records),
            ),
        ]
    }

    fn feed<K: Keeper>(&self, source: Source, keeper: K) -> BoxFuture<'static, ()> {
        let (api, pace, world) = (self.api.clone(), self.pace, Arc::clone(&self.world));
        let (metrics, keeper) = (Arc::clone(&self.metrics), Arc::new(keeper));
        let begin = move || {
            let sink = Listing {
                keeper: Arc::clone(&keeper),
                shadow: Vec::new(),
                kind: source.kind,
                metrics: Arc::clone(&metrics),
            };
            Feed::new(api.clone(), source.clone(), pace, Arc::clone(&world)).run(sink)
        };
        Box::pin(async move {
            // A feed that never began again would leave nothing but a restart; what it knew grows stale meanwhile.
            while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
                tracing::error!("a feed ended by a defect and begins anew");
                sleep(AGAIN_AFTER).await;
            }
        })
    }
}

/// One kind of object, and what becomes of it.
trait Keeper: Send + Sync + 'static {
    type Object: Object;
    type Item: Send;

    /// What is kept of an object; none where it cannot be told what it is.
    fn item(&self, object: Self::Object) -> Option<Self::Item>;
    fn replace(&self, items: Vec<Self::Item>, revision: u64);
    fn put(&self, item: Self::Item);
    fn gone(&self, object: Self::Object);
    fn bookmark(&self, _revision: u64) {}
}

/// A [`Sink`] whose shadow is a vector of what is kept.
struct Listing<K: Keeper> {
    keeper: Arc<K>,
    shadow: Vec<K::Item>,
    kind: Kind,
    metrics: Arc<Metrics>,
}

impl<K: Keeper> Sink for Listing<K> {
    type Object = K::Object;

    fn begin(&mut self) {
        self.shadow = Vec::new();
    }

    fn page(&mut self, objects: Vec<K::Object>) {
        let keeper = &self.keeper;
        self.shadow
            .extend(objects.into_iter().filter_map(|object| keeper.item(object)));
    }

    async fn swap(&mut self, revision: u64) {
        let (keeper, items) = (Arc::clone(&self.keeper), std::mem::take(&mut self.shadow));
        // Opening every record takes a while, which other tasks are not to wait for.
        let swapped = tokio::task::spawn_blocking(move || keeper.replace(items, revision)).await;
        if let Err(error) = swapped {
            std::panic::resume_unwind(error.into_panic());
        }
        self.metrics.feed_listed(self.kind.as_str());
    }

    fn told(&mut self, event: Told<K::Object>) {
        match event {
            Told::Put(object) => {
                if let Some(item) = self.keeper.item(object) {
                    self.keeper.put(item);
                }
            }
            Told::Gone(object) => self.keeper.gone(object),
            Told::Bookmark(revision) => self.keeper.bookmark(revision),
        }
    }
}

struct Vaults(Arc<Declared>);

impl Keeper for Vaults {
    type Object = DeserializeGuard<crd::Vault>;
    type Item = Result<crd::Vault, Key>;

    fn item(&self, object: Self::Object) -> Option<Self::Item> {
        Some(understood(object, Kind::Vaults))
    }

    fn replace(&self, items: Vec<Self::Item>, _: u64) {
        self.0.replace_vaults(items.into_iter().flatten().collect());
    }

    fn put(&self, item: Self::Item) {
        match item {
            Ok(vault) => self.0.put_vault(vault),
            // What is no longer understood is refused, not served as it was.
            Err(key) => self.0.remove_vault(&key),
        }
    }

    fn gone(&self, object: Self::Object) {
        self.0.remove_vault(&Key::of(object.meta()));
    }
}

struct AccessPolicies(Arc<Declared>);

impl Keeper for AccessPolicies {
    type Object = DeserializeGuard<crd::AccessPolicy>;
    type Item = Result<crd::AccessPolicy, Key>;

    fn item(&self, object: Self::Object) -> Option<Self::Item> {
        Some(understood(object, Kind::AccessPolicies))
    }

    fn replace(&self, items: Vec<Self::Item>, _: u64) {
        self.0.replace_policies(items.into_iter().flatten().collect());
    }

    fn put(&self, item: Self::Item) {
        match item {
            Ok(policy) => self.0.put_policy(policy),
            Err(key) => self.0.remove_policy(&key),
        }
    }

    fn gone(&self, object: Self::Object) {
        self.0.remove_policy(&Key::of(object.meta()));
    }
}

struct NetworkRules(Arc<Declared>);

impl Keeper for NetworkRules {
    type Object = DeserializeGuard<crd::NetworkRule>;
    type Item = Result<crd::NetworkRule, Key>;

    fn item(&self, object: Self::Object) -> Option<Self::Item> {
        Some(understood(object, Kind::NetworkRules))
    }

    fn replace(&self, items: Vec<Self::Item>, _: u64) {
        self.0.replace_rules(items.into_iter().flatten().collect());
    }

    fn put(&self, item: Self::Item) {
        match item {
            Ok(rule) => self.0.put_rule(rule),
            Err(key) => self.0.remove_rule(&key),
        }
    }

    fn gone(&self, object: Self::Object) {
        self.0.remove_rule(&Key::of(object.meta()));
    }
}

/// An object, or the key of one that this version does not understand.
fn understood<K: Resource<DynamicType = ()>>(object: DeserializeGuard<K>, kind: Kind) -> Result<K, Key> {
    let DeserializeGuard(object) = object;
    object.map_err(|invalid| {
        let key = Key::of(&invalid.metadata);
        tracing::warn!(
            kind = kind.as_str(),
            namespace = key.namespace,
            name = key.name,
            "an object is not understood and of no effect"
        );
        key
    })
}

struct Namespaces(Arc<Declared>);

impl Keeper for Namespaces {
    type Object = PartialObjectMeta<core::v1::Namespace>;
    type Item = (Namespace, Home);

    fn item(&self, object: Self::Object) -> Option<Self::Item> {
        let name = Namespace::parse(object.metadata.name.as_deref()?).ok()?;
        let home = Home {
            uid: Uid::new(object.metadata.uid.as_deref()?),
            labels: object.metadata.labels.into_iter().flatten().collect(),
        };
        Some((name, home))
    }

    fn replace(&self, items: Vec<Self::Item>, _: u64) {
        self.0.replace_namespaces(HashMap::from_iter(items));
    }

    fn put(&self, (name, home): Self::Item) {
        self.0.put_namespace(&name, home);
    }

    fn gone(&self, object: Self::Object) {
        if let Some((name, home)) = self.item(object) {
            self.0.remove_namespace(&name, &home.uid);
        }
    }
}

struct ServiceAccounts(Arc<Shared>);

impl Keeper for ServiceAccounts {
    type Object = PartialObjectMeta<core::v1::ServiceAccount>;
    type Item = (AccountRef, Uid);

    fn item(&self, object: Self::Object) -> Option<Self::Item> {
        let metadata = object.metadata;
        let account = AccountRef {
            namespace: Namespace::parse(metadata.namespace.as_deref()?).ok()?,
            name: Arc::from(metadata.name.as_deref()?),
        };
        Some((account, Uid::new(metadata.uid.as_deref()?)))
    }

    fn replace(&self, items: Vec<Self::Item>, _: u64) {
        self.0.update(|world| world.liveness.replace_accounts(items));
    }

    fn put(&self, (account, uid): Self::Item) {
        // Most events are of annotations: nothing that a request depends on.
        if self.0.load().liveness.account(&account) != Some(&uid) {
            self.0.update(|world| world.liveness.upsert_account(account, uid));
        }
    }

    fn gone(&self, object: Self::Object) {
        if let Some((account, uid)) = self.item(object) {
            self.0
                .update(|world| world.liveness.remove_account(&account, &uid));
        }
    }
}

struct Pods(Arc<Shared>);

impl Keeper for Pods {
    type Object = PodObject;
    type Item = PodFacts;

    fn item(&self, object: PodObject) -> Option<PodFacts> {
        object.facts()
    }

    fn replace(&self, items: Vec<PodFacts>, _: u64) {
        self.0.update(|world| world.liveness.replace_pods(items));
    }

    fn put(&self, pod: PodFacts) {
        let world = self.0.load();
        if world.liveness.pod(&pod.uid).is_none_or(|known| **known != pod) {
            self.0.update(|world| world.liveness.upsert_pod(pod));
        }
    }

    fn gone(&self, object: PodObject) {
        let uid = object.uid();
        self.0.update(|world| world.liveness.remove_pod(&uid));
    }
}

struct SealedRecords(Arc<dyn RecordSink>);

impl Keeper for SealedRecords {
    type Object = RecordObject;
    type Item = Record;

    fn item(&self, object: RecordObject) -> Option<Record> {
        // Its revision was read before it came here.
        object.record().ok().flatten()
    }

    fn replace(&self, items: Vec<Record>, revision: u64) {
        self.0.replace_all(items, revision);
    }

    fn put(&self, record: Record) {
        self.0.apply(&StoreEvent::Put(record));
    }

    fn gone(&self, object: RecordObject) {
        if let Ok(Some(event)) = sealed_records::event(Told::Gone(object)) {
            self.0.apply(&event);
        }
    }

    fn bookmark(&self, revision: u64) {
        self.0.apply(&StoreEvent::Bookmark(revision));
    }
}

impl<K> Object for PartialObjectMeta<K>
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    fn resource_version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or("")
    }
}
