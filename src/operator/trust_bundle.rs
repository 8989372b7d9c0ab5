//! The trust bundle: the ConfigMap `strongroom-ca` that `serve` writes in the release namespace is copied to every other
//! one, as the cluster does with `kube-root-ca.crt`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde_json::json;
use tokio::sync::watch;

use futures::StreamExt;

use super::context::{Context, observed, read, write};
use super::owned::{self, Found};
use super::run::told;
use super::{Error, FIELD_MANAGER, report};
use crate::client::Trust;
use crate::crd::{self, labels};
use crate::telemetry::metrics::Reconciled;

/// Longest bundle that is copied, in bytes: some certificates of about 1 kB.
const MAX_BUNDLE: usize = 64 * 1024;
/// How often a name that somebody else has is looked at again.
const CONFLICT_PERIOD: Duration = Duration::from_secs(600);

/// Makes one namespace's copy true.
pub(super) async fn reconcile(namespace: Arc<Namespace>, context: Arc<Context>) -> Result<Action, Error> {
    observed(Reconciled::Namespace, &namespace.metadata, &context, async {
        let Some(seen) = gather(&namespace, &context).await? else {
            return Ok(Action::await_change());
        };
        let plan = plan(&seen);
        apply(&context, &seen, &plan).await?;
        report(&context, &namespace, &plan).await;
        Ok(plan.next)
    })
    .await
}

/// What there is, in a namespace that is to have a copy.
struct Seen {
    namespace: String,
    pem: Arc<str>,
    found: Found,
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    step: Option<Step>,
    /// What to tell people.
    conflict: bool,
    next: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Make or mend the copy; of one that is there, this revision.
    Apply { revision: Option<String> },
}

async fn gather(namespace: &Namespace, context: &Context) -> Result<Option<Seen>, Error> {
    let Some(name) = namespace.metadata.name.clone() else {
        return Ok(None);
    };
    if name == context.installation.namespace || namespace.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let Some(pem) = context.bundle.borrow().clone() else {
        return Ok(None);
    };
    let api = Api::<ConfigMap>::namespaced(context.cluster.clone(), &name);
    let there = read("the trust bundle", api.get_opt(crd::TRUST_BUNDLE)).await?;
    let found = owned::bundle(there.as_ref(), &pem);
    Ok(Some(Seen {
        namespace: name,
        pem,
        found,
    }))
}

fn plan(seen: &Seen) -> Plan {
    let apply = |revision| Plan {
        step: Some(Step::Apply { revision }),
        conflict: false,
        next: Action::await_change(),
    };
    match &seen.found {
        Found::Absent => apply(None),
        Found::Outdated { revision } => apply(Some(revision.clone())),
        Found::Current => Plan {
            step: None,
            conflict: false,
            next: Action::await_change(),
        },
        Found::Foreign => Plan {
            step: None,
            conflict: true,
            next: Action::requeue(CONFLICT_PERIOD),
        },
    }
}

async fn apply(context: &Context, seen: &Seen, plan: &Plan) -> Result<(), Error> {
    let Some(Step::Apply { revision }) = &plan.step else {
        return Ok(());
    };
    let bundle = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": crd::TRUST_BUNDLE,
            "namespace": seen.namespace,
            "resourceVersion": revision,
            "labels": { labels::MANAGED_BY: labels::STRONGROOM, labels::TRUST_BUNDLE: "true" },
        },
        "data": { crd::TRUST_BUNDLE_KEY: &*seen.pem },
    });
    // As with a vault's Service: only what was judged to be ours is forced.
    let parameters = PatchParams::apply(FIELD_MANAGER);
    let parameters = if revision.is_some() {
        parameters.force()
    } else {
        parameters
    };
    let api = Api::<ConfigMap>::namespaced(context.cluster.clone(), &seen.namespace);
    write(
        "the trust bundle",
        api.patch(crd::TRUST_BUNDLE, &parameters, &Patch::Apply(&bundle)),
    )
    .await?;
    Ok(())
}

