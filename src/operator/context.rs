//! What the reconcilers of all kinds share.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource};
use tokio::sync::watch;

use super::Error;
use super::backoff::Backoff;
use super::concerns::Concerns;
use super::summaries::Summaries;
use crate::client::Client;
use crate::crd;
use crate::model::{Clock, Uid};
use crate::telemetry::metrics::{Metrics, Reconciled};

/// An object whose content may be beyond us: one that can't be read must not stop the others.
pub(super) type Guarded<K> = DeserializeGuard<K>;

/// Longest wait for one answer of the API server.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where this installation is.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    /// The release namespace.
    pub(super) namespace: String,
    /// What the Services of all vaults lead to.
    pub(super) target: String,
}

/// What the reconcilers of all kinds share.
pub(super) struct Context {
    pub(super) cluster: kube::Client,
    pub(super) serve: Client,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) recorder: Recorder,
    pub(super) installation: Installation,
    pub(super) summaries: Summaries,
    pub(super) concerns: Concerns,
    pub(super) bundle: watch::Receiver<Option<Arc<str>>>,
    pub(super) backoff: Backoff,
    pub(super) stores: Stores,
    pub(super) triggers: Triggers,
}

/// What our watches show.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) vaults: Store<Guarded<crd::Vault>>,
    pub(super) policies: Store<Guarded<crd::AccessPolicy>>,
    pub(super) rules: Store<Guarded<crd::NetworkRule>>,
    pub(super) secrets: Store<Guarded<crd::Secret>>,
    pub(super) namespaces: Store<Namespace>,
}

impl Stores {
    /// Waits until each has seen all there is: the kinds look each other up.
    pub(super) async fn ready(&self) {
        // A store whose writer is gone ends with its watch; then whoever waits here is dropped too.
        let _ = self.vaults.wait_until_ready().await;
        let _ = self.policies.wait_until_ready().await;
        let _ = self.rules.wait_until_ready().await;
        let _ = self.secrets.wait_until_ready().await;
        let _ = self.namespaces.wait_until_ready().await;
    }
}

/// Where the controllers hear what to look at again, beside what their own watch shows.
pub(super) struct Triggers {
    pub(super) vaults: Trigger<Guarded<crd::Vault>>,
    pub(super) policies: Trigger<Guarded<crd::AccessPolicy>>,
    pub(super) rules: Trigger<Guarded<crd::NetworkRule>>,
    pub(super) secrets: Trigger<Guarded<crd::Secret>>,
    pub(super) namespaces: Trigger<Namespace>,
}

/// Asks a controller to look at an object again.
pub(super) struct Trigger<K: Resource<DynamicType = ()>>(UnboundedSender<ObjectRef<K>>);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Trigger<K> {
    /// A trigger, and what its controller listens to.
    pub(super) fn new() -> (Self, UnboundedReceiver<ObjectRef<K>>) {
        let (told, heard) = mpsc::unbounded();
        (Self(told), heard)
    }

    /// Look at this object again.
    pub(super) fn one(&self, object: ObjectRef<K>) {
        // A controller that no longer listens is about to be dropped: nothing is lost.
        let _ = self.0.unbounded_send(object);
    }

    /// Look at each of these again.
    pub(super) fn those<'a>(&self, objects: impl IntoIterator<Item = &'a Arc<K>>) {
        for object in objects {
            self.one(ObjectRef::from_obj(&**object));
        }
    }
}

/// A namespace, as far as we care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    /// Its UID.
    pub(super) uid: Uid,
    /// Whether it is being deleted.
    pub(super) terminating: bool,
}

impl Context {
    /// The namespace, as our watch shows it; asked for where it does not yet. None where it is gone.
    pub(super) async fn home(&self, namespace: &str) -> Result<Option<Home>, Error> {
        match self.stores.namespaces.get(&ObjectRef::new(namespace)) {
            Some(found) => Ok(home(&found.metadata)),
            None => self.home_now(namespace).await,
        }
    }

    /// The namespace, as the API server shows it at this moment.
    pub(super) async fn home_now(&self, namespace: &str) -> Result<Option<Home>, Error> {
        let api = Api::<Namespace>::all(self.cluster.clone());
        let found = read("the namespace", api.get_metadata_opt(namespace)).await?;
        Ok(found.and_then(|found| home(&found.metadata)))
    }
}

fn home(metadata: &ObjectMeta) -> Option<Home> {
    let uid = Uid::new(metadata.uid.as_deref()?);
    Some(Home {
        uid,
        terminating: metadata.deletion_timestamp.is_some(),
    })
}

/// Reads from the API server, within bounds.
pub(super) async fn read<T>(
    what: &'static str,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    let answer = tokio::time::timeout(PATIENCE, answer)
        .await
        .map_err(|_| Error::Silent { what })?;
    answer.map_err(|source| Error::Read {
        what,
        source: Box::new(source),
    })
}

/// Writes to the API server, within bounds.
pub(super) async fn write<T>(
    what: &'static str,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    let answer = tokio::time::timeout(PATIENCE, answer)
        .await
        .map_err(|_| Error::Silent { what })?;
    answer.map_err(|source| Error::Write {
        what,
        source: Box::new(source),
    })
}

/// Runs one reconciliation: counts it, and decides when an object that failed is tried again.
pub(super) async fn observed(
    kind: Reconciled,
    metadata: &ObjectMeta,
    context: &Context,
    reconciliation: impl Future<Output = Result<Action, Error>>,
) -> Result<Action, Error> {
    let name = metadata.name.clone().unwrap_or_default();
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let began = context.clock.now().monotonic;
    let outcome = reconciliation.await;
    let took = context.clock.now().monotonic.saturating_duration_since(began);
    let failure = outcome.as_ref().err().map(Error::kind);
    context.metrics.reconciled(kind, failure, took);
    let object = (label(kind), namespace, name);
    match outcome {
        Ok(action) => {
            context.backoff.forget(&object);
            Ok(action)
        }
        Err(error) => {
            let wait = context.backoff.after(&object, error.kind());
            let (kind, namespace, name) = object;
            tracing::warn!(kind, namespace, name, %error, again_in = ?wait, "not reconciled");
            Ok(Action::requeue(wait))
        }
    }
}

const fn label(kind: Reconciled) -> &'static str {
    match kind {
        Reconciled::Vault => "Vault",
        Reconciled::AccessPolicy => "AccessPolicy",
        Reconciled::NetworkRule => "NetworkRule",
        Reconciled::Secret => "Secret",
        Reconciled::Namespace => "Namespace",
    }
}
