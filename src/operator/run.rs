//! Puts the controllers together and runs them while this replica leads.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use futures::channel::mpsc::UnboundedReceiver;
use futures::future::select_all;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::concerns::Concerns;
use super::context::{Context, Guarded, Installation, Stores, Trigger, Triggers};
use super::summaries::{self, Summaries};
use super::{Error, access_policy, deleted_vaults, guards, network_rule, secret, trust_bundle, vault};
use crate::client::{self, Client, Trust};
use crate::crd::{self, labels};
use crate::model::Clock;
use crate::telemetry::health::Readiness;
use crate::telemetry::metrics::Metrics;

/// Objects of one kind that are worked on at once: a slow one holds up few others.
const CONCURRENCY: u16 = 16;

/// What an operator has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The release namespace.
    pub namespace: String,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Name of this pod, by which events name their reporter.
    pub pod: String,
    /// The internal listener: `https://host[:port]`.
    pub internal_url: String,
    /// File of this process's own token for that listener.
    pub internal_token_file: PathBuf,
    /// Whether the audit log of `serve` outlives its pods.
    pub audit_durable: bool,
}

/// Whether this replica leads. It is told for the first time once the lease could be read.
///
/// A lease fences nothing, and a lost one is no danger. Two replicas that both believe to lead write the same status, apply
/// the same Services under the revision that they judged, and ask `serve` for actions that may be asked again.
pub type Leads = watch::Receiver<bool>;

/// Runs until `shutdown`; reconciles while it leads.
///
/// # Errors
/// [`Error::Credentials`], [`Error::Cluster`] and [`Error::Client`] for a configuration that can't work;
/// [`Error::Election`]. What else goes wrong is told in conditions and tried again.
pub async fn run(
    settings: Settings,
    clock: Clock,
    metrics: Arc<Metrics>,
    readiness: &Readiness,
    mut leads: Leads,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let config = kube::Config::infer()
        .await
        .map_err(|error| Error::Credentials(Box::new(error)))?;
    let cluster = kube::Client::try_from(config).map_err(|error| Error::Cluster(Box::new(error)))?;
    let trust = Trust::handed();
    let serve = Client::new(client::Settings {
        url: settings.internal_url.clone(),
        trust: trust.clone(),
        token_file: settings.internal_token_file.clone(),
        connect_to: None,
    })
    .map_err(Error::Client)?;

    let elected = readiness.flag("election", "the lease can't be reached");
    let shutdown = shutdown.shared();
    tokio::select! {
        _ = leads.changed() => elected.set(true),
        () = shutdown.clone() => {}
    }
    while next_term(&mut leads, shutdown.clone()).await {
        tracing::info!("this replica leads");
        metrics.leads(true);
        let (cluster, serve) = (cluster.clone(), serve.clone());
        let term = Term {
            settings: &settings,
            clock: &clock,
            metrics: &metrics,
            cluster,
            serve,
            trust: &trust,
        };
        tokio::select! {
            () = term.serve_out() => tracing::warn!("the controllers ended; they are started again"),
            _ = leads.wait_for(|leads| !leads) => tracing::warn!("this replica no longer leads"),
            () = shutdown.clone() => {}
        }
        metrics.leads(false);
    }
    if leads.has_changed().is_err() {
        return Err(Error::Election);
    }
    Ok(())
}

/// Waits until this replica leads; false at shutdown.
async fn next_term(leads: &mut Leads, shutdown: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        () = shutdown => false,
        elected = leads.wait_for(|leads| *leads) => elected.is_ok(),
    }
}

/// What this replica works with while it leads.
struct Term<'a> {
    settings: &'a Settings,
    clock: &'a Clock,
    metrics: &'a Arc<Metrics>,
    cluster: kube::Client,
    serve: Client,
    trust: &'a Trust,
}

impl Term<'_> {
    /// Reconciles everything. It ends only if a controller does.
    async fn serve_out(self) {
        let (vaults, vault_events) = watched(&self.cluster);
        let (policies, policy_events) = watched(&self.cluster);
        let (rules, rule_events) = watched(&self.cluster);
        let (secrets, secret_events) = watched(&self.cluster);
        let (namespaces, namespace_events) = watched(&self.cluster);
        let (vaults_told, vaults_heard) = Trigger::new();
        let (policies_told, policies_heard) = Trigger::new();
        let (rules_told, rules_heard) = Trigger::new();
        let (secrets_told, secrets_heard) = Trigger::new();
        let (namespaces_told, namespaces_heard) = Trigger::new();
        let (bundle, bundle_heard) = watch::channel(None);
        let stores = Stores {
            vaults,
            policies,
            rules,
            secrets,
            namespaces,
        };
        let triggers = Triggers {
            vaults: vaults_told,
            policies: policies_told,
            rules: rules_told,
            secrets: secrets_told,
            namespaces: namespaces_told,
        };
        let context = &Arc::new(self.context(stores, triggers, bundle_heard));

        let (told, mut changes) = (Arc::clone(context), VaultChanges::default());
        let vault_events = vault_events.inspect(move |vault| changes.take(&told, vault));
        let controllers = [
            drive(
                &context.stores.vaults,
                vault_events,
                vaults_heard,
                vault::reconcile,
                context,
            )
            .boxed(),
            drive(
                &context.stores.policies,
                policy_events,
                policies_heard,
                access_policy::reconcile,
                context,
            )
            .boxed(),
            drive(
                &context.stores.rules,
                rule_events,
                rules_heard,
                network_rule::reconcile,
                context,
            )
            .boxed(),
            drive(
                &context.stores.secrets,
                secret_events,
                secrets_heard,
                secret::reconcile,
                context,
            )
            .boxed(),
            drive(
                &context.stores.namespaces,
                namespace_events,
                namespaces_heard,
                trust_bundle::reconcile,
                context,
            )
            .boxed(),
        ];
        tokio::select! {
            _ = select_all(controllers) => {}
            () = services(context) => {}
            () = trust_bundle::follow_copies(context) => {}
            () = trust_bundle::follow(context, self.trust, &bundle) => {}
            () = summaries::follow(context) => {}
            () = guards::follow(context) => {}
            () = deleted_vaults::follow(context) => {}
        }
    }

    fn context(
        &self,
        stores: Stores,
        triggers: Triggers,
        bundle: watch::Receiver<Option<Arc<str>>>,
    ) -> Context {
        let Settings {
            namespace,
            cluster_domain,
            pod,
            ..
        } = self.settings;
        let reporter = Reporter {
            controller: "strongroom-operate".to_owned(),
            instance: Some(pod.clone()),
        };
        Context {
            cluster: self.cluster.clone(),
            serve: self.serve.clone(),
            clock: self.clock.clone(),
            metrics: Arc::clone(self.metrics),
            recorder: Recorder::new(self.cluster.clone(), reporter),
            installation: Installation {
                namespace: namespace.clone(),
                target: format!("strongroom.{namespace}.svc.{cluster_domain}"),
            },
            summaries: Summaries::default(),
            concerns: Concerns::new(self.settings.audit_durable),
            bundle,
            backoff: Backoff::default(),
            stores,
            triggers,
        }
    }
}