async fn report(context: &Context, namespace: &Namespace, plan: &Plan) {
    if plan.conflict {
        let message = format!(
            "the ConfigMap '{}' of this namespace is not Strongroom's and stays as it is: pods here can't take the \
             certificates of vaults on trust from it",
            crd::TRUST_BUNDLE
        );
        let reference = namespace.object_ref(&());
        report::event(
            context,
            &reference,
            EventType::Warning,
            "TrustBundleConflict",
            &message,
        )
        .await;
    }
}

/// Watches the bundle that `serve` writes. It comes through the API server alone, whose certificate is known, so that
/// the first connection to the data plane is a verified one.
pub(super) async fn follow(context: &Context, trust: &Trust, bundle: &watch::Sender<Option<Arc<str>>>) {
    let api = Api::<ConfigMap>::namespaced(context.cluster.clone(), &context.installation.namespace);
    let mut changes = told(watcher(api, only_bundles()).default_backoff().applied_objects());
    while let Some(found) = changes.next().await {
        let pem = found
            .data
            .as_ref()
            .and_then(|data| data.get(crd::TRUST_BUNDLE_KEY));
        match pem.filter(|pem| !pem.is_empty() && pem.len() <= MAX_BUNDLE) {
            Some(pem) if take(trust, bundle, pem) => {
                context
                    .triggers
                    .namespaces
                    .those(&context.stores.namespaces.state());
            }
            Some(_) => {}
            None => {
                tracing::warn!("the ConfigMap strongroom-ca of the release namespace holds no trust bundle")
            }
        }
    }
}

/// Watches the copies: whoever changes or deletes one has its namespace looked at again.
pub(super) async fn follow_copies(context: &Context) {
    let api = Api::<ConfigMap>::all(context.cluster.clone());
    let mut changes = told(watcher(api, only_bundles()).default_backoff().touched_objects());
    while let Some(copy) = changes.next().await {
        if let Some(namespace) = &copy.metadata.namespace {
            context.triggers.namespaces.one(ObjectRef::new(namespace));
        }
    }
}

/// By name: that is also all that this account may see of ConfigMaps.
fn only_bundles() -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={}", crd::TRUST_BUNDLE))
}

/// Takes a bundle over; whether it is another than the one before.
fn take(trust: &Trust, bundle: &watch::Sender<Option<Arc<str>>>, pem: &str) -> bool {
    bundle.send_if_modified(|known| {
        let new = known.as_deref() != Some(pem);
        if new {
            trust.hand(pem.as_bytes().to_vec());
            *known = Some(pem.into());
        }
        new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_mended_or_left_and_never_taken_from_its_owner() {
        let still = Action::await_change;
        let apply = |revision: Option<&str>| {
            Some(Step::Apply {
                revision: revision.map(str::to_owned),
            })
        };
        for (found, step, conflict, next) in [
            (Found::Absent, apply(None), false, still()),
            (
                Found::Outdated {
                    revision: "7".to_owned(),
                },
                apply(Some("7")),
                false,
                still(),
            ),
            (Found::Current, None, false, still()),
            (Found::Foreign, None, true, Action::requeue(CONFLICT_PERIOD)),
        ] {
            let seen = Seen {
                namespace: "shop".to_owned(),
                pem: "pem".into(),
                found,
            };
            assert_eq!(plan(&seen), Plan { step, conflict, next });
        }
    }

    #[test]
    fn the_same_bundle_twice_is_no_change() {
        let (bundle, told) = watch::channel(None);
        let trust = Trust::handed();
        for (pem, changed) in [("a", true), ("a", false), ("b", true)] {
            assert_eq!(take(&trust, &bundle, pem), changed, "{pem}");
            assert_eq!(told.borrow().as_deref(), Some(pem));
        }
    }
}