/// A store of one kind in every namespace, and what changes in it. The store is filled as the changes are read.
fn watched<K>(cluster: &kube::Client) -> (Store<K>, BoxStream<'static, K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changes = watcher(Api::all(cluster.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer);
    (store, told(changes.touched_objects()))
}

/// The objects of a watch; its failures, which it gets over by itself, are logged.
pub(super) fn told<K>(
    changes: impl Stream<Item = watcher::Result<K>> + Send + 'static,
) -> BoxStream<'static, K>
where
    K: Resource<DynamicType = ()> + Send + 'static,
{
    changes
        .filter_map(|change| {
            if let Err(error) = &change {
                tracing::info!(kind = %K::kind(&()), %error, "a watch failed; it is tried again");
            }
            std::future::ready(change.ok())
        })
        .boxed()
}

/// What the resources that name a vault go by.
#[derive(Default)]
struct VaultChanges {
    known: HashMap<ObjectRef<Guarded<crd::Vault>>, (secret::Vault, network_rule::Asked)>,
}

impl VaultChanges {
    /// A vault came, went, began or ceased to be ready or to ask its rules: whoever names it is looked at again. What else
    /// changes in it, as the counts of its status do all the time, is nothing to them.
    fn take(&mut self, context: &Context, vault: &Guarded<crd::Vault>) {
        let Context { stores, triggers, .. } = context;
        let reference = ObjectRef::from_obj(vault);
        let now = stores.vaults.get(&reference).map(|vault| {
            let asked = network_rule::says_deny(&vault);
            (secret::state(&vault), asked)
        });
        let now = now.filter(|(state, _)| *state != secret::Vault::Missing);
        let before = match now {
            None => self.known.remove(&reference),
            Some(now) => self.known.insert(reference, now),
        };
        if before != now {
            triggers
                .rules
                .those(&naming(&stores.rules, vault, |rule| &rule.spec.vault_ref));
        }
        if before.map(|(state, _)| state) != now.map(|(state, _)| state) {
            triggers
                .policies
                .those(&naming(&stores.policies, vault, |policy| &policy.spec.vault_ref));
            triggers
                .secrets
                .those(&naming(&stores.secrets, vault, |secret| &secret.spec.vault_ref));
        }
    }
}

/// The resources of a vault's namespace that name it.
fn naming<K>(
    store: &Store<Guarded<K>>,
    vault: &Guarded<crd::Vault>,
    name: impl Fn(&K) -> &String,
) -> Vec<Arc<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let metadata = vault.meta();
    let mut all = store.state();
    all.retain(|object| {
        object.meta().namespace == metadata.namespace
            && object
                .0
                .as_ref()
                .is_ok_and(|object| Some(name(object)) == metadata.name.as_ref())
    });
    all
}

/// Our Services: whoever changes or deletes one has its vault looked at again.
async fn services(context: &Context) {
    let ours = watcher::Config::default().labels(labels::VAULT);
    let api = Api::<Service>::all(context.cluster.clone());
    let mut changes = told(watcher(api, ours).default_backoff().touched_objects());
    while let Some(service) = changes.next().await {
        if let (Some(name), Some(namespace)) = (service.metadata.name, service.metadata.namespace) {
            context
                .triggers
                .vaults
                .one(ObjectRef::new(&name).within(&namespace));
        }
    }
}

/// Reconciles whatever changes or is triggered, one kind.
async fn drive<K, F>(
    store: &Store<K>,
    changes: impl Stream<Item = K> + Send + 'static,
    triggered: UnboundedReceiver<ObjectRef<K>>,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + Sync + 'static,
    context: &Arc<Context>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let changed = changes.map(|object| ObjectRef::from_obj(&object));
    let queue = stream::select(changed, triggered).map(Ok::<_, Infallible>);
    let reconcile = move |object, context: Arc<Context>| {
        let reconcile = reconcile.clone();
        async move {
            context.stores.ready().await;
            reconcile(object, context).await
        }
        .boxed()
    };
    applier(
        reconcile,
        // Failures have become a time to try again before they come here.
        |_, _: &Error, _| Action::await_change(),
        Arc::clone(context),
        store.clone(),
        queue,
        Config::default().concurrency(CONCURRENCY),
    )
    .for_each(|_| std::future::ready(()))
    .await;
}
